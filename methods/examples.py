"""Episodes as training examples: token ids of messages, questions and answers."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Episode
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.training import Example


def examples_from_rows(backbone: Backbone, episodes: Sequence[Episode]) -> list[Example]:
    """One example an episode; a question's first acceptable answer is the one to learn.

    Prompts are those of a run with no context in them. An answer ends as it must end in a run: with the
    end-of-turn token under a chat template, else with a newline.
    """
    prompts = PromptBuilder(backbone)
    tokenizer = backbone.tokenizer
    chat = bool(getattr(tokenizer, "chat_template", None))

    def answer_ids(text: str) -> tuple[int, ...]:
        if chat:
            return (*backbone.encode(text), int(tokenizer.eos_token_id))
        return tuple(backbone.encode(f" {text}\n"))

    return [
        Example(
            messages=tuple(tuple(backbone.encode(chunk.text)) for chunk in episode.chunks),
            questions=tuple(
                (prompts.build((), query).request.ids, answer_ids(query.targets[0]))
                for query in episode.queries
            ),
        )
        for episode in episodes
    ]
