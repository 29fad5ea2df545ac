"""The scan as one Triton program per row of the state, token after token: the baseline of gpu_scan.py.

What a GPU kernel of a recurrence is at first: as many programs as there are rows, each as long as the
sequence, and for training every state kept, [tokens, rank, rank].
"""

from typing import Any

import torch
import triton
import triton.language as tl
from deltamem_eval.methods.delta_mem.recurrence import Inputs
from torch import Tensor
from torch.autograd.function import once_differentiable


@triton.jit(do_not_specialize=["tokens"])
def walk_row(
    q, k, v, beta, erase, decay, start, reads, end, states, tokens,
    RANK: tl.constexpr, R: tl.constexpr, KEEPING: tl.constexpr,
):  # fmt: skip
    """One of batch · RANK rows. KEEPING: states [batch · RANK, tokens, RANK], each before its token."""
    program = tl.program_id(0).to(tl.int64)
    row, component = program % RANK, tl.arange(0, R)
    inner = component < RANK
    state = tl.load(start + program * RANK + component, mask=inner, other=0.0)
    for index in range(tokens):
        token = (program // RANK * tokens + index) * RANK
        if KEEPING:
            tl.store(states + (program * tokens + index) * RANK + component, state, mask=inner)
        query = tl.load(q + token + component, mask=inner, other=0.0)
        key = tl.load(k + token + component, mask=inner, other=0.0)
        tl.store(reads + token + row, tl.sum(state * query, 0))
        written = tl.load(beta + token + row) * tl.load(v + token + row)
        written -= tl.load(erase + token + row) * tl.sum(state * key, 0)
        state = tl.load(decay + token + row) * state + written * key
    tl.store(end + program * RANK + component, state, mask=inner)


@triton.jit(do_not_specialize=["tokens"])
def walk_row_back(
    q, k, v, beta, erase, decay, pull, states, end, d_q, d_k, d_v, d_beta, d_erase, d_decay, d_state, tokens,
    RANK: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Gradients, from the last token to the first. d_q, d_k: each row's part [batch · RANK, tokens, RANK]."""
    program = tl.program_id(0).to(tl.int64)
    row, component = program % RANK, tl.arange(0, R)
    inner = component < RANK
    grown = tl.load(end + program * RANK + component, mask=inner, other=0.0)
    for step in range(tokens):
        index = tokens - 1 - step
        token = (program // RANK * tokens + index) * RANK
        own = (program * tokens + index) * RANK + component
        state = tl.load(states + own, mask=inner, other=0.0)
        query = tl.load(q + token + component, mask=inner, other=0.0)
        key = tl.load(k + token + component, mask=inner, other=0.0)
        value, write = tl.load(v + token + row), tl.load(beta + token + row)
        erased, kept = tl.load(erase + token + row), tl.load(decay + token + row)
        pulled = tl.load(pull + token + row)
        recalled, y = tl.sum(state * key, 0), tl.sum(grown * key, 0)
        tl.store(d_v + token + row, y * write)
        tl.store(d_beta + token + row, y * value)
        tl.store(d_erase + token + row, -y * recalled)
        tl.store(d_decay + token + row, tl.sum(grown * state, 0))
        tl.store(d_q + own, pulled * state, mask=inner)
        tl.store(d_k + own, (write * value - erased * recalled) * grown - erased * y * state, mask=inner)
        grown = kept * grown - erased * y * key + pulled * query
    tl.store(d_state + program * RANK + component, grown, mask=inner)


class _Sequential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, training: bool, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        batch, tokens, rank = tensors[0].shape
        reads, end = torch.empty_like(tensors[0]), torch.empty_like(state)
        states = state.new_empty(batch * rank, tokens if training else 0, rank)
        walk_row[(batch * rank,)](
            *tensors, state, reads, end, states, tokens, RANK=rank, R=triton.next_power_of_2(rank),
            KEEPING=training, num_warps=1,
        )  # fmt: skip
        ctx.save_for_backward(states, *tensors)
        return reads, end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, reads: Tensor, end: Tensor) -> tuple[Tensor | None, ...]:
        states, *tensors = ctx.saved_tensors
        batch, tokens, rank = reads.shape
        parts = [torch.empty_like(states) for _ in range(2)]
        found, state = [torch.empty_like(tensor) for tensor in tensors[2:]], torch.empty_like(end)
        walk_row_back[(batch * rank,)](
            *tensors, reads.contiguous(), states, end.contiguous(), *parts, *found, state, tokens, RANK=rank,
            R=triton.next_power_of_2(rank), num_warps=1,
        )  # fmt: skip
        d_q, d_k = (part.view(batch, rank, tokens, rank).sum(1) for part in parts)
        return None, state, d_q, d_k, *found


def scan_sequential(inputs: Inputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """Reads and the end state of contiguous float32 inputs, as `scan_naive` gives them."""
    training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*inputs, state))
    found: tuple[Tensor, Tensor] = _Sequential.apply(training, state, *inputs)  # type: ignore[no-untyped-call]
    return found
