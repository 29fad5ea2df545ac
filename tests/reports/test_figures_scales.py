"""Axes of costs: zero has a place, ticks are whole powers of two, units are those people read."""

from __future__ import annotations

import pytest
from deltamem_eval.reports.figures.scales import bytes_text, bytes_unit, count_text, doubling, marked
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def ticks(axes: Axes) -> dict[str, float]:
    return {
        label.get_text(): place
        for label, place in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
    }


def test_doubling_covers_its_numbers_with_few_ticks(axes: Axes) -> None:
    doubling(axes, "x", [1000.0, 3e6], bytes_text, most=4)
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    assert low < 1000
    assert high > 3e6
    assert ticks(axes) == {"512 B": 512, "8 KiB": 2**13, "128 KiB": 2**17, "2 MiB": 2**21}


def test_zero_has_a_place_on_the_axis(axes: Axes) -> None:
    doubling(axes, "x", [0.0, 768.0, 2048.0], bytes_text)
    assert axes.get_xscale() == "symlog"
    assert axes.get_xlim()[0] < 0
    assert ticks(axes) == {"0": 0, "512 B": 512, "1 KiB": 1024, "2 KiB": 2048}


def test_few_numbers_are_ticks_themselves_and_many_are_not(axes: Axes) -> None:
    marked(axes, "x", [6, 2, 4, 2], count_text)
    assert ticks(axes) == {"2": 2, "4": 4, "6": 6}
    marked(axes, "x", range(1, 20), count_text)
    assert ticks(axes) == {"1": 1, "2": 2, "4": 4, "8": 8, "16": 16, "32": 32}


def test_units() -> None:
    assert [bytes_text(size) for size in (0, 100, 1536, 5 * 2**20, 2**40)] == [
        "0",
        "100 B",
        "1.5 KiB",
        "5 MiB",
        "1 TiB",
    ]
    assert [bytes_unit(size)[1] for size in (0, 1023, 2**20, 80 * 2**30)] == ["B", "B", "MiB", "GiB"]
    assert [count_text(count) for count in (0, 0.25, 500, 1500, 4096)] == ["0", "0.25", "500", "1,500", "4k"]
