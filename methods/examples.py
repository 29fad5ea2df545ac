"""Episodes as training examples: token ids of messages, questions and answers."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.backbone import Backbone
from deltamem_eval.interface import Episode
from deltamem_eval.methods.prompt import PromptBuilder
from deltamem_eval.methods.training import Example


def examples_from_rows(
    backbone: Backbone, episodes: Sequence[Episode], in_prompt: bool = False, most: int | None = None
) -> list[Example]:
    """One example an episode; a question's first acceptable answer is the one to learn.

    Prompts are those of a run with no context in them. in_prompt: the messages are what stands before each
    question instead, the end of the context as far as it fits beside the longest, at most `most` tokens.
    """
    prompts = PromptBuilder(backbone)
    made = []
    for episode in episodes:
        messages = tuple(tuple(backbone.encode(chunk.text)) for chunk in episode.chunks)
        context: tuple[int, ...] = ()
        if in_prompt and episode.queries:
            room = min(prompts.room(query) for query in episode.queries)
            room = room if most is None else min(room, most)
            flat = [token for message in messages for token in message]
            context = tuple(flat[-room:] if room else ())
            messages = (prompts.prefix(context),)
        questions = tuple(
            (prompts.build(context, query).request.ids, tuple(prompts.answer_ids(query.targets[0])))
            for query in episode.queries
        )
        made.append(Example(messages, questions))
    return made
