"""Answers to questions with choices: their log-probabilities decide, nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from deltamem_eval.interface import Answer, MemoryMethod, Query
from deltamem_eval.likelihood import Scored, continuation_ids, measure, tag

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone


def answer(method: MemoryMethod, backbone: Backbone, queries: Sequence[Query]) -> list[Answer]:
    """The method's answers, in order; to a query with `choices` the likeliest one.

    Raises UserError for choices where the method does not answer through the backbone.
    """
    found: list[Answer] = []
    for choosing, group in groupby(queries, lambda query: bool(query.metadata.get("choices"))):
        asked = list(group)
        found += _chosen(method, backbone, asked) if choosing else method.answer(asked)
    return found


def _chosen(method: MemoryMethod, backbone: Backbone, queries: Sequence[Query]) -> list[Answer]:
    """Each query's likeliest choice; every choice of every query is asked in one call."""
    rows: list[Query] = []
    wanted: dict[str, Sequence[int]] = {}
    for query in queries:
        for row, ids in _rows(backbone, query, len(rows)):
            rows.append(row)
            wanted[row.stop[0]] = ids
    measured = iter(measure(method, backbone, rows, wanted))
    return [_best(query, [next(measured) for _ in query.metadata["choices"]]) for query in queries]


def _rows(backbone: Backbone, query: Query, start: int) -> list[tuple[Query, Sequence[int]]]:
    """A query for each choice, numbered from `start`, and the choice's token ids.

    All have the budget of the longest, so that a method leaves the same room beside each.
    """
    choices: list[str] = query.metadata["choices"]
    requests = query.metadata.get("choice_requests") or [(query.prompt, choice) for choice in choices]
    chat = bool(getattr(backbone.tokenizer, "chat_template", None))
    pairs = [continuation_ids(backbone, prompt, text, chat) for prompt, text in requests]
    budget = max(query.max_new_tokens, *(len(ids) for _, ids in pairs))
    rows: list[tuple[Query, Sequence[int]]] = []
    for number, (prompt, ids) in enumerate(pairs):
        stop = (tag(start + number),)
        row = replace(query, id=f"{query.id}/{number}", prompt=prompt, max_new_tokens=budget, stop=stop)
        rows.append((row, ids))
    return rows


def _best(query: Query, measured: Sequence[tuple[Answer, Scored | None]]) -> Answer:
    """The answer that the likeliest choice is, the first of equals; the first that a method did not give."""
    scores: list[Scored] = []
    for given, score in measured:
        if score is None or given.status != "ok":
            return given
        scores.append(score)
    best = max(range(len(scores)), key=lambda number: scores[number].total)
    return replace(
        measured[best][0],
        text=str(query.metadata["choices"][best]).strip(),
        choices=tuple((score.total, score.greedy) for score in scores),
    )
