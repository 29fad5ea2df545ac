"""Runs cells: write a context once, snapshot, answer every question from the snapshot, store each answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from deltamem_eval.cells import Cell
from deltamem_eval.controls import donors
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import (
    Answer,
    Episode,
    MemoryMethod,
    MethodSettings,
    Query,
    Snapshot,
    Task,
)
from deltamem_eval.registry import METHODS
from deltamem_eval.store import CellStore, RunStore, Sample

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


class Progress(Protocol):
    """What the runner tells while it works."""

    def cell(self, cell: Cell, questions: int, done: int) -> None:
        """A cell begins; `done` of its questions were answered before."""

    def writing(self, episode: Episode, tokens: int) -> None:
        """A context of that many tokens is being written."""

    def wrote(self, episode: Episode, tokens: int, seconds: float) -> None:
        """It was written."""

    def answered(self, episode: Episode, count: int) -> None:
        """Questions of a context were answered."""

    def notice(self, text: str) -> None:
        """Something the user should know."""


def cell_identity(cell: Cell, task: Task, backbone: Backbone, limit: int | None) -> dict[str, Any]:
    """All that changes the cell's answers."""
    kind = METHODS.load(cell.method)
    return {
        "method": cell.method,
        "control": cell.control,
        "task": cell.task,
        "data": task.identity(),
        "model": backbone.name,
        "weights": backbone.identity,
        "dtype": backbone.dtype,
        "adapter": None if cell.adapter is None else kind.adapter_hash(cell.adapter),
        "options": {**kind.defaults, **cell.options},
        "parts": kind.parts(cell.options),
        "window": cell.window,
        "seed": cell.seed,
        "limit": limit,
        "prompts": _prompt_version(),
    }


def _prompt_version() -> int:
    from deltamem_eval.methods.prompt import PROMPT_VERSION

    return PROMPT_VERSION


def make_method(cell: Cell, backbone: Backbone) -> MemoryMethod:
    """The cell's method, ready. Raises UserError where it does not fit the backbone."""
    settings = MethodSettings(cell.window, cell.seed, cell.adapter, cell.options)
    return METHODS.load(cell.method)(backbone, settings)


def run_cell(
    cell: Cell,
    task: Task,
    episodes: Sequence[Episode],
    backbone: Backbone,
    store: RunStore,
    identity: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Answer whatever the store does not hold yet; a finished cell is left alone."""
    place = store.cell(identity)
    if place.finished:
        return
    store.keep_contexts(episodes)
    done = {sample.query for sample in place.samples()}
    total = sum(len(episode.queries) for episode in episodes)
    progress.cell(cell, total, len(done))
    others = donors(episodes) if cell.control == "wrong-memory" else None
    waiting = [
        (episode, [query for query in episode.queries if query.id not in done]) for episode in episodes
    ]
    try:
        method = make_method(cell, backbone)
    except UserError:
        raise
    except Exception as error:  # a plug-in may raise anything
        for episode, queries in waiting:
            _store_failed(task, episode, queries, _failure(error), place, progress)
        place.finish(_setting(cell.method, backbone))
        return
    try:
        for episode, queries in waiting:
            if queries:
                source = others[episode.id] if others is not None else episode
                _run_episode(method, task, episode, source, queries, backbone, place, progress)
        effective = _effective(method, backbone, cell)
    finally:
        method.close()
    place.finish(effective)
    for text in backbone.notices:
        progress.notice(text)
    backbone.notices.clear()


def _effective(method: MemoryMethod, backbone: Backbone, cell: Cell) -> dict[str, Any]:
    setting = _setting(method.label(cell.options), backbone) | {"capacity": method.capacity}
    try:
        added = asdict(method.added(backbone.shape(), cell.options))
    except Exception as error:  # a plug-in that cannot count itself has answered all the same
        setting["notices"].append(f"{cell.method}: added parameters unknown: {type(error).__name__}: {error}")
        return setting
    return {**setting, "overhead": {**added, "backbone": backbone.parameters()}}


def _setting(label: str, backbone: Backbone) -> dict[str, Any]:
    """What was effective in a cell, whatever its method."""
    return {
        "label": label,
        "overhead": {},
        "batch_size": backbone.batch_size,
        "device": backbone.devices,
        "notices": list(backbone.notices),
    }


def _run_episode(
    method: MemoryMethod,
    task: Task,
    episode: Episode,
    source: Episode | None,
    queries: list[Query],
    backbone: Backbone,
    place: CellStore,
    progress: Progress,
) -> None:
    """Write one context and answer its waiting questions, storing them batch by batch."""
    if source is None:
        reason = "no other context to take the memory from"
        skipped = Answer("", 0, 0, status="skipped", error=reason)
        _store_failed(task, episode, queries, skipped, place, progress)
        return
    tokens = backbone.length(source.context)
    progress.writing(episode, tokens)
    began = time.perf_counter()
    try:
        method.reset()
        for chunk in source.chunks:
            method.write(chunk)
        snapshot = method.snapshot()
    except UserError:
        raise
    except Exception as error:  # one bad cell must not take the others with it
        _store_failed(task, episode, queries, _failure(error), place, progress)
        return
    write_seconds = time.perf_counter() - began
    progress.wrote(episode, tokens, write_seconds)
    size = max(backbone.batch_size, 1)
    for start in range(0, len(queries), size):
        batch = queries[start : start + size]
        began = time.perf_counter()
        answers, held = _answers(method, snapshot, batch)
        seconds = (time.perf_counter() - began) / len(batch)
        pairs = list(zip(batch, answers, strict=True))
        place.append(
            [_sample(task, episode, query, answer, write_seconds, seconds, held) for query, answer in pairs],
            {query.id: answer.visible for query, answer in pairs if answer.status == "ok"},
        )
        progress.answered(episode, len(batch))


def _answers(
    method: MemoryMethod, snapshot: Snapshot, queries: list[Query]
) -> tuple[list[Answer], dict[str, int]]:
    """The answers from a snapshot, and the bytes held for the context."""
    try:
        method.restore(snapshot)
        answers = method.answer(queries)
        if len(answers) != len(queries):
            raise ValueError(f"{len(answers)} answers to {len(queries)} questions")
        return answers, asdict(method.footprint())
    except UserError:
        raise
    except Exception as error:  # counted as wrong and shown, never dropped
        return [_failure(error)] * len(queries), {}


def _store_failed(
    task: Task,
    episode: Episode,
    queries: list[Query],
    answer: Answer,
    place: CellStore,
    progress: Progress,
) -> None:
    """Store the same failure or skip for each question."""
    place.append([_sample(task, episode, query, answer, 0.0, 0.0, {}) for query in queries])
    progress.answered(episode, len(queries))


def _failure(error: Exception) -> Answer:
    from deltamem_eval.backbone import is_out_of_memory

    text = f"{type(error).__name__}: {error}"
    return Answer("", 0, 0, status="oom" if is_out_of_memory(error) else "failed", error=text)


def _sample(
    task: Task,
    episode: Episode,
    query: Query,
    answer: Answer,
    write_seconds: float,
    answer_seconds: float,
    held: dict[str, int],
) -> Sample:
    metadata = query.metadata
    metrics = task.score(query, answer.text) if answer.status == "ok" else {}
    broken = _not_numbers(metrics)
    extras = (
        "associations",
        "updates",
        "distance",
        "question_types",
        "context_tokens",
        "context_cut",
        "gold_survives",
    )
    return Sample(
        episode=episode.id,
        query=query.id,
        source=episode.source,
        category=episode.category,
        cluster=hash_text(episode.context or query.id),  # questions without a context share none
        status="failed" if broken else answer.status,
        error=broken or answer.error,
        answer=answer.text,
        targets=list(query.targets),
        metrics={} if broken else metrics,
        prompt_hash=answer.prompt_hash,
        target_hash=hash_json(list(query.targets)),
        prompt_tokens=answer.prompt_tokens,
        new_tokens=answer.new_tokens,
        context_tokens=answer.context_tokens,
        evidence=_share(metadata.get("evidence"), answer.visible),
        gold_visible=_visible(query.targets, answer.visible),
        chance=metadata.get("chance"),
        selection=metadata.get("selection"),
        write_seconds=write_seconds,
        answer_seconds=answer_seconds,
        memory_bytes=held,
        extras={name: metadata[name] for name in extras if name in metadata},
    )


def _not_numbers(metrics: Mapping[str, float]) -> str | None:
    """What is wrong with metrics that are no finite numbers; None where all are."""
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not isfinite(value)]
    return f"the task's score is no number: {', '.join(wrong)}" if wrong else None


def _share(evidence: list[str] | None, visible: str | None) -> float | None:
    """Share of the passages that stand in the visible text; None where either is not there."""
    if not evidence or visible is None:
        return None
    return sum(passage.strip() in visible for passage in evidence) / len(evidence)


def _visible(targets: Sequence[str], visible: str | None) -> float | None:
    return None if visible is None else float(any(target in visible for target in targets))
