"""The heat maps of a trace show its numbers and as many of its texts as fit."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.canvas import save
from deltamem_eval.reports.figures.style import TEXT_WIDTH, Style, load_style
from deltamem_eval.reports.figures.trace import trace_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def write(folder: Path, texts: list[str], layers: int = 3, **more: Any) -> Path:
    """A trace whose gate rises and falls, with its strongest write at every tenth place."""
    gates = [0.9 if write % 10 == 7 else 0.01 for write in range(len(texts))]
    trace = {
        "schema_version": 1,
        "method": "token-write",
        "episode": "e/0",
        "cell": "c",
        "model": "tiny",
        "unit": "token",
        "rank": 8,
        "state_heads": 1,
        "layers": [f"model.layers.{layer + 4}.self_attn" for layer in range(layers)],
        "texts": texts,
        "beta": [[gate * (layer + 1) / layers for gate in gates] for layer in range(layers)],
        "norm": [[float(write + layer) for write in range(len(texts))] for layer in range(layers)],
        **more,
    }
    file = folder / "trace.json"
    file.write_text(json.dumps(trace))
    return file


def maps(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def labels(axes: Axes) -> dict[float, str]:
    return {
        place: label.get_text()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }


@pytest.fixture(scope="module")
def style() -> Style:
    return load_style()


def test_a_short_episode_is_labelled_token_by_token(tmp_path: Path, style: Style) -> None:
    texts = ["Ann", " has", " $x$", "\n", " ", "\u2603 snow", "\U0001f9e0", " a word of many letters"]
    file = write(tmp_path, texts)
    figure = trace_figure(file, style)
    gate, norm = maps(figure)
    trace = json.loads(file.read_text())
    assert np.allclose(gate.images[0].get_array(), trace["beta"])
    assert np.allclose(norm.images[0].get_array(), trace["norm"])
    assert gate.images[0].get_clim() == (0, 0.9)
    assert [label.get_text() for label in gate.get_yticklabels()] == ["4", "5", "6"]
    assert list(labels(norm).values()) == [
        "Ann",
        "has",
        "$x$",
        "⏎",
        "␣",
        "\u2603 snow",
        "\ufffd",
        "a word of many le…",
    ]
    assert list(labels(gate)) == [5]
    save(figure, tmp_path / "a.svg", "svg")
    save(trace_figure(file, style), tmp_path / "b.svg", "svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("count", "layers", "width"),
    [(61, 3, None), (61, 3, TEXT_WIDTH), (400, 3, None), (2000, 36, TEXT_WIDTH)],
)
def test_a_long_episode_goes_on_in_strips_that_hold_every_write_once(
    count: int, layers: int, width: float | None, tmp_path: Path
) -> None:
    file = write(tmp_path, [f"w{number}" for number in range(count)], layers)
    style = load_style(width=width)
    figure = trace_figure(file, style)
    found = maps(figure)
    trace = json.loads(file.read_text())
    for part, key in ((found[::2], "beta"), (found[1::2], "norm")):
        joined = np.concatenate([axes.images[0].get_array() for axes in part], axis=1)
        assert np.allclose(joined, trace[key])
        assert len({axes.images[0].get_clim() for axes in part}) == 1
    assert len(found) <= 2 * 6
    assert figure.get_figheight() < 9
    shown = [number for axes in found[1::2] for number, text in labels(axes).items() if text]
    with style.active():
        figure.draw_without_rendering()
    for axes in found[1::2]:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))
    if count == 61:
        assert shown == list(range(1, 62))
    elif count == 400:  # the strongest gates stand ten apart, which leaves room for the labels of all
        assert {number for number in range(1, 401) if number % 10 == 8} <= set(shown)


def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, style: Style) -> None:
    file = write(tmp_path, [])
    with pytest.raises(UserError, match="holds no write"):
        trace_figure(file, style)
    for more, message in (
        ({"beta": [[0.1]]}, "one number for each layer and write"),
        ({"schema_version": 2}, "newer than 1"),
        ({"unit": "line"}, "is no trace"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            trace_figure(write(tmp_path, ["a", "b"], **more), style)
        assert "\n" not in str(caught.value)
    file.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        trace_figure(file, style)
    with pytest.raises(UserError, match="cannot be read"):
        trace_figure(tmp_path / "none.json", style)
