"""What the network learns to imitate: nearest neighbours among the corpus's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 256
_SMALLEST = 1e-8


@dataclass(frozen=True)
class Datastore:
    """keys: hidden states [tokens, hidden], float32. values: the token that came next [tokens]."""

    keys: Tensor
    values: Tensor


def build_datastore(model: Any, texts: Sequence[Sequence[int]], layer: int, most: int) -> Datastore:
    """Run the backbone over token sequences and keep up to `most` (state, next token) pairs.

    Raises UserError where there are fewer than two.
    """
    import torch
    from deltamem_eval.methods.mlp_memory.tap import Tap

    tap = Tap(model, layer, last_only=False)
    keys, values, held = [], [], 0
    try:
        for ids in texts:
            if held >= most:
                break
            tokens = torch.tensor([list(ids)], device=model.device)
            with torch.no_grad():
                model.get_decoder()(tokens, use_cache=False)
            if tap.input is None:
                raise RuntimeError("the hook on the feed-forward part saw nothing")
            keys.append(tap.input[0, :-1].float().cpu())
            values.append(tokens[0, 1:].cpu())
            held += len(ids) - 1
    finally:
        tap.remove()
    if held < 2:
        raise UserError("the training data hold fewer than two tokens to learn from")
    return Datastore(torch.cat(keys)[:most], torch.cat(values)[:most])


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
