"""Episodes as training examples: token ids of messages, questions and answers."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Episode
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.training import Example


def examples_from_rows(backbone: Backbone, episodes: Sequence[Episode]) -> list[Example]:
    """One example an episode; a question's first acceptable answer is the one to learn.

    Prompts are those of a run with no context in them.
    """
    prompts = PromptBuilder(backbone)
    return [
        Example(
            messages=tuple(tuple(backbone.encode(chunk.text)) for chunk in episode.chunks),
            questions=tuple(
                (prompts.build((), query).request.ids, tuple(prompts.answer_ids(query.targets[0])))
                for query in episode.queries
            ),
        )
        for episode in episodes
    ]
