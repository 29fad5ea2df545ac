"""From the stored samples of runs to the result table. Every number is computed anew from all samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.stats import cluster_bootstrap, paired_bootstrap
from deltamem_eval.store import CellRecord, Sample, cell_hash, read_cells

_HEAD = (Column("method", "method"), Column("window", "window"))
_TAIL = (
    Column("accuracy", "accuracy % [95 %]", "percent", True),
    Column("lift", "lift over closed-book [95 %]", "points", True),
    Column("over_vanilla", "over vanilla, same window [95 %]", "points", True),
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
BREAKDOWNS = {
    "category": "category",
    "source": "source",
    "associations": "associations",
    "updates": "updates",
    "context_tokens": "context tokens",
    "window_share": "window / context",
}
Pairs = dict[tuple[str, str], float]


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
    """The finished cells of runs, pooled over seeds; a cell that several runs hold counts once.

    Raises UserError where there is none, and where runs answered the same cell differently.
    """
    found: defaultdict[tuple[str, str | None, int | None], list[tuple[str, Sample]]] = defaultdict(list)
    effective: dict[tuple[str, str | None, int | None], dict[str, Any]] = {}
    records: list[CellRecord] = []
    seen: dict[str, str] = {}
    for path in paths:
        for record, samples in read_cells(path):
            identity = record.identity
            if not _is_new(identity, samples, seen, path):
                continue
            key = (identity["method"], identity["control"], identity["window"])
            found[key] += [(f"{identity['task']}/{identity['seed']}", sample) for sample in samples]
            effective[key] = record.effective
            records.append(record)
    if not found:
        raise UserError(f"no finished cell in {', '.join(map(str, paths))}: let the run end first")
    groups = [Group(*key, tuple(samples), effective[key]) for key, samples in found.items()]
    return sorted(groups, key=_order), records


def _is_new(identity: dict[str, Any], samples: list[Sample], seen: dict[str, str], path: Path) -> bool:
    """Note the cell; False where another run had the same cell with the same answers."""
    cell = cell_hash(identity)
    answers = hash_json([[sample.query, sample.status, sample.answer] for sample in samples])
    known = seen.get(cell)
    if known not in (None, answers):
        raise UserError(f"{path} answered cell {cell} unlike a run before it: report them apart")
    seen[cell] = answers
    return known is None


def _order(group: Group) -> tuple[int, int, str, str]:
    ranks = {"closed-book": 0, "full-context": 1}
    window = -1 if group.window is None else group.window
    return ranks.get(group.control or "", 2), window, group.method, group.control or ""


def accuracy_of(sample: Sample) -> float:
    """The sample's accuracy; whatever did not end well counts as wrong."""
    return sample.metrics.get("accuracy", 0.0) if sample.status == "ok" else 0.0


def summary_table(paths: Sequence[Path], by: Sequence[str] = ("category",)) -> Table:
    """Method × window × what `by` names (keys of BREAKDOWNS), controls first.

    Raises UserError for runs without a finished cell and for an unknown breakdown.
    """
    unknown = [name for name in by if name not in BREAKDOWNS]
    if unknown:
        raise UserError(f"no breakdown {unknown[0]!r}: there are {', '.join(BREAKDOWNS)}")
    groups, records = load_groups(paths)
    closed = _scores(group for group in groups if group.control == "closed-book")
    rows = []
    for group in groups:
        vanilla = _scores(_vanilla_beside(group, groups))
        rows += [
            _row(group, values, members, closed, vanilla)
            for values, members in _broken_down(group, tuple(by))
        ]
    columns = (*_HEAD, *(Column(name, BREAKDOWNS[name]) for name in by), *_TAIL)
    return Table("Accuracy and cost", columns, tuple(rows), _caption(groups, records), _FOOTNOTES)


def _scores(groups: Iterable[Group]) -> Pairs:
    return {_key(scope, sample): accuracy_of(sample) for group in groups for scope, sample in group.samples}


def _vanilla_beside(group: Group, groups: Sequence[Group]) -> list[Group]:
    """Vanilla's group at the same window, for every other method."""
    if group.control is not None or group.method == "vanilla":
        return []
    return [
        other
        for other in groups
        if (other.method, other.control, other.window) == ("vanilla", None, group.window)
    ]


_FOOTNOTES = (
    "Intervals: cluster bootstrap by context, 10,000 resamples, seed 0. Lift and difference from vanilla: "
    "paired by question.",
    "Chance: a uniform guess over all possible answers; guess from context: among the values of the right "
    "kind that stand in it. Evidence recall: share of the passages needed that stood in the prompt; gold in "
    "prompt: an acceptable answer's text stood there. Failures count as wrong. [wrong-memory]: another "
    "context's memory.",
)


def _key(scope: str, sample: Sample) -> tuple[str, str]:
    return scope, sample.query


def _broken_down(group: Group, by: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[tuple[str, Sample]]]]:
    """The group's samples by their values of `by`, numbers in the order of their size."""
    found: defaultdict[tuple[str | float, ...], list[tuple[str, Sample]]] = defaultdict(list)
    for scope, sample in group.samples:
        found[tuple(_value(sample, group.window, name) for name in by)].append((scope, sample))
    ordered = sorted(found.items(), key=lambda item: [(isinstance(part, str), part) for part in item[0]])
    return [(tuple(_text(part) for part in values), members) for values, members in ordered]


def _value(sample: Sample, window: int | None, name: str) -> str | float:
    if name in ("category", "source"):
        return str(getattr(sample, name))
    length = sample.extras.get("context_tokens")
    if name == "window_share":
        return "–" if window is None or not length else window / length
    found = sample.extras.get(name)
    return "–" if found is None else float(found)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _row(
    group: Group, values: tuple[str, ...], members: list[tuple[str, Sample]], closed: Pairs, vanilla: Pairs
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
        *(Cell(value) for value in values),
        Cell(accuracy.estimate, accuracy.low, accuracy.high, accuracy.n),
        _difference(members, scores, clusters, closed),
        _difference(members, scores, clusters, vanilla),
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


def _difference(
    members: list[tuple[str, Sample]], scores: list[float], clusters: list[str], others: Pairs
) -> Cell:
    """Difference from the others on the same questions; a dash unless every one of them has its partner."""
    partners = [others.get(_key(scope, sample)) for scope, sample in members]
    if any(partner is None for partner in partners):
        return Cell(None)
    found = paired_bootstrap(scores, [float(partner or 0.0) for partner in partners], clusters)
    return Cell(found.estimate, found.low, found.high, found.n)


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
