"""The end of a context as token ids: what `--window N` lets stand in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltamem_eval.interface import Chunk

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone

LEAST_WINDOW = 16  # tokens: in fewer, neither a passage nor a compressed line says anything whole


class Window:
    """Keeps the last `size` token ids of a stream of chunks.

    size: tokens; 0 keeps none. Chunks are tokenised one by one, so what is kept does not depend on how many
    come.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        self._backbone = backbone
        self.size = size
        self._held: list[int] = []  # up to twice the size: cutting at every chunk would copy all each time
        self.seen = 0

    @property
    def ids(self) -> list[int]:
        """What is kept; a list of the caller's own."""
        return self.last(self.size)

    @ids.setter
    def ids(self, ids: Sequence[int]) -> None:
        self._held = list(ids)

    def add(self, chunk: Chunk) -> list[int]:
        """Take in a chunk; returns its ids."""
        ids = self._backbone.encode(chunk.text)
        self.seen += len(ids)
        self._held += ids
        if len(self._held) > 2 * self.size:
            self._held = self.ids
        return ids

    def last(self, count: int) -> list[int]:
        """The last `count` ids kept."""
        count = min(count, self.size)
        return self._held[-count:] if count else []


def window_size(backbone: Backbone, window: int | None) -> int:
    """Tokens to keep: the window, at most the backbone's positions; None means as many as those."""
    return backbone.positions if window is None else min(window, backbone.positions)
