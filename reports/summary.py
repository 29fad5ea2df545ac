"""From the stored samples of runs to the result table. Every number is computed anew from all samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.stats import cluster_bootstrap, paired_bootstrap
from deltamem_eval.store import CellRecord, Sample, read_cells

COLUMNS = (
    Column("method", "method"),
    Column("window", "window"),
    Column("category", "category"),
    Column("accuracy", "accuracy % [95 %]", "percent", True),
    Column("lift", "lift over closed-book [95 %]", "points", True),
    Column("chance", "chance %", "percent"),
    Column("selection", "guess from context %", "percent"),
    Column("evidence_recall", "evidence recall %", "percent", True),
    Column("gold_in_prompt", "gold in prompt %", "percent", True),
    Column("added_parameters", "added parameters", "count", False),
    Column("added_percent", "added %", "percent", False),
    Column("memory_bytes", "memory per context", "bytes", False),
    Column("prompt_tokens", "prompt tokens", "count", False),
    Column("write_seconds", "write s per context", "seconds", False),
    Column("answer_seconds", "answer s per question", "seconds", False),
    Column("not_ok", "not ok"),
)


@dataclass(frozen=True)
class Group:
    """All samples of one method, control and window, over seeds, with what its cells recorded."""

    method: str
    control: str | None
    window: int | None
    samples: tuple[tuple[str, Sample], ...]
    effective: dict[str, Any]

    @property
    def label(self) -> str:
        """Method, and control in brackets."""
        name = str(self.effective.get("label", self.method))
        return name if self.control is None else f"{name} [{self.control}]"


def load_groups(paths: Sequence[Path]) -> tuple[list[Group], list[CellRecord]]:
    """The finished cells of runs, pooled over seeds. Raises UserError where there are none."""
    found: defaultdict[tuple[str, str | None, int | None], list[tuple[str, Sample]]] = defaultdict(list)
    effective: dict[tuple[str, str | None, int | None], dict[str, Any]] = {}
    records: list[CellRecord] = []
    for path in paths:
        for record, samples in read_cells(path):
            identity = record.identity
            key = (identity["method"], identity["control"], identity["window"])
            found[key] += [(f"{identity['task']}/{identity['seed']}", sample) for sample in samples]
            effective[key] = record.effective
            records.append(record)
    if not found:
        raise UserError(f"no finished cell in {', '.join(map(str, paths))}: let the run end first")
    groups = [Group(*key, tuple(samples), effective[key]) for key, samples in found.items()]
    return sorted(groups, key=_order), records


def _order(group: Group) -> tuple[int, int, str, str]:
    ranks = {"closed-book": 0, "full-context": 1}
    window = -1 if group.window is None else group.window
    return ranks.get(group.control or "", 2), window, group.method, group.control or ""


def accuracy_of(sample: Sample) -> float:
    """The sample's accuracy; whatever did not end well counts as wrong."""
    return sample.metrics.get("accuracy", 0.0) if sample.status == "ok" else 0.0


def summary_table(paths: Sequence[Path]) -> Table:
    """Method × window × category, controls first."""
    groups, records = load_groups(paths)
    closed = {
        _key(scope, sample): accuracy_of(sample)
        for group in groups
        if group.control == "closed-book"
        for scope, sample in group.samples
    }
    rows = [
        _row(group, category, members, closed)
        for group in groups
        for category, members in _by_category(group.samples)
    ]
    return Table("Accuracy and cost", COLUMNS, tuple(rows), _caption(groups, records), _FOOTNOTES)


_FOOTNOTES = (
    "Intervals: cluster bootstrap by context, 10,000 resamples, seed 0. Lift: paired by question.",
    "Chance: a uniform guess over all possible answers; guess from context: among the values of the right "
    "kind that stand in it. Evidence recall: share of the passages needed that stood in the prompt; gold in "
    "prompt: an acceptable answer's text stood there. Failures count as wrong. [wrong-memory]: another "
    "context's memory.",
)


def _key(scope: str, sample: Sample) -> tuple[str, str]:
    return scope, sample.query


def _by_category(
    samples: tuple[tuple[str, Sample], ...],
) -> list[tuple[str, list[tuple[str, Sample]]]]:
    found: defaultdict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for scope, sample in samples:
        found[sample.category].append((scope, sample))
    return sorted(found.items())


def _row(
    group: Group,
    category: str,
    members: list[tuple[str, Sample]],
    closed: dict[tuple[str, str], float],
) -> tuple[Cell, ...]:
    samples = [sample for _, sample in members]
    clusters = [f"{scope}/{sample.cluster}" for scope, sample in members]
    scores = [accuracy_of(sample) for sample in samples]
    accuracy = cluster_bootstrap(scores, clusters)
    overhead = group.effective.get("overhead", {})
    added, backbone = overhead.get("trainable"), overhead.get("backbone")
    contexts = dict(zip(clusters, samples, strict=True))
    return (
        Cell(group.label),
        Cell("all that fits" if group.window is None else str(group.window)),
        Cell(category),
        Cell(accuracy.estimate, accuracy.low, accuracy.high, accuracy.n),
        _lift(members, scores, clusters, closed),
        _mean([sample.chance for sample in samples]),
        _mean([sample.selection for sample in samples]),
        _mean([sample.evidence for sample in samples]),
        _mean([sample.gold_visible for sample in samples]),
        Cell(added),
        Cell(None if added is None or not backbone else added / backbone),
        _mean([float(sum(sample.memory_bytes.values())) for sample in contexts.values()]),
        _mean([float(sample.prompt_tokens) for sample in samples]),
        _mean([sample.write_seconds for sample in contexts.values()]),
        _mean([sample.answer_seconds for sample in samples]),
        Cell(_statuses(samples)),
    )


def _lift(
    members: list[tuple[str, Sample]],
    scores: list[float],
    clusters: list[str],
    closed: dict[tuple[str, str], float],
) -> Cell:
    """Difference from closed-book on the same questions; a dash unless every one of them has its partner."""
    partners = [closed.get(_key(scope, sample)) for scope, sample in members]
    if any(partner is None for partner in partners):
        return Cell(None)
    lift = paired_bootstrap(scores, [float(partner or 0.0) for partner in partners], clusters)
    return Cell(lift.estimate, lift.low, lift.high, lift.n)


def _mean(values: Sequence[float | None]) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(fmean(known) if known else None, n=len(known))


def _statuses(samples: list[Sample]) -> str:
    counts = Counter(sample.status for sample in samples if sample.status != "ok")
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "0"


def _caption(groups: list[Group], records: list[CellRecord]) -> str:
    """n, contexts, windows, seeds, model and limits of everything in the table."""
    questions = {_key(scope, sample) for group in groups for scope, sample in group.samples}
    contexts = {(scope, sample.cluster) for group in groups for scope, sample in group.samples}
    seeds = sorted({record.identity["seed"] for record in records})
    windows = sorted({group.window for group in groups if group.control is None and group.window is not None})
    models = sorted({f"{record.identity['model']} ({record.identity['dtype']})" for record in records})
    limits = sorted({str(record.identity["limit"]) for record in records if record.identity["limit"]})
    text = (
        f"{len(questions)} questions on {len(contexts)} contexts; window "
        f"{', '.join(map(str, windows)) or 'none'} tokens; seeds {', '.join(map(str, seeds))}; "
        f"backbone {', '.join(models)}."
    )
    return text + (f" Limited to {', '.join(limits)} episodes a category." if limits else "")
