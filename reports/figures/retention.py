"""Accuracy against what makes remembering hard: associations held, updates, distance since the write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.marks import CONTROLS, THIN, curve, handle, method_handles, shifts
from deltamem_eval.reports.figures.read import Row, require, rows_of, text, value, windows_of
from deltamem_eval.reports.figures.scales import count_text, marked
from deltamem_eval.reports.figures.style import FAINT, INK, Look, Style, control_of, looks_of, method_of
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_HEIGHT = 1.05  # inches
_MEASURES = {
    "associations": "associations held",
    "updates": "updates of the fact",
    "distance": "tokens since the write",
}
_MOST_ACROSS = {False: 3, True: 6}  # panels side by side, by whether the figure is wide
_CAPACITY_DASHES = ((1.0, 1.0), (3.0, 1.0), (5.0, 1.0, 1.0, 1.0))


def retention_figure(table: Table, style: Style, capacity: Mapping[str, int] | None = None) -> Figure:
    """Curves with 95 % intervals, a panel for each measure and window; marks at one x stand side by side.

    capacity: for methods (by label, or by name) whose state bounds the associations that it holds exactly,
    that bound; drawn upright in the panels of associations. Closed-book and full context, where the table has
    them, stand in every panel. Raises UserError for a table without the columns or rows.
    """
    rows = [
        row
        for row in rows_of(table, "method", "window", "measure", "at", "accuracy")
        if value(row, "at") is not None and value(row, "accuracy") is not None
    ]
    shown = [row for row in rows if control_of(text(row, "method")) is None]
    controls = [row for row in rows if control_of(text(row, "method")) in CONTROLS]
    measures = [name for name in _MEASURES if any(text(row, "measure") == name for row in shown)]
    looks, windows = looks_of(require(table, shown, "method")), windows_of(shown)
    bounds = _bounds(looks, capacity or {})
    across = min(len(windows), _MOST_ACROSS[style.wide])
    parts = [windows[start : start + across] for start in range(0, len(windows), across)]
    lines = [(measure, part) for measure in measures for part in parts]
    with style.active():
        figure, grid = panels(style, [_HEIGHT] * len(lines), across, sharey=True)
        for line, (measure, part) in zip(grid, lines, strict=True):
            here = [row for row in shown if text(row, "measure") == measure]
            beside = [row for row in controls if text(row, "measure") == measure]
            limits = bounds if measure == "associations" else {}
            for axes, window in zip(line, part, strict=False):
                _controls(axes, beside)
                _curves(axes, [row for row in here if text(row, "window") == window], looks)
                for limit in limits:
                    axes.axvline(limit, label=_capacity(limit), zorder=1, **_limit_look(bounds, looks, limit))
                marked(axes, "x", [*_places(here), *limits], count_text)
                if len(windows) > 1:
                    axes.set_title(f"window {window}")
            for axes in line[len(part) :]:
                axes.remove()
            line[(len(part) - 1) // 2].set_xlabel(_MEASURES[measure])
            line[0].set_ylabel("accuracy (%)")
            line[0].set_ylim(-4, 104)
        named = [
            handle(f"{_capacity(limit)}: {', '.join(labels)}", **_limit_look(bounds, looks, limit))
            for limit, labels in bounds.items()
            if "associations" in measures
        ]
        return finish(figure, [method_handles(looks), [*_control_handles(controls), *named]])


def _capacity(limit: int) -> str:
    return f"capacity {limit}"


def _curves(axes: Axes, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    """One line a method, the first in the legend in front."""
    beside = shifts(list(looks))
    for place, (label, look) in enumerate(looks.items()):
        mine = _ordered([row for row in rows if text(row, "method") == label])
        if mine:
            cells = [row["accuracy"] for row in mine]
            curve(axes, look, _places(mine), cells, 100, beside[label], label=label, zorder=3 - 0.01 * place)


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: value(row, "at") or 0.0)


def _places(rows: Sequence[Row]) -> list[float]:
    return [value(row, "at") or 0.0 for row in rows]


def _controls(axes: Axes, rows: Sequence[Row]) -> None:
    """Each control's accuracy along the panel, and its intervals as a band."""
    for control, (name, dashes) in CONTROLS.items():
        mine = _ordered([row for row in rows if control_of(text(row, "method")) == control])
        x = _places(mine)
        axes.plot(
            x,
            [100 * (value(row, "accuracy") or 0.0) for row in mine],
            color=INK,
            linewidth=THIN,
            linestyle=dashes,
            label=name,
        )
        low = [100 * (row["accuracy"].low or 0.0) for row in mine]
        high = [100 * (row["accuracy"].high or 0.0) for row in mine]
        axes.fill_between(x, low, high, color=INK, alpha=0.1, linewidth=0)


def _control_handles(rows: Sequence[Row]) -> list[Line2D]:
    present = {control_of(text(row, "method")) for row in rows}
    return [
        handle(name, color=INK, linewidth=THIN, linestyle=dashes)
        for control, (name, dashes) in CONTROLS.items()
        if control in present
    ]


def _bounds(looks: Mapping[str, Look], capacity: Mapping[str, int]) -> dict[int, list[str]]:
    """Labels in the figure by their capacity, smallest first."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for label in looks:
        limit = capacity.get(label, capacity.get(method_of(label)))
        if limit is not None:
            found[limit].append(label)
    return dict(sorted(found.items()))


def _limit_look(bounds: Mapping[int, list[str]], looks: Mapping[str, Look], limit: int) -> dict[str, Any]:
    """The line of a capacity: in its method's colour where it is one method's."""
    labels = bounds[limit]
    dashes = _CAPACITY_DASHES[list(bounds).index(limit) % len(_CAPACITY_DASHES)]
    colour = looks[labels[0]].colour if len(labels) == 1 else FAINT
    return {"color": colour, "linewidth": 1.2, "linestyle": (0, dashes)}
