"""Statistics for questions that share contexts. Everything random is seeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
_BLOCK = 1_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, whose ends are None with fewer than two clusters."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    clusters: int


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of values with a percentile bootstrap interval that draws whole clusters.

    values, clusters: one each a question; the cluster is its context. Each resample draws as many clusters
    as there are and takes the mean over all their questions (Davison & Hinkley 1997, section 3.8). Raises
    ValueError for no values.
    """
    import numpy as np

    if len(values) != len(clusters) or not values:
        raise ValueError("values and clusters must be of one length, and not empty")
    sums, counts = _totals(values, clusters)
    estimate = float(sums.sum() / counts.sum())
    size = len(sums)
    if size < 2:
        return Interval(estimate, None, None, len(values), size)
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _BLOCK):
        drawn = random.integers(0, size, (min(_BLOCK, resamples - start), size))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(estimate, float(low), float(high), len(values), size)


def _totals(
    values: Sequence[float], clusters: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and count of each cluster's values, clusters in sorted order."""
    import numpy as np

    names = {name: index for index, name in enumerate(sorted(set(clusters)))}
    where = np.array([names[name] for name in clusters])
    sums = np.bincount(where, weights=np.asarray(values, dtype=np.float64), minlength=len(names))
    counts = np.bincount(where, minlength=len(names))
    return sums.astype(np.float64), counts.astype(np.float64)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of a - b over the same questions, with the cluster bootstrap's interval."""
    differences = [left - right for left, right in zip(a, b, strict=True)]
    return cluster_bootstrap(differences, clusters, seed=seed, resamples=resamples)


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> float:
    """Exact two-sided McNemar p-value for paired right/wrong answers; 1 where none differ."""
    from scipy.stats import binomtest

    wins = sum(left and not right for left, right in zip(a, b, strict=True))
    losses = sum(right and not left for left, right in zip(a, b, strict=True))
    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses).pvalue)


def sign_flip(
    a: Sequence[float],
    b: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> float:
    """Two-sided p-value of a mean difference when each cluster's sign is arbitrary.

    All sign patterns are counted where there are at most `resamples` of them; else that many are drawn, and
    the p-value is (1 + hits) / (1 + resamples).
    """
    import numpy as np

    sums, _ = _totals([left - right for left, right in zip(a, b, strict=True)], clusters)
    observed = abs(sums.sum()) - 1e-12
    size = len(sums)
    if 2**size <= resamples:
        signs = 1 - 2 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1)
        return float((np.abs(signs @ sums) >= observed).mean())
    random = np.random.default_rng(seed)
    hits = 0
    for start in range(0, resamples, _BLOCK):
        signs = random.choice([-1.0, 1.0], (min(_BLOCK, resamples - start), size))
        hits += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + hits) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
