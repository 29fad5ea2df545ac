"""One prefilled context for all the questions asked about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deltamem_eval.methods.prompt import PromptBuilder, to_answer

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone, Prefix
    from deltamem_eval.interface import Answer, Query
    from deltamem_eval.methods.window import Window


class SharedPrefix:
    """Answers queries from a window of context that is read once, however many there are.

    Call `clear` when whatever the prefill depends on (a memory's state) has changed; another window is
    noticed.
    """

    def __init__(self, backbone: Backbone, window: Window) -> None:
        self._backbone = backbone
        self._window = window
        self._prompts = PromptBuilder(backbone)
        self._prefix: Prefix | None = None
        self._visible: str | None = None  # the text of the prefill's context

    def clear(self) -> None:
        """Forget the prefill."""
        self._prefix = None

    @property
    def bytes(self) -> int:
        """Bytes of keys and values held."""
        return self._prefix.bytes if self._prefix else 0

    def answer(self, queries: Sequence[Query], place: Callable[[int], None] | None = None) -> list[Answer]:
        """One answer per query, in order. place(rows) prepares a memory for a forward of that many rows."""
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for index, query in enumerate(queries):
            groups[min(self._window.size, self._prompts.room(query))].append(index)
        answers: dict[int, Answer] = {}
        for size, members in groups.items():
            group = [queries[index] for index in members]
            answers.update(zip(members, self._answer_group(size, group, place), strict=True))
        return [answers[index] for index in range(len(queries))]

    def _answer_group(
        self, size: int, queries: list[Query], place: Callable[[int], None] | None
    ) -> list[Answer]:
        context = self._window.last(size)
        ids = self._prompts.prefix(context)
        if self._prefix is None or self._prefix.ids != ids:
            if place is not None:
                place(1)
            self._prefix = self._backbone.prefill(ids)
            self._visible = self._backbone.decode(context) if context else None
        prompts = [self._prompts.build(context, query) for query in queries]
        results = self._backbone.generate([prompt.request for prompt in prompts], self._prefix, place)
        return [
            to_answer(prompt, result, self._visible, len(context))
            for prompt, result in zip(prompts, results, strict=True)
        ]
