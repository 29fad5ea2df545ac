"""Texts measured in a tokenizer's tokens, where no weights are needed."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import Any

from deltamem_eval.errors import UserError

# What transformers raises for a config, tokenizer or model that it cannot load, damaged weights aside.
NOT_LOADED = (OSError, ValueError, KeyError, ImportError)
_COMMAND = re.compile(r"\bpip install [^`()]*[^`()\s.]")
_READERS = ("sentencepiece", "tiktoken", "protobuf")  # packages of tokenizers, whose errors name no command


def why(error: Exception) -> str:
    """Why something could not be loaded, in one line: the error's first line.

    Of a missing package its first sentence, with the pip command where the error names one or the package.
    """
    text = str(error).strip()
    if not text:
        return type(error).__name__
    if not isinstance(error, ImportError):
        return text.splitlines()[0]
    whole = " ".join(text.split())
    sentence = whole.partition(". ")[0].rstrip(".")
    named = _COMMAND.search(whole)
    missing = [name for name in _READERS if name in sentence.lower()]
    command = named[0].partition(". ")[0] if named else f"pip install {' '.join(missing)}" if missing else ""
    return sentence if command in sentence else f"{sentence} ({command})"


def last_tokens(tokenizer: Any, text: str, tokens: int, name: str) -> str:
    """The text from where its last `tokens` tokens begin; all of it where it has no more.

    A character that is cut in two stays whole. name: of the model, for the error. Raises UserError for a
    tokenizer that does not know where in a text its tokens stand.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"{name}'s tokenizer does not tell where its tokens stand: contexts cannot be cut by it"
        )
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(spans) <= tokens:
        return text
    return text[spans[-tokens][0] :] if tokens > 0 else ""


class Counter:
    """A model's tokenizer where a task asks for one; nothing is loaded before it does.

    positions: the longest sequence the model may see, in tokens.
    """

    def __init__(self, name: str, positions: int) -> None:
        self.name = name
        self.positions = positions

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer. Raises UserError where it cannot be had."""
        from deltamem_eval.backbone import source_of
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(source_of(self.name), trust_remote_code=False)
        except NOT_LOADED as error:
            raise UserError(f"cannot load the tokenizer of '{self.name}': {why(error)}") from None

    @lru_cache(maxsize=4096)  # noqa: B019 - one counter a command
    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def last(self, text: str, tokens: int) -> str:
        """The end of a text: its last `tokens` tokens, all of it where it has no more."""
        return last_tokens(self.tokenizer, text, tokens, self.name)
