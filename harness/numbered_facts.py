"""Numbered facts: reading them, grouping them by slot, and finding the slot a question asks about.

A slot is what a statement says up to its value: "The capital of France is". Statements of one slot that
differ contradict each other; the one with the larger serial is the newer. MQuAKE's relations are split and
asked by their templates; statements and questions in other words by rules, which may err.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from deltamem_eval.relations import prefixes, split_statement

_LINE = re.compile(r"^[ \t]*(\d+)\. +(\S.*?)[ \t]*$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_LINK = r"in|on|at|of|by|to|for|from|with|as"
_COPULA = re.compile(rf"(.+? (?:is|are|was|were)(?: (?:[a-z]+ ){{0,2}}(?:{_LINK})(?: the [a-z]+ of)?)?) (.+)")
_VERB = re.compile(rf"(\S.*? [a-z]+(?: (?:{_LINK}))?) (.+)")
_PLAIN = frozenset(
    {"a", "an", "the", "is", "are", "was", "were", "of", "in", "by", "to", "for", "at", "on", "with", "s"}
    | {"what", "which", "who", "where", "how", "do", "does", "did"}
)
_STEM = 5  # letters of a word that are compared
_LEAST = 0.34  # least likeness of a question and a slot in other words


@dataclass(frozen=True)
class Fact:
    """One numbered statement, its full stop left off. value: what it says of its slot, '' where not split."""

    serial: int
    statement: str
    value: str = ""

    @property
    def slot(self) -> str:
        """The statement up to its value; the whole statement where it was not split."""
        return self.statement[: len(self.statement) - len(self.value)].rstrip()

    @property
    def line(self) -> str:
        """The fact as it stands in a context, without the line's end."""
        return f"{self.serial}. {self.statement}."


def parse_facts(context: str) -> list[Fact]:
    """The facts of a context, sorted by serial, each split into slot and value.

    A fact is a line "{serial}. {statement}."; other lines are passed over. Of several facts with one serial
    the order in the context is kept.
    """
    found = [
        Fact(int(match[1]), statement, _split(statement))
        for match in _LINE.finditer(context)
        if (statement := match[2].removesuffix("."))
    ]
    return sorted(found, key=lambda fact: fact.serial)


def _split(statement: str) -> str:
    """The value of a statement: by its relation's template, else behind its first verb."""
    parts = split_statement(statement)
    if parts is not None:
        return parts[1]
    other = _COPULA.fullmatch(statement) or _VERB.fullmatch(statement)
    return other[2] if other else ""


class Slots:
    """Facts grouped by slot. groups: each slot's facts, oldest first, in order of their first statement."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts = sorted(facts, key=lambda fact: fact.serial)
        self.groups: dict[str, list[Fact]] = {}
        for fact in self.facts:
            self.groups.setdefault(fact.slot, []).append(fact)

    @classmethod
    def of(cls, context: str) -> Slots:
        """The slots of a context of numbered facts."""
        return cls(parse_facts(context))

    @property
    def superseded(self) -> int:
        """Facts that a newer one of their slot replaces."""
        return len(self.facts) - len(self.groups)

    def newest(self, slot: str) -> str:
        """The value that holds. Raises KeyError for a slot no fact fills."""
        return self.groups[slot][-1].value

    def oldest(self, slot: str) -> str:
        """The first value. Raises KeyError for a slot no fact fills."""
        return self.groups[slot][0].value

    def values(self, slot: str) -> list[str]:
        """The slot's different values, oldest first. Raises KeyError for a slot no fact fills."""
        return list(dict.fromkeys(fact.value for fact in self.groups[slot]))

    def slot_of(self, question: str) -> str | None:
        """The slot a question asks about, None where none is like it.

        A question worded as in MQuAKE names its slot. For any other it is the slot that shares most of its
        words, rare ones counting more, against the words of both.
        """
        named = next((slot for slot in prefixes(question) if slot in self.groups), None)
        return named if named is not None else self._likest(question)

    def candidates(self, question: str) -> list[Fact]:
        """All facts of the slot a question asks about, oldest first; none where no slot is like it."""
        slot = self.slot_of(question)
        return [] if slot is None else list(self.groups[slot])

    @cached_property
    def _words(self) -> dict[str, frozenset[str]]:
        return {slot: _stems(slot) for slot in self.groups}

    @cached_property
    def _weights(self) -> Mapping[str, float]:
        """Inverse document frequencies over slots, 1 for a word in all of them."""
        counts = Counter(word for words in self._words.values() for word in words)
        return {word: 1 + math.log(len(self._words) / count) for word, count in counts.items()}

    def _likest(self, question: str) -> str | None:
        asked = _stems(question)
        rare = 1 + math.log(max(len(self._words), 1))

        def weight(words: Iterable[str]) -> float:
            return sum(self._weights.get(word, rare) for word in words)

        scored = [(2 * weight(asked & words), slot) for slot, words in self._words.items() if asked & words]
        likeness = [(shared / (weight(asked) + weight(self._words[slot])), slot) for shared, slot in scored]
        best = max(likeness, key=lambda item: item[0], default=(0.0, ""))
        return best[1] if best[0] >= _LEAST else None


def _stems(text: str) -> frozenset[str]:
    words = _WORD.findall(text.lower())
    return frozenset(word[:_STEM] for word in words if word not in _PLAIN) or frozenset(words)


def slot_candidates(facts: Sequence[Fact], question: str) -> list[Fact]:
    """All statements of the slot a question asks about, oldest first, each with its value.

    None where no slot is like the question. For many questions of one context make `Slots` once and call its
    `candidates`.
    """
    return Slots(facts).candidates(question)
