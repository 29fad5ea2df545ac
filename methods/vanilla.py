"""The backbone alone, with the last tokens of the context in its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.interface import (
    Answer,
    Chunk,
    Footprint,
    MemoryMethod,
    MethodSettings,
    Overhead,
    Query,
    Snapshot,
)

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.overhead import ModelShape


class Vanilla(MemoryMethod):
    """No memory: the last N tokens of the context stand in the prompt, prefilled once for all questions."""

    name: ClassVar[str] = "vanilla"
    summary: ClassVar[str] = "the backbone alone, the last N tokens of the context in the prompt"

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.options import merge_options
        from deltamem_eval.methods.shared_prefix import SharedPrefix
        from deltamem_eval.methods.window import Window, window_size

        merge_options(self.name, self.defaults, settings.options)
        self._backbone = backbone
        self._window = Window(backbone, window_size(backbone, settings.window))
        self._shared = SharedPrefix(backbone, self._window)

    def reset(self) -> None:
        """Forget the context."""
        self._window.ids, self._window.seen = [], 0
        self._shared.clear()

    def write(self, chunk: Chunk) -> None:
        """Keep the chunk's tokens as far as the window reaches."""
        self._window.add(chunk)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer from the window, which is read once however many questions there are."""
        return self._shared.answer(queries)

    def snapshot(self) -> Snapshot:
        """The window's token ids."""
        return Snapshot({}, {"ids": list(self._window.ids), "seen": self._window.seen})

    def restore(self, snapshot: Snapshot) -> None:
        """Put the window back; the prefilled prefix is kept where it still fits."""
        self._window.ids = list(snapshot.meta["ids"])
        self._window.seen = int(snapshot.meta["seen"])

    def footprint(self) -> Footprint:
        """Text of the window, and the keys and values of its prefill."""
        text = len(self._backbone.decode(self._window.ids).encode("utf-8"))
        return Footprint(text=text, kv=self._shared.bytes)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Nothing is added."""
        return Overhead(0, 0)
