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


class Arena:
    """Scratch tensors for one segment after the other: the n-th that a segment takes is the n-th of the
    segment before, where shapes agree. Fresh pages can cost more than the arithmetic done in them.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._tensors: list[Tensor] = []
        self._taken = 0

    def rewind(self) -> None:
        """Give everything back; what was taken before must not be used any more."""
        self._taken = 0

    def empty(self, *shape: int) -> Tensor:
        """An uninitialised tensor."""
        index = self._taken
        self._taken += 1
        if index == len(self._tensors):
            self._tensors.append(self._like.new_empty(shape))
        elif self._tensors[index].shape != shape:
            self._tensors[index] = self._like.new_empty(shape)
        return self._tensors[index]

    def zeros(self, *shape: int) -> Tensor:
        """A tensor of zeros."""
        return self.empty(*shape).zero_()

    def copy(self, tensor: Tensor) -> Tensor:
        """A contiguous copy."""
        return self.empty(*tensor.shape).copy_(tensor)


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
        """[batch, tokens, n] as a view [C, n, *L]; positions after the last token hold `filling`."""
        missing = self.chunk * self.each * self.blocks - self.tokens
        if missing:
            tensor = torch.nn.functional.pad(tensor, (0, 0, 0, missing), value=filling)
        parts = tensor.reshape(self.batch, self.blocks, self.each, self.chunk, -1)
        return parts.permute(3, 4, 2, 0, 1)

    def tokenwise(self, tensor: Tensor) -> Tensor:
        """[C, n, L] as [batch, tokens, n]."""
        parts = tensor.reshape(self.chunk, -1, self.each, self.batch, self.blocks)
        return parts.permute(3, 4, 2, 0, 1).reshape(self.batch, -1, tensor.shape[1])[:, : self.tokens]


def add_products(out: Tensor, left: Tensor, right: Tensor, sign: int = 1) -> Tensor:
    """out ± Σ_n left[n]·right[n], in place; the products broadcast to out's shape."""
    for one, other in zip(left.unbind(0), right.unbind(0), strict=True):
        out.addcmul_(one, other, value=sign)
    return out


def carry(
    maps: Tensor, state: Tensor, layout: Layout, arena: Arena, backwards: bool = False
) -> tuple[Tensor, Tensor]:
    """Take a state through every chunk, in order or from the last to the first.

    maps: [r, 1 + r, r, L]; for each row of the state (third dimension) a shift and a matrix. state: [batch,
    r, r]. Returns the state each chunk meets, as [component, row, L] (from the arena), and the one that comes
    out [batch, r, r]. Maps are composed within blocks; only the blocks' are applied one after the other.
    """
    rank = maps.shape[0]
    parts = maps.view(rank, 1 + rank, rank, layout.each, layout.batch, layout.blocks)
    within = range(layout.each)[::-1] if backwards else range(layout.each)
    composed = _composed([parts[:, :, :, index] for index in within], arena)
    met, end = _through_blocks(composed, state, arena, backwards)
    states = arena.empty(rank, *parts.shape[2:])
    for index in within:
        states[:, :, index] = met
        if index != within[-1]:
            step = parts[:, :, :, index]
            met = add_products(step[:, 0].clone(), step[:, 1:].transpose(0, 1), states[:, None, :, index])
    return states.flatten(2), end


def _composed(steps: list[Tensor], arena: Arena) -> Tensor:
    """One map [r, 1 + r, r, batch, blocks] for several, the first applied first."""
    found, other = steps[0], arena.empty(*steps[0].shape)
    spare = arena.empty(*steps[0].shape)
    for step in steps[1:]:
        other.zero_()
        other[:, 0] = step[:, 0]
        add_products(other, step[:, 1:].transpose(0, 1)[:, :, None], found[:, None])
        found, other, spare = other, spare, other
    return found


def _through_blocks(maps: Tensor, state: Tensor, arena: Arena, backwards: bool) -> tuple[Tensor, Tensor]:
    """The state each block meets [component, row, batch, blocks], and the one that comes out."""
    rank, _, _, batch, blocks = maps.shape
    steps = arena.copy(maps.permute(4, 3, 2, 0, 1)).view(blocks, batch * rank, rank, 1 + rank)
    shifts, matrices = steps[..., :1].unbind(0), steps[..., 1:].unbind(0)
    column = state.reshape(batch * rank, rank, 1)
    met = [column] * blocks
    for index in range(blocks)[::-1] if backwards else range(blocks):
        met[index] = column
        column = torch.baddbmm(shifts[index], matrices[index], column)
    states = torch.stack(met).view(blocks, batch, rank, rank).permute(3, 2, 1, 0).contiguous()
    return states, column.view(batch, rank, rank)
