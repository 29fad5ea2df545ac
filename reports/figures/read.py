"""Reading a table by its columns' keys: what every figure starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deltamem_eval.errors import UserError
from deltamem_eval.reports.table import Cell, Table

Row = Mapping[str, Cell]


def rows_of(table: Table, *keys: str) -> list[Row]:
    """The table's rows as cells by column key.

    Raises UserError for a table without rows or without one of `keys`.
    """
    known = [column.key for column in table.columns]
    missing = [key for key in keys if key not in known]
    if missing:
        raise UserError(
            f"table '{table.title}' has no column '{missing[0]}' to draw: it has {', '.join(known)}"
        )
    if not table.rows:
        raise UserError(f"table '{table.title}' has no row to draw")
    return [dict(zip(known, row, strict=True)) for row in table.rows]


def require(table: Table, rows: Sequence[Row], key: str) -> list[str]:
    """The texts of a column in some of the table's rows. Raises UserError where no row was left to draw."""
    if not rows:
        raise UserError(f"table '{table.title}' has nothing but controls to draw: let the run end first")
    return [text(row, key) for row in rows]


def text(row: Row, key: str) -> str:
    """A cell as text; a dash's is empty."""
    value = row[key].value
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def number(cell: Cell) -> float | None:
    """A cell's number; None for a dash or a text."""
    return None if cell.value is None or isinstance(cell.value, str) else float(cell.value)


def value(row: Row, key: str) -> float | None:
    """The number in a row's column; None for a dash or a text."""
    return number(row[key])


def distinct(texts: Iterable[str]) -> list[str]:
    """Texts without repetition, in order of first appearance."""
    return list(dict.fromkeys(texts))


def windows_of(rows: Iterable[Row]) -> list[str]:
    """The windows of some rows, smallest first, those that are no number last."""
    return sorted({text(row, "window") for row in rows}, key=_window_order)


def _window_order(window: str) -> tuple[float, str]:
    return (float(window), "") if window.isdigit() else (float("inf"), window)
