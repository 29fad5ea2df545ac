"""Long texts cut into passages, and methods that would otherwise show nothing of them."""

import re

import pytest
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods import bm25_rag
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.memorybank.method import MemoryBank
from deltamem_eval.methods.passages import fitting, passages_of
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_backbone


@given(st.text(alphabet="ab .!\n\u2028é", max_size=120), st.integers(1, 40))
def test_passages_are_a_partition_and_none_is_too_long(text: str, most: int) -> None:
    passages = passages_of(text, most, len)
    assert "".join(passages) == text
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    words = [word for line in lines for word in re.findall(r"\s*\S+\s*|\s+", line)]
    longest = max(map(len, words), default=0)
    assert all(len(passage) <= max(most, longest) for passage in passages)


def test_lines_stay_whole_before_sentences_and_sentences_before_words() -> None:
    text = "One is. Two is.\nThree four five six.\n"
    assert passages_of(text, 21, len) == ["One is. Two is.\n", "Three four five six.\n"]
    assert passages_of(text, 15, len) == ["One is. ", "Two is.\n", "Three four ", "five six.\n"]


def test_what_fits_the_window_stays_as_it_is() -> None:
    text = "one two three. four five six.\n"
    assert fitting(text, len(text), len) == fitting(text, 0, len) == [text]
    assert len(fitting(text, len(text) - 1, len)) > 1


@pytest.mark.parametrize("kind", [Bm25Rag, MemoryBank])
def test_a_chunk_longer_than_the_window_is_shown_in_part(kind: type[Bm25Rag] | type[MemoryBank]) -> None:
    options = {"summaries": "none"} if kind is MemoryBank else {}
    method = kind(tiny_backbone(512), MethodSettings(120, options=options))
    turns = [" ".join(f"the gate number {n} is {n * n}." for n in range(a, a + 12)) for a in (1, 20)]
    for index, turn in enumerate(turns):
        assert len(turn) > 200
        method.write(Chunk(turn + "\n", index))
    question = "the gate number 23 is"
    (answer,) = method.answer([Query("q", question, ("529",), metadata={"question": question})])
    assert answer.status == "ok"
    assert answer.visible
    assert len(answer.visible) <= 120
    if kind is Bm25Rag:
        assert "number 23 is 529." in answer.visible


def bm25(window: int, **options: object) -> Bm25Rag:
    return Bm25Rag(tiny_backbone(2048), MethodSettings(window, options=options))


def asked(method: Bm25Rag, question: str) -> str:
    (answer,) = method.answer([Query("q", question, ("x",), metadata={"question": question})])
    assert answer.visible is not None
    return answer.visible


def test_bm25_fills_the_window_unless_a_number_is_asked_for() -> None:
    lines = [f"the gate number {number:03d} is shut\n" for number in range(60)]
    for most, count in ((0, 1000 // len(lines[0])), (10, 10)):
        method = bm25(1000, passage_tokens=len(lines[0]), top_k=most)
        for index, line in enumerate(lines):
            method.write(Chunk(line, index))
        shown = asked(method, "number 007 is")
        assert shown.count("\n") == count
        assert lines[7] in shown


def test_a_passage_is_never_longer_than_the_window() -> None:
    method = bm25(60, passage_tokens=512)
    for number in range(20):
        method.write(Chunk(f"the gate number {number:03d} is shut\n", number))
    assert "the gate number 007 is shut\n" in asked(method, "number 007 is")


def test_a_passage_lies_in_one_session_and_tells_its_date() -> None:
    method = bm25(200, passage_tokens=90)
    for index in range(9):
        day = "2023-05-07" if index < 5 else "2023-05-08"
        method.write(Chunk(f"Ann: gate {index} is shut, they say\n", index, session=day))
    heading = "Conversation on 2023-05-0{}:\n"
    assert [text.split("Ann")[0] for text in method._texts] == ["", heading.format(7), "", heading.format(8)]
    assert [text.count("Ann") for text in method._texts] == [3, 2, 3, 1]
    assert all(method._length(text) == size for text, size in zip(method._texts, method._sizes, strict=True))
    assert f"{heading.format(7)}Ann: gate 3" in asked(method, "gate 4 is")
    half = bm25(200, passage_tokens=90)
    half.restore(method.snapshot())
    for made in (method, half):
        made.write(Chunk("Ann: gate 9 is shut\n", 9, session="2023-05-08"))
    assert half._texts == method._texts
    plain = bm25(200, passage_tokens=90)
    for index in range(9):
        plain.write(Chunk(f"Ann: gate {index} is shut, they say\n", index))
    assert "Conversation" not in "".join(plain._texts)


NESTED = (
    "the gate stands by the old mill\n",
    "amber birch cedar stand by the mill\n",
    "dune lies by the mill\n",
    "the road runs by the old mill\n",
    "amber birch trees stand by the mill\n",
    "the well lies by the old mill\n",
    "amber trees stand by the old mill\n",
    "dune grass grows along the long road by the mill\n",
    "the barn stands by the old mill\n",
)


def nested() -> Bm25Rag:
    """Each line a passage of its own."""
    method = bm25(60, passage_tokens=1)
    for index, line in enumerate(NESTED):
        method.write(Chunk(line, index))
    return method


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("amber birch cedar", [1, 4, 6]),  # more of the words, and rarer ones
        ("dune", [2, 7]),  # the shorter passage
        ("grass", [7]),
        ("nothing of it", []),
    ],
)
def test_many_passages_are_ranked_by_bm25s_as_few_are(
    question: str, best: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = nested()
    shown = asked(few, question)
    monkeypatch.setattr(bm25_rag, "_LARGE", 3)
    many = nested()
    assert asked(many, question) == shown
    assert all(NESTED[index] in shown for index in best[:1])
    indices = [method._settle() for method in (few, many)]
    assert [(made._okapi is None, made._sparse is None) for made in indices] == [(False, True), (True, False)]
    rest = [index for index in range(len(NESTED))[::-1] if index not in best]
    for made in indices:
        assert made.rank(question.split()) == best + rest
