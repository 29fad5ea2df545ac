"""Each figure from a small table: what is drawn is what the table says."""

from __future__ import annotations

import numpy as np
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.accuracy import accuracy_figure
from deltamem_eval.reports.figures.footprint import footprint_figure
from deltamem_eval.reports.figures.frontier import frontier_figure
from deltamem_eval.reports.figures.parameters import parameters_figure
from deltamem_eval.reports.figures.retention import retention_figure
from deltamem_eval.reports.figures.style import Style, load_style, look_of
from deltamem_eval.reports.table import Cell
from matplotlib.colors import to_hex

from drawn import (
    METHODS,
    PLUGIN,
    accuracy_rows,
    bars,
    frontier_rows,
    lines,
    parameter_rows,
    profile_rows,
    retention_rows,
    table_of,
    texts,
)


@pytest.fixture(scope="module")
def style() -> Style:
    return load_style()


def test_accuracy_has_a_dot_with_its_interval_for_every_method_and_window(style: Style) -> None:
    figure = accuracy_figure(table_of(accuracy_rows()), style)
    assert [axes.get_title("left").replace("\n", "") for axes in figure.axes] == [
        "accurate-retrieval",
        "long-range-understanding",
    ]
    for axes in figure.axes:
        assert sorted(len(bars(axes, method)) for method in METHODS) == [2] * len(METHODS)
        first, second = bars(axes, "token-write")
        (x,), (y,) = first.lines[0].get_data()
        assert x == pytest.approx(40)
        ((left, right),) = first.lines[2][0].get_segments()
        assert (left[0], right[0]) == pytest.approx((30, 45))
        assert first.lines[0].get_markerfacecolor() != second.lines[0].get_markerfacecolor()
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert abs(y - names.index("token-write")) < 0.5
        assert axes.yaxis_inverted()


def test_accuracy_marks_chance_and_controls_and_leaves_wrong_memory_out(style: Style) -> None:
    figure = accuracy_figure(table_of(accuracy_rows()), style)
    for axes, chance in zip(figure.axes, (1.0, 2.5), strict=True):
        places = {
            name: lines(axes, name)[0].get_xdata()[0]
            for name in ("chance", "guess from the context", "closed-book", "full context")
        }
        assert list(places.values()) == pytest.approx([chance, 25, 0, 80])
        (band,) = [patch for patch in axes.patches if patch.get_width() > 1]
        assert (band.get_x(), band.get_width()) == pytest.approx((70, 15))
    assert not any("wrong-memory" in text for text in texts(figure))
    assert {"window 64", "window 256", "chance", "full context"} <= set(texts(figure))


def test_the_frontier_marks_the_table_s_pareto_sets(style: Style) -> None:
    memory, tokens = frontier_figure(table_of(frontier_rows()), style).axes
    assert (memory.get_xscale(), tokens.get_xscale()) == ("symlog", "log")
    for axes, wanted in ((memory, [(0, 2), (768, 60)]), (tokens, [(12, 60)])):
        (rings,) = lines(axes, "Pareto set")
        assert np.allclose(np.transpose(rings.get_data()), wanted)
        assert rings.get_markerfacecolor() == "none"
        stairs = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert [np.transpose(line.get_data()).tolist() for line in stairs] == [
            [list(item) for item in wanted]
        ]
    assert len(bars(memory, "token-write")) == 2
    for mark, x, low, high in zip(
        bars(memory, "token-write"), (768, 261_000), (50, 40), (65, 55), strict=True
    ):
        ((below, above),) = mark.lines[2][0].get_segments()
        assert (below[0], below[1], above[1]) == pytest.approx((x, low, high))
    assert lines(memory, "full context")[0].get_ydata()[0] == pytest.approx(85)
    assert "0" in [label.get_text() for label in memory.get_xticklabels()]


def test_retention_has_a_panel_a_measure_and_window_and_capacities_beside_the_associations(
    style: Style,
) -> None:
    capacity = {"token-write": 8, "sequence-write": 8, "multi-write": 32}
    figure = retention_figure(table_of(retention_rows()), style, capacity)
    panels = figure.axes
    assert [axes.get_title("left") for axes in panels] == ["window 0", "window 64"] * 2
    for axes in panels:
        low, high = axes.get_ylim()
        assert low < 0
        assert high > 100
        for method in ("token-write", "sequence-write", "multi-write", PLUGIN):
            (curve,) = bars(axes, method)
            count = len(curve.lines[0].get_xdata())
            assert len(curve.lines[2][0].get_segments()) == count == (3 if axes in panels[:2] else 2)
        assert len(lines(axes, "full context")) == 1
    for axes in panels[:2]:
        (eight,), (more,) = lines(axes, "capacity 8"), lines(axes, "capacity 32")
        assert (eight.get_xdata()[0], more.get_xdata()[0]) == (8, 32)
        assert more.get_color() == look_of("multi-write").colour
        assert eight.get_linestyle() != more.get_linestyle() or eight.get_color() != more.get_color()
        assert axes.get_xscale() == "log"
        assert axes.get_xlim()[1] > 32
    for axes in panels[2:]:
        assert not lines(axes, "capacity 8")
        assert axes.get_xscale() == "symlog"
    assert "capacity 8: token-write, sequence-write" in texts(figure)
    without = retention_figure(table_of(retention_rows()), style)
    assert not any("capacity" in text for text in texts(without))


def test_the_footprint_draws_memory_and_speed_and_where_memory_ended(style: Style) -> None:
    caption = "Model. Measured on A GPU (80 GiB), driver 1.2, torch 2.13.0: medians of 3 passes."
    figure = footprint_figure(table_of(profile_rows(), caption), style)
    panels = figure.axes
    assert len(panels) == 5 * 2
    assert [axes.get_title("left") for axes in panels[:2]] == ["replay", "state-only"]
    assert [axes.get_ylabel() for axes in panels[::2]] == [
        "peak memory (GiB),\n64 new tokens",
        "peak memory (GiB),\n256 new tokens",
        "prefill (tokens/s)",
        "decode (tokens/s),\n64 new tokens",
        "decode (tokens/s),\n256 new tokens",
    ]
    assert [axes.get_yscale() for axes in panels[::2]] == ["linear", "linear", "log", "log", "log"]
    replay, state_only = panels[:2]
    (curve,) = bars(replay, "token-write")
    assert np.allclose(curve.lines[0].get_ydata(), [9, 12, 16])
    segments = curve.lines[2][0].get_segments()
    assert np.allclose([(end[0][1], end[1][1]) for end in segments], [(8.1, 9.9), (10.8, 13.2), (14.4, 17.6)])
    (cross,) = lines(replay, "out of memory")
    assert cross.get_xdata()[0] == 32768
    assert cross.get_color() == look_of("vanilla").colour
    assert 17.6 < cross.get_ydata()[0] < replay.get_ylim()[1]
    tie = next(line for line in replay.lines if list(line.get_xdata()) == [16384, 32768])
    assert tie.get_ydata()[0] == pytest.approx(12)
    assert len(bars(replay, "vanilla")[0].lines[0].get_xdata()) == 2
    assert lines(replay, "weights alone")[0].get_ydata()[0] == pytest.approx(8)
    assert not any(lines(axes, "out of memory") for axes in [state_only, *panels[4:]])
    small = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert small == "Measured on A GPU (80 GiB), driver 1.2, torch 2.13.0."


def test_a_footprint_without_speeds_draws_none_and_estimates_are_empty(style: Style) -> None:
    rows = [
        {**row, "prefill_speed": None, "decode_speed": None, "status": "estimate"}
        for row in profile_rows()
        if row["status"] == "ok"
    ]
    figure = footprint_figure(table_of(rows, "An estimate."), style)
    assert len(figure.axes) == 2 * 2
    (curve,) = bars(figure.axes[0], "token-write")
    assert to_hex(curve.lines[0].get_markerfacecolor()) == "#ffffff"
    assert {"estimate, not measured", "An estimate."} <= set(texts(figure))
    with pytest.raises(UserError, match="no memory and no speed"):
        footprint_figure(table_of([{**row, "peak_bytes": None} for row in rows]), style)


def test_parameters_stand_on_a_logarithmic_axis_with_the_paper_s_beside(style: Style) -> None:
    figure = parameters_figure(table_of(parameter_rows()), style)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["memgen", "token-write", "vanilla", PLUGIN]
    ends = {
        (names[round(bar.get_y() + bar.get_height() / 2)], to_hex(bar.get_facecolor())): bar.get_x()
        + bar.get_width()
        for bar in axes.patches
    }
    assert ends["token-write", look_of("token-write").colour.lower()] == 4_866_336
    assert ends["memgen", look_of("memgen").colour.lower()] == 46_000_000
    assert sorted(end for (name, _), end in ends.items() if name == "memgen") == [46_000_000, 92_000_000]
    (diamond,) = lines(axes, "printed in the paper")
    assert diamond.get_xdata()[0] == 4.87e6
    assert {"4.87M (0.12 %)", "92M (2.30 %)", "0", "–", "stored, not trained"} <= set(texts(figure))
    (above,) = axes.child_axes
    assert above.get_xlim()[1] == pytest.approx(axes.get_xlim()[1] / 4e9 * 100)


def test_tables_that_cannot_be_drawn_say_what_is_missing(style: Style) -> None:
    table = table_of(accuracy_rows())
    with pytest.raises(UserError, match="no column 'memory_bytes' to draw"):
        frontier_figure(table, style)
    only = table_of([row for row in accuracy_rows() if "[" in row["method"]])
    with pytest.raises(UserError, match="nothing but controls"):
        accuracy_figure(only, style)
    empty = table_of(
        [{"method": "vanilla", "window": "0", "measure": "updates", "at": None, "accuracy": Cell(0.5)}]
    )
    with pytest.raises(UserError, match="nothing but controls"):
        retention_figure(empty, style)
