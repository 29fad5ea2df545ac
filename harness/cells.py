"""A cell: one method on one task at one window and seed. Its identity covers all that changes answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Control = Literal["closed-book", "full-context", "wrong-memory"]


@dataclass(frozen=True)
class Cell:
    """What to run. window None means as many context tokens as fit. adapter is a folder, or None."""

    method: str
    task: str
    seed: int
    window: int | None
    control: Control | None = None
    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How progress and tables name the cell's method."""
        return self.method if self.control is None else f"{self.method} [{self.control}]"


def plan(methods: list[str], tasks: dict[str, list[int]], windows: list[int], controls: bool) -> list[Cell]:
    """All cells of a grid: controls first, so that lifts can be shown as soon as a method ends.

    tasks: seeds by task. Closed-book and full-context need the backbone alone and stand once per task and
    seed; wrong-memory stands beside every method.
    """
    cells: list[Cell] = []
    for task, seeds in tasks.items():
        for seed in seeds:
            if controls:
                cells.append(Cell("vanilla", task, seed, 0, "closed-book"))
                cells.append(Cell("vanilla", task, seed, None, "full-context"))
            for window in windows:
                for method in methods:
                    cells.append(Cell(method, task, seed, window))
                    if controls:
                        cells.append(Cell(method, task, seed, window, "wrong-memory"))
    return cells
