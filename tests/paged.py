"""Runs on disk whose samples bring questions, contexts and prompts: what the page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import Chunk, Episode, Query
from deltamem_eval.store import RunStore, Sample

CATEGORIES = ("accurate-retrieval", "selective-forgetting")
METRICS = ("accuracy", "f1")


def episode(number: int, questions: int = 3, **more: Any) -> Episode:
    """Context `number`: a fact a line, and a question about each of the first of them."""
    lines = [f"fact {fact} of {number} is value{fact}.\n" for fact in range(8)]
    queries = [
        Query(f"e{number}/q{at}", f"what is fact {at}?", (f"value{at}",), metadata={"evidence": [lines[at]]})
        for at in range(questions)
    ]
    chunks = tuple(Chunk(line, index) for index, line in enumerate(lines))
    made = Episode(f"e{number}", f"source{number % 2}", CATEGORIES[number % 2], chunks, tuple(queries))
    return replace(made, **more)


@dataclass(frozen=True)
class Told:
    """What a method made of every question: answers and shown contexts by query, and its cell's fields."""

    method: str
    answers: Mapping[str, str]
    shown: Mapping[str, str | None]
    identity: Mapping[str, Any]
    effective: Mapping[str, Any]


def told(
    episodes: Sequence[Episode],
    method: str,
    right: Sequence[int] = (),
    shown: bool | Mapping[str, str | None] = True,
    answers: Mapping[str, str] | None = None,
    effective: Mapping[str, Any] | None = None,
    **identity: Any,
) -> Told:
    """A method that is right about the questions at these places among all, and says "no" to the others.

    shown: whether its prompts hold the context's end, or what they hold by query.
    """
    queries = [(item, query) for item in episodes for query in item.queries]
    said = {query.id: query.targets[0] if at in right else "no" for at, (_, query) in enumerate(queries)}
    texts = {query.id: item.context[-90:] if shown else None for item, query in queries}
    texts |= shown if isinstance(shown, Mapping) else {}
    return Told(method, said | dict(answers or {}), texts, identity, effective or {})


def sample_of(item: Episode, query: Query, answer: str) -> Sample:
    """A sample of that answer, scored by equality."""
    score = float(answer in query.targets)
    return Sample(
        episode=item.id,
        query=query.id,
        source=item.source,
        category=item.category,
        cluster=hash_text(item.context),
        status="ok",
        answer=answer,
        targets=list(query.targets),
        metrics=dict.fromkeys(METRICS, score),
        target_hash=hash_json(list(query.targets)),
        prompt_tokens=20,
        new_tokens=3,
        context_tokens=12,
        evidence=0.5,
        gold_visible=1.0,
        write_seconds=0.25,
        answer_seconds=0.0125,
        memory_bytes={"text": 100, "state": 2048},
    )


def write_paged(
    folder: Path, episodes: Sequence[Episode], methods: Sequence[Told], stored: bool = True
) -> Path:
    """A finished run of those methods. stored: whether it keeps contexts and prompts, as runs do."""
    store = RunStore.open(folder, {"model": "tiny", "options": {"a": [1, True]}}, {})
    for item in methods:
        plain: dict[str, Any] = {
            "method": item.method,
            "control": None,
            "task": "toy",
            "data": {"generator": 1},
            "weights": "w",
            "model": "tiny",
            "dtype": "float32",
            "window": 8,
            "seed": 0,
            "limit": None,
        }
        place = store.cell(plain | item.identity)
        if stored:
            store.keep_contexts(episodes)
        for context in episodes:
            samples = [sample_of(context, query, item.answers[query.id]) for query in context.queries]
            asked = {query.id: item.shown[query.id] for query in context.queries}
            place.append(samples, asked if stored else None)
        place.finish({"overhead": {"trainable": 25, "stored": 30, "backbone": 1000}, **item.effective})
    store.close()
    return folder
