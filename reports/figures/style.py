"""What every figure shares: widths, the style file, and one colour, marker and dash for each method.

Colours are Tol's muted scheme (Paul Tol, "Colour schemes", 2021) with its two palest darkened and black for
vanilla: any two differ under protanopia, deuteranopia and tritanopia as well. Markers and dashes tell methods
apart without colour.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_text

COLUMN_WIDTH = 3.33  # inches: a column of a two-column paper
TEXT_WIDTH = 7.0  # inches: both columns

INK = "#222222"  # marks that belong to no method
FAINT = "#777777"  # reference lines


@dataclass(frozen=True)
class Look:
    """A method's colour (hex), marker (matplotlib's name), and dashes in points, empty for a solid line."""

    colour: str
    marker: str
    dashes: tuple[float, ...] = ()

    @property
    def line(self) -> str | tuple[float, tuple[float, ...]]:
        """The line style, as matplotlib takes it."""
        return (0.0, self.dashes) if self.dashes else "solid"


_SOLVER = "#8A8A8A"  # one grey: solvers without a model are yardsticks, told apart by marker
_DASH, _DOT, _MIXED = (4.0, 1.5), (1.0, 1.2), (4.0, 1.2, 1.0, 1.2)

# In the order of legends and axes.
LOOKS: Mapping[str, Look] = {
    "vanilla": Look("#000000", "o"),
    "bm25-rag": Look("#117733", "^", _DASH),
    "llmlingua2": Look("#999933", "v", _DASH),
    "memorybank": Look("#D1BE55", "<", _DASH),
    "memgen": Look("#882255", "X", _MIXED),
    "context2lora": Look("#AA4499", "P", _MIXED),
    "mlp-memory": Look("#7CC3EA", ">", _MIXED),
    "token-write": Look("#332288", "s"),
    "sequence-write": Look("#44AA99", "D"),
    "multi-write": Look("#CC6677", "p"),
    "oracle-last-write": Look(_SOLVER, "2", _DOT),
    "oracle-first-write": Look(_SOLVER, "1", _DOT),
    "majority-label": Look(_SOLVER, "+", _DOT),
    "nearest-example": Look(_SOLVER, "x", _DOT),
    "random-option": Look(_SOLVER, "3", _DOT),
}

# For plug-ins: colours as far from the ones above as those are from each other.
PLUGIN_COLOURS = ("#E69F00", "#8833EE", "#A5170E", "#5A3A22")
PLUGIN_MARKERS = ("*", "d", "h", "4")
_PLUGIN_DASHES = (2.0, 1.0)
_SETTINGS = PLUGIN_MARKERS  # of a method's second setting and on


def method_of(label: str) -> str:
    """The method's name in a table's label, without settings and control."""
    return label.split(" (", maxsplit=1)[0].split(" [", maxsplit=1)[0]


def control_of(label: str) -> str | None:
    """The control in a label's brackets; None for the method itself."""
    return label[label.rindex("[") + 1 : -1] if label.endswith("]") and " [" in label else None


def look_of(name: str) -> Look:
    """The look of a method, the same in every figure; a plug-in's follows from its name alone."""
    if name in LOOKS:
        return LOOKS[name]
    number = int(hash_text(name), 16)
    marker = PLUGIN_MARKERS[number // len(PLUGIN_COLOURS) % len(PLUGIN_MARKERS)]
    return Look(PLUGIN_COLOURS[number % len(PLUGIN_COLOURS)], marker, _PLUGIN_DASHES)


def looks_of(labels: Iterable[str]) -> dict[str, Look]:
    """Looks of the labels of one figure, in the order to show them.

    Settings of one method share its colour; each after the first has a marker of its own.
    """
    names = list(LOOKS)
    ranked = sorted(
        set(labels),
        key=lambda label: (_rank(names, method_of(label)), method_of(label), label),
    )
    found: dict[str, Look] = {}
    for label in ranked:
        before = sum(method_of(other) == method_of(label) for other in found)
        look = look_of(method_of(label))
        marker = _SETTINGS[(before - 1) % len(_SETTINGS)]
        found[label] = look if before == 0 else replace(look, marker=marker)
    return found


def _rank(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


@dataclass(frozen=True)
class Style:
    """A figure's width in inches and matplotlib's settings."""

    width: float
    params: Mapping[str, Any]

    @property
    def wide(self) -> bool:
        """Whether panels may stand side by side that are stacked at column width."""
        return self.width > 1.5 * COLUMN_WIDTH

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block, matplotlib's settings are the style's; afterwards they are what they were."""
        import matplotlib

        settings: Any = dict(self.params)
        with matplotlib.rc_context(settings):
            yield


def load_style(file: Path | None = None, width: float | None = None) -> Style:
    """Our style with the user's over it, matplotlib's own defaults beneath, whatever a matplotlibrc says.

    file: in matplotlib's style format. width: in inches; None takes it from figure.figsize, which is column
    width unless `file` says otherwise. Raises UserError where matplotlib is not installed, the file cannot be
    read, or it holds what matplotlib does not know.
    """
    try:
        from matplotlib import rcParamsDefault
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'deltamem-eval[reports]'") from None
    defaults: Any = rcParamsDefault
    params = {name: value for name, value in defaults.items() if not name.startswith("backend")}
    with as_file(files(__package__) / "style.mplstyle") as own:
        params.update(_read(own))
    if file is not None:
        params.update(_read(file))
    found = float(params["figure.figsize"][0]) if width is None else width
    if found < 2:
        raise UserError(f"a figure {found:g} in wide has no room for its labels: 2 is the least")
    return Style(found, params)


def _read(file: Path) -> dict[str, Any]:
    """The settings of a style file. matplotlib only logs a name it does not know; here that is refused."""
    from matplotlib import rc_params_from_file

    if not file.is_file():
        raise UserError(f"{file}: no such style file")
    told = _Told()
    logger = logging.getLogger("matplotlib")
    passes_on, logger.propagate = logger.propagate, False
    logger.addHandler(told)
    try:
        found: Any = rc_params_from_file(file, fail_on_error=True, use_default_template=False)
    except (OSError, ValueError) as error:
        raise UserError(f"style file {file}: {_first_line(str(error))}") from None
    finally:
        logger.removeHandler(told)
        logger.propagate = passes_on
    if told.lines:
        raise UserError(f"style file {file}: {told.lines[0]}")
    return dict(found)


class _Told(logging.Handler):
    """Keeps the first line of every warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(_first_line(record.getMessage()))


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["cannot be read"])[0]
