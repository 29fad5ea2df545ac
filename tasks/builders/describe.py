"""What a file of rows holds, source by source, and where its answers leak."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deltamem_eval.tasks.builders.common import Count, key
from deltamem_eval.tasks.builders.facts import conflicts
from deltamem_eval.tasks.memory_agent_bench.rows import Row

_LABEL = re.compile(r"label: (\S+)\s*")


@dataclass(frozen=True)
class Labelled:
    """An in-context-learning context: its utterances, and how many of them each label has."""

    utterances: tuple[str, ...]
    shots: Mapping[str, int]


def parse_labelled(context: str) -> Labelled:
    """The utterances and labels of lines that alternate between an utterance and "label: N"."""
    utterances: list[str] = []
    shots: Counter[str] = Counter()
    pending: list[str] = []
    for line in context.splitlines():
        found = _LABEL.fullmatch(line)
        if found and pending:
            utterances.append("\n".join(pending))
            shots[found[1]] += 1
            pending = []
        elif line.strip():
            pending.append(line)
    return Labelled(tuple(utterances), shots)


def describe(rows: Sequence[Row], count: Count) -> dict[str, dict[str, Any]]:
    """For each source, in the order of first rows, its figures as JSON values.

    rows, questions; context_characters and context_tokens, each with min and max; duplicated_questions: those
    that repeat one of their row; answers_in_question: those in which an acceptable answer stands as words.
    icl: labels, shots a label (min and max), questions_in_context. longmemeval: has_answer, flags in the text
    of contexts. facts: the sums of `facts.Conflicts`, and two shares of questions without a conflict:
    conflict_free, those with one value among the questions matched to a slot, and conflict_free_by_gold, by
    the words before the gold, among those whose gold ends a fact.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["metadata"]["source"]), []).append(row)
    return {source: _source(source, found, count) for source, found in groups.items()}


def _source(source: str, rows: list[Row], count: Count) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rows": len(rows),
        "questions": sum(len(row["questions"]) for row in rows),
        "context_characters": _range(len(row["context"]) for row in rows),
        "context_tokens": _range(count(row["context"]) for row in rows),
        "duplicated_questions": sum(_repeated(row["questions"]) for row in rows),
        "answers_in_question": sum(map(_given_away, rows)),
    }
    if source.startswith("icl_"):
        found["icl"] = _icl(rows)
    if source.startswith("longmemeval_"):
        found["longmemeval"] = {"has_answer": sum(row["context"].count("has_answer") for row in rows)}
    if source.startswith("factconsolidation_sh"):
        found["facts"] = _facts(rows)
    return found


def _range(values: Iterable[int]) -> dict[str, int]:
    listed = list(values)
    return {"min": min(listed), "max": max(listed)}


def _repeated(questions: Sequence[str]) -> int:
    return len(questions) - len({key(question) for question in questions})


def _given_away(row: Row) -> int:
    pairs = zip(row["questions"], row["answers"], strict=True)
    return sum(any(_within(gold, question) for gold in golds) for question, golds in pairs)


def _within(gold: str, question: str) -> bool:
    words = key(gold)
    return bool(words) and f" {words} " in f" {key(question)} "


def _icl(rows: list[Row]) -> dict[str, Any]:
    contexts = [parse_labelled(row["context"]) for row in rows]
    standing = 0
    for row, context in zip(rows, contexts, strict=True):
        shown = {key(utterance) for utterance in context.utterances}
        standing += sum(key(question) in shown for question in row["questions"])
    return {
        "labels": _range(len(context.shots) for context in contexts),
        "shots": _range(n for context in contexts for n in (context.shots.values() or [0])),
        "questions_in_context": standing,
    }


def _facts(rows: list[Row]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for row in rows:
        total.update(asdict(conflicts(row)))
    shares = {
        name: total[count] / among if (among := total["questions"] - total[without]) else None
        for name, count, without in (
            ("conflict_free", "single", "unmatched"),
            ("conflict_free_by_gold", "single_by_gold", "unstated"),
        )
    }
    return {**total, **shares}


def to_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """`describe`'s figures as lines of text, a block a source."""
    return "\n".join(f"{source}\n" + "".join(_lines(figures)) for source, figures in found.items())


def _lines(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, Mapping) and set(value) == {"min", "max"}:
            lines.append(_line(name, _span(value)))
        elif isinstance(value, Mapping):
            lines += [_line(f"{name} {part}", _plain(item)) for part, item in value.items()]
        else:
            lines.append(_line(name, _plain(value)))
    return lines


def _line(name: str, value: str) -> str:
    return f"  {name.replace('_', ' '):<28} {value}\n"


def _span(value: Mapping[str, int]) -> str:
    return str(value["min"]) if value["min"] == value["max"] else f"{value['min']} to {value['max']}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return _span(value)
    if value is None:
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)
