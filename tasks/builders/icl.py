"""Rows of in-context learning: labelled utterances, then new ones to label, as MemoryAgentBench has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import EMPTY, Built, Settings, key
from deltamem_eval.tasks.builders.corpora import Corpus, Example
from deltamem_eval.tasks.memory_agent_bench.rows import Row

BUILDER_VERSION = 1


@dataclass(frozen=True)
class HeldOut:
    """Questions that may be asked, and how many were left out, by reason."""

    examples: tuple[Example, ...]
    in_training: int
    repeated: int
    unlabelled: int

    def notes(self) -> list[str]:
        """What was left out, a line a reason."""
        reasons = (
            (self.in_training, "stand in the training set"),
            (self.repeated, "repeat another held-out utterance"),
            (self.unlabelled, "have a label that the training set lacks"),
        )
        return [f"{count} held-out utterances left out: they {why}" for count, why in reasons if count]


def held_out(corpus: Corpus) -> HeldOut:
    """The held-out utterances that stand, as words, nowhere in the training set and once among themselves."""
    seen = {key(example.text) for example in corpus.train}
    labels = {example.label for example in corpus.train}
    kept: dict[str, Example] = {}
    left: Counter[str] = Counter()
    for example in corpus.held_out:
        words = key(example.text)
        if words in seen:
            left["in_training"] += 1
        elif words in kept:
            left["repeated"] += 1
        elif example.label not in labels:
            left["unlabelled"] += 1
        else:
            kept[words] = example
    return HeldOut(tuple(kept.values()), left["in_training"], left["repeated"], left["unlabelled"])


def build(stem: str, corpus: Corpus, settings: Settings) -> Built:
    """One row a seed, source `icl_{stem}_{shots}shot_balance`.

    All rows get the same number of shots, the least that the budget holds for any of the seeds, so that they
    are one source. Raises UserError for too few held-out utterances, or a budget too small for one shot a
    label.
    """
    pool = held_out(corpus)
    if len(pool.examples) < settings.questions:
        raise UserError(
            f"{stem}: {settings.questions} questions asked for, but only {len(pool.examples)} held-out "
            "utterances stand outside the training set"
        )
    drafts = [_draft(stem, corpus.train, settings, seed) for seed in settings.seeds]
    shots = min(len(draft.shots) for draft in drafts)
    rows = [_row(stem, draft, shots, pool.examples, settings.questions) for draft in drafts]
    notes = pool.notes()
    repeats = max(row["metadata"]["shots_repeated"] for row in rows)
    if repeats:
        notes.append(
            f"up to {repeats} shots a row repeat an utterance, so that labels with few stay balanced"
        )
    return Built(rows, notes)


@dataclass(frozen=True)
class _Draft:
    """A seed's shots, as many as the budget holds, and its number for each label's name."""

    seed: int
    number: dict[str, int]
    shots: list[str]


def _random(stem: str, seed: int, part: str) -> Random:
    return Random(f"icl/{BUILDER_VERSION}/{stem}/{seed}/{part}")


def _draft(stem: str, train: Sequence[Example], settings: Settings, seed: int) -> _Draft:
    names = sorted({example.label for example in train})
    numbers = list(range(len(names)))
    _random(stem, seed, "labels").shuffle(numbers)
    number = dict(zip(names, numbers, strict=True))
    return _Draft(seed, number, _shots(stem, train, number, settings, _random(stem, seed, "shots")))


def _row(stem: str, draft: _Draft, count: int, pool: Sequence[Example], questions: int) -> Row:
    number, shots = draft.number, draft.shots[:count]
    asked = _random(stem, draft.seed, "questions").sample(list(pool), questions)
    source = f"icl_{stem}_{count}shot_balance"
    return {
        "context": "".join(shots),
        "questions": [example.text for example in asked],
        "answers": [[str(number[example.label])] for example in asked],
        "metadata": {
            **dict.fromkeys(EMPTY),
            "source": source,
            "qa_pair_ids": [f"{source}_no{index}" for index in range(questions)],
            "chance": [1 / len(number)] * questions,
            "associations": [len(number)] * questions,
            "label_names": sorted(number, key=number.__getitem__),
            "shots_repeated": count - len(set(shots)),
            "seed": draft.seed,
        },
    }


def _shots(
    stem: str, train: Sequence[Example], number: dict[str, int], settings: Settings, rng: Random
) -> list[str]:
    """Pairs of lines within the budget, rounds of one a label; no label is ahead by more than one.

    Tokens are added up pair by pair and checked on the whole, which a tokenizer may take otherwise.
    """
    shots: list[str] = []
    used = 0
    for example in _rounds(train, rng):
        shot = f"{example.text}\nlabel: {number[example.label]}\n"
        used += settings.count(shot)
        if used > settings.tokens:
            break
        shots.append(shot)
    while shots and (over := settings.count("".join(shots)) - settings.tokens) > 0:
        del shots[-max(1, over * len(shots) // (2 * settings.tokens)) :]
    if len(shots) < len(number):
        raise UserError(
            f"{stem}: {settings.tokens} tokens hold {len(shots)} shots, fewer than one for each of "
            f"{len(number)} labels: raise --tokens"
        )
    return shots


def _rounds(train: Sequence[Example], rng: Random) -> Iterator[Example]:
    """Without end, one utterance of each label in an order of its own each round.

    A label's utterances come in shuffled order, from the start again once all were shown: the benchmark's
    balanced contexts are larger than some labels' training sets, too.
    """
    groups = _grouped(train)
    orders = {label: _cycle(texts, rng) for label, texts in groups.items()}
    while True:
        labels = list(orders)
        rng.shuffle(labels)
        for label in labels:
            yield Example(next(orders[label]), label)


def _cycle(texts: list[str], rng: Random) -> Iterator[str]:
    while True:
        rng.shuffle(texts)
        yield from texts


def _grouped(examples: Iterable[Example]) -> dict[str, list[str]]:
    """Each label's different utterances, labels sorted."""
    groups: dict[str, dict[str, str]] = {}
    for example in examples:
        groups.setdefault(example.label, {}).setdefault(key(example.text), example.text)
    return {label: list(texts.values()) for label, texts in sorted(groups.items())}
