"""Our accuracy beside the paper's where backbone, task and protocol are the same; else the reason why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.reports.groups import Group, Members, caption_of, load_groups
from deltamem_eval.reports.paper import printed
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.stats import cluster_bootstrap
from deltamem_eval.store import CellRecord, Sample

PROTOCOL = "delta-mem-release"
_SPLITS = ("Accurate_Retrieval", "Test_Time_Learning", "Long_Range_Understanding", "Conflict_Resolution")
_CHOOSING = ("bm25-rag", "llmlingua2", "memorybank")  # a part of the context for the prompt
_COLUMNS = (
    Column("method", "method"),
    Column("window", "window"),
    Column("backbone", "backbone"),
    Column("measure", "measure"),
    Column("ours", "ours % [95 %]", "percent", True),
    Column("paper", "paper %", "percent", True),
    Column("difference", "ours − paper [95 %]", "points"),
)
_FOOTNOTES = (
    "The paper's numbers are in results/paper.csv; it prints no intervals, so the difference's is ours. "
    "Its averages over MemoryAgentBench weigh questions, not categories, and so do ours here. Wrong-memory "
    "and closed-book controls are left out; full-context is the paper's vanilla.",
)


@dataclass(frozen=True)
class Measure:
    """One of the paper's columns: which samples of which task it averages, and which metric of theirs."""

    task: str
    shown: str
    keeps: Callable[[Sample, Mapping[str, Any]], bool] = lambda sample, data: True
    metric: str = "accuracy"


def _category(name: str) -> Callable[[Sample, Mapping[str, Any]], bool]:
    return lambda sample, data: sample.category == name


def _kind(name: str) -> Callable[[Sample, Mapping[str, Any]], bool]:
    return lambda sample, data: sample.extras.get("question_types") == name


def _lm_eval(name: str) -> Callable[[Sample, Mapping[str, Any]], bool]:
    return lambda sample, data: str(data.get("task", "")).startswith(name)


_MAB, _LOCOMO = "memory-agent-bench", "locomo"
MEASURES: Mapping[str, Measure] = {
    "mab_avg": Measure(_MAB, "MemoryAgentBench"),
    "mab_ar": Measure(_MAB, "accurate retrieval", _category("accurate-retrieval")),
    "mab_ttl": Measure(_MAB, "test-time learning", _category("test-time-learning")),
    "mab_lru": Measure(_MAB, "long-range understanding", _category("long-range-understanding")),
    "mab_sf": Measure(_MAB, "selective forgetting", _category("selective-forgetting")),
    "hotpotqa_em": Measure("hotpotqa", "HotpotQA EM"),
    "hotpotqa_f1": Measure("hotpotqa", "HotpotQA F1", metric="f1"),
    "locomo_avg": Measure(_LOCOMO, "LoCoMo"),
    "locomo_multi": Measure(_LOCOMO, "LoCoMo multi-hop", _kind("multi-hop")),
    "locomo_temporal": Measure(_LOCOMO, "LoCoMo temporal", _kind("temporal")),
    "locomo_open": Measure(_LOCOMO, "LoCoMo open-domain", _kind("open-domain")),
    "locomo_single": Measure(_LOCOMO, "LoCoMo single-hop", _kind("single-hop")),
    "gpqa_d": Measure("lm-eval", "GPQA-diamond", _lm_eval("gpqa_diamond")),
    "ifeval": Measure("lm-eval", "IFEval", _lm_eval("ifeval")),
}


def paper_table(paths: Sequence[Path]) -> Table:
    """One row for each of our settings and each of the paper's measures that its runs hold.

    Where the two cannot be compared there is a note in place of our number; where nothing can, the caption
    says why and there is no row. Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    rows = [row for group in groups for row in _rows(group, _records_of(group, records))]
    caption = (
        caption_of(groups, records)
        if rows
        else f"Nothing stands beside the paper's numbers: {_why(records)}."
    )
    return Table(
        "Against the paper", _COLUMNS, tuple(rows), caption, _FOOTNOTES if rows else (), name="against-paper"
    )


def _records_of(group: Group, records: Sequence[CellRecord]) -> list[CellRecord]:
    """The cells that a group pools."""
    return [
        record
        for record in records
        if all(record.identity.get(name) == value for name, value in group.setting.items())
    ]


def _why(records: Sequence[CellRecord]) -> str:
    models = sorted({str(record.identity["model"]) for record in records})
    tasks = sorted({str(record.identity["task"]) for record in records})
    known = sorted({backbone for backbone, _, _ in printed()})
    if not set(models) & set(known):
        return f"the backbone is {', '.join(models)}, and the paper's are {', '.join(known)}"
    return f"the paper has no number for task {', '.join(tasks)} by the same method"


def _rows(group: Group, records: Sequence[CellRecord]) -> list[tuple[Cell, ...]]:
    numbers, backbone = printed(), str(records[0].identity["model"])
    by_task: defaultdict[str, list[CellRecord]] = defaultdict(list)
    for record in records:
        by_task[str(record.identity["task"])].append(record)
    rows = []
    for name, measure in MEASURES.items():
        number = numbers.get((backbone, group.method, name))
        cells = by_task.get(measure.task, [])
        if number is None or not cells or group.control in ("closed-book", "wrong-memory"):
            continue
        members = [
            (scope, sample)
            for scope, sample in group.samples
            if scope.startswith(f"{measure.task}/") and measure.keeps(sample, cells[0].identity["data"])
        ]
        if members:
            hindrance = _hindrance(measure, cells) or _cut_off(group, members)
            rows.append(_row(group, backbone, measure, members, number / 100, hindrance))
    return rows


def _hindrance(measure: Measure, cells: Sequence[CellRecord]) -> str | None:
    """Why a measure of these cells is not the paper's; None where it is."""
    data: list[Mapping[str, Any]] = [cell.identity["data"] for cell in cells]
    reason = _OTHERWISE.get(measure.task, lambda _: None)
    found = next(filter(None, map(reason, data)), None)
    if found is None and any(cell.identity.get("limit") for cell in cells):
        return "Limited to some of the episodes."
    return found


def _cut_off(group: Group, members: Members) -> str | None:
    """Why a window is not the paper's: there the whole context, as the protocol leaves it, is in the prompt
    of every method that chooses no part of it.
    """
    window = group.window
    if window is None or group.method in _CHOOSING:
        return None
    if any(sample.context_tokens >= window for _, sample in members):
        return f"window {window} did not hold every context: the paper's prompts do."
    return None


def _other_benchmark(data: Mapping[str, Any]) -> str | None:
    """Why a cell of MemoryAgentBench is not asked as the paper's was."""
    protocol, splits = data.get("protocol"), data.get("sha256") or {}
    if protocol != PROTOCOL:
        return f"protocol {protocol}: the paper's is {PROTOCOL}."
    if data.get("sources"):
        return f"Only sources {', '.join(data['sources'])} were asked: the paper's numbers are of all."
    if lacking := [split for split in _SPLITS if split not in splits]:
        return f"Without split {', '.join(lacking)}: the paper's numbers are of all four."
    if isinstance(prompts := data.get("prompts"), Mapping):
        return f"prompts {prompts.get('name')}: the paper's published scripts do not use the benchmark's own."
    return None


def _other_dialogues(data: Mapping[str, Any]) -> str | None:
    """Why a cell of LoCoMo is not asked as the paper's was."""
    if data.get("context") != "whole":
        return f"context {data.get('context')}: the paper's is the whole dialogue."
    if list(categories := data.get("categories") or ()) != [1, 2, 3, 4]:
        return f"categories {', '.join(map(str, categories))}: the paper's are 1, 2, 3, 4."
    return None


_OTHERWISE: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    _MAB: _other_benchmark,
    _LOCOMO: _other_dialogues,
}


def _row(
    group: Group, backbone: str, measure: Measure, members: Members, number: float, hindrance: str | None
) -> tuple[Cell, ...]:
    head = (Cell(group.label, runs=group.runs), Cell(group.window_text), Cell(backbone), Cell(measure.shown))
    if hindrance is not None:
        return (*head, Cell(None, note=hindrance), Cell(number), Cell(None))
    found = cluster_bootstrap(
        [sample.metrics.get(measure.metric, 0.0) if sample.status == "ok" else 0.0 for _, sample in members],
        [f"{scope}/{sample.cluster}" for scope, sample in members],
    )
    low, high = (None if end is None else end - number for end in (found.low, found.high))
    return (
        *head,
        Cell(found.estimate, found.low, found.high, found.n, runs=group.runs),
        Cell(number),
        Cell(found.estimate - number, low, high, found.n),
    )
