"""Peak memory and speed against prompt length, after figure 3 of the δ-mem paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.canvas import finish, panels
from deltamem_eval.reports.figures.marks import curve, handle, method_handles, shifts
from deltamem_eval.reports.figures.read import Row, distinct, rows_of, text, value
from deltamem_eval.reports.figures.scales import bytes_unit, count_text, doubling, marked
from deltamem_eval.reports.figures.style import FAINT, INK, Look, Style, looks_of
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_HEIGHT = 1.05  # inches
_STEP = 0.35  # points between methods at one prompt length
_EDGE, _STACK = 0.05, 0.055  # shares of a panel's height: its edge to a cross, and from cross to cross
_LENGTHS = ("prompt_tokens", "decode_tokens")
_KEYS = (
    "method",
    "mode",
    *_LENGTHS,
    "weights_bytes",
    "peak_bytes",
    "prefill_speed",
    "decode_speed",
    "status",
)
# What ended a point without numbers: its marker, and its words in the legend.
_ENDS: Mapping[str, tuple[str, str]] = {
    "oom": ("x", "out of memory"),
    "timeout": ("1", "out of time"),
    "failed": ("+", "failed"),
}
_ESTIMATE = "estimate"
_DONE = ("ok", _ESTIMATE)
_CROSS: Mapping[str, Any] = {"linestyle": "none", "markersize": 3, "markeredgewidth": 1.0}
_TIE: Mapping[str, Any] = {"linestyle": (0, (1, 1.5)), "linewidth": 0.8}
_WEIGHTS_LOOK: Mapping[str, Any] = {"color": FAINT, "linestyle": (0, (1, 1.2)), "linewidth": 0.9}


_WEIGHTS = "weights alone"
_MEMORY, _PREFILL, _DECODE = "peak_bytes", "prefill_speed", "decode_speed"


class _Kind(NamedTuple):
    """A row of panels: the column it draws, at which decode length, and what is added to its axis' name."""

    key: str
    decode: str
    told: str = ""


def footprint_figure(table: Table, style: Style) -> Figure:
    """Peak memory, prefill speed and decode speed, one line a method; replay and state-only in columns apart.

    Bars span the repeats, least to most. A point that ran out of memory is a cross at the top of the memory
    panel, tied to the last length that fitted; speeds end there. Estimates have empty marks. What the table
    has no number of is left out. The machine that the table's
    caption names is printed below. Raises
    UserError for a table without the columns, or without a number to draw.
    """
    rows = [row for row in rows_of(table, *_KEYS) if None not in (value(row, key) for key in _LENGTHS)]
    modes = distinct(text(row, "mode") for row in rows)
    looks = looks_of(text(row, "method") for row in rows)
    kinds = _kinds(rows)
    if not kinds:
        raise UserError(f"table '{table.title}' has no memory and no speed to draw")
    with style.active():
        figure, grid = panels(style, [_HEIGHT] * len(kinds), len(modes), sharex=True, sharey="row")
        for line, kind in zip(grid, kinds, strict=True):
            of_kind = _of_kind(rows, kind)
            name, scale = _scale(line, kind, of_kind)
            line[0].set_ylabel(name + kind.told)
            for axes, mode in zip(line, modes, strict=True):
                marked(axes, "x", map(_length, rows), count_text)
                _draw(axes, kind, scale, [row for row in of_kind if text(row, "mode") == mode], looks)
        for axes, mode in zip(grid[0], modes, strict=True):
            axes.set_title(mode)
        for axes in grid[-1]:
            axes.set_xlabel("context tokens")
        return finish(figure, [method_handles(looks), _handles(rows)], small=_machine(table.caption))


def _machine(caption: str) -> str:
    """The machine's name out of a profile's caption; the whole of a caption that names none."""
    found = re.search(r"Measured on [^:]+", caption)
    return f"{found.group().rstrip('.')}." if found else caption


def _kinds(rows: Sequence[Row]) -> list[_Kind]:
    """Memory and decode speed at every decode length; prefill, which none of them changes, at the least.

    Those without a number are left out.
    """
    lengths = sorted({text(row, "decode_tokens") for row in rows}, key=float)
    told = {length: f",\n{length} new tokens" if len(lengths) > 1 else "" for length in lengths}
    every = [
        *(_Kind(_MEMORY, length, told[length]) for length in lengths),
        *(_Kind(_PREFILL, length) for length in lengths[:1]),
        *(_Kind(_DECODE, length, told[length]) for length in lengths),
    ]
    return [kind for kind in every if any(value(row, kind.key) for row in _of_kind(rows, kind))]


def _of_kind(rows: Sequence[Row], kind: _Kind) -> list[Row]:
    return [row for row in rows if text(row, "decode_tokens") == kind.decode]


def _scale(line: Sequence[Axes], kind: _Kind, rows: Sequence[Row]) -> tuple[str, float]:
    """Set the axis of a row of panels; its name, and what numbers are to be multiplied by.

    Memory is linear from 0, speeds are logarithmic.
    """
    known = [number for row in rows if (number := value(row, kind.key))]
    if kind.key == _MEMORY:
        size, unit = bytes_unit(max(known))
        crosses = Counter((text(row, "mode"), _length(row)) for row in rows if _has_ended(row))
        above = min(_EDGE + _STACK * max(crosses.values(), default=0), 0.4)
        line[0].set_ylim(0, 1.1 * max(known) / size / (1 - above))
        return f"peak memory ({unit})", 1 / size
    doubling(line[0], "y", known, lambda speed: f"{speed:,.3g}" if speed < 1 else f"{speed:,.0f}", most=5)
    return "prefill (tokens/s)" if kind.key == _PREFILL else "decode (tokens/s)", 1.0


def _draw(axes: Axes, kind: _Kind, scale: float, rows: Sequence[Row], looks: Mapping[str, Look]) -> None:
    """One panel: every method's points, what ended the others, and the weights beneath the memory."""
    beside = shifts(list(looks), _STEP)
    ended: Counter[float] = Counter()  # crosses at a prompt length
    for label, look in looks.items():
        mine = sorted((row for row in rows if text(row, "method") == label), key=_length)
        for status in _DONE:
            part = [row for row in mine if text(row, "status") == status and value(row, kind.key)]
            fill = {"markerfacecolor": "white"} if status == _ESTIMATE else {}
            if part:
                lengths, cells = [_length(row) for row in part], [row[kind.key] for row in part]
                curve(axes, look, lengths, cells, scale, beside[label], label=label, **fill)
        if kind.key == _MEMORY:
            _crosses(axes, scale, mine, look, ended)
    weights = [number for row in rows if (number := value(row, "weights_bytes"))]
    if kind.key == _MEMORY and weights:
        axes.axhline(min(weights) * scale, label=_WEIGHTS, zorder=1, **_WEIGHTS_LOOK)


def _crosses(axes: Axes, scale: float, rows: Sequence[Row], look: Look, ended: Counter[float]) -> None:
    """A cross for each of a method's points that ended without a number, the first tied to the point before.

    rows: by prompt length. ended: how many crosses stand at each length; the next goes below them.
    """
    last: Row | None = None
    tied, top = False, axes.get_ylim()[1]
    for row in rows:
        if not _has_ended(row):
            last = row
            continue
        x = _length(row)
        y = top * (1 - _EDGE - _STACK * ended[x])
        ended[x] += 1
        marker, name = _end_of(text(row, "status"))
        axes.plot([x], [y], marker=marker, color=look.colour, label=name, **_CROSS)
        if last is not None and not tied:
            tied, start = True, scale * (value(last, _MEMORY) or 0.0)
            axes.plot([_length(last), x], [start, y], color=look.colour, **_TIE)


def _has_ended(row: Row) -> bool:
    """Whether the point ended without a number."""
    return text(row, "status") not in _DONE


def _length(row: Row) -> float:
    return value(row, "prompt_tokens") or 0.0


def _end_of(status: str) -> tuple[str, str]:
    return _ENDS.get(status, ("+", status))


def _handles(rows: Sequence[Row]) -> list[Line2D]:
    """What marks mean that belong to no one method."""
    found = []
    if any(value(row, "weights_bytes") for row in rows):
        found.append(handle(_WEIGHTS, **_WEIGHTS_LOOK))
    for status in distinct(text(row, "status") for row in rows):
        if status == _ESTIMATE:
            found.append(
                handle("estimate, not measured", marker="o", markerfacecolor="white", linestyle="none")
            )
        if status not in _DONE:
            marker, name = _end_of(status)
            found.append(handle(name, marker=marker, color=INK, **_CROSS))
    return found
