"""When a continuation ends, and what of it is kept."""

from typing import Any

import pytest
from deltamem_eval.decoding import Decoding, Request

END = 0


class Letters:
    """Decodes code points."""

    def end_ids(self) -> frozenset[int]:
        return frozenset([END])

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def decoded(said: str, *stop: str, budget: int = 99) -> tuple[str, int]:
    backbone: Any = Letters()
    decoding = Decoding(backbone, Request((1,), budget, stop))
    for token in [*map(ord, said), END]:
        decoding.take(token)
    assert decoding.finished
    result = decoding.continuation()
    return result.text, result.new_tokens


@pytest.mark.parametrize(
    ("said", "stop", "wanted"),
    [
        (" Paris\nLondon", ("\n",), ("Paris", 7)),
        ("\n Paris \nLondon", ("\n",), ("Paris", 9)),  # white space before the answer stops nothing
        ("Paris. London", ("\n", "."), ("Paris", 6)),
        ("\n Paris\nLondon ", (), ("\n Paris\nLondon ", 16)),
        ("", (), ("", 1)),
    ],
)
def test_only_stop_strings_take_white_space_off(said: str, stop: tuple, wanted: tuple[str, int]) -> None:
    assert decoded(said, *stop) == wanted


def test_the_budget_ends_it() -> None:
    assert decoded("\nParis", budget=3) == ("\nPa", 3)
