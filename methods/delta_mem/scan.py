"""The gated delta rule over a sequence: the one place that chooses how it is computed.

`naive` is the token loop (recurrence.py), `chunked` an exact parallel form in plain torch (chunked.py),
`triton` one for a GPU (kernel/). All give the same numbers but for rounding. `auto` is triton for tensors on
a GPU where triton can be used, else chunked.
"""

from __future__ import annotations

from typing import Literal

import torch
from deltamem_eval.errors import UserError
from deltamem_eval.methods.delta_mem.chunked import CHUNK, scan_chunked
from deltamem_eval.methods.delta_mem.kernel import obstacle
from deltamem_eval.methods.delta_mem.recurrence import Inputs, scan_naive
from torch import Tensor

UpdateMode = Literal["standard", "lambda_outside", "no_lambda"]
Form = Literal["auto", "triton", "chunked", "naive"]

_SHORT = 8  # below this many tokens the loop is quicker than chunks


def scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor | None,
    state: Tensor,
    *,
    mask: Tensor | None = None,
    mode: UpdateMode = "standard",
    form: Form = "auto",
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Read and write a sequence of tokens; every read sees the state before its own token's write.

    q, k, v: [batch, heads, tokens, rank]. beta: [..., rank], or [..., 1] for a scalar gate. decay: λ, like
    beta; None means 1 - beta (coupled). state: [batch, heads, rank, rank], rows are value dimensions. mask:
    [batch, tokens], False where a token neither reads nor writes. Returns reads [batch, heads, tokens, rank]
    and the state after the last token. Computes in float32 (float64 inputs stay float64); differentiable in
    every tensor. Raises UserError where `triton` is asked for and cannot be had. chunk: of the chunked form.
    """
    batch, heads, tokens, rank = q.shape
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    flat = (batch * heads, tokens, rank)
    keep = _flat_mask(mask, batch, heads, tokens, q.device)
    inputs = _prepare(q, k, v, beta, decay, mode, kind, flat, keep)
    start = state.to(kind).reshape(batch * heads, rank, rank)
    reads, end = _compute(inputs, start, _chosen(form, q), chunk)
    if keep is not None:
        reads = reads * keep[..., None]
    return reads.reshape(batch, heads, tokens, rank), end.reshape(batch, heads, rank, rank)


def _chosen(form: Form, q: Tensor) -> Form:
    """The form to use for these queries: never `auto`."""
    if form == "auto":
        return "triton" if q.is_cuda and obstacle(q) is None else "chunked"
    if form == "triton" and (reason := obstacle(q)):
        raise UserError(f"the triton form of the scan {reason}")
    return form


def _compute(inputs: Inputs, start: Tensor, form: Form, chunk: int) -> tuple[Tensor, Tensor]:
    if form == "triton":
        from deltamem_eval.methods.delta_mem.kernel.function import scan_triton

        return scan_triton(inputs, start)
    if form == "naive" or inputs.q.shape[1] < _SHORT:
        return scan_naive(inputs, start)
    return scan_chunked(inputs, start, chunk)


def _flat_mask(
    mask: Tensor | None, batch: int, heads: int, tokens: int, device: torch.device
) -> Tensor | None:
    if mask is None:
        return None
    return mask.to(device=device, dtype=torch.bool)[:, None].expand(batch, heads, tokens).reshape(-1, tokens)


def _prepare(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor | None,
    mode: UpdateMode,
    kind: torch.dtype,
    flat: tuple[int, int, int],
    keep: Tensor | None,
) -> Inputs:
    """Heads folded into the batch, gates broadcast, the mode turned into an erase gate, masked tokens
    neutral.
    """

    def fold(tensor: Tensor) -> Tensor:
        return tensor.to(kind).expand(q.shape).reshape(flat)

    write = fold(beta)
    keep_gate = 1 - write if decay is None else fold(decay)
    if mode == "no_lambda":
        keep_gate = torch.ones_like(write)
    erase = write * keep_gate if mode == "lambda_outside" else write
    if keep is not None:
        live = keep[..., None]
        zero = write.new_zeros(())
        write, erase = torch.where(live, write, zero), torch.where(live, erase, zero)
        keep_gate = torch.where(live, keep_gate, zero + 1)
        # A padded position may hold anything, NaN included; zeros keep it out of every product.
        q, k, v = (torch.where(live, fold(tensor), zero) for tensor in (q, k, v))
        return Inputs(q, k, v, write, erase, keep_gate)
    return Inputs(fold(q), fold(k), fold(v), write, erase, keep_gate)
