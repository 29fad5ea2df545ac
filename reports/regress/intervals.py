"""A row against a printed line of which only the mean and its interval are known."""

from __future__ import annotations

from math import sqrt

from deltamem_eval.reports.compare.difference import Difference
from deltamem_eval.reports.compare.rows import Row
from deltamem_eval.reports.regress.facts import Line
from deltamem_eval.stats import Interval, PValue, cluster_bootstrap, detectable_difference

_NORMAL = 1.959964  # half a 95 % interval in standard errors


def interval_difference(line: Line, row: Row, seed: int) -> Difference:
    """The row less the line as if their questions were others: z test on the errors both intervals tell.

    A quarter of an interval's width is taken as its standard error. Where both are without width, p is 1 for
    equal means and 0 else. A line without an interval gives none, and p = 1.
    """
    mine = cluster_bootstrap(row.scores, row.clusters, seed=seed)
    before = line.facts["accuracy"] or 0.0
    change = mine.estimate - before
    error = None
    if line.interval is not None and mine.low is not None and mine.high is not None:
        widths = line.interval[1] - line.interval[0], mine.high - mine.low
        error = sqrt(sum(width**2 for width in widths)) / (2 * _NORMAL)
    half = None if error is None else _NORMAL * error
    return Difference(
        row.key,
        (line.n, mine.n),
        (None, mine.clusters),
        before,
        mine.estimate,
        Interval(
            change,
            None if half is None else change - half,
            None if half is None else change + half,
            min(line.n, mine.n),
            mine.clusters,
        ),
        PValue(_p_value(change, error), "z from intervals"),
        detectable_difference(error, mine.clusters - 1) if error else None,
    )


def _p_value(change: float, error: float | None) -> float:
    from scipy.stats import norm

    if error is None or abs(change) < 1e-12:
        return 1.0
    return float(2 * norm.sf(abs(change) / error)) if error else 0.0
