"""A figure's frame: its size, panels, legends and small print, and the file it is saved to.

Figures are made without pyplot, so that nothing is left behind in a process that draws many.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.style import FAINT, Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# A date would make the same table give another file every second.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}
FORMS = tuple(_METADATA)
_GAP = 0.05  # inches between panels, legends and small print
_CLEAR = 1.5  # points between tick labels
_SMALL = 0.85  # of the font size: small print

_DIGITS = 5  # of sizes and places: a thousandth of a point
_ROOM = 0.8  # inches of labels a row, to begin with


class _Frame(NamedTuple):
    """What a figure was asked to be: its style, and by row the first panel and the panels' height.

    Panels know their figure: were they held here, no figure would ever be let go.
    """

    style: Style
    rows: tuple[tuple[ref[Axes], float], ...]


_FRAMES: WeakKeyDictionary[Figure, _Frame] = WeakKeyDictionary()


def panels(
    style: Style, heights: Sequence[float], columns: int, **shared: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of panels for each of `heights`, and the panels by row.

    heights: of panels, in inches, labels not counted: `finish` makes the figure as tall as they need it.
    shared: sharex and sharey as matplotlib's `subplots` takes them. To be called, and drawn on, while the
    style is active.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    room = sum(height + _ROOM for height in heights)
    figure = Figure(figsize=(style.width, room), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights, **shared)
    rows = tuple((ref(row[0]), height) for row, height in zip(grid, heights, strict=True))
    _FRAMES[figure] = _Frame(style, rows)
    return figure, [list(row) for row in grid]


def finish(figure: Figure, legends: Sequence[Sequence[Artist]], small: str = "") -> Figure:
    """Put legends and small print below the panels; the figure grows by what they need.

    Each legend takes as many columns as the width allows. What is too long for its place, panels' titles
    included, is broken into lines; tick labels that would run into the one before go.
    """
    _lay_out(figure)
    _break_titles(figure)
    _thin_ticks(figure)
    body = _body(figure)
    size = _SMALL * _points("font.size")
    lines = _lines(figure, small, figure.get_figwidth() - 2 * _GAP, size) if small else []
    placed = [_legend(figure, handles) for handles in legends if handles]
    heights = [_inches(figure, legend)[1] for legend in placed]
    below = len(lines) * 1.3 * size / 72 + _GAP + sum(height + _GAP for height in heights)
    total = body + below
    figure.set_figheight(total)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, below / total, 1, body / total))  # type: ignore[call-arg]
    bottom = below
    for legend, height in zip(placed, heights, strict=True):
        bottom -= height + _GAP
        legend.set_bbox_to_anchor((0.5, (bottom + _GAP / 2) / total))
    if lines:
        place: dict[str, Any] = {"x": 0.5, "y": _GAP / 2 / total, "ha": "center", "va": "bottom"}
        figure.text(s="\n".join(lines), **place, size=size, linespacing=1.2, color=FAINT)
    _freeze(figure)
    return figure


def save(figure: Figure, file: Path, form: str) -> None:
    """Write a figure made by this package as pdf, png or svg; the same figure gives the same bytes.

    Raises UserError for another format, or a file that cannot be written.
    """
    if form not in FORMS:
        raise UserError(f"no figure format {form!r}: there are {', '.join(FORMS)}")
    buffer = io.BytesIO()
    with _FRAMES[figure].style.active():
        figure.savefig(buffer, format=form, metadata=_METADATA[form])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from None


def _lay_out(figure: Figure) -> None:
    """Put everything where it will be drawn, so that it can be measured."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)


def _body(figure: Figure) -> float:
    """The height of panels and their labels, in inches, when the panels are as high as was asked."""
    _lay_out(figure)
    rows = _FRAMES[figure].rows
    firsts = [axes for first, _ in rows if (axes := first()) is not None]
    drawn = sum(axes.get_window_extent().height for axes in firsts) / figure.dpi
    return round(figure.get_figheight() - drawn + sum(height for _, height in rows), _DIGITS)


def _freeze(figure: Figure) -> None:
    """Lay out for the last time, and keep the places.

    The solver's last digits differ from one process to the next, and SVG ids are hashes of all digits.
    """
    _lay_out(figure)
    places = [(axes, axes.get_position()) for axes in figure.axes]
    figure.set_layout_engine("none")
    for axes, place in places:
        axes.set_position([round(float(edge), _DIGITS) for edge in place.bounds])  # type: ignore[arg-type]


def _break_titles(figure: Figure) -> None:
    """Break panels' titles that would reach into the next panel."""
    from matplotlib import rcParams

    where, size = rcParams["axes.titlelocation"], _points("axes.titlesize")
    for axes in figure.axes:
        if title := axes.get_title(where):
            width = axes.get_window_extent().width / figure.dpi + _GAP
            axes.set_title("\n".join(_lines(figure, title, width, size)))


def _thin_ticks(figure: Figure) -> None:
    """Empty those tick labels along x that would touch the one before."""
    gap = _CLEAR / 72 * figure.dpi
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        end, kept = float("-inf"), []
        for tick in axes.xaxis.get_major_ticks():
            label = tick.label1
            if low <= tick.get_loc() <= high and label.get_visible() and label.get_text():
                box = label.get_window_extent(_renderer(figure))
                fits = box.x0 >= end + gap
                kept.append((tick.get_loc(), label.get_text() if fits else ""))
                end = box.x1 if fits else end
        if not all(label for _, label in kept):
            axes.set_xticks([place for place, _ in kept], [label for _, label in kept])


def _legend(figure: Figure, handles: Sequence[Artist]) -> Legend:
    """A legend of few rows, evenly filled."""
    room = figure.get_figwidth()
    labels = [str(handle.get_label()) for handle in handles]
    for rows in range(1, len(handles) + 1):
        legend = _try_legend(figure, handles, labels, -(-len(handles) // rows))
        if _inches(figure, legend)[0] <= room:
            return legend
        legend.remove()
    size = _points("legend.fontsize")
    narrow = room - 4 * size / 72  # the handle and its gap
    return _try_legend(
        figure, handles, ["\n".join(_lines(figure, label, narrow, size)) for label in labels], 1
    )


def _try_legend(figure: Figure, handles: Sequence[Artist], labels: list[str], columns: int) -> Legend:
    return figure.legend(list(handles), labels, loc="lower center", ncols=columns)


def _inches(figure: Figure, artist: Artist) -> tuple[float, float]:
    """Width and height."""
    box = artist.get_window_extent(_renderer(figure))
    return box.width / figure.dpi, box.height / figure.dpi


def _renderer(figure: Figure) -> Any:
    return figure.canvas.get_renderer()  # type: ignore[attr-defined]


def _lines(figure: Figure, text: str, width: float, size: float) -> list[str]:
    """The text broken at spaces and after hyphens, by measured widths. width: inches; size: points."""
    from matplotlib.font_manager import FontProperties

    renderer, font = _renderer(figure), FontProperties(size=size)
    lines = [""]
    for piece in re.findall(r"[^\s-]*-+|[^\s-]+\s*|\s+", text):
        longer = lines[-1] + piece
        measured = renderer.get_text_width_height_descent(longer.rstrip(), font, False)[0]
        if lines[-1] and measured / figure.dpi > width:
            lines.append(piece)
        else:
            lines[-1] = longer
    return [line.strip() for line in lines]


def _points(setting: str) -> float:
    """A font size of the style, in points."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties

    settings: Any = rcParams
    return float(FontProperties(size=settings[setting]).get_size_in_points())
