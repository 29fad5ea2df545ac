"""Accuracy against what it costs: bytes of memory a context, and prompt tokens a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from deltamem_eval.reports.averages import macro_average
from deltamem_eval.reports.costs import answered, held
from deltamem_eval.reports.groups import (
    Group,
    caption_of,
    load_groups,
    task_cells,
    task_columns,
    tasks_of,
    with_task,
)
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes

_HEAD = (Column("method", "method"), Column("window", "window"))
_TAIL = (
    Column("accuracy", "macro average % [95 %]", "percent", True),
    Column("memory_bytes", "memory per context", "bytes", False),
    Column("prompt_tokens", "prompt tokens", "count", False),
    Column("pareto_memory", "best for its memory"),
    Column("pareto_tokens", "best for its prompt"),
)
_FOOTNOTES = (
    "Best for its memory (or prompt): no other setting of the table is as accurate with less memory (fewer "
    "tokens), or more accurate with as little. By point estimates; intervals overlap where they overlap. "
    "Costs are those of answers that ended well; a setting without any has none and is on no front. "
    "Wrong-memory controls are left out.",
)


@dataclass(frozen=True)
class _Point:
    group: Group
    accuracy: Cell
    memory: float | None
    tokens: float | None

    @property
    def score(self) -> float:
        assert isinstance(self.accuracy.value, float)
        return self.accuracy.value


def frontier_table(paths: Sequence[Path]) -> Table:
    """One row a setting and task, seeds pooled, and whether it is on its task's front.

    Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    points = [_point(group) for group in groups if group.control != "wrong-memory"]
    rows = [
        row
        for task in tasks_of(groups)
        for row in _rows([point for point in points if point.group.task == task], groups)
    ]
    return Table(
        "Accuracy against cost",
        (*_HEAD, *task_columns(groups), *_TAIL),
        tuple(rows),
        caption_of(groups, records),
        (*_FOOTNOTES, *partial_notes(paths)),
        name="frontier",
        within=with_task(groups, ()),
    )


def _rows(points: Sequence[_Point], groups: Sequence[Group]) -> list[tuple[Cell, ...]]:
    """One task's rows."""
    by_memory = _front([(point.score, point.memory) for point in points])
    by_tokens = _front([(point.score, point.tokens) for point in points])
    return [
        (
            Cell(point.group.label, runs=point.group.runs),
            Cell(point.group.window_text),
            *task_cells(point.group, groups),
            point.accuracy,
            Cell(point.memory),
            Cell(point.tokens),
            Cell("yes" if number in by_memory else None),
            Cell("yes" if number in by_tokens else None),
        )
        for number, point in enumerate(points)
    ]


def _front(points: Sequence[tuple[float, float | None]]) -> frozenset[int]:
    """Indices of the points on the front, of those whose cost is known."""
    known = [(number, (gain, cost)) for number, (gain, cost) in enumerate(points) if cost is not None]
    found = pareto([point for _, point in known])
    return frozenset(number for place, (number, _) in enumerate(known) if place in found)


def pareto(points: Sequence[tuple[float, float]]) -> frozenset[int]:
    """Indices of the (gain, cost) points that no other beats: equal points stay together."""
    return frozenset(
        number
        for number, (gain, cost) in enumerate(points)
        if not any(
            other_gain >= gain and other_cost <= cost and (other_gain, other_cost) != (gain, cost)
            for other_gain, other_cost in points
        )
    )


def _point(group: Group) -> _Point:
    members = list(group.samples)
    memory, samples = held(members), answered(members)
    return _Point(
        group,
        macro_average(group),
        fmean(memory) if memory else None,
        fmean(float(sample.prompt_tokens) for sample in samples) if samples else None,
    )
