"""Statistics for questions that share contexts. Everything random is seeded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
_PER_TEST = 1_000  # patterns to each test of a family, so that Holm over all can leave p = 0.001
_FEW = 100  # patterns as extreme as what was seen: with fewer, more are drawn
_BLOCK = 1_000
_LEVEL = 0.025  # below the interval, and as much above it


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, whose ends are None with fewer than two clusters."""

    estimate: float
    low: float | None
    high: float | None
    n: int
    clusters: int


class PValue(NamedTuple):
    """A two-sided p-value, and the name of the test that gave it."""

    value: float
    test: str


def intervals_line(seed: int = 0) -> str:
    """How intervals are made, for a table's caption."""
    return (
        f"Intervals: cluster bootstrap by context, {RESAMPLES:,} resamples, seed {seed}, quantiles widened "
        "for few contexts."
    )


def most_patterns(tests: int) -> int:
    """How many patterns a test of a family may take, for its p-value to be small enough after Holm."""
    return max(RESAMPLES, _PER_TEST * tests)


def patterns_line(tests: int) -> str:
    """How many patterns p-values of a family rest on and how small they can be, for a table's caption."""
    most = most_patterns(tests)
    drawn = "so many"
    if most > RESAMPLES:
        drawn = f"{RESAMPLES:,}, and on while fewer than {_FEW} are as extreme, to {most:,}"
    return (
        f"Patterns: all where there are at most {most:,}; else {drawn} are drawn. Before Holm no such p is "
        f"below 1 in {most + 1:,}, nor below 2 in 2 to the number of contexts."
    )


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    widen: bool = True,
) -> Interval:
    """Mean of values with a percentile bootstrap interval that draws whole clusters.

    values, clusters: one each a question; the cluster is its context. Each resample draws as many clusters
    as there are and takes the mean over all their questions (Davison & Hinkley 1997, section 3.8). widen:
    move the quantiles outwards as far as few clusters ask for (`_tail`); without, ten clusters' intervals
    hold the truth too rarely. Raises ValueError for no values.
    """
    import numpy as np

    sums, counts = _totals(values, clusters)
    estimate = float(sums.sum() / counts.sum())
    size = len(sums)
    if size < 2:
        return Interval(estimate, None, None, len(values), size)
    means = _resampled(sums, counts, np.random.default_rng(seed), resamples)
    tail = _tail([means], [size]) if widen else _LEVEL
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), len(values), size)


def averaged_bootstrap(
    parts: Sequence[tuple[float, Sequence[float], Sequence[str]]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Weighted sum of the means of several parts, whose clusters are drawn apart, with a widened interval.

    parts: weight, values and clusters of each. n and clusters count all parts; there is no interval where a
    part has fewer than two clusters. Raises ValueError for a part without values.
    """
    import numpy as np

    totals = [_totals(values, clusters) for _, values, clusters in parts]
    weights = [weight for weight, _, _ in parts]
    means = [sums.sum() / counts.sum() for sums, counts in totals]
    estimate = float(np.dot(weights, means))
    sizes = [len(sums) for sums, _ in totals]
    n = sum(len(values) for _, values, _ in parts)
    if min(sizes) < 2:
        return Interval(estimate, None, None, n, sum(sizes))
    drawn = [
        weight * _resampled(*total, np.random.default_rng([seed, stream]), resamples)
        for stream, (weight, total) in enumerate(zip(weights, totals, strict=True))
    ]
    tail = _tail(drawn, sizes)
    low, high = np.quantile(sum(drawn), [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), n, sum(sizes))


def _resampled(sums: Floats, counts: Floats, random: np.random.Generator, resamples: int) -> Floats:
    """Means of resamples [resamples] that draw as many clusters as there are, with replacement."""
    import numpy as np

    size, means = len(sums), []
    for start in range(0, resamples, _BLOCK):
        drawn = random.integers(0, size, (min(_BLOCK, resamples - start), size))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    return np.concatenate(means)


def _tail(means: Sequence[Floats], sizes: Sequence[int]) -> float:
    """The quantile that ends an interval of a sum of independent resampled means, in place of 0.025.

    Resampling n clusters understates the variance by (n - 1)/n, and a normal quantile is narrower than
    Student's. Both together move the quantile to Φ(-t·√(n/(n-1))) (Hesterberg 2015, "expanded percentile").
    Of two samples each variance is put right by its own n, and t has Welch's degrees of freedom.
    """
    from scipy.stats import norm, t

    drawn = [float(part.var()) for part in means]
    right = [part * size / (size - 1) for part, size in zip(drawn, sizes, strict=True)]
    total = sum(right)
    if total == 0:
        return _LEVEL
    freedom = total**2 / sum(part**2 / (size - 1) for part, size in zip(right, sizes, strict=True))
    return float(norm.cdf(t.ppf(_LEVEL, freedom) * sqrt(total / sum(drawn))))


def _totals(values: Sequence[float], clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and count of each cluster's values, clusters in sorted order. Raises ValueError for no values."""
    import numpy as np

    if len(values) != len(clusters) or not values:
        raise ValueError("values and clusters must be of one length, and not empty")
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
    widen: bool = True,
) -> Interval:
    """Mean of a - b over the same questions, with the cluster bootstrap's interval."""
    differences = [left - right for left, right in zip(a, b, strict=True)]
    return cluster_bootstrap(differences, clusters, seed=seed, resamples=resamples, widen=widen)


def unpaired_bootstrap(
    a: Sequence[float],
    clusters_a: Sequence[str],
    b: Sequence[float],
    clusters_b: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of a less mean of b, of different questions, with a widened cluster bootstrap interval.

    Either side's clusters are drawn on their own. n and clusters are those of the smaller side; there is no
    interval where a side has fewer than two clusters.
    """
    import numpy as np

    sides = [_totals(a, clusters_a), _totals(b, clusters_b)]
    first, second = (float(sums.sum() / counts.sum()) for sums, counts in sides)
    sizes = [len(sums) for sums, _ in sides]
    n = min(len(a), len(b))
    if min(sizes) < 2:
        return Interval(first - second, None, None, n, min(sizes))
    random = np.random.default_rng(seed)
    means = [_resampled(sums, counts, random, resamples) for sums, counts in sides]
    tail = _tail(means, sizes)
    low, high = np.quantile(means[0] - means[1], [tail, 1 - tail])
    return Interval(first - second, float(low), float(high), n, min(sizes))


def standard_error(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean when clusters, not questions, are independent; None with one cluster.

    √(G/(G-1) · Σ_g (S_g - m·n_g)²) / N with G clusters of n_g questions and sum S_g, N questions, mean m:
    the linearised error of a ratio (Cochran 1977, chapter 6). With one question a cluster it is s/√N.
    """
    sums, counts = _totals(values, clusters)
    size, total = len(sums), float(counts.sum())
    if size < 2:
        return None
    residuals = sums - sums.sum() / total * counts
    return sqrt(size / (size - 1) * float((residuals**2).sum())) / total


def detectable_difference(error: float, freedom: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with probability `power`.

    (t_{1-alpha/2} + t_{power}) · error, Student's t with `freedom` degrees (Bloom 1995). error: standard
    error of the difference. freedom: clusters less one.
    """
    from scipy.stats import t

    return float(t.ppf(1 - alpha / 2, freedom) + t.ppf(power, freedom)) * error


Paired = tuple[Sequence[float], Sequence[float], Sequence[str]]  # a, b and clusters of a test


def paired_test(a: Sequence[float], b: Sequence[float], clusters: Sequence[str], *, seed: int = 0) -> PValue:
    """Whether a and b differ on the same questions: `paired_tests` of one."""
    return paired_tests([(a, b, clusters)], seed=seed)[0]


def paired_tests(family: Sequence[Paired], *, seed: int = 0) -> list[PValue]:
    """Whether a and b differ on the same questions, for each of a family of tests that Holm adjusts.

    Exact McNemar where every score is 0 or 1 and every question has a context of its own; else signs of
    whole contexts are flipped, for questions on one context are not independent.
    """
    alone = [len(set(clusters)) == len(clusters) and {*a, *b} <= {0.0, 1.0} for a, b, clusters in family]
    flipped = [test for test, exact in zip(family, alone, strict=True) if not exact]
    values = iter(sign_flips(flipped, seed=seed, resamples=most_patterns(len(family))))
    return [
        PValue(mcnemar([bool(value) for value in a], [bool(value) for value in b]), "exact McNemar")
        if exact
        else PValue(next(values), "sign flip")
        for (a, b, _), exact in zip(family, alone, strict=True)
    ]


def unpaired_test(
    a: Sequence[float],
    clusters_a: Sequence[str],
    b: Sequence[float],
    clusters_b: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    tests: int = 1,
) -> PValue:
    """Whether the means of a and b differ, by dealing whole clusters out to the two sides anew.

    The p-value is (1 + hits) / (1 + drawn) (Phipson & Smyth 2010). tests: of the family that Holm adjusts;
    beyond `resamples` more are drawn as `sign_flips` does.
    """
    import numpy as np

    (sums_a, counts_a), (sums_b, counts_b) = _totals(a, clusters_a), _totals(b, clusters_b)
    sums, counts, first = np.concatenate([sums_a, sums_b]), np.concatenate([counts_a, counts_b]), len(sums_a)

    def difference(order: NDArray[np.int64]) -> Floats:
        left, right = order[..., :first], order[..., first:]
        return np.asarray(
            sums[left].sum(-1) / counts[left].sum(-1) - sums[right].sum(-1) / counts[right].sum(-1)
        )

    everyone = np.arange(len(sums))
    observed = abs(float(difference(everyone))) - 1e-12
    random = np.random.default_rng(seed)
    hits = drawn = 0
    most = max(resamples, _PER_TEST * tests)
    while drawn < resamples or (hits < _FEW and drawn < most):
        block = min(_BLOCK, (resamples if drawn < resamples else most) - drawn)
        orders = random.permuted(np.tile(everyone, (block, 1)), axis=1)
        hits += int((np.abs(difference(orders)) >= observed).sum())
        drawn += block
    return PValue((1 + hits) / (1 + drawn), "shuffled contexts")


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
    """Two-sided p-value of a mean difference when each cluster's sign is arbitrary: `sign_flips` of one."""
    return sign_flips([(a, b, clusters)], seed=seed, resamples=resamples)[0]


def sign_flips(family: Sequence[Paired], *, seed: int = 0, resamples: int | None = None) -> list[float]:
    """Two-sided p-values of mean differences when each cluster's sign is arbitrary.

    All sign patterns are counted where there are at most `resamples` of them, by default `most_patterns` of
    the family. Else RESAMPLES are drawn, and more, up to `resamples`, while fewer than 100 of them are as
    extreme as what was seen; the p-value is (1 + hits) / (1 + drawn). It is small by chance no more often
    than it says, for where drawing goes on it is below whatever it could have stopped at (Besag & Clifford
    1991). Tests with as many clusters share their patterns.
    """
    import numpy as np

    most = most_patterns(len(family)) if resamples is None else resamples
    found, sized = [1.0] * len(family), defaultdict[int, list[int]](list)
    sums = [
        _totals([left - right for left, right in zip(a, b, strict=True)], clusters)[0]
        for a, b, clusters in family
    ]
    for index, own in enumerate(sums):
        if own.any():
            sized[len(own)].append(index)
    for size, indices in sorted(sized.items()):
        columns = np.stack([sums[index] for index in indices], axis=1)
        values = _counted(columns) if 2**size <= most else _drawn(columns, seed, most)
        for index, value in zip(indices, values, strict=True):
            found[index] = value
    return found


def _counted(columns: Floats) -> list[float]:
    """The share of all sign patterns that are as extreme, for each column of cluster sums."""
    import numpy as np

    size, hits = len(columns), np.zeros(columns.shape[1])
    observed = np.abs(columns.sum(0)) - 1e-12
    for start in range(0, 2**size, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, 2**size))
        signs = 1.0 - 2.0 * ((numbers[:, None] >> np.arange(size)) & 1)
        hits += (np.abs(signs @ columns) >= observed).sum(0)
    return [float(value) for value in hits / 2**size]


def _drawn(columns: Floats, seed: int, most: int) -> list[float]:
    """The p-value by drawn sign patterns, for each column of cluster sums."""
    import numpy as np

    random = np.random.default_rng(seed)
    observed = np.abs(columns.sum(0)) - 1e-12
    hits, drawn = np.zeros(columns.shape[1]), np.zeros(columns.shape[1])
    going = np.arange(columns.shape[1])
    for start in range(0, most, _BLOCK):
        if start >= RESAMPLES:
            going = going[hits[going] < _FEW]
            if not len(going):
                break
        signs = random.choice([-1.0, 1.0], (min(_BLOCK, most - start), len(columns)))
        hits[going] += (np.abs(signs @ columns[:, going]) >= observed[going]).sum(0)
        drawn[going] += len(signs)
    return [float(value) for value in (1 + hits) / (1 + drawn)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def holm_where(p_values: Sequence[float], differs: Sequence[bool]) -> list[float]:
    """Holm's adjustment over the rows in which anything differs; the others keep p = 1 and do not count.

    A paired test of a row without a difference can never reject, whatever is true, so it takes no share of
    the error (Tarone 1990).
    """
    adjusted = iter(holm([p for p, counts in zip(p_values, differs, strict=True) if counts]))
    return [next(adjusted) if counts else 1.0 for counts in differs]
