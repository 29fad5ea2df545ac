"""Bytes of tensors alive on a CPU, measured at every operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make inside the `with` block, until they are freed.

    live, peak: bytes now, and the most at any time. Tensors made before the block do not count. Memory that
    a kernel takes and gives back within one operation is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tree_map_only(Tensor, self._exclude, (args, kwargs))
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, made)
        return made

    def _exclude(self, tensor: Tensor) -> None:
        """An argument was there before: remember it without counting it."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            weakref.finalize(storage, self._free, storage._cdata, 0)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def peak_of(work: Callable[..., object], *arguments: object) -> int:
    """The most bytes alive during one call of `work`, beyond what was there before."""
    allocations = Allocations()
    with allocations:
        work(*arguments)
    return allocations.peak
