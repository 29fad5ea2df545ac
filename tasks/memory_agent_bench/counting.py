"""What the official protocol counts tokens by, and finds sentences by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ENGLISH = "punkt_tab/english"

_END = "<|endoftext|>"  # the official counter takes it as one token


class O200k:
    """tiktoken's o200k_base. encoding: as tiktoken gives it."""

    name = "o200k_base"

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ids(text))

    def last(self, text: str, tokens: int) -> str:
        """The end of a text: its last `tokens` tokens, without the rest of a character that is cut in two."""
        ids = self._ids(text)
        if len(ids) <= tokens:
            return text
        kept: bytes = self._encoding.decode_bytes(ids[len(ids) - tokens :])
        return kept.decode("utf-8", "ignore")

    def _ids(self, text: str) -> list[int]:
        """Token ids of a text; other special tokens than the one that ends texts are plain text in it."""
        ids: list[int] = self._encoding.encode(text, allowed_special={_END}, disallowed_special=())
        return ids


def official_counter() -> O200k | None:
    """o200k_base, by which the benchmark counts, where tiktoken has it."""
    try:
        import tiktoken

        return O200k(tiktoken.get_encoding("o200k_base"))
    except (ImportError, OSError, ValueError):  # not installed, not cached and offline, or damaged
        return None


def official_sentences() -> Callable[[str], list[str]] | None:
    """The benchmark's way to cut a text into sentences, Punkt's English model (ENGLISH), where nltk has it.

    Nothing is downloaded.
    """
    try:
        from nltk.tokenize.punkt import PunktTokenizer

        tokenizer = PunktTokenizer("english")
    except (ImportError, LookupError, OSError, ValueError):  # not there, or damaged
        return None
    return lambda text: [str(sentence) for sentence in tokenizer.tokenize(text)]
