"""What single-hop questions of fact consolidation ask of their facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltamem_eval.numbered_facts import Slots
from deltamem_eval.tasks.memory_agent_bench.metrics import substring_exact_match


@dataclass(frozen=True)
class Conflicts:
    """What single-hop questions ask of their facts.

    unmatched: questions of no slot found. single: questions whose slot has one value, so nothing to resolve.
    contradicting: questions whose gold the newest value does not hold. newest_right, oldest_right: questions
    that the newest, or oldest, value answers by substring exact match.
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


def conflicts(row: Mapping[str, Any]) -> Conflicts:
    """The conflicts of one single-hop FactConsolidation row, as MemoryAgentBench scores its questions."""
    slots = Slots.of(str(row["context"]))
    tally: Counter[str] = Counter()
    for question, golds in zip(row["questions"], row["answers"], strict=True):
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
    )
