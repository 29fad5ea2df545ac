"""Progress: a live bar on a terminal, plain lines elsewhere, nothing when quiet. All of it goes to stderr."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType

from deltamem_eval.cells import Cell
from deltamem_eval.interface import Episode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class Display(AbstractContextManager["Display"]):
    """Shows cell, context, questions done, tokens written a second and the time left."""

    def __init__(self, cells: int, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live = self._console.is_terminal and not quiet
        self._cells, self._index = cells, 0
        self._label, self._done, self._total, self._began = "", 0, 0, time.perf_counter()
        self._tokens, self._seconds = 0, 0.0
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
        self._index += 1
        window = "all" if cell.window is None else cell.window
        self._label = f"{self._index}/{self._cells} {cell.label}, window {window}, seed {cell.seed}"
        self._done, self._total, self._began = done, questions, time.perf_counter()
        self._tokens, self._seconds = 0, 0.0
        self._bar.update(self._task, description=self._label, total=questions, completed=done)

    def writing(self, episode: Episode, tokens: int) -> None:
        """A context is being written."""
        self._describe(f"context {episode.id}, {tokens:,} tokens{self._speed()}")

    def wrote(self, episode: Episode, tokens: int, seconds: float) -> None:
        """It was written."""
        self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
        self._describe(f"context {episode.id}, {tokens:,} tokens{self._speed()}")

    def _describe(self, what: str) -> None:
        self._bar.update(self._task, description=f"{self._label}: {what}")

    def _speed(self) -> str:
        return f" at {self._tokens / self._seconds:,.0f} tokens/s" if self._seconds > 0 else ""

    def answered(self, episode: Episode, count: int) -> None:
        """Questions were answered."""
        self._done += count
        self._bar.advance(self._task, count)
        if not self._live and self._done >= self._total:
            seconds = time.perf_counter() - self._began
            line = f"{self._label}: {self._done} questions, {seconds:.1f} s, written{self._speed()}"
            self._console.print(Text(line))

    def notice(self, text: str) -> None:
        """Print a line."""
        self._console.print(Text(f"note: {text}"))
