"""Axes of costs and counts: logarithmic, with a place for zero, and ticks in units people read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import ceil, floor, log2
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_MOST_TICKS = 7
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
Which = Literal["x", "y"]


def doubling(
    axes: Axes, which: Which, numbers: Iterable[float], text: Callable[[float], str], most: int = _MOST_TICKS
) -> None:
    """A base-2 logarithmic axis over `numbers`, ticks at powers of two, at most `most` of them.

    Where a number is 0 the axis is linear below the smallest other one, and 0 is a tick. text: of a tick.
    """
    known = sorted(set(numbers))
    above = [number for number in known if number > 0] or [1.0]
    low, high = floor(log2(above[0])), ceil(log2(above[-1]))
    zero = known[:1] == [0]
    if zero:
        _scale(axes, which, "symlog", base=2, linthresh=2.0**low, linscale=0.5)
    else:
        _scale(axes, which, "log", base=2)
    step = ceil((high - low + 1) / (most - zero))
    ticks = [2.0**power for power in range(low, high + 1, step)]
    set_ticks(_axis(axes, which), [0.0, *ticks] if zero else ticks, text)
    least = -0.4 * 2.0**low if zero else above[0] / 2**0.4
    _limits(axes, which, least, above[-1] * 2**0.4)


def marked(axes: Axes, which: Which, numbers: Iterable[float], text: Callable[[float], str]) -> None:
    """The same axis with its ticks at the numbers themselves, where they are few."""
    known = sorted(set(numbers))
    doubling(axes, which, known, text)
    if len(known) <= _MOST_TICKS:
        set_ticks(_axis(axes, which), known, text)


def set_ticks(axis: Axis, ticks: Iterable[float], text: Callable[[float], str]) -> None:
    """Ticks with their labels, and no minor ones."""
    from matplotlib.ticker import NullLocator

    places = list(ticks)
    axis.set_ticks(places, [text(place) for place in places])
    axis.set_minor_locator(NullLocator())


def bytes_text(number: float) -> str:
    """Bytes in the largest unit that leaves a whole, or nearly whole, number: "4 KiB"."""
    power = 0
    while abs(number) >= 1024 and power < len(_UNITS) - 1:
        number, power = number / 1024, power + 1
    return f"{number:.3g} {_UNITS[power]}" if number else "0"


def bytes_unit(largest: float) -> tuple[float, str]:
    """The unit to draw sizes up to `largest` bytes in: its bytes, and its name."""
    power = min(max(floor(log2(largest) / 10), 0), len(_UNITS) - 1) if largest > 0 else 0
    return 1024.0**power, _UNITS[power]


def count_text(number: float) -> str:
    """A count: 512, 4k, 32k; binary where it is a whole number of 1,024s, as prompt lengths are."""
    if number >= 1024 and number % 1024 == 0:
        return f"{number / 1024:g}k"
    return f"{number:,.0f}" if number >= 1 or number == 0 else f"{number:g}"


def _scale(axes: Axes, which: Which, name: str, **settings: float) -> None:
    (axes.set_xscale if which == "x" else axes.set_yscale)(name, **settings)


def _limits(axes: Axes, which: Which, low: float, high: float) -> None:
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)


def _axis(axes: Axes, which: Which) -> Axis:
    return axes.xaxis if which == "x" else axes.yaxis
