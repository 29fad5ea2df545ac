"""How the work is cut for a rank: tokens a span, columns and vectors a program, warps."""

from __future__ import annotations

from typing import NamedTuple

MAX_RANK = 64
BLOCK = 4  # tokens or maps loaded ahead; tokens whose states the backward pass holds at a time


class Shape(NamedTuple):
    """padded: the rank as a power of two. span: tokens a map; a map is written and read once and has
    r² (r + 1) floats, so spans lengthen with the rank. columns: vectors of r components that a program maps;
    lanes: spans that one walks; together: vectors that one composes. All so that a thread holds some tens of
    numbers.
    """

    padded: int
    span: int
    columns: int
    map_warps: int
    lanes: int
    lane_warps: int
    together: int
    compose_warps: int
    walk_warps: int

    @classmethod
    def of(cls, rank: int) -> Shape:
        """For a rank of 1 to 64."""
        padded = 1 << max(rank - 1, 1).bit_length()
        lanes = max(32 // padded, 1)
        return cls(
            padded=padded,
            span=max(32, 4 * padded),
            columns=32 * max(padded // 32, 1),
            map_warps=1 if padded <= 32 else 4,
            lanes=lanes,
            lane_warps=min(max(padded * padded * lanes // 256, 1), 16),
            together=max(min(16, 4096 // padded**2), 1),
            compose_warps=1 if padded <= 8 else 4,
            walk_warps=1 if padded <= 16 else 4,
        )
