"""How accuracy falls: with distance since the write, associations held, and updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import floor, log2
from pathlib import Path
from statistics import median

from deltamem_eval.reports.groups import (
    Group,
    Members,
    accuracy_of,
    caption_of,
    load_groups,
    task_cells,
    task_columns,
    with_task,
)
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import cluster_bootstrap, intervals_line
from deltamem_eval.store import Sample

MEASURES = {
    "distance": "tokens since the write",
    "associations": "associations held",
    "updates": "times the fact was updated",
}
_HEAD = (Column("method", "method"), Column("window", "window"))
_TAIL = (
    Column("measure", "against"),
    Column("at", "at", "count"),
    Column("span", "values"),
    Column("accuracy", "accuracy % [95 %]", "percent", True),
    Column("capacity", "associations a state holds", "count"),
)
_FOOTNOTES = (
    "Distances are pooled by powers of two and shown at their median. A measure takes in only the sources in "
    "which it varies, so that kinds of question do not mix with it. "
    f"{intervals_line()} A state of rank r holds at most r associations exactly (per state and layer); no "
    "value: the method has no such bound. Wrong-memory controls are left out.",
)


def retention_table(paths: Sequence[Path]) -> Table:
    """One row for each setting and task, measure and value of it. Raises UserError as `load_groups`."""
    groups, records = load_groups(paths)
    shown = [group for group in groups if group.control != "wrong-memory"]
    varied = {measure: _varied(shown, measure) for measure in MEASURES}
    rows = [
        row
        for group in shown
        for measure, sources in varied.items()
        for row in _rows(group, measure, sources, task_cells(group, groups))
    ]
    return Table(
        "Retention",
        (*_HEAD, *task_columns(groups), *_TAIL),
        tuple(rows),
        caption_of(groups, records),
        (*_FOOTNOTES, *partial_notes(paths)),
        name="retention",
        within=with_task(groups, ()),
    )


def capacities(table: Table) -> Mapping[str, int]:
    """Method label to the associations that one of its states holds, of a retention table."""
    keys = [column.key for column in table.columns]
    method, bound = keys.index("method"), keys.index("capacity")
    found: dict[str, int] = {}
    for row in table.rows:
        value = row[bound].value
        if isinstance(value, int | float):
            found[str(row[method].value)] = int(value)
    return found


def _varied(groups: Sequence[Group], measure: str) -> frozenset[tuple[str, str]]:
    """Sources of a task whose samples differ in the measure."""
    found: defaultdict[tuple[str, str], set[float]] = defaultdict(set)
    for group in groups:
        for _, sample in group.samples:
            if (value := _value(sample, measure)) is not None:
                found[group.task, sample.source].add(value)
    return frozenset(place for place, values in found.items() if len(values) > 1)


def _value(sample: Sample, measure: str) -> float | None:
    found = sample.extras.get(measure)
    return float(found) if isinstance(found, int | float) else None


def _rows(
    group: Group, measure: str, sources: frozenset[tuple[str, str]], task: tuple[Cell, ...]
) -> list[tuple[Cell, ...]]:
    pools: defaultdict[float, Members] = defaultdict(list)
    for scope, sample in group.samples:
        value = _value(sample, measure)
        if value is not None and (group.task, sample.source) in sources:
            pools[_pool(value, measure)].append((scope, sample))
    return [_row(group, measure, members, task) for _, members in sorted(pools.items())]


def _pool(value: float, measure: str) -> float:
    if measure != "distance":
        return value
    return -1.0 if value < 1 else float(floor(log2(value)))


def _row(group: Group, measure: str, members: Members, task: tuple[Cell, ...]) -> tuple[Cell, ...]:
    values = [float(sample.extras[measure]) for _, sample in members]
    found = cluster_bootstrap(
        [accuracy_of(sample) for _, sample in members],
        [f"{scope}/{sample.cluster}" for scope, sample in members],
    )
    low, high = min(values), max(values)
    capacity = group.effective.get("capacity")
    return (
        Cell(group.label, runs=group.runs),
        Cell(group.window_text),
        *task,
        Cell(measure),
        Cell(float(median(values))),
        Cell(f"{low:g}" if low == high else f"{low:g}–{high:g}"),
        Cell(found.estimate, found.low, found.high, found.n),
        Cell(None if capacity is None else int(capacity)),
    )
