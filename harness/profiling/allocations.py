"""Bytes of tensors alive on a CPU, measured at every operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
        for tensor in tensors_in(args):
            self._exclude(tensor)
        for tensor in tensors_in((kwargs or {}).values()):
            self._exclude(tensor)
        made = func(*args, **(kwargs or {}))
        for tensor in tensors_in((made,)):
            self._count(tensor)
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
        size = self._size(tensor)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, storage._cdata, size)

    def _size(self, tensor: Tensor) -> int:
        """Bytes that a newly made tensor counts for."""
        return tensor.untyped_storage().nbytes()

    def restart(self) -> None:
        """Forget the peak so far: from now on it is the most bytes since this call."""
        self.peak = self.live

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among an operation's arguments or results, those in lists included."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def peak_of(work: Callable[..., object], *arguments: object) -> int:
    """The most bytes alive during one call of `work`, beyond what was there before."""
    allocations = Allocations()
    with allocations:
        work(*arguments)
    return allocations.peak
