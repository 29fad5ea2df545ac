"""Nearest neighbours among many keys: only those in the cells nearest to a query are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDS, _SAMPLE = 8, 64  # of k-means, and keys of its sample a cell
_ROWS = 4096


class Cells:
    """Keys [keys, hidden], each in the cell of its nearest centroid (k-means on a seeded sample).

    With as many probes as cells a search is exact: `targets.neighbours` is the plain form of it.
    """

    def __init__(self, keys: Tensor, count: int, seed: int) -> None:
        """count: cells, fewer where there are fewer keys."""
        import torch

        count = min(count, len(keys))
        generator = torch.Generator().manual_seed(seed)
        sample = keys[torch.randperm(len(keys), generator=generator)[: _SAMPLE * count]]
        centres = sample[:count].clone()
        for _ in range(_ROUNDS):
            nearest = _nearest(sample, centres)
            sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
            held = torch.bincount(nearest, minlength=count)[:, None]
            centres = torch.where(held > 0, sums / held.clamp(min=1), centres)
        centres = centres[torch.bincount(_nearest(keys, centres), minlength=count) > 0]
        nearest, count = _nearest(keys, centres), len(centres)
        self._centres, self._order = centres, nearest.argsort(stable=True)
        sizes = torch.bincount(nearest, minlength=count)
        self._ends = sizes.cumsum(0).tolist()
        self._keys = keys[self._order]
        self._squares = self._keys.square().sum(-1)
        self._place = torch.empty_like(self._order)
        self._place[self._order] = torch.arange(len(keys))

    def search(self, queries: Tensor, own: Tensor, count: int, probes: int) -> tuple[Tensor, Tensor]:
        """Squared distances and rows of the keys [queries, count], in no order.

        own: the key that is the query itself and is left out, -1 for none [queries]. Where the cells hold too
        few keys, distances are infinite and rows 0.
        """
        import torch

        parts = zip(torch.split(queries, _ROWS), torch.split(own, _ROWS), strict=True)
        found = [self._search(some, mine, count, probes) for some, mine in parts]
        return torch.cat([near for near, _ in found]), torch.cat([rows for _, rows in found])

    def _search(self, queries: Tensor, own: Tensor, count: int, probes: int) -> tuple[Tensor, Tensor]:
        import torch

        probes = min(probes, len(self._centres))
        squares = queries.square().sum(-1)
        cells = _squared(queries, self._centres).topk(probes, largest=False, sorted=False).indices
        near = torch.full((len(queries), probes, count), torch.inf)
        rows = torch.zeros(len(queries), probes, count, dtype=torch.long)
        mine = torch.where(own >= 0, self._place[own.clamp(min=0)], -1)
        order = cells.flatten().argsort(stable=True)
        visits = torch.bincount(cells.flatten(), minlength=len(self._centres)).tolist()
        done = 0
        for cell, visitors in enumerate(visits):
            start, end = self._ends[cell - 1] if cell else 0, self._ends[cell]
            who, slot = order[done : done + visitors] // probes, order[done : done + visitors] % probes
            done += visitors
            if not visitors or start == end:
                continue
            keys = self._keys[start:end]
            distances = torch.addmm(self._squares[None, start:end], queries[who], keys.T, alpha=-2)
            distances += squares[who, None]
            inside = (mine[who] >= start) & (mine[who] < end)
            distances[inside.nonzero()[:, 0], mine[who][inside] - start] = torch.inf
            best = distances.topk(min(count, end - start), largest=False, sorted=False)
            near[who, slot, : best.values.shape[1]] = best.values
            rows[who, slot, : best.values.shape[1]] = self._order[start + best.indices]
        best = near.flatten(1).topk(min(count, probes * count), largest=False, sorted=False)
        return best.values.clamp(min=0), rows.flatten(1).gather(1, best.indices)


def _squared(queries: Tensor, keys: Tensor) -> Tensor:
    """Squared distances less each query's own square [queries, keys]."""
    import torch

    return torch.addmm(keys.square().sum(-1)[None], queries, keys.T, alpha=-2)


def _nearest(keys: Tensor, centres: Tensor) -> Tensor:
    """The centre nearest to each key [keys]."""
    import torch

    return torch.cat([_squared(some, centres).argmin(-1) for some in torch.split(keys, _ROWS)])
