"""Named sets of tasks that are run together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deltamem_eval.errors import unknown


@dataclass(frozen=True)
class Part:
    """One task of a suite, as `--task` names it, with the options the suite sets."""

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The registered name: lm-eval's tasks are all of task lm-eval."""
        return self.task.partition(":")[0]


@dataclass(frozen=True)
class Suite:
    """Tasks in order, and one line about them. windows: tokens, where the user gives none; empty for the
    model's default.
    """

    summary: str
    parts: tuple[Part, ...]
    windows: tuple[int, ...] = ()


_RELEASE = {"protocol": "delta-mem-release"}
_DIALOGUES = {"categories": "1,2,3,4", "context": "whole"}
# The whole context stands in the paper's prompts. English has fewer tokens than characters: this many hold
# the release's 120,000 characters.
_WHOLE = 120_000
# Neither has a context to write; both have the answer budgets of the release's own script. That asks GPQA in
# words of its own, by none of lm-eval's variants: this one asks for a choice in free text and counts the last
# letter in brackets.
_GPQA = {"split": "none", "filter": "flexible-extract", "max_new_tokens": 8192}
_IFEVAL = {"split": "none", "max_new_tokens": 1500}
SUITES: Mapping[str, Suite] = {
    "embedded": Suite("the embedded episodes, four categories, no download", (Part("embedded"),)),
    "memory-agent-bench": Suite("MemoryAgentBench, all four splits", (Part("memory-agent-bench"),)),
    "test-time-learning": Suite(
        "MemoryAgentBench's five in-context-learning sources",
        (Part("memory-agent-bench", {"splits": "Test_Time_Learning", "sources": "icl_"}),),
    ),
    "locomo": Suite("LoCoMo's dialogues; needs locomo.path=FILE", (Part("locomo"),)),
    "paper": Suite(
        "the benchmarks of the δ-mem paper's Table 1, MemoryAgentBench as its release hands it over; needs "
        "locomo.path=FILE and hotpotqa.path=FILE",
        (
            Part("lm-eval:ifeval", _IFEVAL),
            Part("hotpotqa"),
            Part("lm-eval:gpqa_diamond_cot_zeroshot", _GPQA),
            Part("memory-agent-bench", _RELEASE),
            Part("locomo", _DIALOGUES),
        ),
        (_WHOLE,),
    ),
}


def options_of(part: Part, given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A part's task options: the suite's, then the user's.

    A user's option "task.name" goes to that task alone, "lm-eval.name" to all of lm-eval's, "name" to every
    task that knows it.
    """
    made = dict(part.options)
    for name, value in given.items():
        task, dot, rest = name.partition(".")
        if dot and task in (part.task, part.kind):
            made[rest] = value
        elif not dot and name in known:
            made[name] = value
    return made


def check_options(
    parts: Sequence[Part], given: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raises UserError for an option that no task of a suite takes. known: each task's defaults."""
    taken = {name for part in parts for name in known[part.task]}
    taken |= {
        f"{task}.{name}" for part in parts for task in (part.task, part.kind) for name in known[part.task]
    }
    for name in given:
        if name not in taken:
            raise unknown("task option", name, taken)
