"""One number a method, twice: the mean over categories, and the mean over questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.reports.groups import Group, accuracy_of, caption_of, controls_of, load_groups
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.stats import RESAMPLES, cluster_bootstrap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws = NDArray[np.float64]

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
    "Intervals: bootstrap by context within each source; none where a source has one context.",
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
    tree: defaultdict[str, defaultdict[str, dict[str, tuple[float, Draws | None]]]]
    tree = defaultdict(lambda: defaultdict(dict))
    for number, ((category, source), members) in enumerate(sorted(_by_source(group).items())):
        tree[category][dataset_of(source)][source] = _source_mean(members, number)
    import numpy as np

    estimates, draws, complete = [], [], True
    for datasets in tree.values():
        means = [_mean_of(list(sources.values())) for sources in datasets.values()]
        value, drawn = _mean_of(means)
        estimates.append(value)
        complete &= drawn is not None
        draws.append(drawn)
    estimate = float(np.mean(estimates))
    if not complete:
        return Cell(estimate, n=len(group.samples))
    low, high = np.quantile(np.mean([item for item in draws if item is not None], 0), [0.025, 0.975])
    return Cell(estimate, float(low), float(high), len(group.samples))


def dataset_of(source: str) -> str:
    """What counts as one dataset in the paper's averages: the in-context-learning sources are one."""
    return "icl" if source.startswith("icl_") else source


def _by_source(group: Group) -> dict[tuple[str, str], list[tuple[float, str]]]:
    """Scores with their contexts, by category and source."""
    found: defaultdict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for scope, sample in group.samples:
        member = accuracy_of(sample), f"{scope}/{sample.cluster}"
        found[sample.category, sample.source].append(member)
    return found


def _source_mean(members: list[tuple[float, str]], stream: int) -> tuple[float, Draws | None]:
    """The mean, and means of resamples that draw whole contexts; None with fewer than two.

    stream: of random numbers; sources are drawn independently.
    """
    import numpy as np

    names = sorted({cluster for _, cluster in members})
    where = {name: index for index, name in enumerate(names)}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for score, cluster in members:
        sums[where[cluster]] += score
        counts[where[cluster]] += 1
    estimate = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return estimate, None
    drawn = np.random.default_rng([0, stream]).integers(0, len(names), (RESAMPLES, len(names)))
    return estimate, sums[drawn].sum(1) / counts[drawn].sum(1)


def _mean_of(parts: list[tuple[float, Draws | None]]) -> tuple[float, Draws | None]:
    import numpy as np

    estimate = float(np.mean([value for value, _ in parts]))
    draws = [item for _, item in parts if item is not None]
    return estimate, np.mean(draws, 0) if len(draws) == len(parts) else None
