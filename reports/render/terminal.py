"""A table on a terminal."""

from __future__ import annotations

from deltamem_eval.reports.table import Table, notes, show_noted, without_empty
from rich.table import Table as RichTable
from rich.text import Text


def to_terminal(table: Table) -> RichTable:
    """A rich table. Texts are shown as they are, never as markup."""
    table = without_empty(table)
    made = RichTable(title=Text(table.title), caption=Text(notes(table)), caption_justify="left")
    for column in table.columns:
        made.add_column(Text(column.heading), justify="left" if column.kind == "text" else "right")
    for row in range(len(table.rows)):
        made.add_row(*(Text(show_noted(table, row, column)) for column in range(len(table.columns))))
    return made
