"""Toy plug-ins: one that keeps every promise, and one for each promise that breaks it."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deltamem_eval.interface import Answer, Chunk, MethodSettings, Overhead, Query, Snapshot
from deltamem_eval.methods.vanilla import Vanilla

_counter = itertools.count()
_kept: dict[int, Snapshot] = {}


class Good(Vanilla):
    """Vanilla under another name."""

    name = "toy"
    summary = "a toy"


class Loud(Good):
    """Answers unlike the backbone with an empty memory."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        return [replace(answer, text=answer.text + "!") for answer in super().answer(queries)]


class NeverForgets(Good):
    """Resets nothing."""

    def reset(self) -> None:
        pass


class Remembers(Good):
    """Takes questions into the memory."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        found = super().answer(queries)
        super().write(Chunk(queries[0].prompt, 99))
        return found


class Counts(Good):
    """Its answer depends on the place in the batch."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        found = super().answer(queries)
        return [replace(answer, text=f"{answer.text}{index}") for index, answer in enumerate(found)]


class ReadsPadding(Good):
    """Its answer depends on the longest question beside it."""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        width = max(len(query.prompt) for query in queries)
        return [replace(answer, text=f"{answer.text}{width}") for answer in super().answer(queries)]


class KeepsToItself(Good):
    """Its snapshot is a number that means something in this process alone."""

    def snapshot(self) -> Snapshot:
        key = len(_kept)
        _kept[key] = super().snapshot()
        return Snapshot({}, {"key": key})

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(_kept[snapshot.meta["key"]])


class Boasts(Good):
    """Declares parameters that it does not have."""

    def added(self, shape: Any, options: Any) -> Overhead:
        return Overhead(5, 5)


class Rolls(Good):
    """Each object answers in its own way, whatever the seed."""

    def __init__(self, backbone: Any, settings: MethodSettings) -> None:
        super().__init__(backbone, settings)
        self._way = next(_counter)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        return [replace(answer, text=f"{answer.text}{self._way}") for answer in super().answer(queries)]


class Greedy(Good):
    """Shows twice the window."""

    def __init__(self, backbone: Any, settings: MethodSettings) -> None:
        super().__init__(backbone, replace(settings, window=2 * (settings.window or 0)))


class Sticky(Good):
    """Knows the first context for ever."""

    def __init__(self, backbone: Any, settings: MethodSettings) -> None:
        super().__init__(backbone, settings)
        self._first: list[int] = []

    def write(self, chunk: Chunk) -> None:
        super().write(chunk)
        if chunk.index == 11:
            self._first = self._first or list(self._window.ids)
            self._window.ids = list(self._first)


class Litters(Good):
    """Leaves a hook on the backbone."""

    def __init__(self, backbone: Any, settings: MethodSettings) -> None:
        super().__init__(backbone, settings)
        backbone.model.lm_head.register_forward_hook(lambda _, __, output: output + 1)


class Crashes(Good):
    """Raises while it writes."""

    def write(self, chunk: Chunk) -> None:
        raise ZeroDivisionError("no room")


BREAKS = {
    "empty-equals-base": Loud,
    "reset-forgets": NeverForgets,
    "answering-changes-nothing": Remembers,
    "order-and-batch": Counts,
    "padding": ReadsPadding,
    "survives-a-process": KeepsToItself,
    "overhead-is-true": Boasts,
    "same-seed-same-result": Rolls,
    "window-is-kept": Greedy,
    "wrong-memory-swaps": Sticky,
    "leaves-the-backbone": Litters,
}
