"""One table model, and its renderers: terminal, Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Kind = Literal[
    "text", "percent", "share", "points", "count", "millions", "bytes", "seconds", "probability", "hours"
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
    """A value with its 95 % interval and the number of questions behind it; None is shown as a dash."""

    value: float | str | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, with a caption and footnotes."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    footnotes: tuple[str, ...] = field(default_factory=tuple)


def without_empty(table: Table) -> Table:
    """The table without columns that hold nothing, for people to read."""
    kept = [
        index
        for index in range(len(table.columns))
        if any(row[index].value is not None for row in table.rows)
    ]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[index] for index in kept), rows=rows)


def show(cell: Cell, kind: Kind) -> str:
    """A cell as text for people."""
    if cell.value is None:
        return "–"
    if isinstance(cell.value, str):
        return cell.value
    text = _number(cell.value, kind)
    if cell.low is None or cell.high is None:
        return text
    return f"{text} [{_number(cell.low, kind)}, {_number(cell.high, kind)}]"


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


def to_terminal(table: Table) -> RichTable:
    """A rich table. Texts are shown as they are, never as markup."""
    from rich.table import Table as RichTable
    from rich.text import Text

    table = without_empty(table)
    made = RichTable(title=Text(table.title), caption=Text(_notes(table)), caption_justify="left")
    for column in table.columns:
        made.add_column(Text(column.heading), justify="left" if column.kind == "text" else "right")
    for row in table.rows:
        made.add_row(
            *(Text(show(cell, column.kind)) for cell, column in zip(row, table.columns, strict=True))
        )
    return made


def to_markdown(table: Table) -> str:
    """A Markdown table, its caption below."""

    def line(texts: list[str]) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |\n"

    table = without_empty(table)
    head = line([column.heading for column in table.columns])
    rule = line(["---" if column.kind == "text" else "---:" for column in table.columns])
    body = "".join(
        line([show(cell, column.kind) for cell, column in zip(row, table.columns, strict=True)])
        for row in table.rows
    )
    return f"**{table.title}**\n\n{head}{rule}{body}\n{_notes(table)}\n"


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
        {column.key: asdict(cell) for cell, column in zip(row, table.columns, strict=True)}
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


def _notes(table: Table) -> str:
    return " ".join([table.caption, *table.footnotes])
