"""A CSV of rows that grows as they are measured, in one go or in several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from common import Row, to_csv
from deltamem_eval.files import write_atomic
from deltamem_eval.reports.regress.ratios import Key, read_ratios
from deltamem_eval.reports.regress.whole import csv_lines

_WORDS = ("benchmark", "case", "metric", "unit", "against", "machine")


class Kept:
    """Rows on disk: the file is whole after every `put`, and a row takes the place of an earlier one of its
    benchmark, case and metric.

    rows: by these three, in the order in which they first came. Raises UserError for a file that is there and
    is no such CSV.
    """

    def __init__(self, file: Path, rows: Iterable[Row] = ()) -> None:
        self._file = file
        self.rows: dict[Key, Row] = {key_of(row): row for row in rows}

    @classmethod
    def of(cls, file: Path) -> Kept:
        """With the rows that the file has from earlier."""
        if not file.exists():
            return cls(file)
        read_ratios(file)  # that it is whole and has numbers where numbers belong
        return cls(file, [_row(cells) for cells in csv_lines(file)])

    def put(self, rows: Iterable[Row]) -> None:
        """Keep some more. Raises OSError where they cannot be written."""
        self.rows.update((key_of(row), row) for row in rows)
        write_atomic(self._file, to_csv(self.rows.values(), ""))


def key_of(row: Row) -> Key:
    """What tells a row from all others."""
    return row.benchmark, row.case, row.metric


def _row(cells: dict[str, str]) -> Row:
    """A line as the row that it was made of."""
    words = {name: cells[name] for name in _WORDS}
    names = [field.name for field in fields(Row) if field.name not in (*_WORDS, "repeats")]
    numbers = {name: float(cells[name]) for name in names if cells[name]}
    return Row(**words, repeats=int(cells["repeats"]), **numbers)  # type: ignore[arg-type]
