"""δ-mem's inside for one episode as heat maps: write gate and state norm by write and layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.style import Style
from deltamem_eval.tracing import TraceRecord, read_trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_SIDE = 0.6  # inches beside the maps: layers and names
_LABEL = 0.125  # inches: from one label of a write to the next
_LONGEST = 18  # letters of a label
_FEW_STRIPS = 4
_MOST_LAYERS, _MOST_NUMBERS = 6, 8  # ticks
_SIZE = 6  # points
_GATE = "write gate β, mean over state rows"
_NORM = "norm of the state after the write (Frobenius)"
_LAYER, _LEAST, _MOST = 0.06, 0.3, 0.9  # inches: a layer's row, and a map at least and at most
_BAR, _BETWEEN, _PAGE = 0.07, 0.6, 7.2  # inches: a colour bar, labels of a strip, all strips


def trace_figure(file: Path, style: Style) -> Figure:
    """Heat maps of a stored trace: the mean write gate β above, the norm of the state below.

    Columns are writes: tokens, or messages where each writes once. A long episode goes on in further strips.
    Every write is labelled where labels fit; else those with the strongest gate, as many as fit. Numbers
    along the top count writes from 1. Raises UserError for a file that is no trace or holds no write.
    """
    trace = read_trace(file)
    if not trace.texts or not trace.layers:
        raise UserError(f"{file} holds no write to draw")
    height = min(max(_LAYER * len(trace.layers), _LEAST), _MOST)
    across = _across(len(trace.texts), int(_PAGE / (2 * height + _BETWEEN)), style)
    starts = range(0, len(trace.texts), across)
    with style.active():
        figure, grid = panels(style, [_BAR, _BAR, *[height] * (2 * len(starts))], 1)
        bars, maps = [line[0] for line in grid[:2]], [line[0] for line in grid[2:]]
        parts = (("β", _GATE, trace.beta, maps[::2]), ("norm", _NORM, trace.norm, maps[1::2]))
        for bar, (short, name, numbers, part) in zip(bars, parts, strict=True):
            most = max(map(max, numbers)) or 1.0
            for axes, start in zip(part, starts, strict=True):
                picture = _map(axes, numbers, start, across, most)
                axes.set_ylabel(f"{short},\nlayer")
                axes.set_yticks(*_layers(trace.layers))
            bar.grid(visible=False)
            figure.colorbar(picture, cax=bar, orientation="horizontal")
            bar.set_title(name)
        for above, below, start in zip(maps[::2], maps[1::2], starts, strict=True):
            _count(above, start, len(trace.texts), across)
            _label(below, trace, start, across, style)
        return finish(figure, [])


def _across(writes: int, strips: int, style: Style) -> int:
    """Writes in a strip: few enough to label every one where few strips then do, else many more.

    strips: at most so many; they are evenly filled.
    """
    labelled = int((style.width - _SIDE) / _LABEL)
    few = min(_FEW_STRIPS, strips)
    most = labelled if writes <= few * labelled else max(4 * labelled, ceil(writes / strips))
    return ceil(writes / ceil(writes / most))


def _map(axes: Axes, numbers: Sequence[Sequence[float]], start: int, across: int, most: float) -> AxesImage:
    """One strip of one quantity; every strip is as wide as the first, so that columns are equally wide."""
    strip = [list(row[start : start + across]) for row in numbers]
    end = start + len(strip[0])
    # "none" keeps the numbers themselves in a PDF or SVG: a narrow peak is there when it is magnified.
    picture = axes.imshow(
        strip,
        aspect="auto",
        interpolation="none",
        vmin=0,
        vmax=most,
        extent=(start + 0.5, end + 0.5, len(strip) - 0.5, -0.5),
    )
    axes.set_xlim(start + 0.5, start + across + 0.5)
    axes.grid(visible=False)
    axes.set_xticks([])
    return picture


def _layers(paths: Sequence[str]) -> tuple[list[int], list[str]]:
    """Ticks of the layers, all of them where they are few: places, and numbers out of their paths."""
    numbers = [next((part for part in path.split(".") if part.isdigit()), path) for path in paths]
    places = list(range(0, len(paths), ceil(len(paths) / _MOST_LAYERS)))
    return places, [numbers[place] for place in places]


def _count(axes: Axes, start: int, writes: int, across: int) -> None:
    """Numbers of writes along the top."""
    step = next(
        size for size in (5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if across / size <= _MOST_NUMBERS
    )
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(
        [number for number in range(start + 1, start + across + 1) if number % step == 0 and number <= writes]
    )


def _label(axes: Axes, trace: TraceRecord, start: int, across: int, style: Style) -> None:
    """Texts of the writes that have room, the strongest gates first."""
    end = min(start + across, len(trace.texts))
    layers = len(trace.layers)
    gates = {write: sum(row[write] for row in trace.beta) / layers for write in range(start, end)}
    apart = _LABEL * across / (style.width - _SIDE)  # writes
    chosen: list[int] = []
    for write in sorted(gates, key=lambda write: (-gates[write], write)):
        if all(abs(write - other) >= apart for other in chosen):
            chosen.append(write)
    chosen.sort()
    axes.set_xticks([write + 1 for write in chosen], [_text(trace.texts[write]) for write in chosen])
    for label in axes.get_xticklabels():
        label.set(rotation=90, parse_math=False, size=_SIZE)


def _text(text: str) -> str:
    """A write's text as a label: blanks shown where there is nothing else, cut where it is long, and with a
    box for what the font does not have.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    words = " ".join(text.split()) or text.replace("\n", "⏎").replace(" ", "␣") or "∅"
    cut = words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "…"
    return "".join(letter if font.get_char_index(ord(letter)) else "\ufffd" for letter in cut)
