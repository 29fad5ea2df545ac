"""One table model: every format prints the same one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal[
    "text",
    "percent",
    "share",
    "points",
    "count",
    "millions",
    "bytes",
    "seconds",
    "probability",
    "hours",
    "ratio",
]


@dataclass(frozen=True)
class Column:
    """A column: its key in CSV and JSON, its heading, what its numbers are, and whether more is better."""

    key: str
    heading: str
    kind: Kind = "text"
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Cell:
    """A value with its 95 % interval and the number of questions behind it; None is shown as a dash.

    note: a remark on this cell alone, shown as a numbered footnote. runs: names of the runs it came from.
    mark: a sign printed after the number, which the table's footnotes explain.
    """

    value: float | str | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str | None = None
    runs: tuple[str, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, with a caption and footnotes.

    name: what its files are called. within: keys of the columns whose values rows share that compete. aside:
    rows that do not compete. foreign: keys of the columns whose texts models or data wrote.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    footnotes: tuple[str, ...] = field(default_factory=tuple)
    name: str = "table"
    within: tuple[str, ...] = ()
    aside: frozenset[int] = frozenset()
    foreign: frozenset[str] = frozenset()


def without_empty(table: Table) -> Table:
    """The table without columns that hold nothing, for people to read; one without rows stays as it is."""
    if not table.rows:
        return table
    kept = [
        index
        for index in range(len(table.columns))
        if any(row[index].value is not None for row in table.rows)
    ]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[index] for index in kept), rows=rows)


def show(cell: Cell, kind: Kind) -> str:
    """A cell as text for people, without its note."""
    if cell.value is None:
        return "–"
    if isinstance(cell.value, str):
        return cell.value
    text = _number(cell.value, kind)
    if cell.low is not None and cell.high is not None:
        text += f" [{_number(cell.low, kind)}, {_number(cell.high, kind)}]"
    return f"{text} {cell.mark}" if cell.mark else text


def show_noted(table: Table, row: int, column: int) -> str:
    """A cell as text for people, with the number of its note."""
    cell = table.rows[row][column]
    text = show(cell, table.columns[column].kind)
    return text if cell.note is None else f"{text} ({marks(table)[cell.note]})"


def _number(value: float, kind: Kind) -> str:
    if kind == "percent":
        return f"{100 * value:.1f}"
    if kind == "share":
        return f"{100 * value:.2f}"
    if kind == "millions":
        return f"{value / 1e6:,.2f}M"
    if kind == "points":
        return f"{100 * value:+.1f}"
    if kind == "bytes":
        return _bytes(value)
    if kind == "hours":
        return f"{value:.3g}"
    if kind == "ratio":
        return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    if kind == "probability":
        return f"{value:.3f}" if value >= 0.001 else "<0.001"
    if kind == "seconds":
        return f"{value:.3f}" if value < 10 else f"{value:.1f}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def marks(table: Table) -> dict[str, int]:
    """The notes of single cells, numbered in reading order; equal notes share a number."""
    found: dict[str, int] = {}
    for row in table.rows:
        for cell in row:
            if cell.note is not None:
                found.setdefault(cell.note, len(found) + 1)
    return found


def notes(table: Table) -> str:
    """Caption, footnotes and numbered notes as one text."""
    numbered = (f"({number}) {note}" for note, number in marks(table).items())
    return " ".join([table.caption, *table.footnotes, *numbered])
