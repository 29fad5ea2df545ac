"""Answering from passages chosen anew for each question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltamem_eval.interface import Answer, Query

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.prompt import PromptBuilder


def answer_from_passages(
    backbone: Backbone, prompts: PromptBuilder, queries: Sequence[Query], passages: Sequence[Sequence[str]]
) -> list[Answer]:
    """One answer per query, its own passages before it, in the order given."""
    from deltamem_eval.methods.prompt import to_answer

    texts = ["".join(chosen) for chosen in passages]
    contexts = [[token for text in chosen for token in backbone.encode(text)] for chosen in passages]
    built = [prompts.build(context, query) for context, query in zip(contexts, queries, strict=True)]
    results = backbone.generate([prompt.whole() for prompt in built])
    return [
        to_answer(prompt, result, text, len(context))
        for prompt, result, text, context in zip(built, results, texts, contexts, strict=True)
    ]
