"""A table on a terminal."""

from __future__ import annotations

from deltamem_eval.reports.table import Table, notes, show, without_empty
from rich.table import Table as RichTable
from rich.text import Text


def to_terminal(table: Table) -> RichTable:
    """A rich table. Texts are shown as they are, never as markup."""
    table = without_empty(table)
    made = RichTable(title=Text(table.title), caption=Text(notes(table)), caption_justify="left")
    for column in table.columns:
        made.add_column(Text(column.heading), justify="left" if column.kind == "text" else "right")
    for row in table.rows:
        made.add_row(
            *(Text(show(cell, column.kind)) for cell, column in zip(row, table.columns, strict=True))
        )
    return made
