"""Each statistic against a value known from elsewhere: by hand, in closed form, or from scipy."""

import itertools
from math import comb

import numpy as np
import pytest
from deltamem_eval.stats import (
    averaged_bootstrap,
    cluster_bootstrap,
    detectable_difference,
    holm,
    holm_where,
    mcnemar,
    most_patterns,
    paired_bootstrap,
    paired_test,
    patterns_line,
    sign_flip,
    sign_flips,
    standard_error,
    unpaired_bootstrap,
    unpaired_test,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, bootstrap, nct, norm, permutation_test, sem, t


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


def test_average_of_one_part_is_its_mean() -> None:
    values, names = [1.0, 0.0, 1.0, 0.0, 0.0], list("aabcd")
    whole, part = cluster_bootstrap(values, names), averaged_bootstrap([(1.0, values, names)])
    assert (part.estimate, part.n, part.clusters) == (whole.estimate, 5, 4)
    assert part.low == pytest.approx(whole.low, abs=0.02)
    assert part.high == pytest.approx(whole.high, abs=0.02)


def test_average_of_parts_adds_their_variances() -> None:
    random = np.random.default_rng(5)
    parts, error = [], 0.0
    for weight, size in ((0.5, 300), (0.25, 200), (0.25, 400)):
        values = random.normal(0.5, 0.3, size)
        parts.append((weight, list(values), [str(index) for index in range(size)]))
        error += (weight * sem(values)) ** 2
    found = averaged_bootstrap(parts)
    half = norm.ppf(0.975) * error**0.5
    assert found.estimate == pytest.approx(sum(weight * np.mean(values) for weight, values, _ in parts))
    assert found.low == pytest.approx(found.estimate - half, abs=half / 10)
    assert found.high == pytest.approx(found.estimate + half, abs=half / 10)


def test_a_part_of_one_cluster_leaves_no_interval() -> None:
    assert averaged_bootstrap([(0.5, [1, 0], ["a", "b"]), (0.5, [1, 0], ["a", "a"])]).low is None


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


def clustered(
    random: np.random.Generator, clusters: int, centre: float, shared: np.ndarray | None = None
) -> tuple[list[float], list[str], np.ndarray]:
    """Right or wrong, 3 to 9 questions a context, each context of a difficulty of its own.

    shared: uniform numbers that make two samples' contexts hard together. The true mean is `centre`, as the
    number of questions does not depend on the difficulty.
    """
    uniform = random.uniform(size=clusters) if shared is None else shared
    rates = beta.ppf(uniform, 3 * centre, 3 * (1 - centre))
    sizes = np.resize([3, 5, 6, 9], clusters)
    values = [float(value) for p, n in zip(rates, sizes, strict=True) for value in random.random(n) < p]
    return values, [str(index) for index, n in enumerate(sizes) for _ in range(n)], uniform


def paired_coverage(clusters: int, runs: int, widen: bool) -> float:
    """How often the interval of a paired difference holds the true one, 0.1."""
    random = np.random.default_rng(clusters)
    hits = 0
    for _ in range(runs):
        a, names, shared = clustered(random, clusters, 0.6)
        b, _, _ = clustered(random, clusters, 0.5, (shared + random.uniform(0, 0.5, clusters)) % 1)
        found = paired_bootstrap(a, b, names, resamples=1000, widen=widen)
        hits += found.low <= 0.1 <= found.high  # type: ignore[operator]
    return hits / runs


@pytest.mark.parametrize("clusters", [10, 15, 30, 60])
def test_widened_interval_of_a_paired_difference_covers_as_often_as_it_says(clusters: int) -> None:
    assert 0.93 <= paired_coverage(clusters, 1000, widen=True) <= 0.97


def test_few_contexts_need_the_wider_interval() -> None:
    # Why intervals are widened: the plain percentile interval of ten contexts holds the truth too rarely.
    assert paired_coverage(10, 1000, widen=False) < 0.92


@pytest.mark.parametrize("clusters", [(10, 10), (12, 40)])
def test_interval_between_two_seeds_covers_as_often_as_it_says(clusters: tuple[int, int]) -> None:
    random = np.random.default_rng(4)
    hits = 0
    for _ in range(1000):
        a, names_a, _ = clustered(random, clusters[0], 0.6)
        b, names_b, _ = clustered(random, clusters[1], 0.5)
        found = unpaired_bootstrap(a, names_a, b, names_b, resamples=1000)
        hits += found.low <= 0.1 <= found.high  # type: ignore[operator]
    assert 0.93 <= hits / 1000 <= 0.97


def test_widening_is_student_s_on_symmetric_data() -> None:
    # Singletons, symmetric: the widened percentile interval is the t interval, up to resampling.
    random = np.random.default_rng(5)
    values = list(norm.ppf((np.arange(12) + 0.5) / 12))
    random.shuffle(values)
    found = cluster_bootstrap(values, [str(index) for index in range(12)], resamples=100_000)
    half = t.ppf(0.975, 11) * sem(values)
    assert found.low == pytest.approx(-half, rel=0.03)
    assert found.high == pytest.approx(half, rel=0.03)


def test_bootstrap_of_single_questions_agrees_with_scipy() -> None:
    values = np.random.default_rng(6).exponential(size=50)
    wanted = bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    found = cluster_bootstrap(list(values), [str(index) for index in range(50)])
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.02)


def test_standard_error_by_hand_and_from_scipy() -> None:
    values = [0.1, 0.7, 0.4, 0.9, 0.2]
    assert standard_error(values, list("abcde")) == pytest.approx(sem(values))
    # Sums 2 and 1 of 3 and 3 questions, mean 1/2: residuals ±1/2, so √(2/1 · 1/2) / 6.
    assert standard_error([1, 1, 0, 0, 0, 1], list("aaabbb")) == pytest.approx(1 / 6)
    assert standard_error([1.0, 0.0], ["a", "a"]) is None


def test_detectable_difference_has_the_power_it_says() -> None:
    # Of many clusters 1.960 + 0.842 errors; of few, the noncentral t has a power of 0.8 there.
    assert detectable_difference(1.0, 1e6) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    for freedom in (4, 9, 29):
        shift = detectable_difference(1.0, freedom)
        limit = t.ppf(0.975, freedom)
        power = 1 - nct.cdf(limit, freedom, shift) + nct.cdf(-limit, freedom, shift)
        assert power == pytest.approx(0.8, abs=0.02)


def test_mcnemar_stands_only_where_questions_are_independent() -> None:
    a, b = [1.0] * 8 + [0.0] * 2, [0.0] * 8 + [1.0] * 2
    alone = paired_test(a, b, [str(index) for index in range(10)])
    assert alone == (pytest.approx(2 * 56 / 2**10), "exact McNemar")
    shared = paired_test(a, b, [str(index // 2) for index in range(10)])
    assert shared == (pytest.approx(2 * 6 / 2**5), "sign flip")  # four contexts of five won
    assert paired_test([0.5, 1.0], [0.0, 0.0], ["a", "b"]).test == "sign flip"


def test_a_thing_against_itself_has_difference_zero_and_p_one() -> None:
    a, names, _ = clustered(np.random.default_rng(8), 12, 0.5)
    for seed in range(10):
        found = paired_bootstrap(a, a, names, seed=seed)
        assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
        assert paired_test(a, a, names, seed=seed).value == 1.0
        assert unpaired_bootstrap(a, names, a, names, seed=seed).estimate == 0.0
        assert unpaired_test(a, names, a, names, seed=seed).value == 1.0


def test_dealing_out_anew_agrees_with_scipy() -> None:
    random = np.random.default_rng(9)
    a, b = random.normal(0.6, 1, 25), random.normal(0, 1, 18)
    wanted = permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), n_resamples=20_000, rng=np.random.default_rng(1)
    ).pvalue
    names_a, names_b = [f"a{index}" for index in range(25)], [f"b{index}" for index in range(18)]
    assert unpaired_test(list(a), names_a, list(b), names_b).value == pytest.approx(wanted, abs=0.01)


def test_dealing_out_anew_keeps_its_level() -> None:
    random = np.random.default_rng(10)
    alarms = 0
    for _ in range(400):
        a, names_a, _ = clustered(random, 12, 0.5)
        b, names_b, _ = clustered(random, 15, 0.5)
        alarms += unpaired_test(a, names_a, b, names_b, resamples=300).value < 0.05
    assert alarms / 400 <= 0.075


def test_rows_without_a_difference_take_no_share_of_the_error() -> None:
    assert holm_where([0.01, 1.0, 0.02, 1.0], [True, False, True, False]) == [0.02, 1.0, 0.02, 1.0]
    assert holm_where([1.0], [False]) == [1.0]


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        cluster_bootstrap([], [])


def test_a_family_of_many_tests_gets_patterns_enough_for_holm() -> None:
    size = 24  # too many contexts to count every pattern
    names = [str(number) for number in range(size)]
    clear = ([1.0] * size, [0.0] * size, names)
    even = (
        [float(number % 2) for number in range(size)],
        [float(number % 2 == 0) for number in range(size)],
        names,
    )
    family = [clear, *[even] * 299]
    found = sign_flips(family)
    assert found[0] == 1 / (most_patterns(300) + 1) == 1 / 300_001
    assert holm(found)[0] < 0.01
    assert found[1] == sign_flip(*even)  # resolved by the first 10,000, as it is alone
    assert sign_flip(*clear) == 1 / 10_001
    assert sign_flips(family) == found


def test_patterns_are_counted_where_a_family_s_are_few_enough() -> None:
    names = [str(number) for number in range(16)]  # 65,536 patterns
    one = ([1.0] * 16, [0.0] * 16, names)
    assert sign_flips([one] * 100) == [2 / 2**16] * 100
    assert sign_flips([([0.5] * 16, [0.5] * 16, names)]) == [1.0]


def test_drawing_on_gives_p_values_that_hold_their_level() -> None:
    random = np.random.default_rng(0)
    names = [str(number) for number in range(20)]
    family = [(list(random.normal(size=20)), [0.0] * 20, names) for _ in range(400)]
    found = sign_flips(family, resamples=20_000)
    assert sum(p <= 0.05 for p in found) / 400 == pytest.approx(0.05, abs=0.03)
    assert all(0 < p <= 1 for p in found)


def test_contexts_of_two_samples_are_shuffled_on_in_a_family() -> None:
    a, b = [1.0] * 12, [0.0] * 12
    names = [[f"{side}{number}" for number in range(12)] for side in "ab"]
    assert unpaired_test(a, names[0], b, names[1]).value == 1 / 10_001
    assert unpaired_test(a, names[0], b, names[1], tests=30).value == 1 / 30_001


def test_the_floor_of_p_is_told() -> None:
    assert "below 1 in 10,001," in patterns_line(3)
    assert "to 594,000 are drawn" in patterns_line(594)
