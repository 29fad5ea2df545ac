"""The end of a text, measured in a tokenizer's tokens."""

from __future__ import annotations

from typing import Any

from deltamem_eval.errors import UserError


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
