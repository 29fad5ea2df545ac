"""MemoryAgentBench from the hub, and any file in its row schema, as tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import sha256_of
from deltamem_eval.interface import Episode, Query, Task, TokenCounter
from deltamem_eval.tasks.memory_agent_bench.hub import REVISION, SPLITS, find_split
from deltamem_eval.tasks.memory_agent_bench.metrics import release_correct, score
from deltamem_eval.tasks.memory_agent_bench.prompts import PROMPT_VERSION
from deltamem_eval.tasks.memory_agent_bench.protocols import PROTOCOLS
from deltamem_eval.tasks.memory_agent_bench.rows import Row, episode_from_row, load_rows
from deltamem_eval.tasks.memory_agent_bench.sources import source_of


class _Rows(Task):
    """Rows of files, by a protocol. `accuracy` is the source's primary metric. The seed changes nothing."""

    seeded: ClassVar[bool] = False

    def __init__(self, protocol: str) -> None:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
        self._protocol: Any = protocol
        self._count: Callable[[str], int] = len
        self._counter = "characters"

    def prepare(self, backbone: TokenCounter) -> None:
        """Count tokens as the official protocol does where its tokenizer is at hand, else by the backbone."""
        if self._protocol == "official":
            self._count, self._counter = _official_counter() or (
                backbone.length,
                f"{backbone.name}'s tokenizer",
            )

    @abstractmethod
    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        """Split, index and row, in order."""

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The rows in order, at most `limit` a category."""
        taken: Counter[str] = Counter()
        for split, index, row in self._listed():
            category = source_of(str(row["metadata"]["source"])).category
            taken[category] += 1
            if limit is None or taken[category] <= limit:
                yield episode_from_row(
                    row, split=split, index=index, protocol=self._protocol, count=self._count
                )

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The official metrics, and the protocol's primary one again as `accuracy`.

        Answers that a language model is to judge bear `unjudged`; their accuracy is a token metric.
        """
        source = str(query.metadata["source"])
        metrics = score(source, answer, query.targets)
        primary = source_of(source).primary
        if self._protocol == "delta-mem-release":
            metrics["release_correct"] = release_correct(answer, query.targets)
            primary = primary if primary in ("f1", "recsys_recall@5") else "release_correct"
        judged = source_of(source).judged and self._protocol != "delta-mem-release"
        return {**metrics, "accuracy": metrics[primary], **({"unjudged": 1.0} if judged else {})}

    def identity(self) -> dict[str, Any]:
        """Files, protocol and version of the wording."""
        counter = {"counted_by": self._counter} if self._protocol == "official" else {}
        return {**self._files(), "protocol": self._protocol, "prompts": PROMPT_VERSION, **counter}

    @abstractmethod
    def _files(self) -> dict[str, Any]:
        """What tells the data apart from others."""


class RowsTask(_Rows):
    """Rows of a local file."""

    name: ClassVar[str] = "rows"
    summary: ClassVar[str] = (
        "any .json, .jsonl or .parquet file in MemoryAgentBench's row schema (--rows FILE)"
    )
    defaults: ClassVar[Mapping[str, Any]] = {"path": "", "protocol": "isolated"}

    def __init__(self, path: str | Path = "", protocol: str = "isolated") -> None:
        if not path:
            raise UserError("task rows needs a file: give --rows FILE")
        super().__init__(protocol)
        self._path = Path(path)
        self._rows = load_rows(self._path)

    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        for index, row in enumerate(self._rows):
            yield self._path.stem, index, row

    def _files(self) -> dict[str, Any]:
        return {"file": self._path.name, "sha256": sha256_of(self._path)}


class MemoryAgentBenchTask(_Rows):
    """All four splits at one revision.

    Options. path: a folder of the splits' files in place of the hub. splits, sources: names separated by
    commas, all where empty; a source may be given by the beginning of its name. protocol: isolated, official
    or delta-mem-release.
    """

    name: ClassVar[str] = "memory-agent-bench"
    summary: ClassVar[str] = "MemoryAgentBench's four splits, from the hub at one revision or from a folder"
    defaults: ClassVar[Mapping[str, Any]] = {"path": "", "splits": "", "sources": "", "protocol": "isolated"}

    def __init__(
        self, path: str = "", splits: str = "", sources: str = "", protocol: str = "isolated"
    ) -> None:
        super().__init__(protocol)
        known = {split.split: split for split in SPLITS}
        names = [part.strip() for part in splits.split(",") if part.strip()] or list(known)
        for name in names:
            if name not in known:
                raise unknown("split", name, known)
        self._paths = {name: find_split(known[name], path) for name in names}
        self._sources = tuple(part.strip() for part in sources.split(",") if part.strip())
        for source in self._sources:
            source_of(source)

    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        found = False
        for split, path in self._paths.items():
            for index, row in enumerate(load_rows(path)):
                name = str(row["metadata"]["source"])
                if not self._sources or name.startswith(self._sources):
                    found = True
                    yield split, index, row
        if not found:
            raise UserError(f"no row is of {' or '.join(self._sources)} in {', '.join(self._paths)}")

    def _files(self) -> dict[str, Any]:
        hashes = {split: sha256_of(path) for split, path in self._paths.items()}
        return {"revision": REVISION, "sha256": hashes, "sources": list(self._sources)}


def _official_counter() -> tuple[Callable[[str], int], str] | None:
    """Counting by o200k_base, the tokenizer of the benchmark's chunks, where tiktoken has it."""
    try:
        import tiktoken

        encoding = tiktoken.get_encoding("o200k_base")
    except (ImportError, OSError, ValueError):  # not installed, not cached and offline, or damaged
        return None
    return lambda text: len(encoding.encode(text, allowed_special={"<|endoftext|>"})), "o200k_base"
