"""A run on disk: `run.json`, what it asked, and a folder a cell with its samples, prompts and end.

Samples, prompts and contexts are appended one line at a time; a torn last line is dropped when the file is
opened again. The other files are written whole to a temporary file, synced, and put in place: a reader sees
the old or the new one, never half.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from deltamem_eval.errors import UserError
from deltamem_eval.exhibits import (
    ContextRecord,
    PromptRecord,
    clip,
    context_record,
)
from deltamem_eval.files import (
    Record,
    append_lines,
    drop_torn_line,
    is_empty,
    read_lines,
    take_lock,
    write_atomic,
)
from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import Episode
from deltamem_eval.sameness import check_unmixed, same_request
from deltamem_eval.verdicts import with_verdicts
from pydantic import BaseModel, ConfigDict, FiniteFloat, PrivateAttr, ValidationError

SCHEMA_VERSION = 1
_MADE_WITH = ("versions", "commit", "dirty", "code", "command")  # of what a stretch of work was done with
IDENTITY_VERSION = 1  # raise when the same identity would give other answers


class Execution(BaseModel):
    """One stretch of work on a run. workers: whoever took part, each with the line of its device.

    versions, commit, dirty, code, command: what it was done with, as in `RunRecord`; batch_size, timeout: as
    asked. Empty in runs from before they were noted here.
    """

    model_config = ConfigDict(extra="allow")
    executor: str
    workers: list[dict[str, str]]
    began: str
    versions: dict[str, str] = {}
    commit: str | None = None
    dirty: bool | None = None
    code: str | None = None
    command: list[str] = []
    batch_size: int | None = None
    timeout: float | None = None


class RunRecord(BaseModel):
    """`run.json`: what was asked, and with what; executions: every stretch of work that went into it.

    device, versions and the like are those of the first. code: hash of the package's .py files; commit: of
    the repository they are in or were installed from, None where that is not known (see `provenance`); dirty:
    whether they differ from it. Runs without `code` have the commit of the folder the command was given in.
    """

    model_config = ConfigDict(extra="allow")
    schema_version: int
    request: dict[str, Any]
    command: list[str] = []
    versions: dict[str, str] = {}
    device: str = ""
    commit: str | None = None
    dirty: bool | None = None
    code: str | None = None
    created: str = ""
    executions: list[Execution] = []


class Sample(BaseModel):
    """One line of `samples.jsonl`: one question answered, or the reason why not.

    evidence: share of the passages needed that stood in the prompt; gold_visible: whether an acceptable
    answer stood there; both None where the method shows no context or the passages are not known.
    context_tokens: tokens of context text in the prompt; written_tokens: of the whole context that was
    written before the question, None where none was and in runs from before it was noted. cluster: content
    hash of the context; of the question's id where there is no context. device: the line that names where it
    was answered; empty in runs from before it was noted. decode_seconds: of answer_seconds, what came after
    the first token; None where that is not known. peak_bytes: the most that was handed out on the GPUs while
    the context was written (`write`) and while the question's batch was answered (`answer`).
    """

    model_config = ConfigDict(extra="allow")
    episode: str
    query: str
    source: str
    category: str
    cluster: str
    status: str
    error: str | None = None
    answer: str = ""
    targets: list[str]
    metrics: dict[str, FiniteFloat] = {}
    prompt_hash: str = ""
    target_hash: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    context_tokens: int = 0
    written_tokens: int | None = None
    evidence: float | None = None
    gold_visible: float | None = None
    chance: float | None = None
    selection: float | None = None
    write_seconds: float = 0.0
    answer_seconds: float = 0.0
    decode_seconds: float | None = None
    peak_bytes: dict[str, int] = {}
    memory_bytes: dict[str, int] = {}
    device: str = ""
    extras: dict[str, Any] = {}
    _judge: str | None = PrivateAttr(default=None)

    @property
    def judge(self) -> str | None:
        """The judge of its verdict and the version of the rubrics; None without one. Not of the line."""
        return self._judge

    def with_judge(self, judge: str | None) -> Sample:
        """The same sample, scored by that judge."""
        self._judge = judge
        return self


class Notice(BaseModel):
    """One line of `notices.jsonl`: what held while a cell ran and its reader should know."""

    text: str


class CellRecord(BaseModel):
    """`cell.json`: what a finished cell was, and what held while it ran."""

    model_config = ConfigDict(extra="allow")
    schema_version: int
    identity: dict[str, Any]
    effective: dict[str, Any]
    samples: int
    finished: str


SCHEMAS: Mapping[str, type[BaseModel]] = {
    "run": RunRecord,
    "context": ContextRecord,
    "cell": CellRecord,
    "sample": Sample,
    "prompt": PromptRecord,
}


class RunStore:
    """One run's folder, held by one process at a time."""

    def __init__(
        self,
        path: Path,
        record: RunRecord,
        lock: IO[str],
        now_with: Mapping[str, Any],
        manner: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.record = record
        self._lock = lock
        self._now_with = {name: now_with[name] for name in _MADE_WITH if name in now_with} | dict(
            manner or {}
        )
        self._execution: Execution | None = None
        self._kept: set[tuple[str, str]] | None = None  # contexts on disk; None before the file was read

    @classmethod
    def open(
        cls,
        path: Path,
        request: Mapping[str, Any],
        provenance: Mapping[str, Any],
        manner: Mapping[str, Any] | None = None,
    ) -> RunStore:
        """Make the folder, or go on with the one that the same request made. provenance: of what works on it
        now. manner: of how, the further fields of `Execution`.

        Raises UserError, writing nothing, for a folder of another request, one that is no run, one that
        cannot be written, or one that another process holds.
        """
        file = path / "run.json"
        try:
            if file.exists():
                same_request(path, read_run(path).request, request)
                lock = take_lock(path)
                return cls(path, read_run(path), lock, provenance, manner)  # as its last holder left it
            if path.exists() and not (path.is_dir() and is_empty(path)):
                raise UserError(f"{path} exists and is no run: choose another --out")
            path.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path)
            record = RunRecord(
                schema_version=SCHEMA_VERSION, request=dict(request), created=now(), **provenance
            )
            write_atomic(file, record.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
        return cls(path, record, lock, provenance, manner)

    def note_worker(self, executor: str, worker: Mapping[str, str]) -> None:
        """Tell in `run.json`, once, that a worker takes part from now on, and with what code."""
        if self._execution is None:
            self._execution = Execution(executor=executor, workers=[], began=now(), **self._now_with)
            self.record.executions.append(self._execution)
        if dict(worker) not in self._execution.workers:
            self._execution.workers.append(dict(worker))
            _replace(self.path / "run.json", self.record)

    def cell(self, identity: Mapping[str, Any]) -> CellStore:
        """The cell of that identity, made or gone on with.

        Raises UserError where the folder holds the same cell of other data, weights or prompts.
        """
        for record in self._finished:
            check_unmixed(self.path, record.identity, identity)
        return CellStore(self.path / "cells" / cell_hash(identity), identity)

    @cached_property
    def _finished(self) -> list[CellRecord]:
        """The cells that were finished when the folder was opened."""
        return read_cell_records(self.path)

    def keep_contexts(self, episodes: Iterable[Episode]) -> None:
        """Add to `contexts.jsonl` what it does not hold yet of the episodes' contexts and questions."""
        file = self.path / "contexts.jsonl"
        if self._kept is None:
            drop_torn_line(file)
            self._kept = {(record.cluster, record.episode) for record in read_lines(file, ContextRecord)}
        records = [
            context_record(episode)
            for episode in episodes
            if (hash_text(episode.context), episode.id) not in self._kept
        ]
        if records:
            append_lines(file, records)
            self._kept |= {(record.cluster, record.episode) for record in records}

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.close()


def cell_hash(identity: Mapping[str, Any]) -> str:
    """Hash of all that changes a cell's answers, and of the version of that list."""
    return hash_json({"identity_version": IDENTITY_VERSION, **identity})


class CellStore:
    """One cell's folder, made where there is none. Raises UserError where it cannot be written."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = dict(identity)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror or error}") from None
        self._file = path / "samples.jsonl"
        self._prompts = path / "prompts.jsonl"
        self._notices = path / "notices.jsonl"
        for file in (self._file, self._prompts, self._notices):
            drop_torn_line(file)

    @property
    def finished(self) -> bool:
        """Whether the cell ran to its end."""
        return (self.path / "cell.json").is_file()

    def samples(self) -> list[Sample]:
        """All samples so far."""
        return read_samples(self._file)

    def append(self, samples: Sequence[Sample], shown: Mapping[str, str | None] | None = None) -> None:
        """Add lines and sync them to disk, prompts first: a stored sample then has its prompt stored too.

        shown: by query, the context text that stood in the prompt, None where it held none.
        """
        asked, texts = self._known_prompts
        records = []
        for query, text in (shown or {}).items():
            if query in asked:  # told before a kill that its sample did not outlive
                continue
            name = None if text is None else hash_text(text)
            first = None if text is None or name in texts else clip(text)
            records.append(PromptRecord(query=query, shown=name, text=first))
            asked.add(query)
            texts.add(name)
        if records:
            append_lines(self._prompts, records)
        append_lines(self._file, samples)

    @cached_property
    def _known_prompts(self) -> tuple[set[str], set[str | None]]:
        """Queries and hashes of texts that `prompts.jsonl` holds."""
        records = read_lines(self._prompts, PromptRecord)
        return {record.query for record in records}, {record.shown for record in records}

    def finish(self, effective: Mapping[str, Any]) -> None:
        """Write `cell.json`: the cell is complete."""
        record = CellRecord(
            schema_version=SCHEMA_VERSION,
            identity=self.identity,
            effective=dict(effective),
            samples=len(self.samples()),
            finished=now(),
        )
        _replace(self.path / "cell.json", record)

    def note(self, text: str) -> None:
        """Keep a notice, so that a cell that goes on after a kill still has it."""
        append_lines(self._notices, [Notice(text=text)])

    def notices(self) -> list[str]:
        """The notices so far, each once."""
        return list(dict.fromkeys(notice.text for notice in read_lines(self._notices, Notice)))


def _replace(file: Path, record: BaseModel) -> None:
    """Raises UserError where it cannot be written."""
    try:
        write_atomic(file, record.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None


def read_run(path: Path) -> RunRecord:
    """`run.json` of a folder. Raises UserError where there is none, or one of a newer schema."""
    return read_record(path / "run.json", RunRecord)


def read_cell_records(path: Path) -> list[CellRecord]:
    """The ends of a run's finished cells, without their samples, in order of hash."""
    return [read_record(file, CellRecord) for file in sorted(path.glob("cells/*/cell.json"))]


def read_cells(path: Path) -> list[tuple[CellRecord, list[Sample]]]:
    """The finished cells of a run with their samples, in order of hash.

    Raises UserError for a cell that lacks samples it had when it ended.
    """
    cells = []
    for file in sorted(path.glob("cells/*/cell.json")):
        record, samples = read_record(file, CellRecord), _judged_samples(file.parent)
        if len(samples) != record.samples:
            raise UserError(
                f"{file.parent} is damaged: it holds {len(samples)} of its {record.samples} samples"
            )
        cells.append((record, samples))
    return cells


def _judged_samples(cell: Path) -> list[Sample]:
    """A cell's samples, the metrics of their verdicts in place of the unjudged ones."""
    return with_verdicts(read_samples(cell / "samples.jsonl"), cell / "verdicts.jsonl")


def read_samples(file: Path) -> list[Sample]:
    """Samples of a file, without a torn last line. Raises UserError for a damaged line before it."""
    return read_lines(file, Sample)


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(file: Path, kind: type[Record]) -> Record:
    """A file that holds one record. Raises UserError where there is none, or one of a newer schema."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        version = int(value["schema_version"])
    except OSError:
        raise UserError(f"{file} cannot be read: is {file.parent} a run?") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} is not one of our records") from None
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{file} has schema version {version}, newer than {SCHEMA_VERSION}: update deltamem-eval"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{file} is damaged: {error.errors()[0]['msg']}") from None
