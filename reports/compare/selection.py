"""Which row of one run stands against which row of the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deltamem_eval.errors import UserError
from deltamem_eval.reports.compare.rows import Key, Row

_ALL = "all"


@dataclass(frozen=True)
class Choice:
    """A method as tables name it, and a window as they print it; None for every window."""

    label: str
    window: str | None = None


def choice(text: str) -> Choice:
    """NAME or NAME@WINDOW, WINDOW a number of tokens or `all` for all that fits."""
    label, at, window = text.rpartition("@")
    if at and (window.isdigit() or window == _ALL):
        return Choice(label, "all that fits" if window == _ALL else window)
    return Choice(text)


@dataclass(frozen=True)
class Match:
    """Rows that stand against each other, by the key of what is printed, and those left over on a side."""

    rows: Mapping[Key, tuple[Row, Row]]
    only_a: tuple[Key, ...] = ()
    only_b: tuple[Key, ...] = ()


def match(a: Mapping[Key, Row], b: Mapping[Key, Row], first: str | None, second: str | None) -> Match:
    """Rows of one name, or of the two that were chosen, window by window.

    first, second: NAME[@WINDOW] in A and in B; one alone stands for both. Two runs without a row in common
    are matched where each holds one method. Raises UserError where nothing can be matched.
    """
    if first is None and second is None:
        common = {key: (a[key], b[key]) for key in a if key in b}
        if common:
            only_a, only_b = (tuple(key for key in side if key not in common) for side in (a, b))
            return Match(common, only_a, only_b)
        first, second = _only_method(a), _only_method(b)
        if first is None or second is None:
            raise UserError(
                "the runs have no row in common: name the two to compare by --a NAME[@WINDOW] and --b "
                f"NAME[@WINDOW]; A has {_names(a)}; B has {_names(b)}"
            )
    chosen = choice(first or second or ""), choice(second or first or "")
    return _across(_chosen(a, chosen[0], "A"), _chosen(b, chosen[1], "B"), chosen)


def _only_method(rows: Mapping[Key, Row]) -> str | None:
    """The label of the one method that is no control; None where there are several or none."""
    labels = {row.group.label for row in rows.values() if row.group.control is None}
    return labels.pop() if len(labels) == 1 else None


def _chosen(rows: Mapping[Key, Row], wanted: Choice, side: str) -> list[Row]:
    found = [
        row
        for row in rows.values()
        if row.group.label == wanted.label and wanted.window in (None, row.group.window_text)
    ]
    if not found:
        at = "" if wanted.window is None else f" at window {wanted.window}"
        raise UserError(f"{side} has no method {wanted.label!r}{at}: it has {_names(rows)}")
    return found


def _across(a: list[Row], b: list[Row], chosen: tuple[Choice, Choice]) -> Match:
    """Rows of two methods by window and values; by values alone where a window was named."""
    single = all(len({row.group.window_text for row in side}) == 1 for side in (a, b))
    drop = single or any(wanted.window is not None for wanted in chosen)
    if drop and not single:
        raise UserError(f"name a window for both: {_windows('A', a)}; {_windows('B', b)}")

    def place(row: Row) -> Key:
        return row.values if drop else (row.group.window_text, *row.values)

    partners = {place(row): row for row in b}
    rows = {
        _joint(row, partners[place(row)]): (row, partners[place(row)]) for row in a if place(row) in partners
    }
    if not rows:
        raise UserError(f"the two share no row: {_windows('A', a)}; {_windows('B', b)}")
    known = {row.key for pair in rows.values() for row in pair}
    return Match(rows, *(tuple(row.key for row in side if row.key not in known) for side in (a, b)))


def _joint(a: Row, b: Row) -> Key:
    """What a row of two methods or windows is called."""
    heads = zip(a.key[:2], b.key[:2], strict=True)
    return (*(left if left == right else f"{left} → {right}" for left, right in heads), *a.values)


def _names(rows: Iterable[Key]) -> str:
    return ", ".join(dict.fromkeys(f"{key[0]}@{_short(key[1])}" for key in rows))


def _windows(side: str, rows: list[Row]) -> str:
    return f"{side} has {_names(row.key for row in rows)}"


def _short(window: str) -> str:
    return _ALL if window == "all that fits" else window
