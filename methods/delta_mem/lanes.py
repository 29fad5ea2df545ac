"""Chunks of a sequence side by side: the layout of the chunked scan, and the passage from chunk to chunk.

Tensors end in a dimension of lanes: every chunk of every row of the batch. A step for one token of a chunk is
then one operation over long contiguous vectors for all chunks at once, several times as fast as batched
products of tiny matrices. Names of shapes: C tokens a chunk, r rank, L lanes; a lane is (chunk within its
block, row of the batch, block).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Of a piece of a sequence: tokens a chunk, chunks a block, rows, blocks, and tokens before filling."""

    chunk: int
    each: int
    batch: int
    blocks: int
    tokens: int

    @classmethod
    def of(cls, batch: int, tokens: int, chunk: int) -> Layout:
        """Blocks of up to 8 chunks; of one chunk where there are few, as nothing is gained then."""
        chunks = -(-tokens // chunk)
        each = next(size for size in (8, 4, 1) if chunks >= size * size)
        return cls(chunk, each, batch, -(-chunks // each), tokens)

    def lanes(self, tensor: Tensor, filling: float) -> Tensor:
        """[batch, tokens, n] as [C, n, L]; positions after the last token hold `filling`."""
        missing = self.chunk * self.each * self.blocks - self.tokens
        if missing:
            tensor = torch.nn.functional.pad(tensor, (0, 0, 0, missing), value=filling)
        parts = tensor.reshape(self.batch, self.blocks, self.each, self.chunk, -1)
        return parts.permute(3, 4, 2, 0, 1).reshape(self.chunk, tensor.shape[-1], -1)

    def tokenwise(self, tensor: Tensor) -> Tensor:
        """[C, n, L] as [batch, tokens, n]."""
        parts = tensor.reshape(self.chunk, -1, self.each, self.batch, self.blocks)
        return parts.permute(3, 4, 2, 0, 1).reshape(self.batch, -1, tensor.shape[1])[:, : self.tokens]


def add_products(out: Tensor, left: Tensor, right: Tensor, sign: int = 1) -> Tensor:
    """out ± Σ_n left[n]·right[n], in place; the products broadcast to out's shape."""
    for one, other in zip(left.unbind(0), right.unbind(0), strict=True):
        out.addcmul_(one, other, value=sign)
    return out


def carry(maps: Tensor, state: Tensor, layout: Layout, backwards: bool = False) -> tuple[Tensor, Tensor]:
    """Take a state through every chunk, in order or from the last to the first.

    maps: [r, 1 + r, r, L]; for each row of the state (third dimension) a shift and a matrix. state: [batch,
    r, r]. Returns the state each chunk meets, as [component, row, L], and the one that comes out [batch, r,
    r]. Maps are composed within blocks; only the blocks' are applied one after the other.
    """
    rank = maps.shape[0]
    parts = maps.view(rank, 1 + rank, rank, layout.each, layout.batch, layout.blocks)
    within = range(layout.each)[::-1] if backwards else range(layout.each)
    met, end = _through_blocks(_composed([parts[:, :, :, index] for index in within]), state, backwards)
    states = torch.empty(rank, *parts.shape[2:], dtype=maps.dtype, device=maps.device)
    for index in within:
        states[:, :, index] = met
        if index != within[-1]:
            step = parts[:, :, :, index]
            met = add_products(step[:, 0].clone(), step[:, 1:].transpose(0, 1), states[:, None, :, index])
    return states.flatten(2), end


def _composed(steps: list[Tensor]) -> Tensor:
    """One map [r, 1 + r, r, batch, blocks] for several, the first applied first."""
    found = steps[0]
    for step in steps[1:]:
        start = torch.zeros_like(found, memory_format=torch.contiguous_format)
        start[:, 0] = step[:, 0]
        found = add_products(start, step[:, 1:].transpose(0, 1)[:, :, None], found[:, None])
    return found


def _through_blocks(maps: Tensor, state: Tensor, backwards: bool) -> tuple[Tensor, Tensor]:
    """The state each block meets [component, row, batch, blocks], and the one that comes out."""
    rank, _, _, batch, blocks = maps.shape
    steps = maps.permute(4, 3, 2, 0, 1).reshape(blocks, batch * rank, rank, 1 + rank)
    shifts, matrices = steps[..., :1].unbind(0), steps[..., 1:].unbind(0)
    column = state.reshape(batch * rank, rank, 1)
    met = [column] * blocks
    for index in range(blocks)[::-1] if backwards else range(blocks):
        met[index] = column
        column = torch.baddbmm(shifts[index], matrices[index], column)
    states = torch.stack(met).reshape(blocks, batch, rank, rank).permute(3, 2, 1, 0).contiguous()
    return states, column.reshape(batch, rank, rank)
