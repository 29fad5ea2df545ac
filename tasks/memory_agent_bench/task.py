"""Any file in MemoryAgentBench's row schema, as a task."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Episode, Query, Task
from deltamem_eval.tasks.memory_agent_bench.metrics import score
from deltamem_eval.tasks.memory_agent_bench.prompts import PROMPT_VERSION
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row, load_rows
from deltamem_eval.tasks.memory_agent_bench.sources import source_of


class RowsTask(Task):
    """Rows of a local file. `accuracy` is the source's primary metric. The seed changes nothing."""

    name: ClassVar[str] = "rows"
    summary: ClassVar[str] = (
        "any .json, .jsonl or .parquet file in MemoryAgentBench's row schema (--rows FILE)"
    )

    defaults: ClassVar[Mapping[str, Any]] = {"path": ""}

    def __init__(self, path: str | Path = "") -> None:
        if not path:
            raise UserError("task rows needs a file: give --rows FILE")
        self._path = Path(path)
        self._rows = load_rows(self._path)

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The file's rows in order, at most `limit` a category."""
        taken: Counter[str] = Counter()
        for index, row in enumerate(self._rows):
            episode = episode_from_row(row, split=self._path.stem, index=index)
            taken[episode.category] += 1
            if limit is None or taken[episode.category] <= limit:
                yield episode

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The official metrics, and the primary one again as `accuracy`."""
        source = str(query.metadata["source"])
        metrics = score(source, answer, query.targets)
        primary = source_of(source).primary
        return {**metrics, "accuracy": metrics[primary if primary in metrics else "substring_exact_match"]}

    def identity(self) -> dict[str, Any]:
        """The file's SHA-256 and the version of the wording."""
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        return {"file": self._path.name, "sha256": digest, "prompts": PROMPT_VERSION}
