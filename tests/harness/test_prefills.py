"""A context too long to stand whole beside a question is read once for each room that questions leave it."""

from collections.abc import Sequence

import pytest
from deltamem_eval.answering import Answered, CellWork
from deltamem_eval.backbone import Backbone, Prefix
from deltamem_eval.cells import Cell
from deltamem_eval.interface import Answer, Chunk, Episode, Query
from deltamem_eval.methods.prompt import PromptBuilder
from tiny import tiny_backbone

POSITIONS = 512
QUERIES = tuple(
    Query(f"q{number}", "Where is it? " * (1, 12, 23)[number % 3], ("Oslo",), 4, stop=())
    for number in range(9)
)
CONTEXT = tuple(Chunk(f"{number}. The town lies by a river.\n", number) for number in range(30))


def answered(backbone: Backbone) -> tuple[dict[str, Answer], list[str], int]:
    """Answers by question, the questions in the order in which they were answered, and prefills."""
    read: list[int] = []
    prefill = backbone.prefill

    def counted(ids: Sequence[int]) -> Prefix | None:
        read.append(len(ids))
        return prefill(ids)

    backbone.prefill = counted  # type: ignore[method-assign]
    work = CellWork(Cell("vanilla", "towns", 0, POSITIONS), backbone)
    episode = Episode("e", "towns", "accurate-retrieval", CONTEXT, QUERIES)
    batches = [event for event in work.ask(episode, QUERIES) if isinstance(event, Answered)]
    pairs = [pair for batch in batches for pair in zip(batch.queries, batch.answers, strict=True)]
    return dict(pairs), [name for name, _ in pairs], len(read)


def test_each_room_of_a_context_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = PromptBuilder(tiny_backbone(POSITIONS))
    rooms = {prompts.room(query) for query in QUERIES}
    assert len(rooms) == 3
    assert max(rooms) < sum(len(chunk.text) for chunk in CONTEXT)
    answers, order, read = answered(tiny_backbone(POSITIONS, batch_size=2))
    assert read == 3
    assert order == ["q0", "q3", "q6", "q1", "q4", "q7", "q2", "q5", "q8"]
    monkeypatch.setattr(CellWork, "_by_length", lambda _, queries: queries)
    as_given, order, read = answered(tiny_backbone(POSITIONS, batch_size=2))
    assert read == 9  # each anew
    assert order == [query.id for query in QUERIES]
    assert {name: answer.text for name, answer in answers.items()} == {
        name: answer.text for name, answer in as_given.items()
    }
    assert {name: answer.prompt_hash for name, answer in answers.items()} == {
        name: answer.prompt_hash for name, answer in as_given.items()
    }
