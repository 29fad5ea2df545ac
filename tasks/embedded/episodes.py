"""Episodes of the embedded world as rows in MemoryAgentBench's schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.embedded import words
from deltamem_eval.tasks.embedded.world import (
    FULL,
    QUESTIONS,
    Split,
    Style,
    bindings,
    code,
    dress,
    names,
    question,
    sentence,
    split_of,
    utterance,
)

GENERATOR_VERSION = 1
DEFAULT_WINDOW = 64
LENGTHS = tuple(DEFAULT_WINDOW * factor for factor in (1, 2, 4, 8, 16))
KINDS = ("codes", "labels", "rules", "preferences", "topics", "updates")
CATEGORY_KINDS = {
    "accurate-retrieval": ("codes",),
    "test-time-learning": ("labels", "rules", "preferences"),
    "long-range-understanding": ("topics",),
    "selective-forgetting": ("updates",),
}
EVAL_SEEDS = range(1_000_000)
QUESTIONS_PER_CONTEXT = 10
_EMPTY = (
    "demo",
    "haystack_sessions",
    "keypoints",
    "previous_events",
    "question_dates",
    "question_ids",
    "question_types",
)


@dataclass
class Draft:
    """An episode in the making: lines in order, and questions (prompt, answer, evidence, updates)."""

    lines: list[str]
    asked: list[tuple[str, str, list[str], int]] = field(default_factory=list)
    associations: int = 0
    answers: int = 1  # size of the answer space
    candidates: int = 1  # values of the right kind in the context


@dataclass(frozen=True)
class Wanted:
    """What is asked of a maker; `values` limits answers to the first so many of their kind."""

    split: Split
    count: int
    questions: int
    style: Style
    values: int | None


def make_row(
    kind: str,
    rng: Random,
    *,
    split: Split,
    context_tokens: int,
    associations: int,
    questions: int = QUESTIONS_PER_CONTEXT,
    style: Style = FULL,
    values: int | None = None,
) -> dict[str, Any]:
    """One row: `associations` items, filler up to about context_tokens words, up to `questions` questions.

    values: where given, answers are among the first so many of their kind, and no fact is updated.
    """
    draft = _MAKERS[kind](rng, Wanted(split, associations, questions, style, values))
    _fill(draft.lines, context_tokens, rng, style)
    asked = list(dict.fromkeys((prompt, answer, tuple(lines), n) for prompt, answer, lines, n in draft.asked))
    count = len(asked)
    return {
        "context": "".join(draft.lines),
        "questions": [item[0] for item in asked],
        "answers": [[item[1]] for item in asked],
        "metadata": {
            **dict.fromkeys(_EMPTY),
            "source": f"embedded_{kind}",
            "qa_pair_ids": [f"embedded_{kind}_{index}" for index in range(count)],
            "evidence": [list(item[2]) for item in asked],
            "chance": [1 / draft.answers] * count,
            "selection": [1 / draft.candidates] * count,
            "associations": [draft.associations] * count,
            "updates": [item[3] for item in asked],
            "distance": [_distance(draft.lines, item[2]) for item in asked],
        },
    }


def _distance(lines: Sequence[str], evidence: Sequence[str]) -> int:
    """Tokens that follow the last line of the evidence."""
    last = max(number for number, line in enumerate(lines) if line in evidence)
    return sum(length(line) for line in lines[last + 1 :])


def _keyed(kind: str, pairs: list[tuple[str, str]], answers: int, rng: Random, wanted: Wanted) -> Draft:
    """Each pair stated once, each asked about in several wordings."""
    style = wanted.style
    lines = {key: sentence(kind, key, value, style, rng) for key, value in pairs}
    draft = Draft(list(lines.values()), [], len(pairs), answers, len(pairs))
    for index in range(wanted.questions):
        key, value = pairs[index % len(pairs)]
        draft.asked.append((question(kind, key, style, rng), value, [lines[key]], 0))
    return draft


def _codes(rng: Random, wanted: Wanted) -> Draft:
    values: list[str] = []
    while len(values) < wanted.count:
        made = code(wanted.split, rng) if wanted.values is None else rng.choice(_few_codes(wanted))
        if made not in values:
            values.append(made)
    pairs = list(zip(names(wanted.split, wanted.count, rng), values, strict=True))
    return _keyed("codes", pairs, len(words.COLOURS) * len(words.ANIMALS), rng, wanted)


def _few_codes(wanted: Wanted) -> list[str]:
    """The first codes of the split that share no word."""
    made = zip(words.COLOURS, words.ANIMALS, strict=False)
    return [" ".join(parts) for parts in made if split_of("code", *parts) == wanted.split][: wanted.values]


def _rules(rng: Random, wanted: Wanted) -> Draft:
    return _coloured("rules", words.PLACES, rng, wanted)


def _preferences(rng: Random, wanted: Wanted) -> Draft:
    return _coloured("preferences", words.OBJECTS, rng, wanted)


def _coloured(kind: str, keys: Sequence[str], rng: Random, wanted: Wanted) -> Draft:
    pairs = bindings(kind, keys, words.COLOURS[: wanted.values], wanted.count, wanted.split, rng)
    return _keyed(kind, pairs, len(words.COLOURS), rng, wanted)


def _labels(rng: Random, wanted: Wanted) -> Draft:
    """`count` labels, two or three examples each; every question is a new utterance."""
    split, count, style = wanted.split, wanted.count, wanted.style
    labels = words.LABELS[: wanted.values]
    pairs = bindings("labels", tuple(words.TOPIC_WORDS), labels, count, split, rng)
    shown: dict[str, list[str]] = {
        intent: [
            sentence("labels", utterance(intent, split, style, rng), label, style, rng)
            for _ in range(rng.choice((2, 3)) if count <= 4 else 2)
        ]
        for intent, label in pairs
    }
    lines = [line for examples in shown.values() for line in examples]
    rng.shuffle(lines)
    draft = Draft(lines, [], count, len(words.LABELS), count)
    for index in range(wanted.questions):
        intent, label = pairs[index % count]
        while True:
            asked = utterance(intent, split, style, rng)
            if not any(asked in line for line in lines) or not style.dressed:
                break
        draft.asked.append((question("labels", asked, style, rng), label, shown[intent], 0))
    return draft


def _topics(rng: Random, wanted: Wanted) -> Draft:
    """One place named more often than each of the others."""
    style = wanted.style
    chosen = rng.sample(words.PLACES[: wanted.values], min(wanted.count, 6))
    most = rng.choice((3, 4, 5))
    times = {place: most if index == 0 else rng.randint(1, most - 2) for index, place in enumerate(chosen)}
    lines = [sentence("topics", place, "", style, rng) for place, n in times.items() for _ in range(n)]
    rng.shuffle(lines)
    draft = Draft(lines, [], len(chosen), len(words.PLACES), len(chosen))
    wordings = range(min(wanted.questions, len(QUESTIONS["topics"][: style.templates])))
    evidence = [line for line in lines if f" {chosen[0]} " in line]
    draft.asked = [(f"question : {QUESTIONS['topics'][index]}", chosen[0], evidence, 0) for index in wordings]
    return draft


def _updates(rng: Random, wanted: Wanted) -> Draft:
    """Homes, about half of them moved once or twice later on; the newest holds."""
    style = wanted.style
    people = names(wanted.split, wanted.count, rng)
    history = _homes(people, rng, wanted.values)
    order = [person for person, homes in history.items() for _ in homes]
    rng.shuffle(order)
    left = {person: list(homes) for person, homes in history.items()}
    newest: dict[str, str] = {}
    lines = []
    for person in order:
        newest[person] = sentence("updates", person, left[person].pop(0), style, rng)
        lines.append(newest[person])
    seen = {city for homes in history.values() for city in homes}
    draft = Draft(lines, [], wanted.count, len(words.CITIES), len(seen))
    for index in range(wanted.questions):
        person = people[index % len(people)]
        homes = history[person]
        draft.asked.append(
            (question("updates", person, style, rng), homes[-1], [newest[person]], len(homes) - 1)
        )
    return draft


def _homes(people: list[str], rng: Random, values: int | None) -> dict[str, list[str]]:
    """Each person's homes in order; with few values one each, all different."""
    if values is not None:
        cities = rng.sample(words.CITIES[:values], len(people))
        return {person: [city] for person, city in zip(people, cities, strict=True)}
    history = {person: rng.sample(words.CITIES, rng.choice((1, 1, 2, 3))) for person in people}
    history[people[0]] = rng.sample(words.CITIES, 2)
    return history


_MAKERS = {
    "codes": _codes,
    "labels": _labels,
    "rules": _rules,
    "preferences": _preferences,
    "topics": _topics,
    "updates": _updates,
}


def length(line: str) -> int:
    """Tokens of a line: its words and its newline, every word being one token."""
    return len(line.split()) + 1


def _fill(lines: list[str], context_tokens: int, rng: Random, style: Style) -> None:
    """Put filler between the lines, at random places, up to about that many tokens."""
    total = sum(length(line) for line in lines)
    while True:
        filler = dress(rng.choice(words.FILLER), style, rng)
        total += length(filler)
        if total > context_tokens:
            return
        lines.insert(rng.randint(0, len(lines)), filler)


@dataclass(frozen=True)
class Drawing:
    """What training rows are drawn from: kinds and association counts, each equally often as listed.

    values: where given, answers are among the first so many of their kind and nothing is updated.
    """

    kinds: tuple[str, ...] = ("codes", "labels", "labels", "rules", "preferences", "topics", "updates")
    associations: tuple[int, ...] = (2, 3, 4, 4, 6, 8)
    questions: int = 12
    values: int | None = None


ANY_ROW = Drawing()


def training_row(rng: Random, longest: int = 240, drawing: Drawing = ANY_ROW) -> dict[str, Any]:
    """A row to train on, of 40 to `longest` tokens, or of `longest` where that is less."""
    kind = rng.choice(drawing.kinds)
    return make_row(
        kind,
        rng,
        split="train",
        context_tokens=rng.randint(min(40, longest), longest),
        associations=rng.choice(drawing.associations),
        questions=drawing.questions,
        values=drawing.values,
    )


def evaluation_rows(seed: int, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The evaluation episodes of a seed: each category at five context lengths, at most `limit` a category.

    Raises UserError for a seed outside the range kept for evaluation.
    """
    if seed not in EVAL_SEEDS:
        raise UserError(f"seed {seed} is not for evaluation: choose one from 0 to {EVAL_SEEDS[-1]}")
    for category, kinds in CATEGORY_KINDS.items():
        cases = [(kind, tokens) for tokens in LENGTHS for kind in kinds]
        if len(kinds) == 1:
            cases = cases * (4 if kinds[0] == "topics" else 2)
        for index, (kind, tokens) in enumerate(cases[:limit]):
            rng = Random(f"embedded/{GENERATOR_VERSION}/eval/{seed}/{category}/{index}")
            most = {64: 4, 128: 6}.get(tokens, 8)
            count = rng.choice([item for item in (2, 4, 6, 8) if item <= most])
            if kind == "labels" and tokens == 64:
                count = 2
            row = make_row(kind, rng, split="eval", context_tokens=tokens, associations=count)
            row["metadata"]["context_tokens"] = [tokens] * len(row["questions"])
            yield row


def all_words() -> list[str]:
    """Every word that can occur, each once, sorted."""
    texts = [*words.FIRST, *words.LAST, *words.COLOURS, *words.ANIMALS, *words.PLACES, *words.CITIES]
    texts += [
        *words.OBJECTS,
        *words.LABELS,
        *(item for topic in words.TOPIC_WORDS.values() for item in topic),
    ]
    from deltamem_eval.tasks.embedded.world import STATEMENTS, UTTERANCES

    templates = [
        *UTTERANCES,
        *words.OPENINGS,
        *words.CLOSINGS,
        *words.FILLER,
        "question : answer : reply : choice :",
    ]
    templates += [text for group in (STATEMENTS, QUESTIONS) for items in group.values() for text in items]
    texts += [word for text in templates for word in text.split() if not word.startswith("{")]
    return sorted(set(texts))
