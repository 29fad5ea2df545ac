"""Judging stored answers: a finished run, a model that judges, verdicts beside the samples.

Only questions of judged sources are judged, and only against the data they were asked of. Replies are kept,
so that the same judge is asked the same thing once; one that cannot be read is struck out and asked for
again. An answer that cannot be judged stays unjudged; it never counts as wrong for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from deltamem_eval.endpoint import Endpoint, EndpointError
from deltamem_eval.errors import UserError
from deltamem_eval.files import drop_torn_line, take_lock
from deltamem_eval.hashing import hash_json
from deltamem_eval.interface import Query, Task
from deltamem_eval.store import CellRecord, RunRecord, Sample, cell_hash, read_cells, read_run
from deltamem_eval.tasks.memory_agent_bench.rubrics import (
    RUBRIC_VERSION,
    NoKeyPointsError,
    NonsenseError,
    judged_chat,
    judged_summary,
)
from deltamem_eval.tasks.memory_agent_bench.sources import source_of

VERDICTS = "verdicts.jsonl"
REPLIES = "judge_replies.jsonl"
TRIES = 3  # of a judge whose reply cannot be read
GIVE_UP = 3  # answers in a row that the endpoint fails on before it is asked no more


class Replies:
    """A judge whose replies are stored in a file, one JSON line each; null strikes out the one before.

    Raises UserError for a file that is damaged or cannot be written.
    """

    def __init__(self, endpoint: Endpoint, file: Path) -> None:
        self._endpoint, self._file = endpoint, file
        self._last = ""
        self._known: dict[str, str | None] = _stored(file)

    def ask(self, prompt: str, max_tokens: int) -> str:
        """The stored reply, or a new one."""
        self._last = hash_json([self._endpoint.model, prompt, max_tokens, 0])
        reply = self._known.get(self._last)
        if reply is None:
            reply = self._endpoint.ask(prompt, max_tokens)
            self._store(reply)
        return reply

    def strike(self) -> None:
        """Forget the last reply, which could not be read: whoever asks the same again has another one."""
        self._store(None)

    def rest(self, attempt: int) -> None:
        """Wait as after a failed request, before the try of that number."""
        self._endpoint.rest(attempt)

    def _store(self, reply: str | None) -> None:
        self._known[self._last] = reply
        _append(self._file, {"key": self._last, "model": self._endpoint.model, "reply": reply})


def judge_run(
    path: Path, endpoint: Endpoint, note: Callable[[str], None] = lambda _: None
) -> tuple[int, int]:
    """Judge what a run holds; how many answers were judged, and how many stay unjudged.

    An endpoint that fails on GIVE_UP answers in a row is asked no more. Raises UserError for a folder that is
    no run, a run that another process works on or judges, one whose data are no longer to be had or are
    others now, or files that cannot be written.
    """
    record = read_run(path)
    if not any(_waiting(path)):
        return 0, 0
    with closing(take_lock(path)):
        return _judge_waiting(path, record, list(_waiting(path)), endpoint, note)


def _judge_waiting(
    path: Path,
    record: RunRecord,
    waiting: Sequence[tuple[CellRecord, Sample]],
    endpoint: Endpoint,
    note: Callable[[str], None],
) -> tuple[int, int]:
    """`judge_run` on the answers that wait for it, in a folder that is held."""
    queries = _asked(path, record, waiting)
    replies = Replies(endpoint, path / REPLIES)
    files = [_verdicts(path, cell) for cell, _ in waiting]
    for file in set(files):
        drop_torn_line(file)
    judged = failed = 0
    for file, query, (_, sample) in zip(files, queries, waiting, strict=True):
        if failed == GIVE_UP:
            note(f"the judge failed on {GIVE_UP} answers in a row and is asked no more")
            break
        try:
            verdict = _verdict(replies, query, sample, note)
        except NoKeyPointsError as error:
            note(f"{sample.query} cannot be judged: {error}")
            continue
        except EndpointError as error:
            note(f"{sample.query}: {error}")
            failed += 1
            continue
        failed = 0
        if verdict is not None:
            judged += 1
            line = {"query": sample.query, "judge": endpoint.model, "rubrics": RUBRIC_VERSION}
            _append(file, {**line, "metrics": verdict})
    return judged, len(waiting) - judged


def _waiting(path: Path) -> Iterator[tuple[CellRecord, Sample]]:
    """Samples of judged sources without a verdict, with their cells."""
    for record, samples in read_cells(path):
        for sample in samples:
            if sample.status == "ok" and sample.metrics.get("unjudged"):
                yield record, sample


def _verdicts(path: Path, cell: CellRecord) -> Path:
    """The file that a cell's verdicts go into."""
    return path / "cells" / cell_hash(cell.identity) / VERDICTS


def _asked(path: Path, record: RunRecord, waiting: Sequence[tuple[CellRecord, Sample]]) -> list[Query]:
    """The question of each sample, made again from the run's data.

    Raises UserError where those are not the data that it was asked of.
    """
    from deltamem_eval.session import Request, make_task

    request = Request.from_record(record.request)
    task = make_task(request)
    told = _data(task)
    for cell, _ in waiting:
        _check_data(path, cell, told)
    queries: dict[tuple[Any, str], Query] = {
        (seed, query.id): query
        for seed in (request.seeds if task.seeded else request.seeds[:1])
        for episode in task.episodes(seed, request.limit)
        for query in episode.queries
    }
    return [
        _same(path, queries.get((cell.identity.get("seed"), sample.query)), sample)
        for cell, sample in waiting
    ]


class _NoBackbone:
    """What a task is told where there is no model: anything goes, and a token is a character."""

    name = ""
    positions = 2**40

    def length(self, text: str) -> int:
        return len(text)

    def last(self, text: str, tokens: int) -> str:
        return text[max(len(text) - tokens, 0) :]


def _data(task: Task) -> dict[str, Any]:
    """The task's identity as JSON has it, without what a backbone decides; the task is prepared by this."""
    before = task.identity()
    task.prepare(_NoBackbone())
    told = {name: value for name, value in task.identity().items() if before.get(name) == value}
    return dict(json.loads(json.dumps(told)))


def _check_data(path: Path, cell: CellRecord, told: Mapping[str, Any]) -> None:
    """Raises UserError where a cell's data were not those that `told` tells of."""
    was = cell.identity.get("data") or {}
    fields = sorted(name for name, value in told.items() if was.get(name) != value)
    if fields:
        raise UserError(
            f"{path} was answered with other data than there are now ({', '.join(fields)} differ): judge it "
            "with its data as they were"
        )


def _same(path: Path, query: Query | None, sample: Sample) -> Query:
    """The question that a sample answers. Raises UserError where there is none or it has other answers."""
    if query is None:
        raise UserError(f"{path} asked {sample.query}, which is no longer in its data")
    if list(query.targets) != sample.targets:
        raise UserError(f"{path}: {sample.query} has other acceptable answers now than when it was asked")
    return query


def _verdict(
    replies: Replies, query: Query, sample: Sample, note: Callable[[str], None]
) -> dict[str, float] | None:
    """The judged metrics of one answer, or None where the judge answers nonsense to the end.

    Raises EndpointError where it does not answer, NoKeyPointsError where there is nothing to judge by.
    """
    for attempt in range(TRIES):
        replies.rest(attempt)
        try:
            return _judged(replies.ask, query, sample)
        except NonsenseError as error:  # of the reply that was asked for last
            replies.strike()
            note(f"{sample.query}: the judge's reply is no verdict ({error})")
    return None


def _judged(ask: Callable[[str, int], str], query: Query, sample: Sample) -> dict[str, float]:
    metadata = query.metadata
    question = str(metadata.get("question", query.prompt))
    if source_of(sample.source).prefix == "infbench_sum":
        points = [str(point) for point in metadata.get("keypoints") or () if str(point).strip()]
        found = judged_summary(ask, query.targets, sample.answer, points)
        return {**found, "accuracy": found["judge_f1"]}
    kind, name = str(metadata.get("question_types", "")), str(metadata.get("question_ids", ""))
    right = judged_chat(ask, question, query.targets, sample.answer, kind, "_abs" in name)
    return {"judge_right": right, "accuracy": right}


def _append(file: Path, value: Mapping[str, Any]) -> None:
    """Add a line and sync the file to disk. Raises UserError where that cannot be done."""
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(value) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None


def _stored(file: Path) -> dict[str, str | None]:
    """A file's replies by key, the last of each, None where it was struck out.

    Raises UserError for a file that is damaged or cannot be written.
    """
    drop_torn_line(file)
    if not file.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        return {str(line["key"]): None if line["reply"] is None else str(line["reply"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: a line is no stored reply ({error})") from None
