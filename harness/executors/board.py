"""What is still to do, in shards of one context each, and what becomes of a shard whose worker was lost.

The longest come first, since a long shard that begins last stands alone at the end: full-context cells before
others, and of a cell the longest contexts. The shards of a cell stay together, for a worker makes its method
anew when another cell comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deltamem_eval.answering import nothing_known
from deltamem_eval.cells import Cell
from deltamem_eval.executors.worker import Shard
from deltamem_eval.interface import Episode
from deltamem_eval.runner import CellRun

TRIES = 3  # workers that a shard may be lost with before its questions fail


@dataclass
class Assignment:
    """A shard and how often it was lost. episode: None where only the cell's end is missing."""

    run: CellRun
    episode: Episode | None
    lost: int = 0

    @property
    def shard(self) -> Shard:
        """What a worker needs: the questions still open and the context to write before them."""
        if self.episode is None:
            return Shard(self.run.cell, None, ())
        source = self.run.source(self.episode)
        bare = None if source is None else replace(source, queries=())
        return Shard(self.run.cell, bare, tuple(self.run.waiting(self.episode)))

    @property
    def work(self) -> tuple[int, int]:
        """What makes it long: characters of the context that is written, then questions that are open."""
        if self.episode is None:
            return 0, 0
        source = self.run.source(self.episode)
        characters = 0 if source is None else sum(len(chunk.text) for chunk in source.chunks)
        return characters, len(self.run.waiting(self.episode))


def longest_first(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with as much of the context in the prompt as fits before all others; else in their order."""
    return sorted(cells, key=lambda cell: cell.window is not None)


class Board:
    """Hands out the shards of one cell after the other, the longest of each first. A cell ends when the last
    of its shards has.

    runs: the unfinished cells, each opened only when its turn comes.
    """

    def __init__(self, runs: Iterable[CellRun]) -> None:
        self._runs: Iterator[CellRun] = iter(runs)
        self._all_opened = False
        self._waiting: deque[Assignment] = deque()
        self._left: dict[int, int] = {}  # shards of a cell that have not ended, by its run
        self._effective: dict[int, dict[str, Any]] = {}

    def take(self) -> Assignment | None:
        """The next shard; None where none is waiting."""
        if not self._waiting:
            run = next(self._runs, None)
            if run is None:
                self._all_opened = True
                return None
            assignments = [Assignment(run, episode) for episode in run.episodes if run.waiting(episode)]
            assignments.sort(key=lambda assignment: assignment.work, reverse=True)
            self._waiting.extend(assignments or [Assignment(run, None)])
            self._left[id(run)] = len(self._waiting)
        return self._waiting.popleft()

    @property
    def unfinished(self) -> bool:
        """Whether there may be shards that were never handed out, or are some that have not ended."""
        return bool(self._left) or not self._all_opened

    def ended(self, assignment: Assignment, effective: dict[str, Any]) -> None:
        """A worker is through with a shard. effective: what held on it; the smallest batch size is kept."""
        assignment.run.note(effective["notices"])
        before = self._effective.get(id(assignment.run), effective)
        smallest = min(before["batch_size"], effective["batch_size"])
        self._effective[id(assignment.run)] = {**effective, "batch_size": smallest}
        self._end(assignment)

    def lost(self, assignment: Assignment, reason: str, device: str) -> None:
        """A shard's worker is gone: what it has not answered goes to the next one, or fails after `TRIES`."""
        assignment.lost += 1
        if assignment.lost < TRIES:
            self._waiting.appendleft(assignment)
            return
        if assignment.episode is not None:
            text = f"{assignment.lost} workers were lost with it, the last one: {reason}"
            assignment.run.fail(assignment.episode, text, device)
        self._end(assignment)

    def _end(self, assignment: Assignment) -> None:
        run = assignment.run
        self._left[id(run)] -= 1
        if self._left[id(run)] == 0:
            del self._left[id(run)]
            known = self._effective.pop(id(run), {})
            run.finish(known or nothing_known(run.cell))
