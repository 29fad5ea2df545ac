"""From the stored samples of runs to the result table. Every number is computed anew from all samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import cluster_bootstrap, holm, paired_bootstrap, sign_flip
from deltamem_eval.store import CellRecord, Sample, cell_hash, read_cells

_HEAD = (Column("method", "method"), Column("window", "window"))
_TAIL = (
    Column("accuracy", "accuracy % [95 %]", "percent", True),
    Column("lift", "lift over closed-book [95 %]", "points", True),
    Column("over_vanilla", "over vanilla, same window [95 %]", "points", True),
    Column("p_vanilla", "p against vanilla (Holm)", "probability"),
    Column("chance", "chance %", "percent"),
    Column("selection", "guess from context %", "percent"),
    Column("evidence_recall", "evidence recall %", "percent", True),
    Column("gold_in_prompt", "gold in prompt %", "percent", True),
    Column("flexible", "flexible match %", "percent", True),
    Column("context_cut", "context cut %", "percent", False),
    Column("gold_survives", "gold survives the cut %", "percent", True),
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
    "question_types": "question type",
    "window_share": "window / context",
}
Pairs = dict[tuple[str, str], float]
Members = list[tuple[str, Sample]]
_SETTING = ("method", "control", "window", "model", "weights", "dtype", "adapter", "options", "parts")


@dataclass(frozen=True)
class Group:
    """All samples of one setting, over seeds, with what its cells recorded.

    setting: what the cells' identities share. samples: each with its task, data and seed. told: what must be
    said of the setting because another group is called the same.
    """

    setting: dict[str, Any]
    samples: tuple[tuple[str, Sample], ...]
    effective: dict[str, Any]
    told: str = ""
    runs: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The method's registered name."""
        return str(self.setting["method"])

    @property
    def control(self) -> str | None:
        """The control, None for the method itself."""
        found: str | None = self.setting["control"]
        return found

    @property
    def window(self) -> int | None:
        """Context tokens in the prompt; None for as many as fit."""
        found: int | None = self.setting["window"]
        return found

    @property
    def backbone(self) -> tuple[str, str]:
        """Weights and type: lifts and differences never cross them."""
        return str(self.setting["weights"]), str(self.setting["dtype"])

    @property
    def window_text(self) -> str:
        """The window as tables print it."""
        return "all that fits" if self.window is None else str(self.window)

    @property
    def label(self) -> str:
        """Method, what tells it from another of its name, and control in brackets."""
        name = str(self.effective.get("label", self.method)) + self.told
        return name if self.control is None else f"{name} [{self.control}]"


def load_groups(paths: Sequence[Path]) -> tuple[list[Group], list[CellRecord]]:
    """The finished cells of runs, pooled over seeds; a cell that several runs hold counts once.

    Raises UserError where there is none, and where runs answered the same cell differently.
    """
    found: defaultdict[str, list[tuple[str, Sample]]] = defaultdict(list)
    settings: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    records: list[CellRecord] = []
    seen: dict[str, str] = {}
    runs: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        for record, samples in read_cells(path):
            identity = record.identity
            if not _is_new(identity, samples, seen, path):
                continue
            setting = {name: identity.get(name) for name in _SETTING}
            scope = f"{identity['task']}/{hash_json(identity['data'])}/{identity['seed']}"
            found[hash_json(setting)] += [(scope, sample) for sample in samples]
            settings[hash_json(setting)] = setting, record.effective
            runs[hash_json(setting)].append(f"{path.name}/{cell_hash(identity)}")
            records.append(record)
    if not found:
        raise UserError(f"no finished cell in {', '.join(map(str, paths))}: let the run end first")
    groups = [
        Group(setting, tuple(found[key]), effective, runs=tuple(runs[key]))
        for key, (setting, effective) in settings.items()
    ]
    return sorted(_told_apart(groups), key=_order), records


def _told_apart(groups: Sequence[Group]) -> list[Group]:
    """The groups, those of one name and window saying in what they differ."""
    alike: defaultdict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
    for group in groups:
        alike[group.label, group.window].append(_flat(group.setting))
    return [
        replace(group, told=_difference_of(_flat(group.setting), alike[group.label, group.window]))
        for group in groups
    ]


def _flat(setting: dict[str, Any]) -> dict[str, Any]:
    nested = {**(setting["options"] or {}), **(setting["parts"] or {})}
    plain = {name: value for name, value in setting.items() if name not in ("options", "parts")}
    return {**plain, **nested}


def _difference_of(own: dict[str, Any], alike: Sequence[dict[str, Any]]) -> str:
    names = [name for name in own if any(other.get(name) != own[name] for other in alike)]
    return f" ({', '.join(f'{name}={own[name]}' for name in names)})" if names else ""


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
    parts = []
    for group in groups:
        closed = _scores(_beside(group, groups, "closed-book", 0))
        vanilla = _scores(_vanilla_beside(group, groups))
        parts += [
            (group, values, members, closed, vanilla) for values, members in _broken_down(group, tuple(by))
        ]
    p_values = _adjusted([_p_value(members, vanilla) for _, _, members, _, vanilla in parts])
    rows = [_row(*part, p) for part, p in zip(parts, p_values, strict=True)]
    columns = (*_HEAD, *(Column(name, BREAKDOWNS[name]) for name in by), *_TAIL)
    return Table(
        "Accuracy and cost",
        columns,
        tuple(rows),
        caption_of(groups, records),
        (*_FOOTNOTES, *partial_notes(paths)),
        name="accuracy-and-cost",
        within=("window", *by),
        aside=controls_of(rows),
    )


def controls_of(rows: Sequence[tuple[Cell, ...]]) -> frozenset[int]:
    """Indices of the rows whose first cell is the label of a control."""
    return frozenset(number for number, row in enumerate(rows) if str(row[0].value).endswith("]"))


def _scores(groups: Iterable[Group]) -> Pairs:
    return {_key(scope, sample): accuracy_of(sample) for group in groups for scope, sample in group.samples}


def _beside(group: Group, groups: Sequence[Group], control: str | None, window: int | None) -> list[Group]:
    """Vanilla's groups on the same backbone with that control and window."""
    wanted = ("vanilla", control, window, group.backbone)
    return [
        other for other in groups if (other.method, other.control, other.window, other.backbone) == wanted
    ]


def _vanilla_beside(group: Group, groups: Sequence[Group]) -> list[Group]:
    """Vanilla's group at the same window, for every other method."""
    if group.control is not None or group.method == "vanilla":
        return []
    return _beside(group, groups, None, group.window)


def _p_value(members: Members, others: Pairs) -> float | None:
    """Of the difference from the others, contexts' signs being arbitrary; None without all partners."""
    partners = [others.get(_key(scope, sample)) for scope, sample in members]
    known = [partner for partner in partners if partner is not None]
    if len(known) < len(partners):
        return None
    scores = [accuracy_of(sample) for _, sample in members]
    return sign_flip(scores, known, [f"{scope}/{sample.cluster}" for scope, sample in members])


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment over all tests of the table."""
    adjusted = iter(holm([value for value in p_values if value is not None]))
    return [None if value is None else next(adjusted) for value in p_values]


_FOOTNOTES = (
    "Intervals: cluster bootstrap by context, 10,000 resamples, seed 0. Lift and difference from vanilla: "
    "paired by question. p: two-sided sign-flip test over contexts (10,000 patterns), Holm-adjusted over "
    "this table's rows.",
    "Chance: a uniform guess over all possible answers; guess from context: among the values of the right "
    "kind that stand in it. Evidence recall: share of the passages needed that stood in the prompt; gold in "
    "prompt: an acceptable answer's text stood there. Failures count as wrong. [wrong-memory]: another "
    "context's memory. Unjudged: answers that a language model is to judge and none has; their accuracy is a "
    "token metric.",
)


def _key(scope: str, sample: Sample) -> tuple[str, str]:
    return scope, sample.query


def _broken_down(group: Group, by: tuple[str, ...]) -> list[tuple[tuple[str, ...], Members]]:
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
    return "–" if found is None else found if isinstance(found, str) else float(found)


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _row(
    group: Group,
    values: tuple[str, ...],
    members: Members,
    closed: Pairs,
    vanilla: Pairs,
    p_value: float | None,
) -> tuple[Cell, ...]:
    samples = [sample for _, sample in members]
    clusters = [f"{scope}/{sample.cluster}" for scope, sample in members]
    scores = [accuracy_of(sample) for sample in samples]
    accuracy = cluster_bootstrap(scores, clusters)
    overhead = group.effective.get("overhead", {})
    added, backbone = overhead.get("trainable"), overhead.get("backbone")
    contexts = dict(zip(clusters, samples, strict=True))
    return (
        Cell(group.label, runs=group.runs),
        Cell(group.window_text),
        *(Cell(value) for value in values),
        Cell(accuracy.estimate, accuracy.low, accuracy.high, accuracy.n, runs=group.runs),
        _difference(members, scores, clusters, closed),
        _difference(members, scores, clusters, vanilla),
        Cell(p_value),
        _mean([sample.chance for sample in samples]),
        _mean([sample.selection for sample in samples]),
        _mean([sample.evidence for sample in samples]),
        _mean([sample.gold_visible for sample in samples]),
        _mean([sample.metrics.get("flexible_exact_match") for sample in samples]),
        _mean([sample.extras.get("context_cut") for sample in contexts.values()]),
        _mean([sample.extras.get("gold_survives") for sample in samples]),
        Cell(added),
        Cell(None if added is None or not backbone else added / backbone),
        _mean([float(sum(sample.memory_bytes.values())) for sample in contexts.values()]),
        _mean([float(sample.prompt_tokens) for sample in samples]),
        _mean([sample.write_seconds for sample in contexts.values()]),
        _mean([sample.answer_seconds for sample in samples]),
        Cell(_statuses(samples)),
    )


def _difference(members: Members, scores: list[float], clusters: list[str], others: Pairs) -> Cell:
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
    counts["unjudged"] = sum(bool(sample.metrics.get("unjudged")) for sample in samples)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if count) or "0"


def caption_of(groups: list[Group], records: list[CellRecord]) -> str:
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
