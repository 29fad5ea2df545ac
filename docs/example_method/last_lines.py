"""A memory method in a package of its own: whole lines from the end of the context, as many as fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from deltamem_eval.backbone import Backbone
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
from deltamem_eval.methods.options import merge_options
from deltamem_eval.methods.prompt import PromptBuilder, to_answer
from deltamem_eval.overhead import ModelShape


class LastLines(MemoryMethod):
    """Vanilla cuts its window anywhere; this one starts it at a line. Option most: lines at the most."""

    name: ClassVar[str] = "last-lines"
    summary: ClassVar[str] = "whole lines from the context's end"
    defaults: ClassVar[Mapping[str, Any]] = {"most": 1000}

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        self._backbone, self._prompts = backbone, PromptBuilder(backbone)
        self._window = backbone.positions if settings.window is None else settings.window
        self._most = merge_options(self.name, self.defaults, settings.options)["most"]
        self.reset()

    def reset(self) -> None:
        self._lines: list[str] = []

    def write(self, chunk: Chunk) -> None:
        self._lines = [*self._lines, chunk.text][-self._most :]

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        made = []
        for query in queries:
            ids = self._context(min(self._window, self._prompts.room(query)))
            prompt = self._prompts.build(ids, query)
            (result,) = self._backbone.generate([prompt.whole()])
            made.append(to_answer(prompt, result, self._backbone.decode(ids) or None, len(ids)))
        return made

    def _context(self, room: int) -> list[int]:
        ids: list[int] = []
        for line in reversed(self._lines):
            new = self._backbone.encode(line)
            if len(new) + len(ids) > room:
                break
            ids = [*new, *ids]
        return ids

    def snapshot(self) -> Snapshot:
        return Snapshot({}, {"lines": list(self._lines)})

    def restore(self, snapshot: Snapshot) -> None:
        self._lines = list(snapshot.meta["lines"])

    def footprint(self) -> Footprint:
        return Footprint(text=sum(len(line.encode()) for line in self._lines))

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        return Overhead(trainable=0, stored=0)
