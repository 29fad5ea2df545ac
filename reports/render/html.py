"""A table as an HTML fragment; whatever stands in it is escaped."""

from __future__ import annotations

from html import escape

from deltamem_eval.reports.rank import Ranks, ranks
from deltamem_eval.reports.table import Cell, Column, Table, marks, notes, show, without_empty


def to_html(table: Table) -> str:
    """`<figure>` of a table and its notes; cells carry `data-value`, best in strong, second in u."""
    table = without_empty(table)
    head = "".join(
        f'<th scope="col"{_side(column)}>{escape(column.heading)}</th>' for column in table.columns
    )
    places, numbers = ranks(table), marks(table)
    body = "".join(_row(table, number, places, numbers) for number in range(len(table.rows)))
    return (
        f'<figure class="table" id="{escape(table.name, quote=True)}">\n'
        f"<table>\n<caption>{escape(table.title)}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n<figcaption>{escape(notes(table))}</figcaption>\n</figure>\n"
    )


def _row(table: Table, number: int, places: Ranks, numbers: dict[str, int]) -> str:
    cells = "".join(
        _cell(cell, column, places.get((number, index)), numbers)
        for index, (cell, column) in enumerate(zip(table.rows[number], table.columns, strict=True))
    )
    return f"<tr>{cells}</tr>\n"


def _cell(cell: Cell, column: Column, place: int | None, numbers: dict[str, int]) -> str:
    text = escape(show(cell, column.kind))
    if place is not None:
        text = f"<strong>{text}</strong>" if place == 1 else f"<u>{text}</u>"
    if cell.note is not None:
        text += f"<sup>{numbers[cell.note]}</sup>"
    value = "" if cell.value is None else f' data-value="{escape(str(cell.value), quote=True)}"'
    title = f' title="{escape(", ".join(cell.runs), quote=True)}"' if cell.runs else ""
    return f"<td{_side(column)}{value}{title}>{text}</td>"


def _side(column: Column) -> str:
    return "" if column.kind == "text" else ' class="number"'
