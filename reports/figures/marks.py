"""Marks that several figures draw: curves with their intervals, tints of windows, handles of legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from deltamem_eval.reports.figures.read import Row, number, text, value
from deltamem_eval.reports.figures.style import FAINT, INK, Look, control_of
from deltamem_eval.reports.table import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_LINE, _LINE_HEIGHT = 22, 0.11  # letters, and inches, of a line of a label beside a panel
THIN = 0.6  # points
INTERVAL: Mapping[str, Any] = {"elinewidth": THIN, "capthick": THIN}
# Controls that figures show as reference lines: their names there, and their line styles.
CONTROLS: Mapping[str, tuple[str, Any]] = {
    "closed-book": ("closed-book", (0, (6, 1.5))),
    "full-context": ("full context", "solid"),
}


def on_lines(label: str) -> str:
    """A method's label for the side of a panel: what is in brackets on lines of its own."""
    name, bracket, rest = label.partition(" (")
    return "\n".join([name, *wrap(f"({rest}", _LINE)]) if bracket else name


def row_height(labels: Sequence[str], least: float) -> float:
    """Inches that a panel's rows need for such labels at its side, at least `least`."""
    return max(least, _LINE_HEIGHT * max(on_lines(label).count("\n") + 1 for label in labels))


def tints(count: int) -> list[float]:
    """Shares of colour that fill a marker, one a window: from empty for the smallest to full."""
    return [1.0] if count == 1 else [index / (count - 1) for index in range(count)]


def tinted(colour: str, share: float) -> tuple[float, float, float]:
    """A colour mixed with white. share: of the colour, 0 to 1."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def errors_of(cells: Sequence[Cell], scale: float = 1.0) -> list[list[float]]:
    """Distances from each cell's value down and up to the ends of its interval; NaN where it has none."""
    below, above = [], []
    for cell in cells:
        middle = number(cell)
        if middle is None or cell.low is None or cell.high is None:
            below.append(nan)
            above.append(nan)
            continue
        # An interval of resamples may miss the estimate by a rounding error.
        below.append(max(middle - cell.low, 0.0) * scale)
        above.append(max(cell.high - middle, 0.0) * scale)
    return [below, above]


def curve(
    axes: Axes,
    look: Look,
    x: Sequence[float],
    cells: Sequence[Cell],
    scale: float = 1.0,
    shift: float = 0.0,
    **more: Any,
) -> None:
    """A method's line through the numbers of some cells, with their intervals.

    scale: multiplies both. shift: points to the right, so that intervals at one x stand side by side. more:
    of matplotlib's errorbar.
    """
    from matplotlib.transforms import offset_copy

    figure: Any = axes.get_figure()
    axes.errorbar(
        list(x),
        [scale * (number(cell) or 0.0) for cell in cells],
        yerr=errors_of(cells, scale),
        transform=offset_copy(axes.transData, figure, x=shift, units="points"),
        **{"color": look.colour, "marker": look.marker, "linestyle": look.line, **INTERVAL, **more},
    )


def shifts(labels: Sequence[str], step: float = 0.5) -> dict[str, float]:
    """By how many points to the right each method's marks stand, around 0."""
    return {label: step * (place - (len(labels) - 1) / 2) for place, label in enumerate(labels)}


def method_handles(looks: Mapping[str, Look], lines: bool = True) -> list[Line2D]:
    """Handles of a legend, one a method; without lines where a figure draws points."""
    return [
        handle(label, color=look.colour, marker=look.marker, linestyle=look.line if lines else "none")
        for label, look in looks.items()
    ]


def window_handles(windows: Sequence[str]) -> list[Line2D]:
    """Handles that say which window a tint stands for; none for a single window."""
    if len(windows) < 2:
        return []
    return [
        handle(
            f"window {window}", marker="o", linestyle="none", color=INK, markerfacecolor=tinted(INK, share)
        )
        for window, share in zip(windows, tints(len(windows)), strict=True)
    ]


def handle(label: str, **looks: Any) -> Line2D:
    """A line that stands in a legend only."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": FAINT, **looks})


def control_line(axes: Axes, row: Row, upright: bool = False) -> Line2D | None:
    """A line across a panel at a control's accuracy (%), its interval as a band; its handle for the legend.

    upright: for panels whose accuracy runs along x. None for a row of no such control.
    """
    control, accuracy, cell = control_of(text(row, "method")) or "", value(row, "accuracy"), row["accuracy"]
    if control not in CONTROLS or accuracy is None:
        return None
    name, dashes = CONTROLS[control]
    look: dict[str, Any] = {"color": INK, "linewidth": 0.7, "linestyle": dashes}
    line, band = (axes.axvline, axes.axvspan) if upright else (axes.axhline, axes.axhspan)
    line(100 * accuracy, zorder=1, label=name, **look)
    if cell.low is not None and cell.high is not None:
        band(100 * cell.low, 100 * cell.high, color=INK, alpha=0.1, linewidth=0)
    return handle(name, **look)
