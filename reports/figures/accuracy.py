"""Accuracy of every method, a panel a category, windows told apart by the fill of the marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.marks import (
    INTERVAL,
    control_line,
    errors_of,
    handle,
    on_lines,
    row_height,
    tinted,
    tints,
    window_handles,
)
from deltamem_eval.reports.figures.read import Row, distinct, require, rows_of, text, value, windows_of
from deltamem_eval.reports.figures.style import FAINT, Look, Style, control_of, looks_of
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MARK = 0.075  # inches: a mark with its space
# Columns that a panel shows as lines: what their lines are called, and their line styles.
_LINES: Mapping[str, tuple[str, Any]] = {
    "chance": ("chance", (0, (1, 1.2))),
    "selection": ("guess from the context", (0, (3, 1.5))),
}


def accuracy_figure(table: Table, style: Style) -> Figure:
    """Dots with 95 % intervals by method and window, of a result table by category.

    Reference lines: chance, a guess from the context, closed-book, and full context with its interval. Raises
    UserError for a table without the columns or rows.
    """
    rows = rows_of(table, "method", "window", "category", "accuracy", "chance", "selection")
    shown = [row for row in rows if control_of(text(row, "method")) is None]
    categories = distinct(text(row, "category") for row in rows)
    looks = looks_of(require(table, shown, "method"))
    windows = windows_of(shown)
    columns = min(len(categories), 4 if style.wide else 2)
    row = row_height(list(looks), _MARK * (len(windows) + 1))
    heights = [row * len(looks)] * ceil(len(categories) / columns)
    with style.active():
        figure, grid = panels(style, heights, columns, sharey=True)
        places = [axes for line in grid for axes in line]
        drawn: dict[str, Line2D] = {}
        for axes, category in zip(places, categories, strict=False):
            here = [row for row in rows if text(row, "category") == category]
            drawn |= _references(axes, here)
            _dots(axes, [row for row in here if row in shown], looks, windows)
            axes.set_title(category)
            axes.set_xlim(-3, 103)
            axes.set_xlabel("accuracy (%)")
        for axes in places[len(categories) :]:
            axes.remove()
        _name_rows(places[0], list(looks))
        return finish(figure, [window_handles(windows), list(drawn.values())])


def _dots(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look], windows: Sequence[str]) -> None:
    """One dot with its interval for each method and window; a method's windows stand below each other."""
    order, step, shares = list(looks), 1 / (len(windows) + 1), tints(len(windows))
    for row in rows:
        accuracy = value(row, "accuracy")
        if accuracy is None:
            continue
        label, window = text(row, "method"), windows.index(text(row, "window"))
        colour = looks[label].colour
        axes.errorbar(
            [100 * accuracy],
            [order.index(label) + step * (window - (len(windows) - 1) / 2)],
            xerr=errors_of([row["accuracy"]], 100),
            label=label,
            marker="o",
            linestyle="none",
            color=colour,
            markerfacecolor=tinted(colour, shares[window]),
            **INTERVAL,
        )


def _references(axes: Axes, rows: Sequence[Row]) -> dict[str, Line2D]:
    """Draw a panel's reference lines; their handles by name."""
    found: dict[str, Line2D] = {}
    for key, (name, dashes) in _LINES.items():
        known = [number for row in rows if (number := value(row, key)) is not None]
        if known:
            look = {"color": FAINT, "linewidth": 0.9, "linestyle": dashes}
            axes.axvline(100 * known[0], zorder=1, label=name, **look)
            found[name] = handle(name, **look)
    controls = [item for row in rows if (item := control_line(axes, row, upright=True)) is not None]
    return found | {str(item.get_label()): item for item in controls}


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Method names down the side, first on top."""
    axes.set_yticks(range(len(labels)), [on_lines(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
