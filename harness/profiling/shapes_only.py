"""Running a model's own code on shapes alone: tensors without values, counted as a GPU would hold them.

Tensors live on torch's `meta` device: nothing is allocated and nothing computed. Code that looks at values
is served too. Whole numbers and truth values that follow from known ones (token ids, masks, positions) are
worked out beside their shapes; a value that is not known (the most probable token, a classifier's
probability) is made up when it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from deltamem_eval.profiling.allocations import Allocations, tensors_in
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

META = torch.device("meta")
_HOST = torch.device("cpu")
_GPU = "cuda"  # what code calls the device that `meta` stands for, where it does not ask a tensor
_LARGEST = 1 << 24  # elements of a tensor whose values are followed
_aten = torch.ops.aten
_READ, _COPY, _PICK = _aten._local_scalar_dense.default, _aten._to_copy.default, _aten.index.Tensor
_COUNTED = (_aten._unique2.default, _aten.nonzero.default, _aten.masked_select.default)


class Ledger(Allocations):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors on `meta`, which stands for the GPU; the host's do not count."""

    def _size(self, tensor: Tensor) -> int:
        return tensor.untyped_storage().nbytes() if tensor.device == META else 0


@contextmanager
def shapes_only() -> Iterator[Ledger]:
    """Within the block tensors of device `meta` behave like a GPU's; the ledger counts them."""
    values, ledger = _Values(), Ledger()
    with values, ledger, _Calls(values):
        yield ledger


class _Values(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows values where they are known, and makes them up where they are read and not known."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: Any = WeakIdKeyDictionary()
        self._random = torch.Generator(_HOST).manual_seed(0)

    def learn(self, tensor: Tensor, value: Tensor) -> None:
        """Remember what a tensor of device `meta` would hold."""
        if value.numel() <= _LARGEST and not value.is_floating_point():
            self._known[tensor] = value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [item for item in tensors_in((*args, *kwargs.values())) if item.device == META]
        if given and func is _READ:
            return self._value(args[0]).flatten()[0].item()
        if given and func is _COPY and kwargs.get("device", META) != META:
            return func(self._value(args[0]), **kwargs)
        if given and _shaped_by_values(func, given):
            return tree_map_only(Tensor, self._as_shape, self._worked_out(func, args, kwargs))
        made = func(*args, **kwargs)
        self._follow(func, args, kwargs, given, made)
        return made

    def _value(self, tensor: Tensor) -> Tensor:
        """What a tensor holds: known, or made up, ones or fractions between 0 and 1."""
        known: Tensor | None = self._known.get(tensor)
        if known is not None:
            return known
        if tensor.is_floating_point():
            return torch.rand(tensor.shape, dtype=tensor.dtype, generator=self._random, device=_HOST)
        return torch.ones(tensor.shape, dtype=tensor.dtype, device=_HOST)

    def _worked_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation on values, on the host."""
        values, named = tree_map_only(
            Tensor, lambda item: self._value(item) if _is_shape(item) else item, (args, kwargs)
        )
        return func(*values, **{**named, **({"device": _HOST} if "device" in named else {})})

    def _as_shape(self, value: Tensor) -> Tensor:
        made = torch.empty_like(value, device=META)
        self.learn(made, value)
        return made

    def _follow(self, func: Any, args: Any, kwargs: Any, given: Sequence[Tensor], made: Any) -> None:
        """Do to values what was done to shapes, where all are known and the result holds no fractions."""
        results = [item for item in tensors_in((made,)) if item.device == META]
        if not results or any(item.is_floating_point() or item.numel() > _LARGEST for item in results):
            return
        if any(self._known.get(item) is None for item in given):
            for item in results:  # of an operation in place: no longer known
                self._known.pop(item, None)
            return
        values = tensors_in((self._worked_out(func, args, kwargs),))
        for item, value in zip(results, values, strict=True):
            self.learn(item, value)


def _is_shape(item: Any) -> bool:
    return isinstance(item, Tensor) and item.device == META


def _shaped_by_values(func: Any, given: Sequence[Tensor]) -> bool:
    """Whether the result's shape depends on values."""
    return func in _COUNTED or (func is _PICK and any(item.dtype == torch.bool for item in given))


class _Calls(TorchFunctionMode):
    """What no operator tells: tensors made from lists, fused attention, and a device by name."""

    def __init__(self, values: _Values) -> None:
        super().__init__()
        self._values = values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or _HOST) == META:
            value = func(*args, **{**kwargs, "device": _HOST})
            made = torch.empty_like(value, device=META)
            self._values.learn(made, value)
            return made
        if func is torch.nn.functional.scaled_dot_product_attention and _is_shape(args[0]):
            return _fused_attention(args[0], args[2])
        if func is Tensor.to and args[1:2] == (_GPU,):
            args = (args[0], META, *args[2:])
        return func(*args, **kwargs)


def _fused_attention(query: Tensor, value: Tensor) -> Tensor:
    """What a fused kernel makes: the output [rows, heads, tokens, width] and, until it has ended, the
    logarithms of the softmax's sums [rows, heads, tokens] in float32.
    """
    sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
    made = query.new_empty((*query.shape[:-1], value.shape[-1]))
    del sums
    return made
