"""A task that gives two questions or two contexts of a seed one id is refused before anything runs."""

from collections.abc import Iterator
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, Episode, Query, Task
from deltamem_eval.session import Request, make_job, make_task
from deltamem_eval.tokens import Counter


class Toy(Task):
    """A context for each pair of an id and its questions' ids."""

    name = "toy"
    summary = "a task of the test's own"

    def __init__(self, *contexts: tuple[str, tuple[str, ...]]) -> None:
        self._contexts = contexts

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        for name, asked in self._contexts:
            queries = tuple(Query(key, "Where?", ("Oslo",)) for key in asked)
            yield Episode(name, "ruler_qa", "accurate-retrieval", (Chunk("Oslo.", 0),), queries)

    def score(self, query: Query, answer: str) -> dict[str, float]:
        return {"accuracy": 0.0}

    def identity(self) -> dict[str, Any]:
        return {}


REQUEST = Request(methods=("vanilla",), task="toy", windows=(8,), seeds=(0, 1), controls=False)


@pytest.mark.parametrize(
    ("contexts", "words"),
    [
        (
            (("a", ("q1",)), ("b", ("q2", "q1"))),
            "^task toy gave 2 questions the id 'q1': each must have its own$",
        ),
        ((("a", ("q1", "q1")),), "gave 2 questions the id 'q1'"),
        ((("a", ("q1",)), ("a", ("q2",))), "^task toy gave 2 episodes the id 'a': each must have its own$"),
    ],
)
def test_a_repeated_id_is_refused(contexts: tuple[tuple[str, tuple[str, ...]], ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_job(REQUEST, Toy(*contexts), Counter("toy", 100))


def test_seeds_may_share_ids() -> None:
    job = make_job(REQUEST, Toy(("a", ("q1",)), ("b", ("q2",))), Counter("toy", 100))
    assert [query.id for query in job.queries] == ["q1", "q2"] * 2


def test_the_embedded_task_s_ids_are_its_own() -> None:
    request = Request(methods=("vanilla",), windows=(8,), limit=3)
    assert make_job(request, make_task(request), Counter("embedded", 4096)).cells
