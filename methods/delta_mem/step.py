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

EPS = 1e-6


def step_token(
    projected: Tensor, state: Tensor, live: Tensor | None, config: DeltaMemConfig, write: bool
) -> Tensor:
    """Read a state for one token, then write the token into it, in place. No gradients.

    projected: [batch, 3R + gates], what the memory's packed projection makes of the token: q, k, v, then the
    gates before their sigmoid, beta and, where it has parameters of its own, lambda; without a write
    q alone. state: [batch, heads, rank, rank], contiguous. live: [batch], False for a padding token,
    which reads zero and does not write; None where all are real. Returns the reads [batch, R].
    """
    plain = torch.compiler.is_compiling() or not projected.is_cuda or projected.dtype != torch.float32
    if not plain and _has_triton():
        from deltamem_eval.methods.delta_mem.step_kernel import step_fused

        return step_fused(projected, state, live, config, write)
    return step_plain(projected, state, live, config, write)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def step_plain(
    projected: Tensor, state: Tensor, live: Tensor | None, config: DeltaMemConfig, write: bool
) -> Tensor:
    """`step_token` in few operations of torch: on a CPU each costs more than its arithmetic."""
    rows, heads, rank, width = projected.shape[0], config.num_state_heads, config.rank, config.width
    if live is not None:
        projected = torch.where(live[:, None], projected, _silent(projected, config))
    keys, others = projected, None
    if write:
        keys, *others = torch.split_with_sizes(
            projected, [2 * width, width, projected.shape[1] - 3 * width], 1
        )
    if config.normalize_qk:
        keys = keys.tanh()
    keys = keys.reshape(rows, -1, rank) if heads == 1 else keys.reshape(rows, -1, heads, rank)
    if config.normalize_qk:
        keys.div_(torch.linalg.vector_norm(keys, dim=-1, keepdim=True).clamp_min_(EPS))
    if heads > 1:
        keys = keys.transpose(1, 2).flatten(0, 1)
    matrix = state.view(-1, rank, rank)
    seen = torch.bmm(keys, matrix.mT)
    if others is None:
        return seen.view(rows, width)
    read, recalled = seen.unbind(1)
    _write(matrix, keys.narrow(1, 1, 1), others[0].reshape(-1, rank), recalled, others[1].sigmoid(), config)
    return read.reshape(rows, width)


def _write(
    state: Tensor, key: Tensor, value: Tensor, recalled: Tensor, gates: Tensor, config: DeltaMemConfig
) -> None:
    """state: [batch·heads, rank, rank]; key: [batch·heads, 1, rank]; value, recalled: [batch·heads, rank];
    gates: [batch, gates].
    """
    shape, mode = (state.shape[0], -1, 1), config.state_update_mode
    if mode == "standard" and not config.has_lambda:
        # λS + β(v - Sk)kᵀ with λ = 1 - β
        state.lerp_(torch.bmm((value - recalled).unsqueeze(2), key), gates.view(shape))
        return
    beta = gates[:, : config.gates].reshape(shape)
    decay = gates[:, config.gates :].reshape(shape) if config.has_lambda else 1 - beta
    value, recalled = value.unsqueeze(2), recalled.unsqueeze(2)
    change = beta * (value - (decay * recalled if mode == "lambda_outside" else recalled))
    if mode != "no_lambda":
        state.mul_(decay)
    state.addcmul_(change, key)


def _silent(projected: Tensor, config: DeltaMemConfig) -> Tensor:
    """What a padding token is taken to project to: keys and values of zero, gates that keep the state."""
    filling = torch.zeros_like(projected[0])
    filling[3 * config.width : 3 * config.width + config.gates] = -torch.inf
    filling[3 * config.width + config.gates :] = torch.inf
    return filling
