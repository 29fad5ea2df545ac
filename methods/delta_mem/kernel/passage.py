"""From span to span: the state before each, from the spans' maps.

A walk over all maps would be as long as the sequence over the span. So maps are composed in groups, the
states before the groups are found the same way, and all groups are walked side by side: what is left to do in
order grows with the logarithm of the number of spans.
"""

from __future__ import annotations

import triton
from deltamem_eval.methods.delta_mem.kernel.maps import compose_maps, walk_maps
from deltamem_eval.methods.delta_mem.kernel.shape import BLOCK, Shape
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
        compose_maps[(batch * (groups - 1) * rank * blocks,)](
            maps, composed, count, groups - 1, blocks, RANK=rank, R=shape.padded, GROUP=GROUP,
            TOGETHER=shape.together, num_warps=shape.compose_warps,
        )  # fmt: skip
        firsts = states_between(composed, first, shape)
    walk_maps[(batch * groups * rank,)](
        maps, firsts, states, count, groups, RANK=rank, R=shape.padded, GROUP=GROUP,
        BLOCK=BLOCK, num_warps=shape.walk_warps,
    )  # fmt: skip
    return states
