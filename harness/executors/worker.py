"""What runs on a worker: the weights, the method of the cell at hand, and one context's questions at a time.

A plain class: ray makes it an actor, and it can be used without.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.answering import Answered, CellWork, Event
from deltamem_eval.cells import Cell
from deltamem_eval.errors import UserError
from deltamem_eval.executors.weights import Weights
from deltamem_eval.interface import Episode, Query
from deltamem_eval.session import Request, try_out, with_adapter


@dataclass(frozen=True)
class Refusal:
    """A `UserError` and the machine it happened on."""

    node: str
    text: str


@dataclass(frozen=True)
class Start:
    """What a worker needs to load a request's weights.

    device: `cpu` or `cuda`. folder: where the command runs, so that relative paths mean the same. paths:
    those named by the request; they must be here as well. system: opens every prompt.
    """

    request: Request
    device: str
    folder: str
    paths: tuple[str, ...]
    system: str


@dataclass(frozen=True)
class Facts:
    """What a worker loaded, and where. device: its `device_line`. name, identity, dtype: the backbone's.
    code: hash of the package there.
    """

    node: str
    device: str
    name: str
    identity: str
    dtype: str
    positions: int
    versions: dict[str, str]
    code: str


@dataclass(frozen=True)
class Shard:
    """One context of a cell with the questions to ask; neither where only the cell's end is missing.

    source: whose context to write, without its questions; None where there is none.
    """

    cell: Cell
    source: Episode | None
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Ended:
    """A shard is done. effective: what held while it ran."""

    effective: dict[str, Any]


class Worker:
    """Holds one backbone and answers shards with it, a batch at a step."""

    def __init__(self) -> None:
        self._weights = Weights()
        self._start: Start | None = None
        self._backbone: Any = None
        self._work: CellWork | None = None
        self._events: Iterator[Event | Ended] = iter(())
        self._open = 0  # questions of the shard that are not answered

    def call(self, name: str, *arguments: Any) -> Any:
        """The result of a method; a `Refusal` for a `UserError`, which crosses machines as the line it is.

        A worker whose device is lost ends its process: what it was asked goes to another.
        """
        from deltamem_eval.phases import DeviceLostError

        try:
            return getattr(self, name)(*arguments)
        except DeviceLostError as error:
            print(error, flush=True)
            os._exit(1)
        except UserError as error:
            return Refusal(platform.node(), str(error))

    def place(self) -> str:
        """The name of the machine; answered as soon as the worker has a place on one."""
        return platform.node()

    def load(self, start: Start) -> Facts:
        """Load the request's weights, where others are loaded."""
        import torch
        from deltamem_eval.provenance import code_facts, device_line, versions
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        if Path(start.folder).is_dir():
            os.chdir(start.folder)
        for path in start.paths:
            if not Path(path).exists():
                raise UserError(f"{path} is not there: what is named by a path must be on every machine")
        if start.device == "cpu":
            torch.set_num_threads(1)  # a worker is one core, and ray gives another core to another worker
        self._drop_work()
        self._start = start
        self._backbone = backbone = self._weights.load(start.request, start.device)
        backbone.system = start.system
        return Facts(
            node=platform.node(),
            device=device_line(backbone.devices),
            name=backbone.name,
            identity=backbone.identity,
            dtype=backbone.dtype,
            positions=backbone.positions,
            versions=versions(),
            code=code_facts()["code"],
        )

    def trained(self, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
        """By method, what its trained files are here, as the cells' identities hold it."""
        return trained_by_method([self._here(cell) for cell in cells])

    def try_out(self, cells: Sequence[Cell], queries: Sequence[Query]) -> None:
        """Make each method and measure each question once."""
        try_out([self._here(cell) for cell in cells], queries, self._backbone)

    def begin(self, shard: Shard) -> list[Event | Ended]:
        """Take on a shard, the one before it being done, and do its first step."""
        self._events, self._open = self._through(shard), len(shard.queries)
        return self.step()

    def step(self) -> list[Event | Ended]:
        """What happens up to the next answered batch; after the last, up to the shard's end; then nothing."""
        happened = []
        for event in self._events:
            happened.append(event)
            if isinstance(event, Answered):
                self._open -= len(event.queries)
                if self._open:
                    break
        return happened

    def _through(self, shard: Shard) -> Iterator[Event | Ended]:
        """Everything that happens to a shard. The method stays until another cell comes."""
        if self._work is None or self._work.cell != self._here(shard.cell):
            self._drop_work()
            assert self._start is not None
            self._work = CellWork(self._here(shard.cell), self._backbone, self._start.request.timeout)
        yield from self._work.ask(shard.source, shard.queries)
        yield Ended(self._work.effective())

    def _here(self, cell: Cell) -> Cell:
        """The cell with the adapter where it is on this machine: the embedded ones came with the package."""
        assert self._start is not None
        return with_adapter(cell, self._start.request)

    def _drop_work(self) -> None:
        if self._work is not None:
            self._work.close()
            self._work = None


def trained_by_method(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Of the cells' identities, what trained files decide; a run has one adapter a method."""
    from deltamem_eval.runner import trained_parts

    return {method: trained_parts(cell) for method, cell in {cell.method: cell for cell in cells}.items()}
