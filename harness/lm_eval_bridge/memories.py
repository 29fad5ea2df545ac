"""Contexts written once each, and questions answered or continuations scored from their snapshots."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_text
from deltamem_eval.interface import Answer, Chunk, MemoryMethod, Query, Snapshot
from deltamem_eval.tasks.memory_agent_bench.protocols import split_context
from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.likelihood import Scored

_KEPT = 64  # snapshots kept, the least recently used dropped first

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One request: the context to write before it, and its question."""

    context: str
    query: Query


class Memories:
    """A method and the contexts it has been given.

    ingests: how often each context was written, by the hash of its text; the empty context is not counted.
    skipped: questions that the method said were not of its kind. Requests of one call are answered context by
    context, and the newest snapshots are kept for later calls. A context is handed over in lines, long ones
    cut into sentences, as the harness's own tasks do it.
    """

    def __init__(self, method: MemoryMethod, backbone: Backbone) -> None:
        self.ingests: Counter[str] = Counter()
        self.skipped = 0
        self._method = method
        self._backbone = backbone
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    def answers(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a request, in order; one that was skipped is an empty text and is counted.

        Raises UserError for one that failed, which no score may hide.
        """
        answers = self._by_context(asked, self._method.answer)
        for item, answer in zip(asked, answers, strict=True):
            self.skipped += answer.status == "skipped"
            if answer.status not in ("ok", "skipped"):
                raise UserError(f"{self._method.name} gave no answer to {item.query.id}: {answer.error}")
        return answers

    def scores(self, asked: Sequence[Asked], continuations: Mapping[str, Sequence[int]]) -> list[Scored]:
        """The log-probabilities of each request's continuation, by the query's first stop string."""
        return self._by_context(asked, lambda queries: self._measure(queries, continuations))

    def rolling(self, pieces: Sequence[tuple[str, Query, Sequence[int]]]) -> float:
        """Log-probability of a text's pieces (text, query, token ids), each after writing those before it."""
        method, total = self._method, 0.0
        method.reset()
        for index, (text, query, ids) in enumerate(pieces):
            total += self._measure([query], {query.stop[0]: ids})[0].total
            method.write(Chunk(text, index))
        if pieces:
            self.ingests[hash_text("".join(text for text, _, _ in pieces))] += 1
        return total

    def _measure(self, queries: Sequence[Query], continuations: Mapping[str, Sequence[int]]) -> list[Scored]:
        from deltamem_eval.likelihood import measure

        scores = []
        measured = measure(self._method, self._backbone, queries, continuations)
        for query, (answer, score) in zip(queries, measured, strict=True):
            if score is None:
                raise UserError(f"{self._method.name} gave no answer to {query.id}: {answer.error}")
            scores.append(score)
        return scores

    def _by_context(self, asked: Sequence[Asked], run: Callable[[list[Query]], list[T]]) -> list[T]:
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(asked):
            groups[item.context].append(index)
        done: dict[int, T] = {}
        name, console = f"contexts ({self._method.name})", Console(stderr=True)
        shown = track(groups.items(), name, console=console, transient=True, disable=len(groups) == 1)
        for context, members in shown:
            self._recall(context)
            done.update(zip(members, run([asked[index].query for index in members]), strict=True))
        return [done[index] for index in range(len(asked))]

    def _recall(self, context: str) -> None:
        """Bring a context's memory back, writing it if that was not done before."""
        key = hash_text(context)
        if key not in self._snapshots:
            self._snapshots[key] = self._write(context)
            if context:
                self.ingests[key] += 1
            while len(self._snapshots) > _KEPT:
                self._snapshots.popitem(last=False)
        self._snapshots.move_to_end(key)
        self._method.restore(self._snapshots[key])

    def _write(self, context: str) -> Snapshot:
        self._method.reset()
        for index, text in enumerate(split_context(context)):
            self._method.write(Chunk(text, index))
        return self._method.snapshot()
