"""A table for programs: CSV and JSON, numbers as they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict

from deltamem_eval.reports.table import Cell, Table


def to_csv(table: Table) -> str:
    """CSV with plain numbers; what else cells hold is in columns `_low`, `_high`, `_n`, `_mark`, `_note`.

    Such columns are there where any cell of the column fills them. Where a value came from is in JSON only.
    """
    parts = [_parts([row[index] for row in table.rows]) for index in range(len(table.columns))]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        name
        for column, more in zip(table.columns, parts, strict=True)
        for name in (column.key, *(f"{column.key}_{part}" for part in more))
    )
    for row in table.rows:
        values = [
            value
            for cell, more in zip(row, parts, strict=True)
            for value in (cell.value, *(getattr(cell, part) for part in more))
        ]
        writer.writerow("" if value is None else value for value in values)
    return stream.getvalue()


def _parts(cells: list[Cell]) -> list[str]:
    spread = any(cell.low is not None or cell.n is not None for cell in cells)
    texts = [part for part in ("mark", "note") if any(getattr(cell, part) for cell in cells)]
    return (["low", "high", "n"] if spread else []) + texts


def to_json(table: Table, beside: Mapping[str, Table] | None = None) -> str:
    """JSON: title, caption, footnotes, columns, and rows as objects of cells by column key.

    beside: other tables, each an object of the same form under its name here.
    """
    value = {**_object(table), **{name: _object(other) for name, other in (beside or {}).items()}}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _object(table: Table) -> dict[str, object]:
    rows = [
        {column.key: _plain(cell) for cell, column in zip(row, table.columns, strict=True)}
        for row in table.rows
    ]
    return {
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "footnotes": list(table.footnotes),
        "columns": [asdict(column) for column in table.columns],
        "rows": rows,
    }


def _plain(cell: Cell) -> dict[str, object]:
    """The cell's fields; note, runs and mark only where there are any."""
    optional = ("note", "runs", "mark")
    return {name: value for name, value in asdict(cell).items() if name not in optional or value}
