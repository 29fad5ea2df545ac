"""The end of a context as token ids: what `--window N` lets stand in the prompt."""

from __future__ import annotations

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
        self.ids: list[int] = []
        self.seen = 0

    def add(self, chunk: Chunk) -> list[int]:
        """Take in a chunk; returns its ids."""
        ids = self._backbone.encode(chunk.text)
        self.seen += len(ids)
        if self.size:
            self.ids = (self.ids + ids)[-self.size :]
        return ids

    def last(self, count: int) -> list[int]:
        """The last `count` ids kept."""
        return self.ids[-count:] if count else []


def window_size(backbone: Backbone, window: int | None) -> int:
    """Tokens to keep: the window, at most the backbone's positions; None means as many as those."""
    return backbone.positions if window is None else min(window, backbone.positions)
