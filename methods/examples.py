"""Episodes as training examples: token ids of messages, questions and answers."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Episode
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.training import Example


def examples_from_rows(
    backbone: Backbone, episodes: Sequence[Episode], in_prompt: bool = False
) -> list[Example]:
    """One example an episode; a question's first acceptable answer is the one to learn.

    Prompts are those of a run with no context in them or, in_prompt, with as much of its end as fits.
    """
    prompts = PromptBuilder(backbone)
    made = []
    for episode in episodes:
        messages = tuple(tuple(backbone.encode(chunk.text)) for chunk in episode.chunks)
        context = [token for message in messages for token in message] if in_prompt else []
        questions = []
        for query in episode.queries:
            room = prompts.room(query) if in_prompt else 0
            asked = prompts.build(context[-room:] if room else (), query).whole().ids
            questions.append((asked, tuple(prompts.answer_ids(query.targets[0]))))
        made.append(Example(messages, tuple(questions)))
    return made
