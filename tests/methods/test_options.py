"""Options of methods: what is taken for what, and numbers that no method can work with."""

from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.interface import MemoryMethod, MethodSettings
from deltamem_eval.methods.bm25_rag import Bm25Rag
from deltamem_eval.methods.context2lora.method import Context2Lora
from deltamem_eval.methods.memorybank.method import MemoryBank
from deltamem_eval.methods.options import merge_options
from tiny import tiny_backbone


def test_a_whole_number_is_a_number() -> None:
    made = merge_options(
        "toy", {"weight": 0.25, "name": "x", "count": 3, "on": True}, {"weight": 0, "name": 7}
    )
    assert made == {"weight": 0.0, "name": "7", "count": 3, "on": True}
    assert type(made["weight"]) is float


@pytest.mark.parametrize(
    "given", [{"weight": True}, {"weight": "1"}, {"count": 1.0}, {"on": 1}, {"count": True}]
)
def test_other_types_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"option {next(iter(given))} of toy must be (float|int|bool), not "):
        merge_options("toy", {"weight": 0.25, "count": 3, "on": True}, given)


@pytest.mark.parametrize(
    ("kind", "name", "least"),
    [
        (Bm25Rag, "top_k", 0),
        (Bm25Rag, "passage_tokens", 0),
        (MemoryBank, "top_k", 0),
        (MemoryBank, "neighbour_chars", 0),
        (MemoryBank, "summary_tokens", 1),
        (MemoryBank, "session_tokens", 1),
        (Context2Lora, "rank", 1),
        (Context2Lora, "steps", 1),
    ],
)
def test_numbers_too_small_are_refused_when_the_method_is_made(
    kind: type[MemoryMethod], name: str, least: int
) -> None:
    more = {"mode": "per-context"} if kind is Context2Lora else {}
    for value in (least - 1, -7):
        words = f"option {name} of {kind.name} must be at least {least}, not {value}"
        with pytest.raises(UserError, match=words):
            kind(tiny_backbone(), MethodSettings(60, options={**more, name: value}))
    kind(tiny_backbone(), MethodSettings(60, options={**more, name: least})).close()
