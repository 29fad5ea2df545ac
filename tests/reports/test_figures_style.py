"""What all figures share: colours, style files, files that repeat byte for byte, labels that are whole."""

from __future__ import annotations

import gc
import itertools
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.figures.accuracy import accuracy_figure
from deltamem_eval.reports.figures.canvas import FORMS, save
from deltamem_eval.reports.figures.footprint import footprint_figure
from deltamem_eval.reports.figures.frontier import frontier_figure
from deltamem_eval.reports.figures.parameters import parameters_figure
from deltamem_eval.reports.figures.retention import retention_figure
from deltamem_eval.reports.figures.style import (
    COLUMN_WIDTH,
    LOOKS,
    PLUGIN_COLOURS,
    TEXT_WIDTH,
    Style,
    control_of,
    load_style,
    look_of,
    looks_of,
    method_of,
)
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from drawn import (
    PLUGIN,
    accuracy_rows,
    bars,
    frontier_rows,
    parameter_rows,
    profile_rows,
    retention_rows,
    table_of,
)

LONG = "bm25-rag (weights=3aee06c80bab5e9e, top_k=5, words=split)"


def renamed(rows: list[dict]) -> list[dict]:
    """The rows with a long label for one method."""
    return [{**row, "method": row["method"].replace("token-write", LONG)} for row in rows]


FIGURES: dict[str, Callable[[Style], Figure]] = {
    "accuracy": partial(accuracy_figure, table_of(renamed(accuracy_rows()))),
    "frontier": partial(frontier_figure, table_of(renamed(frontier_rows()))),
    "retention": lambda style: retention_figure(
        table_of(renamed(retention_rows())), style, {"multi-write": 32}
    ),
    "footprint": partial(footprint_figure, table_of(renamed(profile_rows()), "A machine. " * 30)),
    "parameters": partial(parameters_figure, table_of(renamed(parameter_rows()))),
}


def beyond(axes: Axes) -> list[Text]:
    """Tick labels outside the panel's limits: they are not drawn."""
    found = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        found += [label for tick in ticks for label in (tick.label1, tick.label2)]
    return found


@pytest.mark.parametrize("width", [COLUMN_WIDTH, TEXT_WIDTH])
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_and_no_tick_labels_touch(name: str, width: float) -> None:
    style = load_style(width=width)
    figure = FIGURES[name](style)
    with style.active():
        figure.draw_without_rendering()
    assert figure.get_figwidth() == width
    edge = figure.bbox.padded(1)
    unseen = {id(label) for axes in figure.axes for label in beyond(axes)}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen:
            box = text.get_window_extent()
            assert edge.x0 <= box.x0, text
            assert box.x1 <= edge.x1, text
            assert edge.y0 <= box.y0, text
            assert box.y1 <= edge.y1, text
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            seen = [label for label in labels if label.get_text() and id(label) not in unseen]
            boxes = [label.get_window_extent() for label in seen]
            for one, other in itertools.pairwise(boxes):
                assert not one.overlaps(other)
    legends = [legend.get_window_extent() for legend in figure.legends]
    drawn = [axes.get_tightbbox() for axes in figure.axes]
    for one, other in itertools.combinations([*legends, *drawn], 2):
        assert not one.padded(-2).overlaps(other.padded(-2))


def test_panels_are_as_high_as_was_asked_whatever_stands_around_them() -> None:
    style = load_style()
    short, tall = (
        retention_figure(table_of(rows), style) for rows in (retention_rows(), renamed(retention_rows()))
    )
    heights = []
    for figure in (short, tall):
        with style.active():
            figure.draw_without_rendering()
        heights += [axes.get_window_extent().height / figure.dpi for axes in figure.axes]
    assert np.allclose(heights, heights[0], rtol=0.02)


def test_a_method_has_one_colour_in_every_figure() -> None:
    style = load_style()
    made = [
        accuracy_figure(table_of(accuracy_rows()), style),
        frontier_figure(table_of(frontier_rows()), style),
        retention_figure(table_of(retention_rows()), style),
    ]
    for method in ("token-write", PLUGIN):
        found = {
            to_hex(item.lines[0].get_color())
            for figure in made
            for axes in figure.axes
            for item in bars(axes, method)
        }
        assert found == {look_of(method).colour.lower()}


# Machado, Oliveira and Fernandes (2009), severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    """CIELAB of an sRGB colour as an eye sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(seen @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_differ_whatever_the_eye(kind: str) -> None:
    grey = LOOKS["random-option"].colour  # the solvers' own, told apart by marker
    ours = [look.colour for look in LOOKS.values() if look.colour != grey]
    assert len(ours) == 10
    points = [lab(colour, BLINDNESS[kind]) for colour in (*ours, *PLUGIN_COLOURS)]
    least = min(np.linalg.norm(one - other) for one, other in itertools.combinations(points, 2))
    assert least > 12


def test_a_plug_in_keeps_its_look_and_clashes_with_none_of_ours() -> None:
    names = [f"plug-in-{number}" for number in range(200)]
    looks = [look_of(name) for name in names]
    assert {look.colour for look in looks} == set(PLUGIN_COLOURS)
    assert not {look.marker for look in looks} & {look.marker for look in LOOKS.values()}
    assert looks_of(["zzz", PLUGIN, "vanilla"])[PLUGIN] == looks_of([PLUGIN])[PLUGIN] == look_of(PLUGIN)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_labels_are_taken_apart_and_settings_of_a_method_share_its_colour() -> None:
    assert method_of("bm25-rag (top_k=5) [wrong-memory]") == "bm25-rag"
    assert control_of("bm25-rag (top_k=5) [wrong-memory]") == "wrong-memory"
    assert control_of("bm25-rag (words=[x])") is None
    found = looks_of(["token-write", "bm25-rag (top_k=5)", "bm25-rag (top_k=1)", "vanilla"])
    assert list(found) == ["vanilla", "bm25-rag (top_k=1)", "bm25-rag (top_k=5)", "token-write"]
    one, other = found["bm25-rag (top_k=1)"], found["bm25-rag (top_k=5)"]
    assert one.colour == other.colour
    assert one.marker != other.marker


def test_a_figure_that_nobody_holds_is_let_go() -> None:
    watch = weakref.ref(FIGURES["parameters"](load_style()))
    gc.collect()
    assert watch() is None


@pytest.mark.parametrize("form", FORMS)
def test_the_same_table_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(FIGURES["frontier"](load_style()), tmp_path / "figures" / name, form)
    save(FIGURES["accuracy"](load_style()), tmp_path / "other", form)
    one, two, other = (tmp_path / name for name in ("figures/a", "figures/b", "other"))
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_pdf_embeds_truetype_and_svg_needs_no_font(tmp_path: Path) -> None:
    figure = FIGURES["parameters"](load_style())
    for form in ("pdf", "svg", "png"):
        save(figure, tmp_path / form, form)
    pdf = (tmp_path / "pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    svg = (tmp_path / "svg").read_text()
    assert "<text" not in svg
    assert "dc:date" not in svg
    assert re.search(r'width="239\.\d+pt"', svg)
    assert (tmp_path / "png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(UserError, match="no figure format 'eps': there are pdf, png, svg"):
        save(figure, tmp_path / "eps", "eps")
    with pytest.raises(UserError, match="cannot write"):
        save(figure, tmp_path / "pdf" / "inside", "pdf")


def test_a_user_s_style_goes_over_ours_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "mine.mplstyle"
    file.write_text("font.size: 9\nfigure.figsize: 5, 2\nxtick.labelsize: 9\n")
    before = dict(matplotlib.rcParams)
    style = load_style(file)
    assert (style.width, style.params["font.size"], style.params["pdf.fonttype"]) == (5.0, 9.0, 42)
    assert load_style(file, TEXT_WIDTH).width == TEXT_WIDTH
    assert load_style().width == COLUMN_WIDTH
    figure = frontier_figure(table_of(frontier_rows()), style)
    assert {label.get_size() for label in figure.axes[0].get_xticklabels()} == {9.0}
    save(figure, tmp_path / "figure", "svg")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"lines.linewidthh: 3\n", "Bad key lines.linewidthh"),
        (b"lines.linewidth: fat\n", "lines.linewidth"),
        (b"nonsense\n", "Missing colon"),
        (b"\xff\xfe", "decode"),
        (b"figure.figsize: 0.5, 1\n", "no room for its labels"),
        (None, "no such style file"),
    ],
)
def test_a_style_that_cannot_be_is_one_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.mplstyle"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_style(file)
    assert "\n" not in str(caught.value)


def test_importing_needs_no_matplotlib_and_drawing_no_pyplot(tmp_path: Path) -> None:
    script = """
import sys
from importlib import import_module
from pathlib import Path
for name in ("accuracy", "canvas", "footprint", "frontier", "parameters", "retention", "style", "trace"):
    import_module(f"deltamem_eval.reports.figures.{name}")
assert "matplotlib" not in sys.modules and "torch" not in sys.modules
from drawn import parameter_rows, table_of
from deltamem_eval.reports.figures import canvas, parameters, style
figure = parameters.parameters_figure(table_of(parameter_rows()), style.load_style())
canvas.save(figure, Path(sys.argv[1]), "pdf")
assert "matplotlib.pyplot" not in sys.modules
sys.modules["matplotlib"] = None
try:
    style.load_style()
except Exception as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "figure.pdf")]
    environment = dict(os.environ)
    paths = [str(Path(__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = ":".join(path for path in paths if path)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "figures need matplotlib: pip install 'deltamem-eval[reports]'\n"
