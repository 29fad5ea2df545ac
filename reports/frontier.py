"""Accuracy against what it costs: bytes of memory a context, and prompt tokens a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from deltamem_eval.reports.averages import macro_average
from deltamem_eval.reports.groups import Group, caption_of, load_groups
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes

_COLUMNS = (
    Column("method", "method"),
    Column("window", "window"),
    Column("accuracy", "macro average % [95 %]", "percent", True),
    Column("memory_bytes", "memory per context", "bytes", False),
    Column("prompt_tokens", "prompt tokens", "count", False),
    Column("pareto_memory", "best for its memory"),
    Column("pareto_tokens", "best for its prompt"),
)
_FOOTNOTES = (
    "Best for its memory (or prompt): no other setting of the table is as accurate with less memory (fewer "
    "tokens), or more accurate with as little. By point estimates; intervals overlap where they overlap. "
    "Wrong-memory controls are left out.",
)


@dataclass(frozen=True)
class _Point:
    group: Group
    accuracy: Cell
    memory: float
    tokens: float

    @property
    def score(self) -> float:
        assert isinstance(self.accuracy.value, float)
        return self.accuracy.value


def frontier_table(paths: Sequence[Path]) -> Table:
    """One row a setting, seeds pooled, and whether it is on a front. Raises UserError as `load_groups`."""
    groups, records = load_groups(paths)
    points = [_point(group) for group in groups if group.control != "wrong-memory"]
    by_memory = pareto([(point.score, point.memory) for point in points])
    by_tokens = pareto([(point.score, point.tokens) for point in points])
    rows = tuple(
        (
            Cell(point.group.label, runs=point.group.runs),
            Cell(point.group.window_text),
            point.accuracy,
            Cell(point.memory),
            Cell(point.tokens),
            Cell("yes" if number in by_memory else None),
            Cell("yes" if number in by_tokens else None),
        )
        for number, point in enumerate(points)
    )
    caption, notes = caption_of(groups, records), (*_FOOTNOTES, *partial_notes(paths))
    return Table("Accuracy against cost", _COLUMNS, rows, caption, notes, name="frontier")


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
    contexts = {(scope, sample.cluster): sample for scope, sample in group.samples}
    memory = fmean(float(sum(sample.memory_bytes.values())) for sample in contexts.values())
    tokens = fmean(float(sample.prompt_tokens) for _, sample in group.samples)
    return _Point(group, macro_average(group), memory, tokens)
