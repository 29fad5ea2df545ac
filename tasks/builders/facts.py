"""What single-hop questions of fact consolidation ask of their facts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltamem_eval.numbered_facts import Slots
from deltamem_eval.tasks.memory_agent_bench.metrics import substring_exact_match

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Conflicts:
    """What single-hop questions ask of their facts.

    unmatched: questions of no slot found. single: questions whose slot has one value, so nothing to resolve.
    contradicting: questions whose gold the newest value does not hold. newest_right, oldest_right: questions
    that the newest, or oldest, value answers by substring exact match. unstated: questions whose gold no fact
    ends in. single_by_gold: questions without anything to resolve by the words before the gold (see
    `single_by_gold`), which needs no slots and errs where facts of other slots end in the same words.
    """

    questions: int
    facts: int
    slots: int
    superseded: int
    unmatched: int
    single: int
    contradicting: int
    newest_right: int
    oldest_right: int
    unstated: int
    single_by_gold: int


def conflicts(row: Mapping[str, Any]) -> Conflicts:
    """The conflicts of one single-hop FactConsolidation row, as MemoryAgentBench scores its questions."""
    slots = Slots.of(str(row["context"]))
    statements = [fact.statement for fact in slots.facts]
    tally: Counter[str] = Counter()
    for question, golds in zip(row["questions"], row["answers"], strict=True):
        alone = single_by_gold(statements, str(question), golds)
        tally["unstated"] += alone is None
        tally["by_gold"] += bool(alone)
        found = slots.candidates(str(question))
        if not found:
            tally["unmatched"] += 1
            continue
        newest, oldest = (
            any(substring_exact_match(found[at].value, gold) for gold in golds) for at in (-1, 0)
        )
        tally["single"] += len({fact.value for fact in found}) == 1
        tally["contradicting"] += not newest
        tally["newest"] += newest
        tally["oldest"] += oldest
    return Conflicts(
        len(row["questions"]),
        len(slots.facts),
        len(slots.groups),
        slots.superseded,
        tally["unmatched"],
        tally["single"],
        tally["contradicting"],
        tally["newest"],
        tally["oldest"],
        tally["unstated"],
        tally["by_gold"],
    )


def single_by_gold(statements: Sequence[str], question: str, golds: Iterable[str]) -> bool | None:
    """Whether no other statement begins with the words before the gold of the one that gives the answer.

    statements: oldest first, without their full stops. The one that gives the answer: of those that end in an
    acceptable one, that which shares most words with the question, the newest of equals. None where none
    ends so.
    """
    ends = [f" {gold}" for gold in golds]
    found = [(text, text[: 1 - len(end)]) for text in statements for end in ends if text.endswith(end)]
    if not found:
        return None
    asked = frozenset(_WORD.findall(question.lower()))
    shared = [len(asked.intersection(_WORD.findall(text.lower()))) for text, _ in found]
    beginning = found[max(range(len(found)), key=lambda at: (shared[at], at))][1]
    return len({text for text in statements if text.startswith(beginning)}) == 1
