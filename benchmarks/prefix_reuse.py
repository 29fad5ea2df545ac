"""One context, many questions: reading it once against re-reading it for every question."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

from common import Row, Wrong, held_against, rounds, standalone
from deltamem_eval.interface import Chunk, MemoryMethod, Query
from models import backbone, method, questions, read, text

TOKENS, NEW_TOKENS = 4096, 4
REPEATS = 2  # a round reads the context for every question of every method
TARGETS = {50: 10.0, 100: 30.0}  # reading once against reading anew, by the number of questions


def once(found: MemoryMethod, chunks: list[Chunk], asked: list[Query]) -> list[str]:
    """The harness's way: written once, all questions from the same memory and prefix."""
    read(found, chunks)
    return [answer.text for answer in found.answer(asked)]


def again(found: MemoryMethod, chunks: list[Chunk], asked: list[Query]) -> list[str]:
    """The plain way: the context is read anew for every question."""
    answers = []
    for query in asked:
        read(found, chunks)
        answers.append(found.answer([query])[0].text)
    return answers


def rows() -> Iterator[Row]:
    """Check that both ways answer the same, and not everything alike; then time them."""
    rng = Random(0)
    made, chunks = backbone(), text(TOKENS, rng)
    asked = questions(max(TARGETS), NEW_TOKENS, rng)
    for name in ("vanilla", "token-write"):
        with method(name, made, TOKENS) as found:
            answers = once(found, chunks, asked)
            if answers != again(found, chunks, asked):
                raise Wrong(f"{name}: answers differ")
            if len(set(answers)) < len(asked) // 2:
                raise Wrong(f"{name}: {len(set(answers))} distinct answers to {len(asked)} questions")
            for count, target in TARGETS.items():
                size = f"{name}, {TOKENS} tokens, {count} questions"
                ways = {f"read anew: {size}": again, f"read once: {size}": once}
                work = {case: partial(way, found, chunks, asked[:count]) for case, way in ways.items()}
                yield from held_against(
                    "prefix_reuse",
                    rounds(work, REPEATS),
                    next(iter(work)),
                    metric="speed",
                    unit="questions/s",
                    amount=count,
                    targets=dict.fromkeys(work, target),
                )


if __name__ == "__main__":
    standalone("prefix_reuse", rows)
