"""Added parameters of every method on one backbone, after figure 4 of the δ-mem paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, floor, log10
from operator import mul
from typing import TYPE_CHECKING, Any

from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.marks import handle, on_lines, row_height, tinted
from deltamem_eval.reports.figures.read import Row, rows_of, text, value
from deltamem_eval.reports.figures.scales import set_ticks
from deltamem_eval.reports.figures.style import INK, Style, looks_of
from deltamem_eval.reports.table import Table, show

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.17  # inches: a bar with its space
_PALE = 0.35  # share of colour of what is stored beyond what is trained
_LEAST = 1.0  # where bars begin: a logarithmic axis has no zero
_PAPER = "printed in the paper"
_DIAMOND: Mapping[str, Any] = {
    "marker": "D",
    "markersize": 3.5,
    "linestyle": "none",
    "color": INK,
    "markerfacecolor": "white",
}


def parameters_figure(table: Table, style: Style) -> Figure:
    """Bars on a logarithmic axis, most parameters first, from a parameter table of any backbone.

    A bar is what is trained; a pale end is what is stored beyond that; a diamond is the paper's number where
    the table has one. A method that adds nothing has a 0 in place of a bar, one that cannot be counted a
    dash. The counts are exact, so there are no intervals. Raises UserError for a table without the columns or
    rows.
    """
    rows = rows_of(table, "method", "trainable", "stored", "share", "paper")
    looks = looks_of(text(row, "method") for row in rows)
    order = list(looks)
    ranked = sorted(rows, key=lambda row: (-_most(row), order.index(text(row, "method"))))
    with style.active():
        figure, grid = panels(style, [row_height(order, _ROW) * len(ranked)], 1)
        axes = grid[0][0]
        for place, row in enumerate(ranked):
            _bar(axes, place, row, looks[text(row, "method")].colour)
        axes.set_yticks(range(len(ranked)), [on_lines(text(row, "method")) for row in ranked])
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        _scale(axes, rows)
        return finish(figure, [_handles(rows)])


def _bar(axes: Axes, place: int, row: Row, colour: str) -> None:
    """One method: its bar, the paper's number, and the count with its share as text beside the panel."""
    trained, stored, printed = (value(row, key) for key in ("trainable", "stored", "paper"))
    size: dict[str, Any] = {"height": 0.7, "left": _LEAST}
    if stored:
        axes.barh(place, stored - _LEAST, color=tinted(colour, _PALE), label="stored", **size)
    if trained:
        axes.barh(place, trained - _LEAST, color=colour, label="trained", **size)
    if printed is not None:
        axes.plot([printed], [place], label=_PAPER, **_DIAMOND)
    axes.text(1.02, place, _count(row), transform=axes.get_yaxis_transform(), va="center_baseline")


def _count(row: Row) -> str:
    """The parameters that are kept and their share of the backbone."""
    stored = value(row, "stored")
    if stored is None:
        return "–"
    return f"{_short(stored)} ({show(row['share'], 'share')} %)" if stored else "0"


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Powers of ten below, and above the same as shares of the backbone."""
    counts = [count for row in rows for key in ("trainable", "stored", "paper") if (count := value(row, key))]
    low = 10.0 ** (floor(log10(min(counts))) - 1) if counts else 1e3
    high = 2 * max(counts, default=1e6)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    set_ticks(axes.xaxis, _decades(low, high), _short)
    axes.set_xlabel("added parameters")
    sizes = [(value(row, "stored"), value(row, "share")) for row in rows]
    backbone = [size / share for size, share in sizes if size and share]
    if backbone:
        factor = 100 / backbone[0]
        above = axes.secondary_xaxis("top", functions=(partial(mul, factor), partial(mul, 1 / factor)))
        set_ticks(above.xaxis, _decades(low * factor, high * factor), lambda share: f"{share:g}")
        above.set_xlabel("% of the backbone")


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, every other one where they are many."""
    powers = range(ceil(log10(low) - 1e-9), floor(log10(high)) + 1)
    return [10.0**power for power in powers[:: 1 if len(powers) < 6 else 2]]


def _short(count: float) -> str:
    """A count with three digits: 4.87M, 3.08B."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:g}"


def _most(row: Row) -> float:
    found = value(row, "stored")
    return -1.0 if found is None else found


def _handles(rows: Sequence[Row]) -> list[Artist]:
    """What bars and marks mean, where a figure has more than plain bars."""
    from matplotlib.patches import Patch

    found: list[Artist] = []
    if any((value(row, "stored") or 0) > (value(row, "trainable") or 0) for row in rows):
        found += [
            Patch(color=INK, label="trained"),
            Patch(color=tinted(INK, _PALE), label="stored, not trained"),
        ]
    if any(value(row, "paper") is not None for row in rows):
        found.append(handle(_PAPER, **_DIAMOND))
    return found
