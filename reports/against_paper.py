"""Our accuracy beside the paper's where backbone, task and protocol are the same; else the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.reports.groups import Group, Members, caption_of, load_groups, setting_of, task_of
from deltamem_eval.reports.paper import printed
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.stats import cluster_bootstrap
from deltamem_eval.store import CellRecord, Sample, cell_hash, read_cell_records, read_run
from deltamem_eval.suites import SUITES

PROTOCOL = "delta-mem-release"
_SPLITS = ("Accurate_Retrieval", "Test_Time_Learning", "Long_Range_Understanding", "Conflict_Resolution")
_DISTRACTOR = 7405  # questions of HotpotQA's distractor dev set
_LM_EVAL = {part.task: part.options for part in SUITES["paper"].parts if part.kind == "lm-eval"}
_CHOOSING = ("bm25-rag", "llmlingua2", "memorybank")  # a part of the context for the prompt
_SAMPLED = (
    "Decoded greedily, as everything here; δ-mem's release samples LoCoMo's answers (temperature 0.4, top_p "
    "0.9, top_k 10)."
)
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


def _is_lm_eval(task: str) -> bool:
    """Whether a task's name is that of one of lm-eval's."""
    return task.startswith("lm-eval:")


@dataclass(frozen=True)
class Measure:
    """One of the paper's columns: which samples of which task it averages, and which metric of theirs.

    task: its name; of lm-eval's tasks how the names of its variants begin. remark: what stands beside our
    number, where it was not made in all as the paper's.
    """

    task: str
    shown: str
    keeps: Callable[[Sample], bool] = lambda sample: True
    metric: str = "accuracy"
    remark: str | None = None

    def is_of(self, task: str) -> bool:
        """Whether it is a measure of a task, or of one that a reader may take for it."""
        return task == self.task or (_is_lm_eval(self.task) and task.startswith(self.task))


def _category(name: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.category == name


def _kind(name: str) -> Callable[[Sample], bool]:
    return lambda sample: sample.extras.get("question_types") == name


_MAB, _LOCOMO, _HOTPOTQA = "memory-agent-bench", "locomo", "hotpotqa"
MEASURES: Mapping[str, Measure] = {
    "mab_avg": Measure(_MAB, "MemoryAgentBench"),
    "mab_ar": Measure(_MAB, "accurate retrieval", _category("accurate-retrieval")),
    "mab_ttl": Measure(_MAB, "test-time learning", _category("test-time-learning")),
    "mab_lru": Measure(_MAB, "long-range understanding", _category("long-range-understanding")),
    "mab_sf": Measure(_MAB, "selective forgetting", _category("selective-forgetting")),
    "hotpotqa_em": Measure(_HOTPOTQA, "HotpotQA EM", metric="release_exact_match"),
    "hotpotqa_f1": Measure(_HOTPOTQA, "HotpotQA F1", metric="release_f1"),
    "locomo_avg": Measure(_LOCOMO, "LoCoMo", remark=_SAMPLED),
    "locomo_multi": Measure(_LOCOMO, "LoCoMo multi-hop", _kind("multi-hop"), remark=_SAMPLED),
    "locomo_temporal": Measure(_LOCOMO, "LoCoMo temporal", _kind("temporal"), remark=_SAMPLED),
    "locomo_open": Measure(_LOCOMO, "LoCoMo open-domain", _kind("open-domain"), remark=_SAMPLED),
    "locomo_single": Measure(_LOCOMO, "LoCoMo single-hop", _kind("single-hop"), remark=_SAMPLED),
    "gpqa_d": Measure("lm-eval:gpqa_diamond", "GPQA-diamond"),
    "ifeval": Measure("lm-eval:ifeval", "IFEval"),
}


def paper_table(paths: Sequence[Path]) -> Table:
    """One row for each of our settings and each of the paper's measures that its runs hold.

    Where the two cannot be compared there is a note in place of our number; where nothing can, the caption
    says why and there is no row. Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    included = _included(paths)
    rows = [row for group in groups for row in _rows(group, _records_of(group, records), included)]
    caption = (
        caption_of(groups, records)
        if rows
        else f"Nothing stands beside the paper's numbers: {_why(records)}."
    )
    return Table(
        "Against the paper",
        _COLUMNS,
        tuple(rows),
        caption,
        _FOOTNOTES if rows else (),
        name="against-paper",
        within=("backbone", "measure"),
    )


def _records_of(group: Group, records: Sequence[CellRecord]) -> list[CellRecord]:
    """The cells that a group pools."""
    return [record for record in records if setting_of(record.identity) == group.setting]


def _included(paths: Sequence[Path]) -> frozenset[str]:
    """Hashes of the cells whose lm-eval task came from a folder of the user's."""
    return frozenset(
        cell_hash(record.identity)
        for path in paths
        if (read_run(path).request.get("task_options") or {}).get("include_path")
        for record in read_cell_records(path)
    )


def _why(records: Sequence[CellRecord]) -> str:
    models = sorted({str(record.identity["model"]) for record in records})
    tasks = sorted({task_of(record.identity) for record in records})
    known = sorted({backbone for backbone, _, _ in printed()})
    if not set(models) & set(known):
        return f"the backbone is {', '.join(models)}, and the paper's are {', '.join(known)}"
    return f"the paper has no number for task {', '.join(tasks)} by the same method"


def _rows(group: Group, records: Sequence[CellRecord], included: frozenset[str]) -> list[tuple[Cell, ...]]:
    numbers, backbone = printed(), str(records[0].identity["model"])
    rows = []
    for name, measure in MEASURES.items():
        number = numbers.get((backbone, group.method, name))
        if (
            number is None
            or not measure.is_of(group.task)
            or group.control in ("closed-book", "wrong-memory")
        ):
            continue
        members = [(scope, sample) for scope, sample in group.samples if measure.keeps(sample)]
        if members:
            hindrance = (
                _hindrance(measure, records, included)
                or _too_few(measure, members)
                or _cut_off(group, members)
                or _uncounted(measure, members)
            )
            rows.append(_row(group, backbone, measure, members, number / 100, hindrance))
    return rows


def _hindrance(measure: Measure, cells: Sequence[CellRecord], included: frozenset[str]) -> str | None:
    """Why a measure of these cells is not the paper's; None where it is. included: as `_included`."""
    if any(cell_hash(cell.identity) in included for cell in cells):
        return "include_path: the task is not lm-eval's own."
    for cell in cells:
        other = _otherwise(measure, cell.identity["data"])
        if other is not None:
            return other
    return "Limited to some of the episodes." if any(cell.identity.get("limit") for cell in cells) else None


def _otherwise(measure: Measure, data: Mapping[str, Any]) -> str | None:
    """Why a cell is not asked as the paper's was, by its data; None where it is."""
    if _is_lm_eval(measure.task):
        return _other_request(measure, data)
    reason = _OTHERWISE.get(measure.task)
    return None if reason is None else reason(data)


def _other_request(measure: Measure, data: Mapping[str, Any]) -> str | None:
    """Why a cell of lm-eval is not asked as the paper suite asks it: another variant, split or filter, or a
    smaller budget for the answer.
    """
    named, options = next(item for item in _LM_EVAL.items() if item[0].startswith(measure.task))
    wanted = {"task": named.partition(":")[2], "split": "auto", "filter": "", **options}
    for name, default in (("task", ""), ("split", "auto"), ("filter", "")):
        found = data.get(name, default)
        if found != wanted[name]:
            told = [value or "the task's first" for value in (found, wanted[name])]
            return f"{name} {told[0]}: the paper suite's is {told[1]}."
    budget, least = data.get("max_new_tokens", 0), options.get("max_new_tokens", 0)
    if budget < least:
        shown = f"{budget:,}" if budget else "the task's own"
        return f"max_new_tokens {shown}: the paper suite's is {least:,}, as the release's."
    return None


def _too_few(measure: Measure, members: Members) -> str | None:
    """Why HotpotQA's questions are not the paper's: it is asked all of the distractor dev set."""
    asked = len({sample.query for _, sample in members})
    if measure.task != _HOTPOTQA or asked == _DISTRACTOR:
        return None
    return f"{asked:,} questions: HotpotQA's distractor dev set has {_DISTRACTOR:,}."


def _cut_off(group: Group, members: Members) -> str | None:
    """Why a window is not the paper's: there the whole context, as the protocol leaves it, is in the prompt
    of every method that chooses no part of it.
    """
    window = group.window
    if window is None or group.method in _CHOOSING or _is_lm_eval(group.task):  # no context to cut
        return None
    if any(sample.context_tokens >= window for _, sample in members):
        return f"window {window} did not hold every context: the paper's prompts do."
    return None


def _uncounted(measure: Measure, members: Members) -> str | None:
    """Why answers of a run from before the metric was counted have no number; None where all have it."""
    if all(measure.metric in sample.metrics for _, sample in members if sample.status == "ok"):
        return None
    return f"Stored without {measure.metric}, the paper's way of counting: run it in a new folder."


def _other_benchmark(data: Mapping[str, Any]) -> str | None:
    """Why a cell of MemoryAgentBench is not asked as the paper's was."""
    protocol, splits = data.get("protocol"), data.get("sha256") or {}
    if protocol != PROTOCOL:
        return f"protocol {protocol}: the paper's is {PROTOCOL}."
    if data.get("sources"):
        return f"Only sources {', '.join(data['sources'])} were asked: the paper's numbers are of all."
    if lacking := [split for split in _SPLITS if split not in splits]:
        return f"Without split {', '.join(lacking)}: the paper's numbers are of all four."
    if data.get("revision") is None:
        return "Data that no checksum shows to be the benchmark's own: the paper's numbers are of those."
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
        Cell(found.estimate, found.low, found.high, found.n, measure.remark, runs=group.runs),
        Cell(number),
        Cell(found.estimate - number, low, high, found.n),
    )
