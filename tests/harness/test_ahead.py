"""Texts encoded before they are asked for."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from deltamem_eval.ahead import Ahead
from deltamem_eval.backbone import embedded_folder
from tiny import byte_tokenizer, tiny_backbone
from transformers import AutoTokenizer

TEXTS = ["", "Ann keeps 7.\n", " Bo, é 漢\n\n", "Ann keeps 7.\n", "x" * 5000]


def tokenizers() -> list[Callable[[], Any]]:
    return [byte_tokenizer, lambda: AutoTokenizer.from_pretrained(embedded_folder() / "backbone")]


@pytest.mark.parametrize("make", tokenizers())
def test_announced_texts_have_the_ids_they_have_alone(make: Callable[[], Any]) -> None:
    tokenizer = make()
    ahead = Ahead(tokenizer)
    alone = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    assert [ahead.encode(text) for text in TEXTS] == alone
    ahead.announce(TEXTS)
    assert [ahead.encode(text) for text in TEXTS] == alone
    ahead.encode(TEXTS[1]).append(99)
    assert ahead.encode(TEXTS[1]) == alone[1], "a caller may change the list it is given"


class Recorder:
    """A tokenizer that notes what it encodes and on which thread; a copy notes in the same place."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def __deepcopy__(self, _: object) -> "Recorder":
        other = Recorder()
        other.seen = self.seen
        return other

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        self.seen.append((text, threading.current_thread() is threading.main_thread()))
        return [len(text)]

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [self.encode(text, add_special_tokens) for text in texts]}


def test_the_last_two_announcements_are_encoded_once_and_by_the_thread() -> None:
    tokenizer = Recorder()
    ahead = Ahead(tokenizer)
    for texts in (["a"], ["b", "bb"], ["ccc"]):
        ahead.announce(texts)
    assert [ahead.encode(text) for text in ("b", "bb", "ccc", "b")] == [[1], [2], [3], [1]]
    assert tokenizer.seen == [("a", False), ("b", False), ("bb", False), ("ccc", False)]
    assert ahead.encode("a") == [1]
    assert tokenizer.seen[-1] == ("a", True), "forgotten, so encoded where it is asked for"


def test_what_was_announced_last_is_not_encoded_again() -> None:
    tokenizer = Recorder()
    ahead = Ahead(tokenizer)
    ahead.announce(["a", "b"])
    ahead.announce(["b"])
    ahead.wait()
    assert tokenizer.seen == [("a", False), ("b", False)]
    assert ahead.encode("a") == [1]
    assert len(tokenizer.seen) == 2


def test_what_the_thread_raises_is_raised_where_the_text_is_asked_for() -> None:
    class Broken(Recorder):
        def __deepcopy__(self, _: object) -> "Recorder":
            return self

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            raise ValueError("no such token")

    ahead = Ahead(Broken())
    ahead.announce(["a"])
    with pytest.raises(ValueError, match="no such token"):
        ahead.wait()
    with pytest.raises(ValueError, match="no such token"):
        ahead.encode("a")


def test_a_context_is_encoded_for_its_first_announcement_only() -> None:
    tokenizer = Recorder()
    ahead = Ahead(tokenizer)
    for _ in range(2):
        ahead.announce(["one", "two"], "onetwo")
        ahead.announce(["three"])
        ahead.wait()
    assert [text for text, _ in tokenizer.seen] == ["one", "two", "onetwo", "three", "one", "two", "three"]


def test_a_backbone_waits_for_what_it_announced() -> None:
    backbone = tiny_backbone()
    backbone.announce(["one", "two"], "onetwo", wait=True)
    assert backbone._ahead._kept[-1].made.done()
    assert backbone.length("onetwo") == 6
