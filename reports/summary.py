"""From the stored samples of runs to the result table. Every number is computed anew from all samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from deltamem_eval.errors import UserError
from deltamem_eval.reports.groups import (
    BREAKDOWNS,
    Group,
    Members,
    accuracy_of,
    broken_down,
    caption_of,
    controls_of,
    key_of,
    load_groups,
    with_task,
)
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import cluster_bootstrap, holm, intervals_line, paired_bootstrap, sign_flip
from deltamem_eval.store import Sample

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
    Column("decode_speed", "tokens decoded per s", "count", True),
    Column("peak_write", "GPU peak, writing", "bytes", False),
    Column("peak_answer", "GPU peak, answering", "bytes", False),
    Column("not_ok", "not ok"),
)
Pairs = dict[tuple[str, str], float]


def summary_table(paths: Sequence[Path], by: Sequence[str] = ("category",)) -> Table:
    """Method × window × what `by` names (keys of BREAKDOWNS), controls first; of several tasks by task too.

    Raises UserError for runs without a finished cell and for an unknown breakdown.
    """
    unknown = [name for name in by if name not in BREAKDOWNS]
    if unknown:
        raise UserError(f"no breakdown {unknown[0]!r}: there are {', '.join(BREAKDOWNS)}")
    groups, records = load_groups(paths)
    by = with_task(groups, by)
    parts = []
    for group in groups:
        closed = _scores(_beside(group, groups, "closed-book", 0))
        vanilla = _scores(_vanilla_beside(group, groups))
        parts += [(group, values, members, closed, vanilla) for values, members in broken_down(group, by)]
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


def _scores(groups: Iterable[Group]) -> Pairs:
    return {key_of(scope, sample): accuracy_of(sample) for group in groups for scope, sample in group.samples}


def _beside(group: Group, groups: Sequence[Group], control: str | None, window: int | None) -> list[Group]:
    """Vanilla's groups on the same task and backbone with that control and window."""
    wanted = ("vanilla", control, window, group.task, group.backbone)
    return [
        other
        for other in groups
        if (other.method, other.control, other.window, other.task, other.backbone) == wanted
    ]


def _vanilla_beside(group: Group, groups: Sequence[Group]) -> list[Group]:
    """Vanilla's group at the same window, for every other method."""
    if group.control is not None or group.method == "vanilla":
        return []
    return _beside(group, groups, None, group.window)


def _p_value(members: Members, others: Pairs) -> float | None:
    """Of the difference from the others, contexts' signs being arbitrary; None without all partners."""
    partners = [others.get(key_of(scope, sample)) for scope, sample in members]
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
    f"{intervals_line()} Lift and difference from vanilla: paired by question. p: two-sided sign-flip test "
    "over contexts (10,000 patterns), Holm-adjusted over this table's rows.",
    "Chance: a uniform guess over all possible answers; guess from context: among the values of the right "
    "kind that stand in it. Evidence recall: share of the passages needed that stood in the prompt; gold in "
    "prompt: an acceptable answer's text stood there. Failures count as wrong. [wrong-memory]: another "
    "context's memory. Unjudged: answers that a language model is to judge and none has; their accuracy is a "
    "token metric. Tokens decoded per s: those after an answer's first, all rows of a batch together.",
)


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
        _decode_speed(samples),
        _most([sample.peak_bytes.get("write") for sample in samples]),
        _most([sample.peak_bytes.get("answer") for sample in samples]),
        Cell(_statuses(samples)),
    )


def _difference(members: Members, scores: list[float], clusters: list[str], others: Pairs) -> Cell:
    """Difference from the others on the same questions; a dash unless every one of them has its partner."""
    partners = [others.get(key_of(scope, sample)) for scope, sample in members]
    if any(partner is None for partner in partners):
        return Cell(None)
    found = paired_bootstrap(scores, [float(partner or 0.0) for partner in partners], clusters)
    return Cell(found.estimate, found.low, found.high, found.n)


def _mean(values: Sequence[float | None]) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(fmean(known) if known else None, n=len(known))


def _decode_speed(samples: Sequence[Sample]) -> Cell:
    """Tokens after the first by the seconds they took, a batch's seconds being shared by its questions."""
    timed = [(sample.new_tokens - 1, sample.decode_seconds) for sample in samples if sample.decode_seconds]
    seconds = sum(taken for _, taken in timed)
    return Cell(sum(tokens for tokens, _ in timed) / seconds if seconds else None, n=len(timed))


def _most(values: Sequence[int | None]) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(float(max(known)) if known else None, n=len(known))


def _statuses(samples: list[Sample]) -> str:
    counts = Counter(sample.status for sample in samples if sample.status != "ok")
    counts["unjudged"] = sum(bool(sample.metrics.get("unjudged")) for sample in samples)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if count) or "0"
