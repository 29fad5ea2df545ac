"""The chunked form of the scan in plain torch, with its gradient written out.

Within a chunk the writes solve a unit lower triangular system, for 1 + r right-hand sides: what is written
from an empty state, and the response to each component of the state before the chunk. So each chunk becomes
an affine map of that state, and only maps are left to apply in order (lanes.py). Decays are products of the
gates between two tokens, never quotients, so that a gate of 0 or 1 is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from deltamem_eval.methods.delta_mem.lanes import Arena, Layout, add_products, carry
from deltamem_eval.methods.delta_mem.recurrence import Inputs
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 8
SEGMENT = 16_384  # tokens, of all rows together, whose intermediate tensors are alive at once


def scan_chunked(inputs: Inputs, state: Tensor, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Reads [batch, tokens, rank] and the end state [batch, rank, rank], as `scan_naive` gives them.

    For a backward pass the inputs and the states between segments are kept and the rest is computed again:
    memory grows linearly with the tokens. Differentiable once.
    """
    if inputs.q.numel() == 0:
        return torch.zeros_like(inputs.q), state
    found: tuple[Tensor, Tensor] = _Chunked.apply(chunk, state, *inputs)  # type: ignore[no-untyped-call]
    return found


class _Chunked(torch.autograd.Function):
    """The segments in order, and their gradients in the opposite order."""

    @staticmethod
    def forward(ctx: Any, chunk: int, state: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        reads, starts, arena = torch.empty_like(tensors[0]), [], Arena(tensors[0])
        for piece in _pieces(tensors[0], chunk):
            starts.append(state)
            segment = _Segment(Inputs(*(tensor[:, piece] for tensor in tensors)), state, chunk, arena)
            reads[:, piece], state = segment.reads(), segment.end
        ctx.save_for_backward(torch.stack(starts), *tensors)
        ctx.chunk = chunk
        return reads, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        starts, *tensors = ctx.saved_tensors
        reads, end = outer
        found, arena = [torch.empty_like(tensor) for tensor in tensors], Arena(reads)
        for index, piece in reversed(list(enumerate(_pieces(reads, ctx.chunk)))):
            inputs = Inputs(*(tensor[:, piece] for tensor in tensors))
            segment = _Segment(inputs, starts[index], ctx.chunk, arena)
            gradients, end = segment.gradients(reads[:, piece], end)
            for whole, part in zip(found, gradients, strict=True):
                whole[:, piece] = part
        return None, end, *found


def _pieces(tensor: Tensor, chunk: int) -> Iterator[slice]:
    """Segments of a tensor [batch, tokens, n]: whole chunks, at least one."""
    batch, tokens, _ = tensor.shape
    length = max(SEGMENT // batch // chunk, 1) * chunk
    for start in range(0, tokens, length):
        yield slice(start, start + length)


class _Segment:
    """One segment: its chunks' systems, solved, and the states between them.

    products [C + 1, C + 1, r, L]: of the decays; row t, column 0: of all tokens before t; column s + 1: of
    those between s and t, 0 where s >= t; row C stands for the chunk's end. alike, asked [C, C, L]: k_t·k_s
    and q_t·k_s. coupling [C, C, r, L]: what k_t recalls of a write s. solved [C, 1 + r, r, L]: each write
    from an empty state, and its response to the state before the chunk. maps [r, 1 + r, r, L]: from the state
    before a chunk to the one after, as `carry` takes them. starts [r, r, L]: the states before the chunks,
    component and row. end [batch, r, r]: the state after the segment. writes [C, r, L]: w.
    """

    def __init__(self, inputs: Inputs, state: Tensor, chunk: int, arena: Arena) -> None:
        batch, tokens, _ = inputs.q.shape
        arena.rewind()
        self.arena = arena
        self.layout = Layout.of(batch, tokens, chunk)
        self.q, self.k, self.v, self.beta, self.erase = map(self._lanes, inputs[:5])
        self.decay = self._lanes(inputs.decay, filling=1.0)
        self.products = self._decays()
        self.inner, self.before = self.products[:chunk, 1:], self.products[:chunk, 0]
        self.whole, self.after = self.products[chunk, 0], self.products[chunk, 1:]
        self.alike, self.asked = self._pairs(self.k), self._pairs(self.q)
        self.coupling = self._weighed(self.alike)
        self.solved = self._solve()
        self.maps = self._compose()
        self.starts, self.end = carry(self.maps, state, self.layout, arena)
        responses = self.solved[:, 1:].transpose(0, 1)
        self.writes = add_products(arena.copy(self.solved[:, 0]), responses, self.starts)

    def _lanes(self, tensor: Tensor, filling: float = 0.0) -> Tensor:
        return self.arena.copy(self.layout.lanes(tensor, filling)).flatten(2)

    def _decays(self) -> Tensor:
        chunk, rank, lanes = self.decay.shape
        products = self.arena.zeros(chunk + 1, chunk + 1, rank, lanes)
        products.diagonal().fill_(1)
        for t in range(chunk):
            torch.mul(products[t, : t + 1], self.decay[t], out=products[t + 1, : t + 1])
        return products

    def _pairs(self, left: Tensor) -> Tensor:
        """Products of each token's `left` with each token's key [C, C, L]."""
        chunk, _, lanes = left.shape
        keys = self.k.transpose(0, 1)
        return add_products(
            self.arena.zeros(chunk, chunk, lanes), left.transpose(0, 1)[:, :, None], keys[:, None]
        )

    def _weighed(self, pairs: Tensor) -> Tensor:
        """Pairs [C, C, L] times the decays between them [C, C, r, L]."""
        return torch.mul(self.inner, pairs[:, :, None], out=self.arena.empty(*self.inner.shape))

    def _solve(self) -> Tensor:
        """Forward substitution for all right-hand sides: what k_t recalls turns into the write of t, which
        then adds to what later keys recall.
        """
        chunk, rank, lanes = self.k.shape
        solved = self.arena.empty(chunk, 1 + rank, rank, lanes)
        solved[:, 0] = 0
        torch.mul(self.before[:, None], self.k[:, :, None], out=solved[:, 1:])
        for t in range(chunk):
            solved[t].mul_(-self.erase[t])
            solved[t, 0].addcmul_(self.beta[t], self.v[t])
            solved[t + 1 :].addcmul_(self.coupling[t + 1 :, t, None], solved[t])
        return solved

    def _compose(self) -> Tensor:
        chunk, rank, lanes = self.k.shape
        maps = self.arena.zeros(rank, 1 + rank, rank, lanes)
        maps[:, 1:].diagonal().copy_(self.whole[..., None].expand(rank, lanes, rank))
        lasting = self.arena.empty(1 + rank, rank, lanes)
        for t in range(chunk):
            torch.mul(self.solved[t], self.after[t], out=lasting)
            maps.addcmul_(self.k[t][:, None, None], lasting)
        return maps

    def _from_start(self, left: Tensor) -> Tensor:
        """Products of each token's `left` with the rows of the state before its chunk [C, r, L]."""
        return add_products(self.arena.zeros(*left.shape), left.transpose(0, 1)[:, :, None], self.starts)

    def reads(self) -> Tensor:
        """What every token reads [batch, tokens, r]."""
        seen = self._weighed(self.asked)
        found = self._from_start(self.q).mul_(self.before)
        for t in range(len(seen) - 1):
            found[t + 1 :].addcmul_(seen[t + 1 :, t], self.writes[t])
        return self.layout.tokenwise(found)

    def gradients(self, reads: Tensor, end: Tensor) -> tuple[Inputs, Tensor]:
        """Gradients of the inputs and of the state before the segment.

        reads: gradient of the reads [batch, tokens, r]; end: of the state after the segment. The adjoint
        state g runs from the end to the start by the transposed maps; y_t = g_t·k_t solves the transposed
        system.
        """
        d_reads = self._lanes(reads, 0)
        y = self._through_reads(d_reads)
        maps = self._adjoint_maps(d_reads, y)
        ends, start = carry(maps, end, self.layout, self.arena, backwards=True)
        at_end = add_products(self.arena.zeros(*y.shape), self.k.transpose(0, 1)[:, :, None], ends)
        y.addcmul_(self.after, at_end)
        d_recalled = self.arena.empty(*y.shape)
        for t in range(len(y))[::-1]:
            torch.mul(y[t], -self.erase[t], out=d_recalled[t])
            y[:t].addcmul_(self.coupling[t, :t], d_recalled[t])
        from_start = self._from_start(self.k)
        recalled = torch.mul(from_start, self.before, out=self.arena.empty(*y.shape))
        for t in range(len(y) - 1):
            recalled[t + 1 :].addcmul_(self.coupling[t + 1 :, t], self.writes[t])
        d_q, d_k = self._key_gradients(d_reads, d_recalled, ends)
        d_products = self._product_gradients(d_reads, d_recalled, from_start, at_end)
        d_products[-1, 0] = (self.starts * ends).sum(0)
        d_erase, d_decay = recalled.mul_(y).neg_(), self._decay_gradients(d_products)
        found = Inputs(d_q, d_k, self.beta.mul_(y), self.v.mul_(y), d_erase, d_decay)
        return Inputs(*map(self.layout.tokenwise, found)), start

    def _through_reads(self, d_reads: Tensor) -> Tensor:
        """Gradient of each write through the reads of its own chunk [C, r, L]."""
        seen = self._weighed(self.asked)
        found = self.arena.zeros(*d_reads.shape)
        for t in range(1, len(seen)):
            found[:t].addcmul_(seen[t, :t], d_reads[t])
        return found

    def _adjoint_maps(self, d_reads: Tensor, d_writes: Tensor) -> Tensor:
        """From the gradient of the state after a chunk to that of the state before."""
        maps = self.arena.empty(*self.maps.shape)
        maps[:, 1:] = self.maps[:, 1:].transpose(0, 1)
        shift = maps[:, 0].zero_()
        add_products(shift, self.q[:, :, None], (self.before * d_reads)[:, None])
        add_products(shift, self.solved[:, 1:], d_writes[:, None])
        return maps

    def _key_gradients(self, d_reads: Tensor, d_recalled: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of q and k [C, r, L]: through the state before the chunk, the chunk's own writes, and,
        for a key that writes, whatever follows it.
        """
        arena, pairs = self.arena, self.alike.shape
        weighed = torch.mul(self.inner, self.writes, out=arena.empty(*self.inner.shape)).movedim(2, 0)
        read = add_products(arena.zeros(*pairs), weighed, d_reads.transpose(0, 1)[:, :, None])
        recalled = add_products(arena.zeros(*pairs), weighed, d_recalled.transpose(0, 1)[:, :, None])
        keys, starts = self.k[:, None], self.starts.transpose(0, 1)[:, None]

        def through_start(weights: Tensor) -> Tensor:
            left = torch.mul(self.before, weights, out=arena.empty(*weights.shape))
            return add_products(arena.zeros(*weights.shape), left.transpose(0, 1)[:, :, None], starts)

        d_q = add_products(through_start(d_reads), read.transpose(0, 1)[:, :, None], keys)
        d_k = through_start(d_recalled)
        written = torch.mul(self.after, self.writes, out=arena.empty(*self.writes.shape))
        add_products(d_k, written.transpose(0, 1)[:, :, None], ends.transpose(0, 1)[:, None])
        add_products(d_k, recalled.transpose(0, 1)[:, :, None], keys)
        add_products(d_k, recalled[:, :, None], keys)
        return d_q, add_products(d_k, read[:, :, None], self.q[:, None])

    def _product_gradients(
        self, d_reads: Tensor, d_recalled: Tensor, from_start: Tensor, at_end: Tensor
    ) -> Tensor:
        """Gradient of `products`; that of the whole chunk's is left to the caller."""
        chunk = len(d_reads)
        found = self.arena.empty(*self.products.shape)
        torch.mul(d_reads, self._from_start(self.q), out=found[:chunk, 0])
        found[:chunk, 0].addcmul_(d_recalled, from_start)
        own = found[:chunk, 1:]
        torch.mul(d_reads[:, None], self.asked[:, :, None], out=own)
        own.addcmul_(d_recalled[:, None], self.alike[:, :, None]).mul_(self.writes)
        torch.mul(self.writes, at_end, out=found[chunk, 1:])
        return found

    def _decay_gradients(self, d_products: Tensor) -> Tensor:
        """From the products' gradients [C + 1, C + 1, r, L], row by row from the last: each row is the one
        before it times a decay.
        """
        found, terms = self.arena.empty(*self.decay.shape), self.arena.empty(*self.products[0].shape)
        for t in range(len(found))[::-1]:
            later, row = d_products[t + 1, : t + 1], d_products[t, : t + 1]
            torch.mul(later, self.products[t, : t + 1], out=terms[: t + 1])
            torch.sum(terms[: t + 1], 0, out=found[t])
            row.addcmul_(later, self.decay[t])
        return found
