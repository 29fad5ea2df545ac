"""Judging stored answers: a finished run, a model that judges, verdicts beside the samples.

Only questions of judged sources are judged. Replies are kept, so that the same judge is asked the same thing
once. An answer that cannot be judged stays unjudged; it never counts as wrong for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deltamem_eval.endpoint import Endpoint, EndpointError
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.interface import Query
from deltamem_eval.store import RunRecord, Sample, read_cells, read_run
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
    """A judge whose replies are stored in a file, one JSON line each."""

    def __init__(self, endpoint: Endpoint, file: Path) -> None:
        self._endpoint, self._file = endpoint, file
        self._known = {line["key"]: str(line["reply"]) for line in _lines(file)}

    def ask(self, prompt: str, max_tokens: int, attempt: int = 0) -> str:
        """The stored reply, or a new one. attempt: another one is another reply."""
        key = hash_json([self._endpoint.model, prompt, max_tokens, attempt])
        if key not in self._known:
            reply = self._endpoint.ask(prompt, max_tokens)
            self._known[key] = reply
            _append(self._file, {"key": key, "model": self._endpoint.model, "reply": reply})
        return self._known[key]


def judge_run(
    path: Path, endpoint: Endpoint, note: Callable[[str], None] = lambda _: None
) -> tuple[int, int]:
    """Judge what a run holds; how many answers were judged, and how many stay unjudged.

    An endpoint that fails on GIVE_UP answers in a row is asked no more. Raises UserError for a folder that is
    no run, a run whose data are no longer to be had, or files that cannot be written.
    """
    record, waiting = read_run(path), list(_waiting(path))
    if not waiting:
        return 0, 0
    queries = _queries(record)
    replies = Replies(endpoint, path / REPLIES)
    judged = failed = 0
    for file, sample in waiting:
        if failed == GIVE_UP:
            note(f"the judge failed on {GIVE_UP} answers in a row and is asked no more")
            break
        query = queries.get(sample.query)
        if query is None:
            raise UserError(f"{path} asked {sample.query}, which is no longer in its data")
        try:
            verdict = _verdict(replies, query, sample, note)
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


def _queries(record: RunRecord) -> dict[str, Query]:
    """What a run asked, made again from its data."""
    from deltamem_eval.session import Request, make_task

    request = Request.from_record(record.request)
    task = make_task(request)
    return {
        query.id: query
        for seed in (request.seeds if task.seeded else request.seeds[:1])
        for episode in task.episodes(seed, request.limit)
        for query in episode.queries
    }


def _waiting(path: Path) -> Iterator[tuple[Path, Sample]]:
    """Samples of judged sources without a verdict, with the file that theirs goes into."""
    from deltamem_eval.store import cell_hash

    for record, samples in read_cells(path):
        file = path / "cells" / cell_hash(record.identity) / VERDICTS
        for sample in samples:
            if sample.status == "ok" and sample.metrics.get("unjudged"):
                yield file, sample


def _verdict(
    replies: Replies, query: Query, sample: Sample, note: Callable[[str], None]
) -> dict[str, float] | None:
    """The judged metrics of one answer, or None where the judge answers nonsense to the end or there is
    nothing to judge a summary by.

    Raises EndpointError where the judge does not answer.
    """
    for attempt in range(TRIES):
        try:
            return _judged(partial(replies.ask, attempt=attempt), query, sample)
        except NonsenseError as error:
            note(f"{sample.query}: the judge's reply is no verdict ({error})")
        except NoKeyPointsError as error:
            note(f"{sample.query} cannot be judged: {error}")
            break
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
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(value) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {file}: {error.strerror or error}") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    """Whole lines of a file; a torn last one is passed over. Raises UserError for a damaged one before it."""
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1] if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}") from None
