"""What the network learns to imitate: nearest neighbours among the corpus's hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 256
_TOGETHER = 2048
_SMALLEST = 1e-8


@dataclass(frozen=True)
class Datastore:
    """keys: hidden states [tokens, hidden], float32. values: the token that came next [tokens].

    starts: the first row of each text, by its token ids.
    """

    keys: Tensor
    values: Tensor
    starts: Mapping[tuple[int, ...], int] = field(default_factory=dict)


def build_datastore(model: Any, texts: Sequence[Sequence[int]], layer: int, most: int) -> Datastore:
    """Run the backbone over token sequences and keep up to `most` (state, next token) pairs.

    Raises UserError where there are fewer than two.
    """
    starts: dict[tuple[int, ...], int] = {}
    taken, held = [], 0
    for ids in texts:
        if held >= most:
            break
        starts[tuple(ids)] = held
        taken.append(ids)
        held += max(len(ids) - 1, 0)
    if held < 2:
        raise UserError("the training data hold fewer than two tokens to learn from")
    keys, values = read_states(model, taken, layer)
    return Datastore(keys[:most], values[:most], starts)


def read_states(model: Any, texts: Sequence[Sequence[int]], layer: int) -> tuple[Tensor, Tensor]:
    """Feed-forward inputs [tokens, hidden], float32, on the CPU, at every token that another follows, and
    that one [tokens].

    Texts of about one length are read together, padded on the right, where causal attention never looks.
    """
    import torch
    from deltamem_eval.methods.mlp_memory.tap import Tap

    tap = Tap(model, layer, last_only=False)
    states: dict[int, Tensor] = {}
    try:
        for group in _groups(texts):
            width = max(len(texts[place]) for place in group)
            rows = [[*texts[place], *[texts[place][-1]] * (width - len(texts[place]))] for place in group]
            with torch.no_grad():
                model.get_decoder()(torch.tensor(rows, device=model.device), use_cache=False)
            if tap.input is None:
                raise RuntimeError("the hook on the feed-forward part saw nothing")
            for place, seen in zip(group, tap.input, strict=True):
                states[place] = seen[: len(texts[place]) - 1].float().cpu()
    finally:
        tap.remove()
    following = [token for text in texts for token in text[1:]]
    return torch.cat([states[place] for place in sorted(states)]), torch.tensor(following)


def _groups(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of texts of two tokens or more by their length, as many together as make TOGETHER tokens."""
    groups: list[list[int]] = []
    for place in sorted(range(len(texts)), key=lambda number: len(texts[number])):
        length = len(texts[place])
        if length < 2:
            continue
        if not groups or (len(groups[-1]) + 1) * length > _TOGETHER:
            groups.append([])
        groups[-1].append(place)
    return groups


def neighbours(store: Datastore, queries: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Exact search: squared distances and indices [queries, count] of each query's neighbours but itself.

    queries: rows of the store. Self is left out by its index, wherever it would rank.
    """
    import torch

    rows = torch.tensor(list(queries))
    count = min(count, len(store.keys) - 1)
    squares = store.keys.square().sum(-1)
    found, places = [], []
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        mine = store.keys[part]
        distances = squares[None] - 2 * mine @ store.keys.T + mine.square().sum(-1, keepdim=True)
        distances[torch.arange(len(part)), part] = torch.inf
        near = distances.clamp(min=0).topk(count, largest=False, sorted=True)
        found.append(near.values)
        places.append(near.indices)
    return torch.cat(found), torch.cat(places)


def knn_targets(
    store: Datastore, queries: Sequence[int], count: int, temperature: float
) -> list[tuple[Tensor, Tensor]]:
    """For each query the sparse distribution p(y) = Σ softmax(-d/τ) over neighbours followed by y.

    Returns (token ids, probabilities) pairs, entries of 1e-8 or less left out.
    """
    import torch

    distances, places = neighbours(store, queries, count)
    shares = torch.softmax(-distances / temperature, -1)
    made = []
    for share, place in zip(shares, places, strict=True):
        tokens, slots = torch.unique(store.values[place], return_inverse=True)
        mass = torch.zeros(len(tokens)).index_add_(0, slots, share)
        kept = mass > _SMALLEST
        made.append((tokens[kept], mass[kept]))
    return made


class Targets:
    """The distributions of a store's rows, each searched for when it is first asked for and kept.

    count, temperature: as in `knn_targets`.
    """

    def __init__(self, store: Datastore, count: int, temperature: float) -> None:
        self.store, self._count, self._temperature = store, count, temperature
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """(token ids, probabilities) of each row, as `knn_targets` gives them."""
        new = [row for row in dict.fromkeys(rows) if row not in self._known]
        if new:
            self._known.update(
                zip(new, knn_targets(self.store, new, self._count, self._temperature), strict=True)
            )
        return [self._known[row] for row in rows]
