"""MemoryBank's search, neighbours, forgetting and days against what they must be by hand."""

import math
from random import Random

import pytest
import torch
from deltamem_eval.decoding import Continuation, Request
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.memorybank.bank import SUMMARY, TURN, Bank, Piece, retention
from deltamem_eval.methods.memorybank.embed import BackboneEmbedder
from deltamem_eval.methods.memorybank.method import MemoryBank
from deltamem_eval.methods.memorybank.summaries import Summaries, Summariser
from tiny import tiny_backbone


def bank(*pieces: tuple[str, int, str]) -> Bank:
    made = Bank()
    for index, (kind, day, text) in enumerate(pieces):
        made.add(Piece(kind, day, text, recalled=day), torch.tensor([float(index), 0.0]))
    return made


def test_nearest_by_distance_and_earlier_first() -> None:
    made = bank((TURN, 0, "a"), (TURN, 0, "b"), (TURN, 0, "c"))
    assert made.nearest(torch.tensor([1.0, 0.0]), 3) == [1, 0, 2]
    assert made.nearest(torch.tensor([9.0, 0.0]), 1) == [2]
    assert Bank().nearest(torch.tensor([0.0]), 3) == []


def test_neighbours_are_of_the_same_day_and_within_the_length() -> None:
    made = bank(
        (TURN, 0, "x" * 10), (TURN, 1, "y" * 10), (TURN, 1, "z" * 10), (SUMMARY, 1, "s"), (TURN, 1, "w" * 10)
    )
    assert made.around(1, 200) == [1, 2, 4]
    assert made.around(2, 20) == [1, 2]
    assert made.around(2, 10) == [2]
    assert made.around(3, 200) == [3]


def test_retention_of_the_paper_and_of_the_code() -> None:
    assert retention(2, 4, "paper") == pytest.approx(math.exp(-0.5))
    assert retention(2, 4, "code") == pytest.approx(math.exp(-1.6))
    assert retention(0, 1, "paper") == 1.0


def test_forgetting_drops_the_share_that_retention_says() -> None:
    made = bank(*((TURN, 0, str(index)) for index in range(4000)))
    made.recall(range(2000), 0)  # strength 2
    gone = made.forget(1, "paper", Random(0))
    weak = sum(piece.strength == 1 for piece in made.pieces)
    assert weak / 2000 == pytest.approx(math.exp(-1), abs=0.04)
    assert (4000 - gone - weak) / 2000 == pytest.approx(math.exp(-0.5), abs=0.04)
    assert len(made.pieces) == len(made.vectors) == 4000 - gone


def test_an_embedding_does_not_depend_on_its_neighbours() -> None:
    embed = BackboneEmbedder(tiny_backbone())
    together = embed(["one", "a much longer second text", "three"])
    assert torch.allclose(together.norm(dim=-1), torch.ones(3))
    for text, vector in zip(["one", "a much longer second text", "three"], together, strict=True):
        assert torch.allclose(embed([text])[0], vector, atol=1e-5)


def method(window: int = 200, **options: object) -> MemoryBank:
    return MemoryBank(tiny_backbone(), MethodSettings(window, options=options))


def test_the_text_asked_for_is_retrieved_with_its_day_in_order() -> None:
    made = method(summaries="none", neighbour_chars=0, top_k=2)
    texts = ["the amber gate is 3\n", "zzzz qqqq xxxx\n", "0123456789\n"]
    for index, text in enumerate(texts):
        made.write(Chunk(text, index, session=f"2024-01-0{3 + index}"))
    (answer,) = made.answer([Query("q", texts[0], ("3",), metadata={"question": texts[0]})])
    assert answer.visible is not None
    assert answer.visible.startswith(f"Conversation on 2024-01-03:\n{texts[0]}Conversation on 2024-01-0")


def test_a_day_s_date_stands_once_above_its_turns_and_counts_in_the_budget() -> None:
    texts = [f"the amber gate is {number}\n" for number in range(3)]
    query = Query("q", texts[0], ("3",), metadata={"question": texts[0]})
    heading = "Conversation on 2024-01-03:\n"
    for window, wanted in (
        (200, heading + texts[0] + texts[1]),
        (len(heading + texts[0]), heading + texts[0]),
    ):
        made = method(window, summaries="none", neighbour_chars=0, top_k=2)
        for index, text in enumerate(texts[:2]):
            made.write(Chunk(text, index, session="2024-01-03"))
        (answer,) = made.answer([query])
        assert answer.visible == wanted
    made = method(200, summaries="none", neighbour_chars=0, top_k=1)
    made.write(Chunk(texts[0], 0))
    assert made.answer([query])[0].visible == texts[0], "no date is made up"


def test_days_come_from_dates_sessions_or_chunks() -> None:
    made = method(summaries="none", session_tokens=10)
    for index, session in enumerate(["2024-02-28", "2024-02-28", "2024-03-01"]):
        made.write(Chunk("x", index, session=session))
    assert made._days() == [0, 0, 2]
    made.reset()
    for index, session in enumerate(["one", "one", "two"]):
        made.write(Chunk("x", index, session=session))
    assert made._days() == [0, 0, 1]
    made.reset()
    for index in range(4):
        made.write(Chunk("12345", index))
    assert made._days() == [0, 0, 1, 1], "lines share a day"
    made.reset()
    for index, length in enumerate([25, 3, 3, 12, 9]):
        made.write(Chunk("x" * length, index))
    assert made._days() == [0, 1, 1, 1, 2], "a chunk is a day, however long"
    made.reset()
    for index, session in enumerate(["one", "two", "one"]):
        made.write(Chunk("x", index, session=session))
    assert made._days() == [0, 1, 1], "a day never falls"


def test_summaries_are_written_once_a_day_and_shown() -> None:
    made = method(session_tokens=20, summary_tokens=6, window=400)
    for index in range(4):
        made.write(Chunk(f"fact {index} of day\n", index))
    made.snapshot()
    made.answer([Query("q", "fact", ("x",))])
    days = len(set(made._days()))
    assert made._summarise.calls <= 2 * days + 2
    before = made._summarise.calls
    made.answer([Query("q", "other", ("x",))])
    assert made._summarise.calls == before
    bank, summaries = made._settle()
    shown = [piece for piece in bank.pieces if piece.kind == SUMMARY]
    assert len(shown) == sum(bool(text.strip()) for text in summaries.days.values())


def test_summaries_of_several_lines_are_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    backbone.tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    asked: list[Request] = []

    def generate(requests: list[Request]) -> list[Continuation]:
        asked.extend(requests)
        return [Continuation("\nIn short:\n\n- Ann moved to Oslo\n", 9) for _ in requests]

    monkeypatch.setattr(backbone, "generate", generate)
    made = Summariser(backbone, 40)({0: "Ann: I live in Oslo now\n"})
    assert made.days[0] == made.portrait == "In short:\n\n- Ann moved to Oslo"
    assert all(request.stop == () for request in asked)
    text = backbone.decode(list(asked[0].ids))
    assert text.startswith("<Ann: I live in Oslo now\n")
    assert text.endswith(">")


def test_a_backbone_without_a_chat_template_stops_at_an_empty_line_and_reads_a_day_s_end() -> None:
    backbone = tiny_backbone(positions=128)
    asked: list[Request] = []
    generate = backbone.generate
    backbone.generate = lambda requests: asked.extend(requests) or generate(requests)
    Summariser(backbone, 40)({0: "0123456789" * 30 + "end\n"})
    assert {request.stop for request in asked} == {("\n\n",)}
    assert len(asked[0].ids) == 128 - 16
    assert "end\n\nThe events" in backbone.decode(list(asked[0].ids))


def test_forgetting_is_seeded_and_leaves_less() -> None:
    def left(seed: int) -> list[str]:
        made = MemoryBank(
            tiny_backbone(), MethodSettings(200, seed, options={"forgetting": True, "summaries": "none"})
        )
        for index in range(40):
            made.write(Chunk(f"turn number {index}\n", index, session=f"2024-01-{index // 4 + 1:02d}"))
        return [piece.text for piece in made._settle()[0].pieces]

    assert left(0) == left(0) != left(1)
    assert len(left(0)) < 40
    assert "turn number 39\n" in left(0)


def shown(made: MemoryBank, question: str) -> list[str]:
    (answer,) = made.answer([Query("q", question, ("x",), metadata={"question": question})])
    assert answer.visible is not None
    return answer.visible.splitlines()


@pytest.mark.parametrize("neighbours", [0, 200])
def test_the_window_is_filled_unless_a_number_is_asked_for(neighbours: int) -> None:
    lines = [f"turn number {index:02d}\n" for index in range(30)]
    filled, two = (method(100, summaries="none", neighbour_chars=neighbours, top_k=most) for most in (0, 2))
    for made in (filled, two):
        for index, line in enumerate(lines):
            made.write(Chunk(line, index))
    found = shown(filled, lines[7])
    assert len(found) == 100 // len(lines[0])
    assert lines[7].strip() in found
    assert found == sorted(found)
    if not neighbours:
        assert len(shown(two, lines[7])) == 2


def test_what_is_said_of_the_whole_has_its_place_beside_what_fills_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = method(100, neighbour_chars=0)
    for index in range(30):
        made.write(Chunk(f"turn number {index:02d}\n", index))
    monkeypatch.setattr(
        made, "_summarise", lambda days: Summaries(dict.fromkeys(days, ""), {}, "history", "portrait")
    )
    found = shown(made, "turn number 07")
    assert found[:2] == ["portrait", "history"]
    assert len(found) == 2 + (100 - len("portrait\nhistory\n")) // len("turn number 07\n")


def test_summaries_are_forgotten_as_turns_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method(200, forgetting=True)
    for index in range(40):
        made.write(Chunk(f"turn number {index}\n", index, session=f"day {index}"))
    monkeypatch.setattr(
        made,
        "_summarise",
        lambda days: Summaries({day: f"summary {day}" for day in days}, {}, "", ""),
    )
    kept = [piece.day for piece in made._settle()[0].pieces if piece.kind == SUMMARY]
    assert kept[-1] == 39, "the last day's is new"
    assert len(kept) < 20
    made = method(200)
    for index in range(5):
        made.write(Chunk(f"turn number {index}\n", index, session=f"day {index}"))
    monkeypatch.setattr(
        made, "_summarise", lambda days: Summaries({day: f"summary {day}" for day in days}, {}, "", "")
    )
    assert sum(piece.kind == SUMMARY for piece in made._settle()[0].pieces) == 5


def test_bad_options() -> None:
    with pytest.raises(UserError, match="summaries of memorybank must be backbone or none"):
        method(summaries="maybe")
    with pytest.raises(UserError, match=r"sentence-transformers|cannot load the embedder"):
        method(embedder="no/such-embedder")
