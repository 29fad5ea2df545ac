"""Judging stored answers: a finished run, a model that judges, verdicts beside the samples.

Only questions of judged sources are judged. Replies are kept, so that the same judge is asked the same thing
once. An answer that cannot be judged stays unjudged; it never counts as wrong for that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from deltamem_eval.endpoint import Endpoint, EndpointError
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.interface import Query
from deltamem_eval.store import Sample, read_cells, read_run
from deltamem_eval.tasks.memory_agent_bench.rubrics import (
    RUBRIC_VERSION,
    NonsenseError,
    judged_chat,
    judged_summary,
)
from deltamem_eval.tasks.memory_agent_bench.sources import source_of

VERDICTS = "verdicts.jsonl"
REPLIES = "judge_replies.jsonl"
TRIES = 3  # of a judge whose reply cannot be read


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
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "model": self._endpoint.model, "reply": reply}) + "\n")
        return self._known[key]


def judge_run(
    path: Path, endpoint: Endpoint, note: Callable[[str], None] = lambda _: None
) -> tuple[int, int]:
    """Judge what a run holds; how many answers were judged, and how many stay unjudged.

    Raises UserError for a folder that is no run or a run whose data are no longer to be had.
    """
    from deltamem_eval.session import Request, make_task

    record = read_run(path)
    fields = {name: value for name, value in record.request.items() if name in Request.__dataclass_fields__}
    lists = {name: tuple(fields[name]) for name in ("methods", "windows", "seeds")}
    task = make_task(Request(**{**fields, **lists}))
    queries = {
        query.id: query
        for seed in (lists["seeds"] if task.seeded else lists["seeds"][:1])
        for episode in task.episodes(seed, fields.get("limit"))
        for query in episode.queries
    }
    replies = Replies(endpoint, path / REPLIES)
    judged = left = 0
    for file, sample in _waiting(path):
        query = queries.get(sample.query)
        if query is None:
            raise UserError(f"{path} asked {sample.query}, which is no longer in its data")
        verdict = _verdict(replies, query, sample, note)
        if verdict is None:
            left += 1
            continue
        judged += 1
        line = {"query": sample.query, "judge": endpoint.model, "rubrics": RUBRIC_VERSION, "metrics": verdict}
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    return judged, left


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
    """The judged metrics of one answer, or None where the judge fails or answers nonsense to the end."""
    for attempt in range(TRIES):
        try:
            return _judged(partial(replies.ask, attempt=attempt), query, sample)
        except NonsenseError as error:
            note(f"{sample.query}: the judge's reply is no verdict ({error})")
        except EndpointError as error:
            note(f"{sample.query}: {error}")
            return None
    return None


def _judged(ask: Callable[[str, int], str], query: Query, sample: Sample) -> dict[str, float]:
    metadata = query.metadata
    question = str(metadata.get("question", query.prompt))
    if source_of(sample.source).prefix == "infbench_":
        points = [str(point) for point in metadata.get("keypoints") or ()]
        found = judged_summary(ask, query.targets, sample.answer, points)
        return {**found, "accuracy": found["judge_f1"]}
    kind, name = str(metadata.get("question_types", "")), str(metadata.get("question_ids", ""))
    right = judged_chat(ask, question, query.targets, sample.answer, kind, name.endswith("_abs"))
    return {"judge_right": right, "accuracy": right}


def _lines(file: Path) -> list[dict[str, Any]]:
    """Whole lines of a file; a torn last one is passed over."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1] if line]
