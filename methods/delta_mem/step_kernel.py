"""The decode step as one Triton kernel: normalise, gate, read and update, a program for each state.

Tested against `step.step_plain` in Triton's interpreter.
"""

# Triton programs are compiled from their source and are not Python to a type checker.
# mypy: ignore-errors

from __future__ import annotations

import torch
import triton
import triton.language as tl
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from deltamem_eval.methods.delta_mem.step import EPS
from torch import Tensor


@triton.jit
def _tanh(x):
    """tanh; near zero by its series, where the quotient of exponentials loses digits."""
    square = x * x
    series = x * (1 + square * (-1 / 3 + square * (2 / 15 - square * (17 / 315))))
    fading = tl.exp(-2 * tl.abs(x))
    size = (1 - fading) / (1 + fading)
    return tl.where(tl.abs(x) < 0.2, series, tl.where(x < 0, -size, size))


@triton.jit
def _unit(x, eps: tl.constexpr):
    """tanh(x) at length one; zeros, also those beyond the rank, stay zeros."""
    bounded = _tanh(x)
    return bounded / tl.maximum(tl.sqrt(tl.sum(bounded * bounded, 0)), eps)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _step(
    projected,
    state,
    live,
    reads,
    stride,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK: tl.constexpr,
    GATES: tl.constexpr,
    MODE: tl.constexpr,
    HAS_LAMBDA: tl.constexpr,
    NORMALISE: tl.constexpr,
    WRITE: tl.constexpr,
    MASKED: tl.constexpr,
    EPSILON: tl.constexpr,
):
    """GATES: gates of a state head, RANK or 1. BLOCK: the power of two that holds RANK."""
    program = tl.program_id(0)
    row, head = program // HEADS, program % HEADS
    index = tl.arange(0, BLOCK)
    inside = index < RANK
    real = inside
    if MASKED:
        real = inside & (tl.load(live + row) != 0)
    width = HEADS * RANK
    own = projected + row * stride + head * RANK + index
    tile = state + program * RANK * RANK + index[:, None] * RANK + index[None, :]
    held = inside[:, None] & inside[None, :]
    matrix = tl.load(tile, mask=held, other=0.0)
    q = tl.load(own, mask=real, other=0.0)
    if NORMALISE:
        q = _unit(q, EPSILON)
    tl.store(reads + row * width + head * RANK + index, tl.sum(matrix * q[None, :], 1), mask=inside)
    if WRITE:
        k = tl.load(own + width, mask=real, other=0.0)
        if NORMALISE:
            k = _unit(k, EPSILON)
        v = tl.load(own + 2 * width, mask=real, other=0.0)
        # With one gate a head, all rows of the state load that one.
        gates = projected + row * stride + 3 * width + head * GATES + (index if GATES > 1 else index * 0)
        beta = tl.where(real, _sigmoid(tl.load(gates, mask=real, other=0.0)), 0.0)
        decay = 1 - beta
        if HAS_LAMBDA:
            decay = tl.where(real, _sigmoid(tl.load(gates + HEADS * GATES, mask=real, other=0.0)), 1.0)
        recalled = tl.sum(matrix * k[None, :], 1)
        if MODE == "lambda_outside":
            recalled = decay * recalled
        if MODE != "no_lambda":
            matrix = decay[:, None] * matrix
        tl.store(tile, matrix + (beta * (v - recalled))[:, None] * k[None, :], mask=held)


def step_fused(
    projected: Tensor, state: Tensor, live: Tensor | None, config: DeltaMemConfig, write: bool
) -> Tensor:
    """`step.step_token` in one launch; float32 only."""
    rows, heads, rank = len(projected), config.num_state_heads, config.rank
    reads = torch.empty(rows, config.width, dtype=projected.dtype, device=projected.device)
    with torch.cuda.device_of(projected):  # else the launch goes to whichever GPU is current
        _step[(rows * heads,)](
            projected,
            state,
            projected if live is None else live.expand(rows).contiguous(),
            reads,
            projected.stride(0),
            HEADS=heads,
            RANK=rank,
            BLOCK=triton.next_power_of_2(rank),
            GATES=config.gates // heads,
            MODE=config.state_update_mode,
            HAS_LAMBDA=config.has_lambda,
            NORMALISE=config.normalize_qk,
            WRITE=write,
            MASKED=live is not None,
            EPSILON=EPS,
            num_warps=1,
        )
    return reads
