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
from deltamem_eval.tasks.memory_agent_bench.counting import official_counter
from deltamem_eval.tasks.memory_agent_bench.hub import REVISION, SPLITS, find_split
from deltamem_eval.tasks.memory_agent_bench.metrics import release_correct, score
from deltamem_eval.tasks.memory_agent_bench.prompts import PROMPT_VERSION
from deltamem_eval.tasks.memory_agent_bench.protocols import PROTOCOLS, Limits
from deltamem_eval.tasks.memory_agent_bench.rows import Row, episode_from_row, load_rows
from deltamem_eval.tasks.memory_agent_bench.sources import source_of
from deltamem_eval.tasks.memory_agent_bench.templates import OWN, wording_of

BUFFER = 4000  # tokens that the official agents of 128,000 keep free; of shorter models the same share
_SHARE = 32
_DEFAULTS: Mapping[str, Any] = {"protocol": "isolated", "prompts": OWN, "input_limit": None, "buffer": None}


class _Rows(Task):
    """Rows of files, by a protocol. `accuracy` is the source's primary metric. The seed changes nothing."""

    seeded: ClassVar[bool] = False

    def __init__(self, protocol: str, prompts: str, input_limit: int | None, buffer: int | None) -> None:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
        for name, least, value in (("input_limit", 1, input_limit), ("buffer", 0, buffer)):
            if value is not None:
                _check_limit(name, value, least, protocol)
        self._protocol: Any = protocol
        self._wording = wording_of(prompts)
        self.system = self._wording.system if self._wording else ""
        self._input_limit, self._buffer = input_limit, buffer
        self._limits: Limits | None = None
        self._count: Callable[[str], int] = len
        self._counter = "characters"

    def prepare(self, backbone: TokenCounter) -> None:
        """Count tokens as the official protocol does where its tokenizer is at hand, else by the backbone."""
        if self._protocol == "official":
            official = official_counter()
            chosen = official or backbone
            self._count = chosen.length
            self._counter = official.name if official else f"{backbone.name}'s tokenizer"
            most = self._input_limit or backbone.positions
            buffer = min(BUFFER, most // _SHARE) if self._buffer is None else self._buffer
            self._limits = Limits(most, buffer, chosen.last)

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
                    row,
                    split=split,
                    index=index,
                    protocol=self._protocol,
                    count=self._count,
                    limits=self._limits,
                    wording=self._wording,
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
        """Files, protocol, the wording's version or content hash, and what the official protocol cuts by."""
        prompts = PROMPT_VERSION if self._wording is None else self._wording.identity()
        made = {**self._files(), "protocol": self._protocol, "prompts": prompts}
        if self._protocol == "official":
            made["counted_by"] = self._counter
        if self._limits is not None:
            made |= {"input_limit": self._limits.input_limit, "buffer": self._limits.buffer}
        return made

    @abstractmethod
    def _files(self) -> dict[str, Any]:
        """What tells the data apart from others."""


class RowsTask(_Rows):
    """Rows of a local file.

    Options. protocol: isolated, official or delta-mem-release. prompts: own, or the benchmark's once they are
    imported: official (as its long-context agents are asked), official-rag or official-agentic. input_limit,
    buffer: tokens by which `official` cuts contexts as the benchmark's agents do; by default the backbone's
    positions, and 4,000 of them or a 32nd of fewer than 128,000.
    """

    name: ClassVar[str] = "rows"
    summary: ClassVar[str] = (
        "any .json, .jsonl or .parquet file in MemoryAgentBench's row schema (--rows FILE)"
    )
    defaults: ClassVar[Mapping[str, Any]] = {"path": "", **_DEFAULTS}

    def __init__(
        self,
        path: str | Path = "",
        protocol: str = "isolated",
        prompts: str = OWN,
        input_limit: int | None = None,
        buffer: int | None = None,
    ) -> None:
        if not path:
            raise UserError("task rows needs a file: give --rows FILE")
        super().__init__(protocol, prompts, input_limit, buffer)
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
    commas, all where empty; a source may be given by the beginning of its name. The others are those of
    task rows.
    """

    name: ClassVar[str] = "memory-agent-bench"
    summary: ClassVar[str] = "MemoryAgentBench's four splits, from the hub at one revision or from a folder"
    defaults: ClassVar[Mapping[str, Any]] = {"path": "", "splits": "", "sources": "", **_DEFAULTS}

    def __init__(
        self,
        path: str = "",
        splits: str = "",
        sources: str = "",
        protocol: str = "isolated",
        prompts: str = OWN,
        input_limit: int | None = None,
        buffer: int | None = None,
    ) -> None:
        super().__init__(protocol, prompts, input_limit, buffer)
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


def _check_limit(name: str, value: Any, least: int, protocol: str) -> None:
    """Raises UserError for an option that is no such number, or that this protocol does not have."""
    if protocol != "official":
        raise UserError(f"option {name} belongs to --protocol official, not to {protocol}")
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"option {name} must be a whole number of tokens from {least} on, not {value!r}")
