"""Long texts cut into passages, and methods that would otherwise show nothing of them."""

import re

import pytest
from deltamem_eval.interface import Chunk, MethodSettings, Query
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
