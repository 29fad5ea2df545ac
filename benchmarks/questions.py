"""End to end: questions a second of whole episodes on the embedded backbone, writing included.

Every method that ships with weights or needs none, against vanilla at the same window. The check: a second
pass over the episodes gives the first one's answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from common import Row, Wrong, held_against, rounds, standalone
from deltamem_eval.backbone import embedded_folder, load_backbone
from deltamem_eval.interface import Episode, MemoryMethod, MethodSettings
from deltamem_eval.registry import METHODS
from deltamem_eval.tasks.embedded.task import EmbeddedTask
from models import read

NAMES = ("vanilla", "bm25-rag", "token-write", "sequence-write", "multi-write")
WINDOW, EPISODES = 64, 2  # a category
REPEATS = 9


def answers(found: MemoryMethod, episodes: list[Episode]) -> list[str]:
    """Every episode written into an empty memory, and its questions answered."""
    given = []
    for episode in episodes:
        read(found, list(episode.chunks))
        given += [answer.text for answer in found.answer(episode.queries)]
    return given


def rows() -> Iterator[Row]:
    """Check that answers repeat; then let all methods take turns, each on a backbone of its own."""
    episodes = list(EmbeddedTask().episodes(0, EPISODES))
    asked = sum(len(episode.queries) for episode in episodes)
    with ExitStack() as stack:
        work = {}
        for name in NAMES:
            kind = METHODS.load(name)
            adapter = str(embedded_folder() / name) if kind.trained else None
            found = kind(load_backbone("embedded", "cpu", "float32"), MethodSettings(WINDOW, adapter=adapter))
            stack.callback(found.close)
            if answers(found, episodes) != answers(found, episodes):
                raise Wrong(f"{name}: a second pass answers otherwise")
            work[f"{name}: window {WINDOW}"] = partial(answers, found, episodes)
        seconds = rounds(work, REPEATS)
    yield from held_against(
        "questions", seconds, next(iter(work)), metric="speed", unit="questions/s", amount=asked
    )


if __name__ == "__main__":
    standalone("questions", rows)
