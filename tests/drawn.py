"""Small tables to draw, and what a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deltamem_eval.reports.table import Cell, Column, Table
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

PLUGIN = "my-memory"
METHODS = ("vanilla", "bm25-rag", "token-write", "multi-write", PLUGIN)


def table_of(rows: Iterable[Mapping[str, Any]], caption: str = "Caption.") -> Table:
    """A table with a column for each key; values are cells or what cells hold."""
    listed = list(rows)
    keys = list(listed[0])
    made = tuple(
        tuple(row[key] if isinstance(row[key], Cell) else Cell(row[key]) for key in keys) for row in listed
    )
    return Table("Title", tuple(Column(key, key) for key in keys), made, caption)


def scored(value: float) -> Cell:
    """An accuracy with an interval of 0.1 below and 0.05 above."""
    return Cell(value, value - 0.1, value + 0.05, 40)


def accuracy_rows() -> list[dict[str, Any]]:
    """Five methods at two windows in two categories, with three controls."""
    rows = []
    for category, chance in (("accurate-retrieval", 0.01), ("long-range-understanding", 0.025)):

        def row(method: str, window: str, accuracy: Cell, **more: Any) -> dict[str, Any]:
            return {"method": method, "window": window, "accuracy": accuracy, **more}

        more = {"category": category, "chance": chance, "selection": 0.25}
        rows.append(row("vanilla [closed-book]", "0", Cell(0.0, 0.0, 0.0, 40), **more))
        rows.append(row("vanilla [full-context]", "all that fits", scored(0.8), **more))
        rows.append(row("token-write [wrong-memory]", "64", scored(0.15), **more))
        for place, method in enumerate(METHODS):
            for window, gain in (("64", 0.0), ("256", 0.2)):
                rows.append(row(method, window, scored(0.2 + 0.1 * place + gain), **more))
    return rows


def frontier_rows() -> list[dict[str, Any]]:
    """Four methods; two points are best for their memory, one of them free, and one for its prompt."""
    keys = ("method", "window", "accuracy", "memory_bytes", "prompt_tokens", "pareto_memory", "pareto_tokens")
    rows = [
        ("vanilla [closed-book]", "0", Cell(0.02, 0.0, 0.04, 40), 0.0, 12.0, None, None),
        ("vanilla [full-context]", "all that fits", scored(0.85), 1e6, 300.0, None, None),
        ("vanilla", "0", Cell(0.02, 0.0, 0.04, 40), 0.0, 12.0, "yes", None),
        ("vanilla", "64", scored(0.45), 260_000.0, 75.0, None, None),
        ("token-write", "0", scored(0.6), 768.0, 12.0, "yes", "yes"),
        ("token-write", "64", scored(0.5), 261_000.0, 75.0, None, None),
        (PLUGIN, "64", scored(0.4), 5_000.0, 70.0, None, None),
    ]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def retention_rows() -> list[dict[str, Any]]:
    """Four methods at two windows, against associations and updates."""
    rows = []
    for method in ("vanilla [full-context]", "token-write", "sequence-write", "multi-write", PLUGIN):
        control = method.endswith("]")
        for window in ["all that fits"] if control else ["0", "64"]:
            for measure, places in (("associations", (2, 4, 8)), ("updates", (0, 1))):
                for place in places:
                    rows.append(
                        {
                            "method": method,
                            "window": window,
                            "measure": measure,
                            "at": float(place),
                            "accuracy": scored(0.8 - 0.05 * place),
                        }
                    )
    return rows


GIB = 2**30


def profile_rows() -> list[dict[str, Any]]:
    """Two methods in two modes at two decode lengths; vanilla's replay ends before the longest prompt."""
    rows = []
    for method in ("vanilla", "token-write"):
        for mode in ("replay", "state-only"):
            for length in (4096, 16384, 32768):
                for new in (64, 256):
                    grown = length / 4096 if mode == "replay" else 1.0
                    ended = (method, mode, length) == ("vanilla", "replay", 32768)

                    def cell(value: float, ended: bool = ended) -> Cell:
                        return Cell(None) if ended else Cell(value, 0.9 * value, 1.1 * value, 3)

                    rows.append(
                        {
                            "method": method,
                            "mode": mode,
                            "prompt_tokens": length,
                            "decode_tokens": new,
                            "weights_bytes": 8 * GIB,
                            "peak_bytes": cell((8 + grown) * GIB),
                            "prefill_speed": cell(9000 / grown),
                            "decode_speed": cell(60 / grown),
                            "status": "oom" if ended else "ok",
                        }
                    )
    return rows


def parameter_rows() -> list[dict[str, Any]]:
    """One that trains, one that also stores, one that adds nothing, one that cannot be counted."""
    keys = ("method", "trainable", "stored", "share", "paper")
    rows = [
        ("vanilla", 0, 0, 0.0, None),
        ("token-write", 4_866_336, 4_866_336, 4_866_336 / 4e9, 4.87e6),
        ("memgen", 46_000_000, 92_000_000, 92_000_000 / 4e9, None),
        (PLUGIN, None, None, None, None),
    ]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def bars(axes: Axes, label: str) -> list[ErrorbarContainer]:
    """What was drawn with intervals under a label."""
    return [
        item for item in axes.containers if isinstance(item, ErrorbarContainer) and item.get_label() == label
    ]


def lines(axes: Axes, label: str) -> list[Line2D]:
    """Lines of a label, without those that have intervals."""
    return [line for line in axes.lines if line.get_label() == label]


def texts(figure: Figure) -> list[str]:
    """Everything that can be read, legends included."""
    return [item.get_text() for item in figure.findobj(Text) if item.get_visible() and item.get_text()]
