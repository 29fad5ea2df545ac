"""A table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from deltamem_eval.reports.table import Table, notes, show_noted, without_empty
from deltamem_eval.reports.visible import visible
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

_FRAME = 3  # cells that a column takes beside its text: padding and a line
_KEYS_SHARE = 6  # a column of text may ask for this part of the width; it wraps beyond that
_LEAST_TEXT = 8


def to_terminal(table: Table, width: int) -> list[RichTable]:
    """Rich tables to print one below the other: one, or where `width` cells are too few to show every number
    whole, several with some of the columns each, the leading columns of text in all of them.

    Texts are shown as they are, never as markup; control characters are written out.
    """
    table = without_empty(table)
    columns = [_Column(table, index, width) for index in range(len(table.columns))]
    made = [_part(part, width) for part in _parts(columns, width)]
    made[0].title = Text(visible(table.title))
    made[-1].caption = Text(visible(notes(table)))
    return made


class _Column:
    """A column's texts. most: cells that show all of it on lines of their own. least: cells that it cannot do
    without, for the longest number whole, or for some text.
    """

    def __init__(self, table: Table, index: int, width: int) -> None:
        column = table.columns[index]
        self.heading = visible(column.heading)
        self.is_text = column.kind == "text"
        self.cells = [visible(show_noted(table, row, index)) for row in range(len(table.rows))]
        self.most = max(map(cell_len, [*self.cells, self.heading]))
        least = max(map(cell_len, [*self.cells, *self.heading.split()]))
        self.least = min(least, max(_LEAST_TEXT, width // _KEYS_SHARE)) if self.is_text else least


def _parts(columns: Sequence[_Column], width: int) -> list[list[_Column]]:
    """The columns of each part, as many as fit; one at least beside the leading texts."""
    keys = list(takewhile(lambda column: column.is_text, columns))
    parts = [list(keys)]
    for column in columns[len(keys) :]:
        if len(parts[-1]) > len(keys) and _room([*parts[-1], column], width) < 0:
            parts.append(list(keys))
        parts[-1].append(column)
    return parts


def _room(columns: Sequence[_Column], width: int) -> int:
    """Cells that are left over where every column has its least."""
    return width - 1 - sum(column.least + _FRAME for column in columns)


def _part(columns: Sequence[_Column], width: int) -> RichTable:
    made, room = RichTable(caption_justify="left"), _room(columns, width)
    for column in columns:
        more = min(max(room, 0), column.most - column.least)
        made.add_column(
            Text(column.heading),
            justify="left" if column.is_text else "right",
            width=column.least + more if room >= 0 else None,
            overflow="fold",
        )
        room -= more
    for row in zip(*(column.cells for column in columns), strict=True):
        made.add_row(*map(Text, row))
    return made
