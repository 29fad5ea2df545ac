"""The window's ids, and the texts and lengths that many questions share, are made once."""

from collections import Counter

import pytest
from deltamem_eval.interface import Chunk, MethodSettings, Query
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.methods.window import Window
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_backbone

BACKBONE = tiny_backbone()


@given(st.lists(st.text(alphabet="abc", max_size=9), max_size=12), st.integers(0, 15), st.integers(0, 20))
def test_the_end_of_all_that_came_is_kept(texts: list[str], size: int, count: int) -> None:
    window, seen = Window(BACKBONE, size), []
    for index, text in enumerate(texts):
        seen += window.add(Chunk(text, index))
        assert window.ids == (seen[-size:] if size else [])
        assert window.seen == len(seen)
        last = min(count, size)
        assert window.last(count) == (seen[-last:] if last else [])


def test_ids_are_put_back_and_never_shared() -> None:
    window, kept = Window(BACKBONE, 3), [7, 8, 9]
    window.ids = kept
    window.ids.append(5)
    assert window.add(Chunk("ab", 0)) == BACKBONE.encode("ab")
    assert window.ids == [9, *BACKBONE.encode("ab")]
    assert kept == [7, 8, 9]


def test_a_window_is_not_copied_for_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: Counter = Counter()
    real = Window.last
    monkeypatch.setattr(Window, "last", lambda *given: (copies.update([1]), real(*given))[1])
    window = Window(BACKBONE, 100)
    for index in range(1000):
        window.add(Chunk("a", index))
    assert 5 <= copies[1] <= 10


def test_the_visible_text_is_decoded_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, seen = tiny_backbone(), Counter()
    method = Vanilla(backbone, MethodSettings(40))
    for index in range(9):
        method.write(Chunk(f"line {index}.\n", index))
    real = backbone.decode
    monkeypatch.setattr(backbone, "decode", lambda ids: (seen.update([tuple(ids)]), real(ids))[1])
    snapshot = method.snapshot()
    for number in range(3):
        method.restore(snapshot)
        (answer,) = method.answer([Query(f"q{number}", f"what {number}?", ("x",), 2)])
        assert answer.visible == real(method._window.ids)
    assert seen[tuple(method._window.ids)] == 1
    method.write(Chunk("another end.\n", 9))
    assert method.answer([Query("q", "what?", ("x",), 2)])[0].visible.endswith("another end.\n")
    method.reset()
    assert method.answer([Query("q", "what?", ("x",), 2)])[0].visible is None


def test_retrieval_looks_at_no_more_passages_than_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, seen = tiny_backbone(), []
    method = Bm25Rag(backbone, MethodSettings(200, options={"top_k": 2, "passage_tokens": 20}))
    for index in range(30):
        method.write(Chunk(f"the box {index} is here\n", index))
    monkeypatch.setattr(backbone, "length", lambda text: (seen.append(text), len(text))[1])
    query = Query("q", "where is 17", ("x",), 2)
    (answer,) = method.answer([query])
    assert answer.visible.count("\n") == 2
    assert "the box 17 is here\n" in answer.visible
    assert len(seen) == 2
