"""Contexts of an exact length in tokens, and a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from deltamem_eval.interface import Chunk, Query

WORDS_A_MESSAGE = 63
QUESTION_WORDS = 8
_TRIES = 200

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Workload:
    """A context in messages, a question with a forced number of answer tokens, and the context's tokens."""

    chunks: tuple[Chunk, ...]
    query: Query
    tokens: int


def workload(encode: Encode, tokens: int, decode: int, seed: int) -> Workload:
    """Lines of random words, together `tokens` tokens long, each line counted alone as methods do.

    A tokenizer that cannot reach the length to the token comes as close from below as it can; `tokens` of the
    result says how close.
    """
    from deltamem_eval.tasks.embedded.episodes import all_words

    words, rng = all_words(), Random(f"profile/{seed}")
    chunks: list[Chunk] = []
    left = tokens
    while left > 0:
        line = " " + " ".join(rng.choices(words, k=WORDS_A_MESSAGE)) + "\n"
        size = len(encode(line))
        if size > left:
            line = _line(encode, words, rng, left)
            size = len(encode(line))
        if not line:
            break
        chunks.append(Chunk(line, len(chunks)))
        left -= size
    question = " " + " ".join(rng.choices(words, k=QUESTION_WORDS))
    query = Query("question", question, (), max_new_tokens=decode, stop=())
    return Workload(tuple(chunks), query, tokens - left)


def _line(encode: Encode, words: list[str], rng: Random, tokens: int) -> str:
    """A line of at most so many tokens, as long as tries allow."""
    line = ""
    for _ in range(_TRIES):
        longer = f"{line} {rng.choice(words)}"
        size = len(encode(longer))
        if size <= tokens:
            line = longer
        if size == tokens:
            break
    return line
