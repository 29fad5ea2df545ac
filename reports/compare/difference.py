"""The difference between two rows, with everything that says how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deltamem_eval.reports.compare.pairing import Pair
from deltamem_eval.reports.compare.rows import Key, Row
from deltamem_eval.reports.groups import accuracy_of
from deltamem_eval.stats import (
    Interval,
    Paired,
    PValue,
    detectable_difference,
    holm_where,
    paired_bootstrap,
    paired_tests,
    standard_error,
    unpaired_bootstrap,
    unpaired_test,
)


@dataclass(frozen=True)
class Difference:
    """B less A on one row, accuracies from 0 to 1.

    n, contexts: of either side. interval: 95 %. adjusted: the p-value by Holm over all rows in which
    anything differs. detectable: the smallest true difference that this many questions show in four of five
    tries at p < 0.05, None where nothing differs or a side has one context. pairs: the questions with both
    answers, empty where they were not paired.
    """

    key: Key
    n: tuple[int, int]
    contexts: tuple[int | None, int | None]
    a: float
    b: float
    interval: Interval
    p: PValue
    detectable: float | None
    pairs: tuple[Pair, ...] = ()
    adjusted: float = 1.0

    @property
    def change(self) -> float:
        """Accuracy of B less that of A."""
        return self.b - self.a

    @property
    def flips(self) -> list[Pair]:
        """The questions whose score differs, lost ones first."""
        return sorted((pair for pair in self.pairs if pair.change), key=lambda pair: pair.change > 0)

    @property
    def won(self) -> int:
        """Questions on which B scores higher."""
        return sum(pair.change > 0 for pair in self.pairs)

    @property
    def lost(self) -> int:
        """Questions on which B scores lower."""
        return sum(pair.change < 0 for pair in self.pairs)


def paired_differences(rows: Mapping[Key, Sequence[Pair]], seed: int) -> list[Difference]:
    """B less A over the same questions, row by row, whose p-values are one family.

    seed: of the resampling. Raises ValueError for a row without a pair.
    """
    family = [
        (
            [accuracy_of(pair.a) for pair in pairs],
            [accuracy_of(pair.b) for pair in pairs],
            [pair.cluster for pair in pairs],
        )
        for pairs in rows.values()
    ]
    return [
        _paired_difference(key, pairs, test, p, seed)
        for (key, pairs), test, p in zip(rows.items(), family, paired_tests(family, seed=seed), strict=True)
    ]


def _paired_difference(key: Key, pairs: Sequence[Pair], test: Paired, p: PValue, seed: int) -> Difference:
    a, b, clusters = test
    interval = paired_bootstrap(b, a, clusters, seed=seed)
    error = standard_error([pair.change for pair in pairs], clusters)
    return Difference(
        key,
        (len(pairs), len(pairs)),
        (interval.clusters, interval.clusters),
        sum(a) / len(a),
        sum(b) / len(b),
        interval,
        p,
        detectable_difference(error, interval.clusters - 1) if error else None,
        tuple(pairs),
    )


def unpaired_difference(key: Key, a: Row, b: Row, seed: int, rows: int) -> Difference:
    """B less A as two samples of their own. rows: that are compared, for its p-value is one of so many."""
    first, second = a.scores, b.scores
    sides = (second, b.clusters, first, a.clusters)
    interval = unpaired_bootstrap(*sides, seed=seed)
    errors = standard_error(first, a.clusters), standard_error(second, b.clusters)
    contexts = len(set(a.clusters)), len(set(b.clusters))
    detectable = None
    if errors[0] is not None and errors[1] is not None and any(errors):
        error = (errors[0] ** 2 + errors[1] ** 2) ** 0.5
        detectable = detectable_difference(error, sum(contexts) - 2)
    return Difference(
        key,
        (len(first), len(second)),
        contexts,
        sum(first) / len(first),
        sum(second) / len(second),
        interval,
        unpaired_test(*sides, seed=seed, tests=rows),
        detectable,
    )


def adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with p-values by Holm over those in which anything differs."""
    differs = [bool(found.flips) if found.pairs else True for found in differences]
    values = holm_where([found.p.value for found in differences], differs)
    return [replace(found, adjusted=p) for found, p in zip(differences, values, strict=True)]
