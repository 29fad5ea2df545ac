"""From span to span: the state before each, from the spans' maps.

A walk over all maps would be as long as the sequence over the span. So maps are composed in groups, the states
before the groups found the same way, and all groups walked side by side: the longest walk grows with the
logarithm of the number of spans.
"""

import triton
import triton.language as tl
from deltamem_eval.methods.delta_mem.kernel.shape import Shape
from torch import Tensor

GROUP = 16  # maps


def states_between(maps: Tensor, first: Tensor, shape: Shape) -> Tensor:
    """The states before each map and after the last [batch, maps + 1, r, r].

    maps: [batch, maps, r, r + 1, r], as `map_spans` writes them; first: [batch, r, r].
    """
    batch, count, rank = maps.shape[:3]
    states = maps.new_empty(batch, count + 1, rank, rank)
    groups = triton.cdiv(count + 1, GROUP)
    if groups == 1:
        firsts = first
    else:
        # The last group need not be composed, and all before it are whole.
        composed = maps.new_empty(batch, groups - 1, *maps.shape[2:])
        blocks = triton.cdiv(rank + 1, shape.together)
        compose_maps[batch * (groups - 1) * rank * blocks,](
            maps, composed, count, groups - 1, blocks, RANK=rank, R=shape.padded, GROUP=GROUP,
            TOGETHER=shape.together, num_warps=shape.compose_warps,
        )  # fmt: skip
        firsts = states_between(composed, first, shape)
    walk_maps[batch * groups * rank,](
        maps, firsts, states, count, groups, RANK=rank, R=shape.padded, GROUP=GROUP,
        num_warps=shape.walk_warps,
    )  # fmt: skip
    return states


@triton.jit(do_not_specialize=["count", "groups", "blocks"])
def compose_maps(
    maps, composed, count, groups, blocks,
    RANK: tl.constexpr, R: tl.constexpr, GROUP: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """One map for every GROUP: composed [batch, groups, RANK, RANK + 1, RANK]. A program takes TOGETHER vectors of
    one row of the state through the maps of one group.
    """
    program = tl.program_id(0).to(tl.int64)
    block, rest = program % blocks, program // blocks
    row, rest = rest % RANK, rest // RANK
    group, batch = rest % groups, rest // groups
    source = block * TOGETHER + tl.arange(0, TOGETHER)
    component = tl.arange(0, R)
    inner = component < RANK
    square = inner[:, None] & inner[None, :]
    at = component[:, None] * RANK + component[None, :]
    vectors = tl.where((source[:, None] == component[None, :]) & inner[None, :], 1.0, 0.0)
    for index in range(GROUP):
        step = maps + ((batch * count + group * GROUP + index) * RANK + row) * (RANK + 1) * RANK
        matrix = tl.load(step + at, mask=square, other=0.0)
        shift = tl.load(step + RANK * RANK + component, mask=inner, other=0.0)
        vectors = tl.sum(vectors[:, :, None] * matrix[None, :, :], 1)
        vectors += tl.where(source[:, None] == RANK, shift[None, :], 0.0)
    out = composed + (((batch * groups + group) * RANK + row) * (RANK + 1) + source)[:, None] * RANK
    tl.store(out + component[None, :], vectors, mask=(source <= RANK)[:, None] & inner[None, :])


@triton.jit(do_not_specialize=["count", "groups"])
def walk_maps(
    maps, firsts, states, count, groups, RANK: tl.constexpr, R: tl.constexpr, GROUP: tl.constexpr
):
    """The states before each map and after the last, from those before each group: firsts [batch, groups, RANK,
    RANK]. A program takes one row of the state through one group.
    """
    program = tl.program_id(0).to(tl.int64)
    row, rest = program % RANK, program // RANK
    group, batch = rest % groups, rest // groups
    component = tl.arange(0, R)
    inner = component < RANK
    square = inner[:, None] & inner[None, :]
    at = component[:, None] * RANK + component[None, :]
    vector = tl.load(firsts + (rest * RANK + row) * RANK + component, mask=inner, other=0.0)
    for index in range(GROUP):
        place = group * GROUP + index
        out = states + ((batch * (count + 1) + place) * RANK + row) * RANK
        tl.store(out + component, vector, mask=inner & (place <= count))
        step = maps + ((batch * count + place) * RANK + row) * (RANK + 1) * RANK
        matrix = tl.load(step + at, mask=square & (place < count), other=0.0)
        shift = tl.load(step + RANK * RANK + component, mask=inner & (place < count), other=0.0)
        vector = tl.sum(vector[:, None] * matrix, 0) + shift
