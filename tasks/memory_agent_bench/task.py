"""MemoryAgentBench from the hub, and any file in its row schema, as tasks."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.hashing import sha256_of
from deltamem_eval.interface import Episode, Query, Task, TokenCounter
from deltamem_eval.tasks.memory_agent_bench.counting import ENGLISH, official_counter, official_sentences
from deltamem_eval.tasks.memory_agent_bench.hub import REVISION, SPLITS, find_split, is_checked
from deltamem_eval.tasks.memory_agent_bench.metrics import release_correct, release_f1, score
from deltamem_eval.tasks.memory_agent_bench.prompts import PROMPT_VERSION
from deltamem_eval.tasks.memory_agent_bench.protocols import (
    DEFAULTS,
    OFFICIAL_CHUNK,
    PROTOCOLS,
    VERSION,
    Limits,
    sentences_of,
)
from deltamem_eval.tasks.memory_agent_bench.recsys import Catalogue, load_catalogue
from deltamem_eval.tasks.memory_agent_bench.rows import Row, episode_from_row, load_rows, sources_in
from deltamem_eval.tasks.memory_agent_bench.sources import SOURCES, source_of
from deltamem_eval.tasks.memory_agent_bench.templates import OWN, wording_of

BUFFER = 4000  # tokens that the official agents of 128,000 keep free; of shorter models the same share
_SHARE = 32
_RELEASED = {"f1": "release_f1", "recsys_recall@5": "recsys_recall@5"}  # the release's metric by ours
_LEAVE_OUT = "to do without them, name the other sources: --task-option sources=icl,ruler_qa,…"
_DEFAULTS: Mapping[str, Any] = {
    "protocol": "isolated",
    "prompts": OWN,
    "input_limit": None,
    "buffer": None,
    "chunk_size": None,
}


class _Rows(Task):
    """Rows of files, by a protocol. `accuracy` is the source's primary metric. The seed changes nothing."""

    seeded: ClassVar[bool] = False

    def __init__(
        self,
        protocol: str,
        prompts: str,
        input_limit: int | None,
        buffer: int | None,
        chunk_size: int | None,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
        given = (("input_limit", 1, input_limit), ("buffer", 0, buffer), ("chunk_size", 1, chunk_size))
        for name, least, value in given:
            if value is not None:
                _check_limit(name, value, least, protocol)
        self._protocol: Any = protocol
        self._wording = wording_of(prompts)
        self.system = self._wording.system if self._wording else ""
        self._input_limit, self._buffer = input_limit, buffer
        self._chunk_size = OFFICIAL_CHUNK if chunk_size is None else chunk_size
        self._catalogue: Catalogue | None = None
        self._limits: Limits | None = None
        self._count: Callable[[str], int] = len
        self._counter = "characters"
        self._length: Callable[[str], int] | None = None
        self._sentences: Callable[[str], list[str]] = sentences_of
        self._sentences_by = DEFAULTS

    def _need(self, sources: Iterable[str], remedy: str, folders: Sequence[Path]) -> None:
        """Open what rows of these sources are scored by. remedy: how to do without movie recommendations.

        folders: where the movies' file is looked for first. Raises UserError as `load_catalogue`.
        """
        if any(source_of(name).prefix == "recsys_" for name in sources):
            try:
                self._catalogue = load_catalogue(folders=folders)
            except UserError as error:
                raise type(error)(f"{error}; {remedy}") from None

    def prepare(self, backbone: TokenCounter) -> None:
        """Count tokens and find sentences as the official protocol does where its tokenizer and its model of
        sentences are at hand, else by the backbone and by Punkt's defaults.
        """
        self._length = backbone.length
        if self._protocol == "official":
            official = official_counter()
            chosen = official or backbone
            self._count = chosen.length
            self._counter = official.name if official else f"{backbone.name}'s tokenizer"
            english = official_sentences()
            self._sentences = english or sentences_of
            self._sentences_by = ENGLISH if english else DEFAULTS
            most = self._input_limit or backbone.positions
            buffer = min(BUFFER, most // _SHARE) if self._buffer is None else self._buffer
            self._limits = Limits(most, buffer, chosen.last)

    @abstractmethod
    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        """Split, index and row, in order."""

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The rows in order, at most `limit` a category."""
        taken: Counter[str] = Counter()
        length = _at_hand(self._length)
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
                    chunk_size=self._chunk_size,
                    sentences=self._sentences,
                    length=length,
                )

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """The official metrics, and the protocol's primary one again as `accuracy`.

        White space around an answer is taken off, but not under `official`, whose scorer keeps it; acceptable
        answers that stand twice count once under `delta-mem-release`, as there. What a language model is to
        judge bears `unjudged`; its accuracy is a token metric.
        """
        source = str(query.metadata["source"])
        said = answer if self._protocol == "official" else answer.strip()
        release = self._protocol == "delta-mem-release"
        golds = tuple(dict.fromkeys(query.targets)) if release else query.targets
        metrics = score(source, said, golds, self._catalogue)
        primary = source_of(source).primary
        if release:
            metrics["release_correct"] = release_correct(said, golds)
            metrics["release_f1"] = release_f1(said, golds)
            primary = _RELEASED.get(primary, "release_correct")
        judged = source_of(source).judged and not release
        return {**metrics, "accuracy": metrics[primary], **({"unjudged": 1.0} if judged else {})}

    def identity(self) -> dict[str, Any]:
        """Files, protocol, the wording's version or content hash, the movies' file where it is used, and what
        the official protocol counts, finds sentences and cuts by.
        """
        prompts = PROMPT_VERSION if self._wording is None else self._wording.identity()
        made = {**self._files(), "protocol": self._protocol, "prompts": prompts}
        if self._protocol != "isolated":
            made["protocol_version"] = VERSION
        if self._catalogue is not None:
            made["catalogue"] = self._catalogue.sha256
        if self._protocol == "official":
            made |= {"counted_by": self._counter, "chunk_size": self._chunk_size}
        if self._limits is not None:
            made |= {"input_limit": self._limits.input_limit, "buffer": self._limits.buffer}
            made |= {"sentences_by": self._sentences_by}
        return made

    @abstractmethod
    def _files(self) -> dict[str, Any]:
        """What tells the data apart from others."""


class RowsTask(_Rows):
    """Rows of a local file.

    Options. protocol: isolated, official or delta-mem-release. prompts: own, or the benchmark's once they are
    imported: official (as its long-context agents are asked), official-rag or official-agentic. input_limit,
    buffer: tokens by which `official` cuts contexts as the benchmark's agents do; by default the backbone's
    positions, and 4,000 of them or a 32nd of fewer than 128,000. chunk_size: tokens of a chunk under
    `official`, by default 4,096; the benchmark's paper has 512 for some sources.
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
        chunk_size: int | None = None,
    ) -> None:
        if not path:
            raise UserError("task rows needs a file: give --rows FILE")
        super().__init__(protocol, prompts, input_limit, buffer, chunk_size)
        self._path = Path(path)
        self._rows = load_rows(self._path)
        names = {str(row["metadata"]["source"]) for row in self._rows}
        folder = self._path.absolute().parent
        remedy = f"to do without them, take the recsys rows out of {self._path}"
        self._need(names, remedy, (folder, folder.parent))

    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        for index, row in enumerate(self._rows):
            yield self._path.stem, index, row

    def _files(self) -> dict[str, Any]:
        return {"file": self._path.name, "sha256": sha256_of(self._path)}


class MemoryAgentBenchTask(_Rows):
    """All four splits at one revision.

    Options. path: a folder of the splits' files in place of the hub. splits, sources: names separated by
    commas, all where empty; a source may be given by the beginning of its name, as `icl` or `eventqa_full`.
    The others are those of task rows.
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
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(protocol, prompts, input_limit, buffer, chunk_size)
        known = {split.split: split for split in SPLITS}
        names = [part.strip() for part in splits.split(",") if part.strip()] or list(known)
        for name in names:
            if name not in known:
                raise unknown("split", name, known)
        self._sources = tuple(part.strip() for part in sources.split(",") if part.strip())
        for source in self._sources:
            _check_begins(source)
        self._paths = {name: find_split(known[name], path) for name in names}
        folder = Path(path).absolute()
        self._need(self._chosen(), _LEAVE_OUT, (folder, folder.parent) if path else ())

    def _chosen(self) -> list[str]:
        """The sources that will be asked. Raises UserError for an option that none of them begins with."""
        held = [name for path in self._paths.values() for name in sources_in(path)]
        for source in self._sources:
            if not any(name.startswith(source) for name in held):
                raise UserError(
                    f"option sources: no row of {', '.join(self._paths)} is of '{source}'; there are "
                    f"{', '.join(dict.fromkeys(held))}"
                )
        return [name for name in held if not self._sources or name.startswith(self._sources)]

    def _listed(self) -> Iterator[tuple[str, int, Row]]:
        for split, path in self._paths.items():
            for index, row in enumerate(load_rows(path)):
                name = str(row["metadata"]["source"])
                if not self._sources or name.startswith(self._sources):
                    yield split, index, row

    def _files(self) -> dict[str, Any]:
        hashes = {split: sha256_of(path) for split, path in self._paths.items()}
        revision = REVISION if all(map(is_checked, self._paths.values())) else None
        return {"revision": revision, "sha256": hashes, "sources": list(self._sources)}


def _at_hand(length: Callable[[str], int] | None) -> Callable[[str], int] | None:
    """A counter of tokens; None where its tokenizer is not on this machine, which may only hand out work."""
    if length is not None:
        try:
            length("")
        except UserError:
            return None
    return length


def _check_begins(name: str) -> None:
    """Raises UserError for a text that neither begins a family's prefix nor begins with one."""
    if not any(source.prefix.startswith(name) for source in SOURCES):
        source_of(name)


def _check_limit(name: str, value: Any, least: int, protocol: str) -> None:
    """Raises UserError for an option that is no such number, or that this protocol does not have."""
    if protocol != "official":
        raise UserError(f"option {name} belongs to --protocol official, not to {protocol}")
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"option {name} must be a whole number of tokens from {least} on, not {value!r}")
