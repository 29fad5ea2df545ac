"""Each statistic against a value known from elsewhere: by hand, in closed form, or from scipy."""

import itertools
from math import comb

import numpy as np
import pytest
from deltamem_eval.stats import cluster_bootstrap, holm, mcnemar, paired_bootstrap, sign_flip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, permutation_test


def test_bootstrap_of_two_clusters_is_known_in_closed_form() -> None:
    # Clusters of 2 zeros and 2 ones: a resample's mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    found = cluster_bootstrap([0, 0, 1, 1], ["a", "a", "b", "b"])
    assert (found.estimate, found.low, found.high, found.n, found.clusters) == (0.5, 0.0, 1.0, 4, 2)


def test_clusters_weigh_by_their_questions() -> None:
    assert cluster_bootstrap([1, 1, 1, 0], ["a", "a", "a", "b"]).estimate == 0.75


def test_one_cluster_has_no_interval() -> None:
    found = cluster_bootstrap([1, 0, 1], ["a"] * 3)
    assert (found.low, found.high, found.clusters) == (None, None, 1)


def test_bootstrap_agrees_with_the_normal_interval_of_many_clusters() -> None:
    random = np.random.default_rng(1)
    effects = random.normal(0.5, 0.1, 400)
    values = [float(value) for effect in effects for value in random.normal(effect, 0.2, 5)]
    names = [str(index) for index in range(400) for _ in range(5)]
    found = cluster_bootstrap(values, names)
    means = np.asarray(values).reshape(400, 5).mean(1)
    half = norm.ppf(0.975) * means.std(ddof=1) / 20
    assert found.low == pytest.approx(means.mean() - half, abs=half / 10)
    assert found.high == pytest.approx(means.mean() + half, abs=half / 10)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        effects = random.normal(0, 1, 60)
        values = [float(value) for effect in effects for value in random.normal(effect, 1, 4)]
        names = [str(index) for index in range(60) for _ in range(4)]
        found = cluster_bootstrap(values, names, resamples=1000)
        hits += found.low <= 0 <= found.high  # type: ignore[operator]
    assert 0.91 <= hits / 300 <= 0.98


def test_pairing_takes_out_what_both_share() -> None:
    a, b = [0.2, 0.9, 0.5, 0.7], [0.1, 0.8, 0.4, 0.6]
    found = paired_bootstrap(a, b, list("abcd"))
    assert found.estimate == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)


def test_mcnemar_by_hand() -> None:
    # 8 wins and 2 losses of 10 that differ: 2 · (C(10,0) + C(10,1) + C(10,2)) / 2^10.
    a = [True] * 8 + [False] * 2 + [True] * 5
    b = [False] * 8 + [True] * 2 + [True] * 5
    assert mcnemar(a, b) == pytest.approx(2 * sum(comb(10, k) for k in range(3)) / 2**10)
    assert mcnemar(a, a) == 1.0


def test_sign_flip_counts_every_pattern_where_there_are_few() -> None:
    a, b = [3.0, 1.0, 2.0], [0.0, 0.0, 0.0]
    patterns = [
        sum(s * v for s, v in zip(signs, a, strict=True)) for signs in itertools.product((-1, 1), repeat=3)
    ]
    wanted = sum(abs(value) >= 6 for value in patterns) / 8
    assert sign_flip(a, b, ["x", "y", "z"]) == wanted == 0.25


def test_sign_flip_agrees_with_scipy() -> None:
    random = np.random.default_rng(3)
    a, b = random.normal(0.3, 1, 40), np.zeros(40)
    wanted = permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=random
    ).pvalue
    assert sign_flip(list(a), list(b), [str(index) for index in range(40)]) == pytest.approx(wanted, abs=0.02)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.4 times 4, 3, 2, 1, made monotone.
    assert holm([0.03, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06])
    assert holm([]) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from("abcde")), min_size=1, max_size=40))
def test_order_of_questions_changes_nothing(pairs: list[tuple[float, str]]) -> None:
    values, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = cluster_bootstrap(values, names, resamples=200)
    assert found == cluster_bootstrap(values[::-1], names[::-1], resamples=200)
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.high <= 1


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        cluster_bootstrap([], [])
