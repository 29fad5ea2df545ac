"""What the network sees at an update: states, the tokens that came next, and what their neighbours say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import torch
from deltamem_eval import processes
from deltamem_eval.methods.mlp_memory.cells import Cells
from deltamem_eval.methods.mlp_memory.targets import Datastore, Targets, read_states
from torch import Tensor

Texts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Lesson:
    """This process's positions of an update.

    states [positions, hidden] and the tokens that came next [positions]. The neighbours' distribution as its
    entries: position, token and mass [entries]; a token may come more than once. share: these positions'
    share of all processes'.
    """

    states: Tensor
    values: Tensor
    places: Tensor
    tokens: Tensor
    mass: Tensor
    share: float = 1.0


class Lessons(Protocol):
    """Where lessons come from: that of an update, the same whenever it is asked for."""

    def at(self, step: int) -> Lesson:
        """The lesson of one update."""


class StoreLessons:
    """Positions drawn from the datastore itself, each with its neighbours among the others (exact search)."""

    def __init__(self, targets: Targets, batch: int, seed: int) -> None:
        """batch: positions an update."""
        self._targets, self._seed = targets, seed
        self._batch = min(batch, len(targets.store.keys))

    def at(self, step: int) -> Lesson:
        """Positions drawn by the update's number."""
        store = self._targets.store
        drawn = Random(f"mlp-memory/{self._seed}/{step}").sample(range(len(store.keys)), self._batch)
        rows = list(processes.share(drawn))
        found = self._targets.of(rows)
        counts = torch.tensor([len(tokens) for tokens, _ in found])
        return Lesson(
            store.keys[rows],
            store.values[rows],
            torch.repeat_interleave(counts),
            torch.cat([tokens for tokens, _ in found]),
            torch.cat([mass for _, mass in found]),
            len(rows) / len(drawn),
        )


class FreshLessons:
    """Every position of texts that are new at each update, with its neighbours in a datastore.

    The search looks into a few cells of the store (see `Cells`). A position that stands in the store is not
    its own neighbour.
    """

    def __init__(
        self,
        model: Any,
        layer: int,
        store: Datastore,
        cells: Cells,
        texts: Callable[[int], Texts],
        *,
        neighbours: int,
        probes: int,
        temperature: float,
    ) -> None:
        """texts: token ids of an update. cells: of the store's keys. The rest: as in `Distillation`."""
        self._model, self._layer, self._store, self._cells, self._texts = model, layer, store, cells, texts
        self._neighbours, self._probes, self._temperature = neighbours, probes, temperature

    def at(self, step: int) -> Lesson:
        """All positions of the update's texts."""
        texts = self._texts(step)
        mine = processes.share(texts)
        states, values = read_states(self._model, mine, self._layer)
        own = _rows_in(self._store, mine)
        distances, rows = self._cells.search(states, own, self._neighbours, self._probes)
        mass = torch.softmax(-distances / self._temperature, -1).nan_to_num()  # NaN: no cell held a neighbour
        return Lesson(
            states,
            values,
            torch.arange(len(states)).repeat_interleave(rows.shape[1]),
            self._store.values[rows].flatten(),
            mass.flatten(),
            len(states) / sum(max(len(text) - 1, 0) for text in texts),
        )


def _rows_in(store: Datastore, texts: Texts) -> Tensor:
    """The store's row of every position of texts, -1 for those that do not stand in it."""
    places: list[int] = []
    for text in texts:
        start, held = store.starts.get(tuple(text)), len(store.keys)
        places += [
            -1 if start is None or start + position >= held else start + position
            for position in range(len(text) - 1)
        ]
    return torch.tensor(places, dtype=torch.long)
