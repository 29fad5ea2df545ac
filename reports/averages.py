"""One number a method, twice: the mean over categories, and the mean over questions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from deltamem_eval.reports.groups import (
    UNJUDGED,
    Group,
    accuracy_of,
    caption_of,
    controls_of,
    judge_of,
    load_groups,
    task_cells,
    task_columns,
    with_task,
)
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import averaged_bootstrap, cluster_bootstrap

_HEAD = (Column("method", "method"), Column("window", "window"))
_TAIL = (
    Column("macro", "macro average % [95 %]", "percent", True),
    Column("weighted", "question-weighted average % [95 %]", "percent", True),
    Column("categories", "categories", "count"),
)
FULL = {  # the length that the benchmark's paper averages, of datasets that come in several
    "eventqa": "eventqa_full",
    "factconsolidation_sh": "factconsolidation_sh_262k",
    "factconsolidation_mh": "factconsolidation_mh_262k",
}
_FOOTNOTES = (
    "Macro: mean over categories of the mean over their datasets, as the benchmark's paper averages: the "
    "in-context-learning sources are one dataset, of which the mean over sources is taken; EventQA, "
    "single-hop and multi-hop FactConsolidation are one dataset each, of which the full length alone counts "
    "(eventqa_full, factconsolidation_sh_262k, factconsolidation_mh_262k). Any other source is a dataset. "
    "Question-weighted: the mean over all questions of all lengths, as δ-mem's release averages. They are "
    "not comparable.",
    "Intervals: bootstrap by context within each source, widened for few contexts; none where a source has "
    "one context.",
)


def averages_table(paths: Sequence[Path]) -> Table:
    """Both averages of every method, control, window and task of some runs.

    Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    rows = tuple(_row(group, groups) for group in groups)
    return Table(
        "Averages",
        (*_HEAD, *task_columns(groups), *_TAIL),
        rows,
        caption_of(groups, records),
        (*_FOOTNOTES, *partial_notes(paths)),
        name="averages",
        within=("window", *with_task(groups, ())),
        aside=controls_of(rows),
    )


def _row(group: Group, groups: Sequence[Group]) -> tuple[Cell, ...]:
    scores = [accuracy_of(sample) for _, sample in group.samples]
    clusters = [f"{scope}/{sample.cluster}" for scope, sample in group.samples]
    weighted = cluster_bootstrap(scores, clusters)
    categories = {sample.category for _, sample in group.samples}
    unjudged = next(iter(unjudged_notes([group])), None)
    return (
        Cell(group.label, runs=group.runs),
        Cell(group.window_text),
        *task_cells(group, groups),
        macro_average(group),
        Cell(weighted.estimate, weighted.low, weighted.high, weighted.n, note=unjudged),
        Cell(float(len(categories))),
    )


def macro_average(group: Group) -> Cell:
    """Mean over categories of means over datasets of means over sources, with its interval.

    Of a dataset of several lengths the full one alone counts; where it is absent the mean over those there
    are, and the cell's note says so. It also names the sources whose answers are unjudged.
    """
    datasets = _by_dataset(group)
    categories = Counter(category for category, _ in datasets)
    parts, short = [], []
    for (category, dataset), sources in datasets.items():
        full = FULL.get(dataset)
        counted = [full] if full in sources else sorted(sources)
        if full is not None and full not in sources:
            short.append(f"of {dataset} there is no {full}, and the mean over {', '.join(counted)} is taken")
        share = len(categories) * categories[category] * len(counted)
        parts += [(1 / share, *sources[source]) for source in counted]
    found = averaged_bootstrap(parts)
    notes = [f"Not as the paper averages: {'; '.join(short)}."] if short else []
    notes += unjudged_notes([group])
    return Cell(found.estimate, found.low, found.high, found.n, note=" ".join(notes) or None)


def unjudged_notes(groups: Iterable[Group]) -> list[str]:
    """A sentence that names the sources that a language model is to judge and none has; none without any."""
    sources = {
        sample.source for group in groups for _, sample in group.samples if judge_of(sample) == UNJUDGED
    }
    return [f"Token metrics, unjudged: {', '.join(sorted(sources))}."] if sources else []


def dataset_of(source: str) -> str:
    """What counts as one dataset in the paper's averages: in-context learning, and lengths of one kind."""
    families = ("icl", *FULL)
    return next((name for name in families if source == name or source.startswith(f"{name}_")), source)


_Scored = tuple[list[float], list[str]]


def _by_dataset(group: Group) -> dict[tuple[str, str], dict[str, _Scored]]:
    """Scores and their contexts by source, under category and dataset, in order of their names."""
    found: defaultdict[tuple[str, str], dict[str, _Scored]] = defaultdict(dict)
    for (category, source), scored in sorted(_by_source(group).items()):
        found[category, dataset_of(source)][source] = scored
    return dict(found)


def _by_source(group: Group) -> dict[tuple[str, str], _Scored]:
    """Scores and their contexts, by category and source."""
    found: defaultdict[tuple[str, str], _Scored] = defaultdict(lambda: ([], []))
    for scope, sample in group.samples:
        scores, clusters = found[sample.category, sample.source]
        scores.append(accuracy_of(sample))
        clusters.append(f"{scope}/{sample.cluster}")
    return found
