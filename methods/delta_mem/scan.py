"""The gated delta rule over a sequence: a naive token loop, and an exact chunked form.

Row i of the state evolves alone (arXiv 2605.12357, section 3):

    s_t = λ_t s_{t-1} + w_t k_t,     w_t = β_t v_t - e_t (s_{t-1}·k_t),     read_t = s_{t-1}·q_t

with e = β in the `standard` mode and `no_lambda` (where λ = 1), and e = λβ in `lambda_outside`. Within a
chunk the writes w solve a unit lower triangular system; all chunks' systems are solved in one batch for 1 + r
right-hand sides, so that each chunk becomes an affine map of the state before it, and only those maps are
applied in order.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

UpdateMode = Literal["standard", "lambda_outside", "no_lambda"]
Form = Literal["chunked", "naive"]

CHUNK = 16
SEGMENT = 2048  # tokens whose intermediate tensors are alive at once
_SHORT = 4  # below this many tokens the loop is quicker


class Inputs(NamedTuple):
    """Per token [batch, tokens, rank]: q, k, v, and the gates of write (beta), erase and decay."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    erase: Tensor
    decay: Tensor


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
    form: Form = "chunked",
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Read and write a sequence of tokens; every read sees the state before its own token's write.

    q, k, v: [batch, heads, tokens, rank]. beta: [..., rank], or [..., 1] for a scalar gate. decay: λ, like
    beta; None means 1 - beta (coupled). state: [batch, heads, rank, rank], rows are value dimensions. mask:
    [batch, tokens], False where a token neither reads nor writes. Returns reads [batch, heads, tokens, rank]
    and the state after the last token. Computes in float32 (float64 inputs stay float64); differentiable in
    every tensor.
    """
    batch, heads, tokens, rank = q.shape
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    flat = (batch * heads, tokens, rank)
    keep = _flat_mask(mask, batch, heads, tokens, q.device)
    inputs = _prepare(q, k, v, beta, decay, mode, kind, flat, keep)
    start = state.to(kind).reshape(batch * heads, rank, rank)
    loop = form == "naive" or tokens < _SHORT
    reads, end = scan_naive(inputs, start) if loop else _in_segments(inputs, start, chunk)
    if keep is not None:
        reads = reads * keep[..., None]
    return reads.reshape(batch, heads, tokens, rank), end.reshape(batch, heads, rank, rank)


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


def scan_naive(inputs: Inputs, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence, token by token. state: [batch, rank, rank]; returns reads [batch, tokens, rank] and
    the end state.
    """
    reads = []
    for t in range(inputs.q.shape[1]):
        q, k, v, beta, erase, decay = (tensor[:, t] for tensor in inputs)
        reads.append((state @ q[..., None])[..., 0])
        recalled = (state @ k[..., None])[..., 0]
        write = beta * v - erase * recalled
        state = decay[..., None] * state + write[..., None] * k[:, None, :]
    return (torch.stack(reads, 1) if reads else torch.zeros_like(inputs.q)), state


def _in_segments(inputs: Inputs, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The chunked form, one segment after the other; for a backward pass only the inputs and the states
    between segments are kept, the rest is computed again.
    """
    tokens = inputs.q.shape[1]
    if tokens <= SEGMENT:
        return scan_chunked(inputs, state, chunk)
    reads = []
    for start in range(0, tokens, SEGMENT):
        piece = Inputs(*(tensor[:, start : start + SEGMENT] for tensor in inputs))
        read, state = _Recomputed.apply(chunk, state, *piece)  # type: ignore[no-untyped-call]
        reads.append(read)
    return torch.cat(reads, 1), state


class _Recomputed(torch.autograd.Function):
    """scan_chunked that keeps its inputs alone and computes the rest again in the backward pass.

    torch's own checkpointing does the same through hooks on every saved tensor, at twice the time.
    """

    @staticmethod
    def forward(ctx: Any, chunk: int, state: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(state, *inputs)
        ctx.chunk = chunk
        return scan_chunked(Inputs(*inputs), state, chunk)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        with torch.enable_grad():
            state, *inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
            outputs = scan_chunked(Inputs(*inputs), state, ctx.chunk)
            return (None, *torch.autograd.grad(outputs, (state, *inputs), outer))


def scan_chunked(inputs: Inputs, state: Tensor, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """The same in chunks of `chunk` tokens; shapes as in `scan_naive`. Memory grows linearly with the
    tokens.
    """
    batch, tokens, rank = inputs.q.shape
    if tokens == 0:
        return torch.zeros_like(inputs.q), state
    parts = _split(inputs, chunk)
    inner, before, after = _decays(parts.decay)
    similar = parts.k @ parts.k.transpose(-1, -2)
    system = parts.erase.transpose(-1, -2)[..., None] * inner * similar[:, :, None]
    right = _right_sides(parts, before)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    alone, response = solved[..., 0], solved[..., 1:]
    starts, end = _boundary_states(parts.k, alone, response, after, state)
    writes = alone - (response @ starts[..., None])[..., 0]
    seen = inner * (parts.q @ parts.k.transpose(-1, -2))[:, :, None]
    reads = (seen @ writes[..., None])[..., 0].transpose(-1, -2)
    reads = reads + before * (parts.q @ starts.transpose(-1, -2))
    return reads.reshape(batch, -1, rank)[:, :tokens], end


def _split(inputs: Inputs, chunk: int) -> Inputs:
    """Each tensor as [batch, chunks, chunk, rank]; the filling at the end neither decays nor writes."""
    batch, tokens, rank = inputs.q.shape
    filling = -tokens % chunk

    def split(tensor: Tensor, value: float) -> Tensor:
        padded = torch.nn.functional.pad(tensor, (0, 0, 0, filling), value=value) if filling else tensor
        return padded.reshape(batch, -1, chunk, rank)

    return Inputs(
        *(split(tensor, 1.0 if name == "decay" else 0.0) for name, tensor in inputs._asdict().items())
    )


def _decays(decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Products of decays within each chunk, by multiplication alone, so that a decay of 0 is exact.

    decay: [batch, chunks, chunk, rank]. Returns, for token t and earlier token s of a chunk,
    inner [batch, chunks, rank, t, s] = Π_{s<j<t} λ_j (0 unless s < t), before [..., t, rank] = Π_{j<t} λ_j,
    and after [..., s, rank] = Π_{j>s} λ_j with the whole chunk's product put before the others.
    """
    batch, chunks, size, rank = decay.shape
    ones = torch.eye(size + 1, dtype=decay.dtype, device=decay.device)
    # Column 0 follows the state before the chunk, column s + 1 the write of token s.
    row = ones[0].expand(batch, chunks, rank, size + 1)
    rows = []
    for token in range(size):
        rows.append(row)
        row = torch.addcmul(ones[token + 1], row, decay[:, :, token, :, None])
    products = torch.stack(rows, -2)
    return products[..., 1:], products[..., 0].transpose(-1, -2), row.transpose(-1, -2)


def _right_sides(parts: Inputs, before: Tensor) -> Tensor:
    """[batch, chunks, rank, chunk, 1 + rank]: the writes from an empty start, and the response to a start
    state.
    """
    own = (parts.beta * parts.v).transpose(-1, -2)[..., None]
    reach = (parts.erase * before).transpose(-1, -2)[..., None] * parts.k[:, :, None]
    return torch.cat([own, reach], -1)


def _boundary_states(
    k: Tensor, alone: Tensor, response: Tensor, after: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """States before each chunk [batch, chunks, rank, rank], and the one after the last.

    Each chunk maps a state row s to M s + b, with M = Π λ · I - Σ_s Λ(C,s) k_s ⊗ response_s, b = Σ_s Λ(C,s)
    alone_s k_s.
    """
    weights = after[..., 1:, :].transpose(-1, -2)
    added = (weights * alone) @ k
    rank = k.shape[-1]
    keys = weights[..., None] * k[:, :, None]
    identity = torch.eye(rank, dtype=k.dtype, device=k.device)
    maps = after[..., 0, :][..., None, None] * identity - keys.transpose(-1, -2) @ response
    batch, chunks = maps.shape[:2]
    steps = maps.transpose(0, 1).reshape(chunks, batch * rank, rank, rank)
    shifts = added.transpose(0, 1).reshape(chunks, batch * rank, rank, 1)
    column = state.reshape(batch * rank, rank, 1)
    starts = []
    for step, shift in zip(steps.unbind(0), shifts.unbind(0), strict=True):
        starts.append(column)
        column = torch.baddbmm(shift, step, column)
    before = torch.stack(starts, 0).reshape(chunks, batch, rank, rank).transpose(0, 1)
    return before, column.reshape(batch, rank, rank)
