"""Token ids made before they are asked for, by a thread, while the model is busy with something else."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Announced:
    texts: frozenset[str]
    made: Future[dict[str, list[int]]]


class Ahead:
    """A tokenizer that can be told which texts are asked for next.

    The thread works on a tokenizer of its own: fast tokenizers may not be changed by one thread while another
    encodes. Only texts of the last two announcements are kept.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._own: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._kept: tuple[_Announced, ...] = ()
        self._once = {""}

    def announce(self, texts: Iterable[str], once: str = "") -> None:
        """Begin to encode texts, unless they were announced last; of announcements before that one all is
        forgotten. once: a text that is encoded for its first announcement only.
        """
        new = list(dict.fromkeys(texts if once in self._once else [*texts, once]))
        self._once.add(once)
        if self._kept and self._kept[-1].texts.issuperset(new):
            return
        if self._pool is None:
            self._own = copy.deepcopy(self._tokenizer)
            self._pool = ThreadPoolExecutor(1, "tokens")
        announced = _Announced(frozenset(new), self._pool.submit(_encode_all, self._own, new))
        self._kept = (*self._kept[-1:], announced)

    def wait(self) -> None:
        """Wait until the last announcement's texts are encoded. Raises what encoding them raised."""
        for announced in self._kept[-1:]:
            announced.made.result()

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens: those made ahead, where the text was announced."""
        for announced in self._kept:
            if text in announced.texts:
                return list(announced.made.result()[text])
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _encode_all(tokenizer: Any, texts: list[str]) -> dict[str, list[int]]:
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return dict(zip(texts, rows, strict=True))
