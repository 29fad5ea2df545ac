"""Texts cut into pieces for rolling scores, and lm-eval's stop strings."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


def pieces(backbone: Backbone, text: str, size: int) -> list[str]:
    """The text cut after every `size` of its tokens, between characters; the pieces, joined, are the text.

    Raises UserError for a tokenizer that does not know where its tokens stand.
    """
    tokenizer: Any = backbone.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {backbone.name} gives no offsets: rolling scores need a fast one")
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    starts = [0, *(start for start, _ in spans[size::size]), len(text)]
    cuts = sorted(set(starts))
    return [text[start:end] for start, end in pairwise(cuts)]


def stops_of(given: Any) -> tuple[str, ...]:
    """lm-eval's `until`, a text or a list of texts, without empty ones."""
    listed = [given] if isinstance(given, str) else list(given or ())
    return tuple(str(stop) for stop in listed if stop)
