"""Triton programs over maps: compose them in groups, and take states through them.

A map is [RANK, RANK + 1, RANK], as `map_spans` writes it (spans.py). R is RANK padded to a power of two.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count", "groups", "blocks"])
def compose_maps(
    maps, composed, count, groups, blocks,
    RANK: tl.constexpr, R: tl.constexpr, GROUP: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """One map for every GROUP of maps [batch, count, ...]: composed [batch, groups, ...]. A program takes
    TOGETHER of the RANK + 1 vectors of one row of the state, one of its `blocks`, through the maps of one
    group.
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
    for index in tl.range(GROUP, loop_unroll_factor=4):
        step = maps + ((batch * count + group * GROUP + index) * RANK + row) * (RANK + 1) * RANK
        matrix = tl.load(step + at, mask=square, other=0.0)
        shift = tl.load(step + RANK * RANK + component, mask=inner, other=0.0)
        vectors = tl.sum(vectors[:, :, None] * matrix[None, :, :], 1)
        vectors += tl.where(source[:, None] == RANK, shift[None, :], 0.0)
    out = composed + (((batch * groups + group) * RANK + row) * (RANK + 1) + source)[:, None] * RANK
    tl.store(out + component[None, :], vectors, mask=(source <= RANK)[:, None] & inner[None, :])


@triton.jit(do_not_specialize=["count", "groups"])
def walk_maps(
    maps, firsts, states, count, groups,
    RANK: tl.constexpr, R: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The states before each map and after the last [batch, count + 1, RANK, RANK], from those before each
    group: firsts [batch, groups, RANK, RANK]. A program takes one row of the state through one group.
    """
    program = tl.program_id(0).to(tl.int64)
    row, rest = program % RANK, program // RANK
    group, batch = rest % groups, rest // groups
    component = tl.arange(0, R)
    inner = component < RANK
    square = inner[:, None] & inner[None, :]
    at = component[:, None] * RANK + component[None, :]
    vector = tl.load(firsts + (rest * RANK + row) * RANK + component, mask=inner, other=0.0)
    for block in range(GROUP // BLOCK):
        # All loads stand before the first store, so that none of them waits for it.
        coming = ()
        for step in tl.static_range(BLOCK):
            place = group * GROUP + block * BLOCK + step
            here = maps + ((batch * count + place) * RANK + row) * (RANK + 1) * RANK
            matrix = tl.load(here + at, mask=square & (place < count), other=0.0)
            shift = tl.load(here + RANK * RANK + component, mask=inner & (place < count), other=0.0)
            coming = coming + ((matrix, shift),)  # noqa: RUF005
        for step in tl.static_range(BLOCK):
            matrix, shift = coming[step]
            place = group * GROUP + block * BLOCK + step
            out = states + ((batch * (count + 1) + place) * RANK + row) * RANK
            tl.store(out + component, vector, mask=inner & (place <= count))
            vector = tl.sum(vector[:, None] * matrix, 0) + shift
