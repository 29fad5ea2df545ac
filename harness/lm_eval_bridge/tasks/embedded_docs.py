"""Documents and scores of the embedded task for lm-eval: what the YAML files beside this name.

lm-eval imports this file by its path and calls the loaders with a task's metadata and the model's arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

SPLIT = "test"


def documents(
    category: str, episode_seed: int = 0, episode_limit: int | None = None, **_: Any
) -> dict[str, Dataset]:
    """One document a question of a category, in the order of the episodes.

    Settings, by `--metadata '{"episode_seed": 1, "episode_limit": 2}'`: the seed of the evaluation episodes,
    and how many of them; other arguments are the model's and change nothing. A document holds its context,
    which is the same text for all questions of an episode, the question, the acceptable targets, and the
    source that scores it.
    """
    from datasets import Dataset
    from deltamem_eval.tasks.embedded.task import EmbeddedTask

    rows = [
        {
            "id": query.id,
            "context": episode.context,
            "question": query.prompt,
            "targets": list(query.targets),
            "source": episode.source,
        }
        for episode in EmbeddedTask().episodes(int(episode_seed), episode_limit)
        if episode.category == category
        for query in episode.queries
    ]
    return {SPLIT: Dataset.from_list(rows)}


def scores(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Exact match, F1 and substring match of one reply, normalised and parsed as the benchmark does it."""
    from deltamem_eval.tasks.memory_agent_bench.metrics import score

    found = score(str(doc["source"]), results[0], doc["targets"])
    return {name: found[name] for name in ("exact_match", "f1", "substring_exact_match")}
