"""One number a method, twice: the mean over categories, and the mean over questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from deltamem_eval.reports.groups import Group, accuracy_of, caption_of, controls_of, load_groups
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import averaged_bootstrap, cluster_bootstrap

_COLUMNS = (
    Column("method", "method"),
    Column("window", "window"),
    Column("macro", "macro average % [95 %]", "percent", True),
    Column("weighted", "question-weighted average % [95 %]", "percent", True),
    Column("categories", "categories", "count"),
)
_FOOTNOTES = (
    "Macro: mean over categories of the mean over their datasets (the in-context-learning sources are one "
    "dataset, of which the mean over sources is taken), as the benchmark's paper averages. "
    "Question-weighted: the mean over all questions, as δ-mem's release averages. They are not comparable.",
    "Intervals: bootstrap by context within each source, widened for few contexts; none where a source has "
    "one context.",
)


def averages_table(paths: Sequence[Path]) -> Table:
    """Both averages of every method, control and window of some runs. Raises UserError as `load_groups`."""
    groups, records = load_groups(paths)
    rows = tuple(_row(group) for group in groups)
    return Table(
        "Averages",
        _COLUMNS,
        rows,
        caption_of(groups, records),
        (*_FOOTNOTES, *partial_notes(paths)),
        name="averages",
        within=("window",),
        aside=controls_of(rows),
    )


def _row(group: Group) -> tuple[Cell, ...]:
    scores = [accuracy_of(sample) for _, sample in group.samples]
    clusters = [f"{scope}/{sample.cluster}" for scope, sample in group.samples]
    weighted = cluster_bootstrap(scores, clusters)
    categories = {sample.category for _, sample in group.samples}
    return (
        Cell(group.label, runs=group.runs),
        Cell(group.window_text),
        macro_average(group),
        Cell(weighted.estimate, weighted.low, weighted.high, weighted.n),
        Cell(float(len(categories))),
    )


def macro_average(group: Group) -> Cell:
    """Mean over categories of means over datasets of means over sources, with its interval."""
    by_source = sorted(_by_source(group).items())
    datasets: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (category, source), _ in by_source:
        datasets[category][dataset_of(source)] += 1
    parts = []
    for (category, source), (scores, clusters) in by_source:
        share = len(datasets) * len(datasets[category]) * datasets[category][dataset_of(source)]
        parts.append((1 / share, scores, clusters))
    found = averaged_bootstrap(parts)
    return Cell(found.estimate, found.low, found.high, found.n)


def dataset_of(source: str) -> str:
    """What counts as one dataset in the paper's averages: the in-context-learning sources are one."""
    return "icl" if source.startswith("icl_") else source


def _by_source(group: Group) -> dict[tuple[str, str], tuple[list[float], list[str]]]:
    """Scores and their contexts, by category and source."""
    found: defaultdict[tuple[str, str], tuple[list[float], list[str]]] = defaultdict(lambda: ([], []))
    for scope, sample in group.samples:
        scores, clusters = found[sample.category, sample.source]
        scores.append(accuracy_of(sample))
        clusters.append(f"{scope}/{sample.cluster}")
    return found
