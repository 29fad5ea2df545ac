"""From the stored samples of runs to the result table. Every number is computed anew from all samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from deltamem_eval.errors import UserError
from deltamem_eval.reports.costs import answered, held, written
from deltamem_eval.reports.cut import CUT_BY, context_cut
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
    unlike_judges,
    with_task,
)
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import (
    Paired,
    cluster_bootstrap,
    holm_where,
    intervals_line,
    paired_bootstrap,
    patterns_line,
    sign_flips,
)
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
    Column("context_cut", "context tokens cut %", "percent", False),
    Column("context_shown", "context shown %", "percent"),
    Column("gold_survives", "gold survives the cut %", "percent", True),
    Column("gold_fits", "gold fits the answer %", "percent", True),
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
FLEXIBLE = ("icl", "detective", "eventqa")  # families of sources that have a flexible match
Partners = dict[tuple[str, str], Sample]


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
        closed = _partners(_beside(group, groups, "closed-book", 0))
        vanilla = _partners(_vanilla_beside(group, groups))
        parts += [(group, values, members, closed, vanilla) for values, members in broken_down(group, by)]
    p_values, tests = _p_values([(members, vanilla) for _, _, members, _, vanilla in parts])
    rows = [_row(*part, p) for part, p in zip(parts, p_values, strict=True)]
    columns = (*_HEAD, *(Column(name, BREAKDOWNS[name]) for name in by), *_TAIL)
    columns, rows = _only_if_short(columns, rows)
    return Table(
        "Accuracy and cost",
        columns,
        tuple(rows),
        caption_of(groups, records),
        (*_footnotes(tests), *_cut_footnotes(rows, columns), *partial_notes(paths)),
        name="accuracy-and-cost",
        within=("window", *by),
        aside=controls_of(rows),
    )


def _only_if_short(
    columns: tuple[Column, ...], rows: list[tuple[Cell, ...]]
) -> tuple[tuple[Column, ...], list[tuple[Cell, ...]]]:
    """Columns and rows without the share of golds that fit the answer, where all of every row do."""
    place = [column.key for column in columns].index("gold_fits")
    shares = [row[place].value for row in rows]
    if any(isinstance(share, float) and share < 1 for share in shares):
        return columns, rows
    return columns[:place] + columns[place + 1 :], [row[:place] + row[place + 1 :] for row in rows]


def _partners(groups: Iterable[Group]) -> Partners:
    return {key_of(scope, sample): sample for group in groups for scope, sample in group.samples}


def _beside(group: Group, groups: Sequence[Group], control: str | None, window: int | None) -> list[Group]:
    """Vanilla's groups on the same task and backbone, asked alike, with that control and window."""
    wanted = ("vanilla", control, window, group.task, group.backbone)
    return [
        other
        for other in groups
        if (other.method, other.control, other.window, other.task, other.backbone) == wanted
        and group.asked_as(other)
    ]


def _vanilla_beside(group: Group, groups: Sequence[Group]) -> list[Group]:
    """Vanilla's group at the same window, for every other method."""
    if group.control is not None or group.method == "vanilla":
        return []
    return _beside(group, groups, None, group.window)


def _beside_each(members: Members, others: Partners) -> list[Sample] | None:
    """The partner of every sample; None where one has none."""
    known = [others[key] for scope, sample in members if (key := key_of(scope, sample)) in others]
    return known if len(known) == len(members) else None


def _unlike(members: Members, partners: Sequence[Sample]) -> list[str]:
    """In what the judges of samples and their partners differ."""
    pairs = ((sample, partner) for (_, sample), partner in zip(members, partners, strict=True))
    return unlike_judges(pairs, ("this row", "the other"))


def _p_values(rows: Sequence[tuple[Members, Partners]]) -> tuple[list[float | None], int]:
    """Of each row's difference from its partners, contexts' signs being arbitrary, by Holm over the rows in
    which anything differs; None without all partners or by other judges. And of how many rows there is one.
    """
    family: list[Paired | None] = []
    for members, others in rows:
        partners = _beside_each(members, others)
        known = partners is not None and not _unlike(members, partners)
        family.append(_test(members, partners) if partners is not None and known else None)
    tests = [test for test in family if test is not None]
    differs = [list(a) != list(b) for a, b, _ in tests]
    adjusted = iter(holm_where(sign_flips(tests), differs))
    return [None if test is None else next(adjusted) for test in family], len(tests)


def _test(members: Members, partners: Sequence[Sample]) -> Paired:
    return (
        [accuracy_of(sample) for _, sample in members],
        [accuracy_of(partner) for partner in partners],
        [f"{scope}/{sample.cluster}" for scope, sample in members],
    )


def _footnotes(tests: int) -> tuple[str, ...]:
    """What is to be said of a table with so many p-values."""
    return (
        f"{intervals_line()} Lift and difference from vanilla: paired by question. p: two-sided sign-flip "
        "test over contexts, Holm-adjusted over this table's rows in which anything differs. "
        f"{patterns_line(tests)}",
        *_FOOTNOTES,
    )


_FOOTNOTES = (
    "Chance: a uniform guess over all possible answers; guess from context: among the values of the right "
    "kind that stand in it. Evidence recall: share of the passages needed that stood in the prompt; gold in "
    "prompt: an acceptable answer's text stood there. Context cut: by the task's protocol, for all methods; "
    "context shown: tokens of context text in the prompt, by those of the context that was written. Failures "
    "count as wrong; context shown, memory, prompt tokens, seconds and speed are of answers that ended well, "
    "a context's memory the most of any. [wrong-memory]: "
    "another context's memory. Unjudged: answers that a language model is to judge and none has; their "
    "accuracy is a token metric. Tokens decoded per s: those after an answer's first, all rows of a batch "
    "together.",
)


def _cut_footnotes(rows: Sequence[tuple[Cell, ...]], columns: Sequence[Column]) -> tuple[str, ...]:
    """What is to be said of a table in which a protocol cut anything."""
    place = [column.key for column in columns].index("context_cut")
    return (CUT_BY,) if any(row[place].value for row in rows) else ()


def _row(
    group: Group,
    values: tuple[str, ...],
    members: Members,
    closed: Partners,
    vanilla: Partners,
    p_value: float | None,
) -> tuple[Cell, ...]:
    samples = [sample for _, sample in members]
    clusters = [f"{scope}/{sample.cluster}" for scope, sample in members]
    scores = [accuracy_of(sample) for sample in samples]
    accuracy = cluster_bootstrap(scores, clusters)
    overhead = group.effective.get("overhead", {})
    added, backbone = overhead.get("trainable"), overhead.get("backbone")
    contexts = dict(zip(clusters, samples, strict=True))
    answers, writes = answered(members), written(members)
    return (
        Cell(group.label, runs=group.runs),
        Cell(group.window_text),
        *(Cell(value) for value in values),
        Cell(accuracy.estimate, accuracy.low, accuracy.high, accuracy.n, runs=group.runs),
        _difference(members, closed),
        _difference(members, vanilla),
        Cell(p_value),
        _mean([sample.chance for sample in samples]),
        _mean([sample.selection for sample in samples]),
        _mean([sample.evidence for sample in samples]),
        _mean([sample.gold_visible for sample in samples]),
        _mean([_flexible(sample) for sample in samples]),
        context_cut(contexts.values()),
        _shown(answers),
        _mean([sample.extras.get("gold_survives") for sample in samples]),
        _mean([sample.extras.get("gold_fits") for sample in samples]),
        Cell(added),
        Cell(None if added is None or not backbone else added / backbone),
        _mean(held(members)),
        _mean([float(sample.prompt_tokens) for sample in answers]),
        _mean([sample.write_seconds for sample in writes]),
        _mean([sample.answer_seconds for sample in answers]),
        _decode_speed(answers),
        _most([sample.peak_bytes.get("write") for sample in samples]),
        _most([sample.peak_bytes.get("answer") for sample in samples]),
        Cell(_statuses(samples)),
    )


def _difference(members: Members, others: Partners) -> Cell:
    """Difference from the others on the same questions; a dash unless every one of them has its partner, and
    one that says so where they were not judged alike.
    """
    partners = _beside_each(members, others)
    if partners is None:
        return Cell(None)
    if unlike := _unlike(members, partners):
        return Cell(None, note=f"Not judged alike: {'; '.join(unlike)}.")
    found = paired_bootstrap(*_test(members, partners))
    return Cell(found.estimate, found.low, found.high, found.n)


def _mean(values: Sequence[float | None]) -> Cell:
    known = [value for value in values if value is not None]
    return Cell(fmean(known) if known else None, n=len(known))


def _shown(samples: Sequence[Sample]) -> Cell:
    """Mean share of the contexts' tokens that stood in the prompts; a dash where no prompt held any, or where
    the contexts' length was not stored.
    """
    shares = [
        min(sample.context_tokens / sample.written_tokens, 1.0) for sample in samples if sample.written_tokens
    ]
    return _mean(shares if any(shares) else [])


def _flexible(sample: Sample) -> float | None:
    """The flexible match; 0 for what did not end well of a source that has it, None for any other source."""
    if sample.status == "ok":
        return sample.metrics.get("flexible_exact_match")
    return 0.0 if sample.source.partition("_")[0] in FLEXIBLE else None


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
