"""The scan as a differentiable function of torch, computed by Triton programs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from deltamem_eval.methods.delta_mem.kernel.passage import states_between
from deltamem_eval.methods.delta_mem.kernel.shape import BLOCK, Shape
from deltamem_eval.methods.delta_mem.kernel.spans import differentiate_spans, map_spans, walk_spans
from deltamem_eval.methods.delta_mem.recurrence import Inputs
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan_triton(inputs: Inputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Reads [batch, tokens, rank] and the end state [batch, rank, rank], as `scan_naive` gives them.

    float32, ranks up to 64. Differentiable once; for a backward pass the inputs and the states between spans
    are kept.
    """
    if inputs.q.numel() == 0:
        return torch.zeros_like(inputs.q), state
    found: tuple[Tensor, Tensor] = _Scan.apply(state, *inputs)  # type: ignore[no-untyped-call]
    return found


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        work = _Work(Inputs(*(tensor.contiguous() for tensor in tensors)))
        with _on(state):
            starts = work.starts(state.contiguous())
            reads, end = work.reads(starts)
        ctx.save_for_backward(starts, *work.inputs)
        return reads, end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, reads: Tensor, end: Tensor) -> tuple[Tensor, ...]:
        starts, *tensors = ctx.saved_tensors
        with _on(starts):
            found, state = _Work(Inputs(*tensors)).gradients(starts, reads.contiguous(), end.contiguous())
        return state, *found


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever its arguments' is."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


class _Work:
    """The programs over one set of inputs, contiguous [batch, tokens, r]."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.batch, self.tokens, self.rank = inputs.q.shape
        self.shape = Shape.of(self.rank)
        self.spans = triton.cdiv(self.tokens, self.shape.span)
        self.lanes = self.batch * self.spans

    def starts(self, state: Tensor) -> Tensor:
        """The states before each span [batch, spans, r, r]."""
        return self._between(state, self.inputs.v, backwards=False)

    def _between(self, first: Tensor, pull: Tensor, backwards: bool) -> Tensor:
        """States before each span, or their gradients after each, in the order in which spans are passed."""
        if self.spans == 1:
            return first[:, None]
        maps = first.new_empty(self.batch, self.spans - 1, self.rank, self.rank + 1, self.rank)
        total = maps.numel() // self.rank
        map_spans[(triton.cdiv(total, self.shape.columns),)](
            *self.inputs, pull, maps, self.tokens, self.spans, total, RANK=self.rank, R=self.shape.padded,
            SPAN=self.shape.span, COLUMNS=self.shape.columns, BACKWARDS=backwards,
            num_warps=self.shape.map_warps,
        )  # fmt: skip
        return states_between(maps, first, self.shape)

    def reads(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Reads of all tokens and the end state."""
        reads, end = torch.empty_like(self.inputs.q), starts.new_empty(self.batch, self.rank, self.rank)
        self._walk(starts, reads, end, starts, marking=False)
        return reads, end

    def _walk(self, starts: Tensor, reads: Tensor, end: Tensor, marks: Tensor, marking: bool) -> None:
        walk_spans[self._programs](
            *self.inputs, starts, reads, end, marks, self.tokens, self.spans, self.lanes, RANK=self.rank,
            R=self.shape.padded, SPAN=self.shape.span, LANES=self.shape.lanes, BLOCK=BLOCK,
            MARKING=marking, num_warps=self.shape.lane_warps,
        )  # fmt: skip

    @property
    def _programs(self) -> tuple[int]:
        return (triton.cdiv(self.lanes, self.shape.lanes),)

    def gradients(self, starts: Tensor, reads: Tensor, end: Tensor) -> tuple[Inputs, Tensor]:
        """Gradients of the inputs and of the state before them, from those of the reads and the end state."""
        marks = starts.new_empty(self.lanes, self.shape.span // BLOCK, self.rank, self.rank)
        self._walk(starts, marks, marks, marks, marking=True)
        ends = self._between(end, reads, backwards=True)
        found, state = Inputs(*map(torch.empty_like, self.inputs)), torch.empty_like(end)
        differentiate_spans[self._programs](
            *self.inputs, reads, marks, ends, *found, state, self.tokens, self.spans, self.lanes,
            RANK=self.rank, R=self.shape.padded, SPAN=self.shape.span, LANES=self.shape.lanes,
            BLOCK=BLOCK, num_warps=self.shape.lane_warps,
        )  # fmt: skip
        return found, state
