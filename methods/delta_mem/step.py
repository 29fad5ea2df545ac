"""One token's read and write of a state, in place: the decode step.

Plain torch (`step_plain`, also what a compiler fuses) or one Triton kernel (step_kernel.py). Both give what
the scan of a single token gives, but for rounding.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from deltamem_eval.methods.delta_mem.config import DeltaMemConfig
from torch import Tensor
from torch.nn import functional

EPS = 1e-6


def step_token(
    projected: Tensor, state: Tensor, live: Tensor | None, config: DeltaMemConfig, write: bool
) -> Tensor:
    """Read a state for one token, then write the token into it, in place. No gradients.

    projected: [batch, 3R + gates], what the memory's packed projection makes of the token: q, k, v, then the
    gates before their sigmoid, beta and, where it has parameters of its own, lambda; q alone is enough
    without a write. state: [batch, heads, rank, rank], contiguous. live: [batch], False for a padding token,
    which reads zero and does not write; None where all are real. Returns the reads times alpha / rank, [batch, R].
    """
    if projected.is_cuda and projected.dtype == torch.float32 and not torch.compiler.is_compiling():
        if _has_triton():
            from deltamem_eval.methods.delta_mem.step_kernel import step_fused

            return step_fused(projected, state, live, config, write)
    return step_plain(projected, state, live, config, write)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def step_plain(
    projected: Tensor, state: Tensor, live: Tensor | None, config: DeltaMemConfig, write: bool
) -> Tensor:
    """`step_token` in a few operations of torch."""
    rows, heads, rank, width = len(projected), config.num_state_heads, config.rank, config.width
    if live is not None:
        projected = torch.where(live[:, None], projected, _silent(projected, config))
    keys = projected[:, : 2 * width if write else width].reshape(rows, -1, heads, rank)
    if config.normalize_qk:
        keys = functional.normalize(keys.tanh(), dim=-1, eps=EPS)
    seen = state @ keys.permute(0, 2, 3, 1)
    if write:
        value = projected[:, 2 * width : 3 * width].view(rows, heads, rank, 1)
        _write(state, keys[:, 1], value, projected[:, 3 * width :].sigmoid(), seen[..., 1:], config)
    return seen[..., 0].flatten(1) * (config.alpha / config.rank)


def _write(
    state: Tensor, key: Tensor, value: Tensor, gates: Tensor, recalled: Tensor, config: DeltaMemConfig
) -> None:
    """key: [batch, heads, rank]; value, recalled: [batch, heads, rank, 1]; gates: [batch, gates]."""
    shape = (len(gates), config.num_state_heads, -1, 1)
    beta = gates[:, : config.gates].view(shape)
    decay = gates[:, config.gates :].view(shape) if config.has_lambda else 1 - beta
    if config.state_update_mode == "lambda_outside":
        change = beta * (value - decay * recalled)
    else:
        change = beta * (value - recalled)
    if config.state_update_mode != "no_lambda":
        state.mul_(decay)
    state.addcmul_(change, key[:, :, None])


def _silent(projected: Tensor, config: DeltaMemConfig) -> Tensor:
    """What a padding token is taken to project to: keys and values of zero, gates that keep the state."""
    filling = torch.zeros_like(projected[0])
    filling[3 * config.width : 3 * config.width + config.gates] = -torch.inf
    filling[3 * config.width + config.gates :] = torch.inf
    return filling
