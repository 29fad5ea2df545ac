"""Progress: a live bar on a terminal, plain lines elsewhere, nothing when quiet. All of it goes to stderr."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from deltamem_eval.cells import Cell
from deltamem_eval.interface import Episode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_Key = tuple[str, int | None, int]


def _key(cell: Cell) -> _Key:
    """What tells a cell from the others of its run."""
    return cell.label, cell.window, cell.seed


@dataclass
class _Shown:
    """A cell under way: questions done and in all, context tokens written and the seconds they took.

    label: of the cell; words: what the bar says of it.
    """

    label: str
    words: str
    total: int
    done: int
    began: float = field(default_factory=time.perf_counter)
    tokens: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> str:
        """Tokens written a second, once any were."""
        return f" at {self.tokens / self.seconds:,.0f} tokens/s" if self.seconds > 0 else ""


class Display(AbstractContextManager["Display"]):
    """Shows cell, context, questions done, tokens written a second and the time left."""

    def __init__(self, cells: int, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live = self._console.is_terminal and not quiet
        self._cells = cells
        self._shown: dict[_Key, _Shown] = {}
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def cell(self, cell: Cell, questions: int, done: int) -> None:
        """A cell begins."""
        window = "all" if cell.window is None else cell.window
        label = f"{len(self._shown) + 1}/{self._cells} {cell.label}, window {window}, seed {cell.seed}"
        self._shown[_key(cell)] = shown = _Shown(label, label, questions, done)
        self._show(shown)

    def writing(self, cell: Cell, episode: Episode, tokens: int) -> None:
        """A context is being written."""
        shown = self._shown[_key(cell)]
        shown.words = f"{shown.label}: context {episode.id}, {tokens:,} tokens{shown.speed}"
        self._show(shown)

    def wrote(self, cell: Cell, episode: Episode, tokens: int, seconds: float) -> None:
        """It was written."""
        shown = self._shown[_key(cell)]
        shown.tokens, shown.seconds = shown.tokens + tokens, shown.seconds + seconds
        self.writing(cell, episode, tokens)

    def answered(self, cell: Cell, episode: Episode, count: int) -> None:
        """Questions were answered."""
        shown = self._shown[_key(cell)]
        shown.done += count
        self._show(shown)
        if not self._live and count and shown.done >= shown.total:
            seconds = time.perf_counter() - shown.began
            line = f"{shown.label}: {shown.done} questions, {seconds:.1f} s, written{shown.speed}"
            self._console.print(Text(line), soft_wrap=True)  # a file has no width

    def _show(self, shown: _Shown) -> None:
        """Let the bar stand for that cell."""
        self._bar.update(self._task, description=shown.words, total=shown.total, completed=shown.done)

    def notice(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(f"note: {text}"), soft_wrap=True)
