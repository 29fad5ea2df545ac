"""Accuracy against cost: bytes of memory a context, and prompt tokens a question, with the Pareto sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.marks import (
    INTERVAL,
    THIN,
    control_line,
    errors_of,
    handle,
    method_handles,
    tinted,
    tints,
    window_handles,
)
from deltamem_eval.reports.figures.read import Row, require, rows_of, text, value, windows_of
from deltamem_eval.reports.figures.scales import bytes_text, count_text, doubling
from deltamem_eval.reports.figures.style import INK, Look, Style, control_of, looks_of
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 1.75  # inches
_PARETO = "Pareto set"
_COSTS = (
    ("memory_bytes", "pareto_memory", "memory per context", bytes_text),
    ("prompt_tokens", "pareto_tokens", "prompt tokens per question", count_text),
)


def frontier_figure(table: Table, style: Style) -> Figure:
    """Macro-average accuracy with its 95 % interval against both costs, one mark a method and window.

    Marks of a method are joined in the order of windows; those that the table calls Pareto-optimal are ringed
    and joined by a staircase: the best accuracy to be had for at most so much. Closed-book and full context
    are lines, with their intervals. Raises UserError for a table without the columns or rows.
    """
    rows = rows_of(table, "method", "window", "accuracy", *(key for cost in _COSTS for key in cost[:2]))
    shown = [
        row for row in rows if control_of(text(row, "method")) is None and value(row, "accuracy") is not None
    ]
    looks, windows = looks_of(require(table, shown, "method")), windows_of(shown)
    with style.active():
        rows_of_panels = 1 if style.wide else 2
        figure, grid = panels(style, [_HEIGHT] * rows_of_panels, 2 // rows_of_panels, sharey=True)
        places = [axes for line in grid for axes in line]
        controls = []
        for axes, (cost, pareto, name, unit) in zip(places, _COSTS, strict=True):
            priced = [row for row in shown if value(row, cost) is not None]
            controls = [item for row in rows if (item := control_line(axes, row)) is not None]
            for label, look in looks.items():
                _method(axes, [row for row in priced if text(row, "method") == label], cost, look, windows)
            _staircase(axes, [row for row in priced if text(row, pareto)], cost)
            doubling(axes, "x", (value(row, cost) or 0.0 for row in priced), unit)
            axes.set_xlabel(name)
            axes.set_ylim(-4, 104)
        for line in grid:
            line[0].set_ylabel("macro-average accuracy (%)")
        ring = handle(_PARETO, color=INK, marker="o", markersize=7, markerfacecolor="none", linewidth=0.8)
        return finish(
            figure, [method_handles(looks, lines=False), [*window_handles(windows), ring, *controls]]
        )


def _method(axes: Axes, rows: Sequence[Row], cost: str, look: Look, windows: Sequence[str]) -> None:
    """One method's marks, one a window, joined by a line."""
    shares = tints(len(windows))
    ranked = sorted(rows, key=lambda row: windows.index(text(row, "window")))
    points = [(value(row, cost) or 0.0, 100 * (value(row, "accuracy") or 0.0)) for row in ranked]
    axes.plot(*zip(*points, strict=True), color=look.colour, linewidth=THIN, alpha=0.5, linestyle=look.line)
    for row, (x, y) in zip(ranked, points, strict=True):
        axes.errorbar(
            [x],
            [y],
            yerr=errors_of([row["accuracy"]], 100),
            label=text(row, "method"),
            color=look.colour,
            marker=look.marker,
            linestyle="none",
            markerfacecolor=tinted(look.colour, shares[windows.index(text(row, "window"))]),
            **INTERVAL,
        )


def _staircase(axes: Axes, rows: Sequence[Row], cost: str) -> None:
    """Rings around the Pareto set and a staircase through it."""
    points = sorted((value(row, cost) or 0.0, 100 * (value(row, "accuracy") or 0.0)) for row in rows)
    if not points:
        return
    x, y = zip(*points, strict=True)
    axes.plot(x, y, drawstyle="steps-post", color=INK, linewidth=0.8, zorder=1.5)
    axes.plot(
        x, y, linestyle="none", marker="o", markersize=7, markerfacecolor="none", color=INK, label=_PARETO
    )
