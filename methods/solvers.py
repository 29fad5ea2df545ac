"""Solvers without a language model, which bound tables from above and below.

They read the context as data: numbered facts, labelled examples, the options of a question. A question that
is not of their kind is skipped, and shown as such; it counts as wrong.
"""

from __future__ import annotations

import ast
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from random import Random
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
    from deltamem_eval.numbered_facts import Slots
    from deltamem_eval.overhead import ModelShape
    from rank_bm25 import BM25Okapi

_EXAMPLE = re.compile(r"(?P<asked>\S[^\n]*?)\s*\n?[ \t]*\blabel[ \t]*:[ \t]*(?P<label>\S+)[ \t]*(?:\n|$)")
_WORD = re.compile(r"\w+")
_LIST = re.compile(r"\[.*?\](?=\s|$)", re.DOTALL)
_OPTION = re.compile(r"^[ \t]*([A-Z])[.)][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


class Solver(MemoryMethod):
    """Keeps the whole context as text and answers by rule. Windows change nothing."""

    always_on: ClassVar[bool] = True
    lacks: ClassVar[str]

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.options import merge_options

        merge_options(self.name, self.defaults, settings.options)
        self._seed = settings.seed
        self.reset()

    def reset(self) -> None:
        """Forget the context."""
        self._set([])

    def _set(self, texts: list[str]) -> None:
        self._texts = texts
        for name in ("_slots", "_examples", "_index"):  # what follows from the texts
            self.__dict__.pop(name, None)

    def write(self, chunk: Chunk) -> None:
        """Append a chunk."""
        self._set([*self._texts, chunk.text])

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """By rule; no prompt is made."""
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        found = self.solve(str(query.metadata.get("question", query.prompt)), query.id)
        if found is None:
            return Answer("", 0, 0, status="skipped", error=self.lacks)
        return Answer(found, 0, 0)

    @abstractmethod
    def solve(self, question: str, key: str) -> str | None:
        """The answer to a question, or None where it is not of the solver's kind. key: the query's id."""

    def snapshot(self) -> Snapshot:
        """The texts."""
        return Snapshot({}, {"texts": list(self._texts)})

    def restore(self, snapshot: Snapshot) -> None:
        """Put the texts back."""
        texts = [str(text) for text in snapshot.meta["texts"]]
        if texts != self._texts:
            self._set(texts)

    def footprint(self) -> Footprint:
        """Bytes of the context."""
        return Footprint(text=sum(len(text.encode("utf-8")) for text in self._texts))

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Nothing is added."""
        return Overhead(0, 0)

    @cached_property
    def _slots(self) -> Slots:
        from deltamem_eval.numbered_facts import Slots

        return Slots.of("".join(self._texts))

    @cached_property
    def _examples(self) -> list[tuple[str, str]]:
        """(utterance, label) of every labelled example."""
        return [(match["asked"], match["label"]) for match in _EXAMPLE.finditer("".join(self._texts))]

    @cached_property
    def _index(self) -> BM25Okapi:
        from rank_bm25 import BM25Okapi

        return BM25Okapi([_words(text) for text, _ in self._examples])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


class _Oracle(Solver):
    """One of the facts of the slot that a question asks about."""

    lacks: ClassVar[str] = "no numbered fact is like the question"
    which: ClassVar[int]

    def solve(self, question: str, key: str) -> str | None:
        """The value of the fact."""
        found = self._slots.candidates(question)
        return found[self.which].value if found else None


class OracleLastWrite(_Oracle):
    """What the newest fact of the slot says: the rule FactConsolidation asks for."""

    name: ClassVar[str] = "oracle-last-write"
    summary: ClassVar[str] = "the newest numbered fact of the slot asked about; bounds fact consolidation"
    which: ClassVar[int] = -1


class OracleFirstWrite(_Oracle):
    """What the oldest fact of the slot says: a memory that never updates."""

    name: ClassVar[str] = "oracle-first-write"
    summary: ClassVar[str] = "the oldest numbered fact of the slot asked about: no update is ever made"
    which: ClassVar[int] = 0


class MajorityLabel(Solver):
    """The label shown most often, the first of equals."""

    name: ClassVar[str] = "majority-label"
    summary: ClassVar[str] = "the label shown most often, whatever is asked"
    lacks: ClassVar[str] = "the context shows no label"

    def solve(self, question: str, key: str) -> str | None:
        """The label."""
        counts = Counter(label for _, label in self._examples)
        return counts.most_common(1)[0][0] if counts else None


class NearestExample(Solver):
    """The label of the example that BM25 (Okapi, k1 1.5, b 0.75, words in lower case) ranks first."""

    name: ClassVar[str] = "nearest-example"
    summary: ClassVar[str] = "the label of the example that BM25 finds nearest"
    lacks: ClassVar[str] = "the context shows no label"

    def solve(self, question: str, key: str) -> str | None:
        """The label."""
        if not self._examples:
            return None
        scores = self._index.get_scores(_words(question))
        return self._examples[int(scores.argmax())][1]


class RandomOption(Solver):
    """One of the options that a question lists, drawn by seed and question."""

    name: ClassVar[str] = "random-option"
    summary: ClassVar[str] = "one of the options that the question lists, at random"
    lacks: ClassVar[str] = "the question lists no options"

    def solve(self, question: str, key: str) -> str | None:
        """The option as it stands."""
        options = options_of(question)
        return Random(f"{self.name}/{self._seed}/{key}").choice(options) if options else None


def options_of(question: str) -> list[str]:
    """Options of a question: a list written as in Python, else its last run of lines A., B., C. ..."""
    for text in reversed(_LIST.findall(question)):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            continue
        if isinstance(value, list) and len(value) > 1:
            return [str(item) for item in value]
    lines = _OPTION.findall(question)
    starts = [index for index, (letter, _) in enumerate(lines) if letter == "A"]
    run = lines[starts[-1] :] if starts else []
    wanted = [chr(ord("A") + index) for index in range(len(run))]
    return [f"{letter}. {text}" for letter, text in run] if [letter for letter, _ in run] == wanted else []
