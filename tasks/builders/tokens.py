"""Counting tokens with the embedded tokenizer or another one."""

from __future__ import annotations

from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import Count

EMBEDDED = "embedded"


def counter(name: str = EMBEDDED) -> Count:
    """Tokens of a text, special tokens left out.

    name: "embedded", a local folder, or a hub name that was fetched before; nothing is downloaded. Raises
    UserError where there is no such tokenizer.
    """
    tokenizer = _load(name)

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return count


def _load(name: str) -> Any:
    if name == EMBEDDED:
        from deltamem_eval.tasks.embedded.tokenizer import build_tokenizer

        return build_tokenizer()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError):
        raise UserError(f"no tokenizer '{name}' among local folders and what was fetched before") from None
