"""A table for programs: CSV and JSON, numbers as they are."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from deltamem_eval.reports.table import Cell, Table


def to_csv(table: Table) -> str:
    """CSV with plain numbers; a cell with an interval also has columns `_low`, `_high` and `_n`."""
    wide = [
        any(row[index].low is not None or row[index].n is not None for row in table.rows)
        for index in range(len(table.columns))
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heads: list[str] = []
    for column, spread in zip(table.columns, wide, strict=True):
        heads += [column.key] + ([f"{column.key}_{part}" for part in ("low", "high", "n")] if spread else [])
    writer.writerow(heads)
    for row in table.rows:
        values: list[object] = []
        for cell, spread in zip(row, wide, strict=True):
            values += [cell.value] + ([cell.low, cell.high, cell.n] if spread else [])
        writer.writerow(["" if value is None else value for value in values])
    return stream.getvalue()


def to_json(table: Table) -> str:
    """JSON: title, caption, footnotes, columns, and rows as objects of cells by column key."""
    rows = [
        {column.key: _plain(cell) for cell, column in zip(row, table.columns, strict=True)}
        for row in table.rows
    ]
    value = {
        "title": table.title,
        "caption": table.caption,
        "footnotes": list(table.footnotes),
        "columns": [asdict(column) for column in table.columns],
        "rows": rows,
    }
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _plain(cell: Cell) -> dict[str, object]:
    """The cell's fields; note and runs only where there are any."""
    return {name: value for name, value in asdict(cell).items() if name not in ("note", "runs") or value}
