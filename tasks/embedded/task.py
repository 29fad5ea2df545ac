"""The embedded task: fresh evaluation episodes of the embedded world, in four categories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from deltamem_eval.interface import Episode, Query, Task
from deltamem_eval.tasks.embedded.episodes import GENERATOR_VERSION, evaluation_rows
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.prompts import PROMPT_VERSION
from deltamem_eval.tasks.memory_agent_bench.rows import check_row, episode_from_row


class EmbeddedTask(Task):
    """Contexts of 64 to 1,024 tokens: codes, labels, rules, preferences, most frequent places, updated homes.

    `accuracy` is the official exact match of the reply's first line.
    """

    name: ClassVar[str] = "embedded"
    summary: ClassVar[str] = (
        "generated episodes in MemoryAgentBench's four categories, for the embedded backbone"
    )

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The evaluation episodes of a seed, at most `limit` a category."""
        for index, row in enumerate(evaluation_rows(seed, limit)):
            check_row(row, f"embedded row {index}")
            yield episode_from_row(row, split=f"embedded-{seed}", index=index)

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The official metrics, and exact match again as `accuracy`."""
        metrics = score(str(query.metadata["source"]), answer, query.targets)
        return {**metrics, "accuracy": metrics["exact_match"]}

    def identity(self) -> dict[str, Any]:
        """Versions of the generator and of the wording."""
        return {"generator": GENERATOR_VERSION, "prompts": PROMPT_VERSION}
