"""The bootstrap on two levels, McNemar's test and its power, by hand and against known cases."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import binom

from raft_core.evaluation.metrics import Estimate
from raft_core.evaluation.statistics import (
    McNemar,
    cluster,
    detectable_difference,
    mcnemar,
    mean_relative_gain,
    mean_score,
    paired_difference,
    retention,
)


def names(size: int, run: str = "") -> list[str]:
    return [f"{run}{n}" for n in range(size)]


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def test_mean_score_runs_weigh_the_same_whatever_their_size() -> None:
    # (3/4 + 1/2) / 2
    estimate = mean_score([[1, 1, 1, 0], [1, 0]], [names(4, "a"), names(2, "b")])
    assert estimate.value == pytest.approx(0.625)
    assert estimate.low < 0.625 < estimate.high


def test_mean_score_one_run_of_independent_rows_normal_approximation() -> None:
    estimate = mean_score([[1, 0] * 200], [names(400)], resamples=20_000)
    assert width(estimate) == pytest.approx(2 * 1.96 * sqrt(0.25 / 400), rel=0.05)


def test_mean_score_paraphrases_of_a_fact_widen_the_interval_as_their_number_says() -> None:
    outcomes = [x for n in range(100) for x in [n % 2] * 4]
    facts = [f"fact-{n}" for n in range(100) for _ in range(4)]
    clustered = mean_score([outcomes], [facts], resamples=20_000)
    independent = mean_score([outcomes], [names(400)], resamples=20_000)
    assert width(clustered) == pytest.approx(2 * width(independent), rel=0.05)


def test_mean_score_runs_that_differ_without_spread_inside_interval_of_the_runs() -> None:
    # Both runs are drawn twice with probability 1/4 each.
    estimate = mean_score([[1, 1], [0, 0]], [names(2, "a"), names(2, "b")])
    assert estimate == Estimate(0.5, 0.0, 1.0)


def test_mean_score_same_questions_again_do_not_narrow_the_interval_other_questions_do() -> None:
    outcomes = [1, 0] * 50
    once = mean_score([outcomes], [names(100)], resamples=5000)
    again = mean_score([outcomes] * 4, [names(100)] * 4, resamples=5000)
    others = mean_score([outcomes] * 4, [names(100, f"{n}/") for n in range(4)], resamples=5000)
    assert width(again) == pytest.approx(width(once), rel=0.05)
    assert width(others) < 0.8 * width(once)


def test_paired_difference_by_hand_and_opposite_of_the_other_way() -> None:
    a, b = [[1, 1, 1, 0], [1, 1]], [[1, 0, 0, 0], [1, 0]]
    clusters = [names(4, "a"), names(2, "b")]
    there, back = paired_difference(a, b, clusters), paired_difference(b, a, clusters)
    assert there.value == pytest.approx(0.5)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))


def test_paired_difference_identical_methods_zero_without_width() -> None:
    outcomes = [[1, 0, 1], [0, 0, 1]]
    assert paired_difference(outcomes, outcomes, [names(3)] * 2) == Estimate(0.0, 0.0, 0.0)


def test_paired_difference_pairing_is_narrower_than_two_independent_scores() -> None:
    rng = np.random.default_rng(0)
    b = (rng.random(300) < 0.6).astype(int)
    a = np.where(rng.random(300) < 0.05, 1, b)
    paired = paired_difference([a], [b], [names(300)])
    unpaired = width(mean_score([a], [names(300)])) + width(mean_score([b], [names(300)]))
    assert width(paired) < unpaired / 2


def test_paired_difference_same_seed_same_interval() -> None:
    a, b, clusters = [[1, 1, 0, 1] * 5], [[1, 0, 0, 0] * 5], [names(20)]
    first = paired_difference(a, b, clusters, seed=3)
    assert first == paired_difference(a, b, clusters, seed=3)
    assert first.value == paired_difference(a, b, clusters, seed=4).value


def test_relative_gain_by_hand_and_undefined_over_nothing() -> None:
    gain = mean_relative_gain([([[1, 1, 1, 0] * 5], [[1, 1, 0, 0] * 5], [names(20)])])
    assert gain is not None
    assert gain.value == pytest.approx(0.5)
    assert mean_relative_gain([([[1, 1]], [[0, 0]], [names(2)])]) is None


def test_mean_relative_gain_students_weigh_the_same() -> None:
    # 3/2 - 1 and 4/4 - 1
    better = [[1, 1, 1, 0] * 5], [[1, 1, 0, 0] * 5], [names(20)]
    groups = [better, ([[1] * 4], [[1] * 4], [names(4)])]
    gain = mean_relative_gain(groups)
    assert gain is not None
    assert gain.value == pytest.approx(0.25)


def test_retention_mean_over_benchmarks_and_runs_by_hand() -> None:
    # first benchmark: runs 1/2 and 1, mean 3/4; second: 1 and 1
    model = [[[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 0] * 10, [1, 0] * 10]]
    base = [[[1, 1, 1, 1], [1, 1, 1, 1]], [[1, 0] * 10, [1, 0] * 10]]
    clusters = [[names(4)] * 2, [names(20)] * 2]
    kept = retention(model, base, clusters)
    assert kept is not None
    assert kept.value == pytest.approx(0.875)
    assert kept.low < 0.875 < kept.high


def test_retention_base_that_knew_nothing_or_no_benchmark_none() -> None:
    assert retention([[[1, 1]]], [[[0, 0]]], [[names(2)]]) is None
    assert retention([], [], []) is None


@pytest.mark.parametrize(("right", "known"), [(1, False), (3, False), (4, True), (30, True)])
def test_retention_base_of_few_right_answers_none(right: int, known: bool) -> None:
    # None of them is drawn in (1 - right / 100)^100 of the resamples: 37%, 4.8%, 1.7%, 0%.
    base, model = ([1] * n + [0] * (100 - n) for n in (right, 40))
    kept = retention([[model]], [[base]], [[names(100)]])
    gain = mean_relative_gain([([model], [base], [names(100)])])
    for estimate in (kept, gain):
        assert (estimate is not None) is known
        assert estimate is None or estimate.high < 45


def test_retention_one_weak_run_among_others_none() -> None:
    # The weak run's base has no right answer in 37% of the draws of questions.
    strong, weak = [1] * 100, [1] + [0] * 99
    clusters = [names(100, "a"), names(100, "b")]
    assert retention([[strong, strong]], [[strong, strong]], [clusters]) is not None
    assert retention([[strong, weak]], [[strong, weak]], [clusters]) is None


def test_retention_more_rows_a_narrower_interval() -> None:
    base, model = [1, 1, 0, 1], [1, 0, 0, 1]
    few, many = (retention([[model * k]], [[base * k]], [[names(4 * k)]]) for k in (5, 80))
    assert few is not None
    assert many is not None
    assert width(many) < width(few) / 2


def test_retention_unchanged_model_one_without_width() -> None:
    outcomes = [[[1, 0, 1] * 5, [1, 1, 0] * 5]]
    kept = retention(outcomes, outcomes, [[names(15)] * 2])
    assert kept is not None
    assert (kept.value, kept.high) == (1.0, pytest.approx(1.0))


def test_mcnemar_pooled_discordant_pairs_exact_p_by_hand() -> None:
    # a alone is right on 1 row, b alone on 5: p = 2 (C(6,0) + C(6,1)) / 2^6
    a, b = [[1, 0, 0, 1], [0, 0, 0, 1]], [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert mcnemar(a, b) == McNemar(1, 5, pytest.approx(14 / 64))


def test_mcnemar_no_discordant_pair_p_one() -> None:
    assert mcnemar([[1, 0]], [[1, 0]]) == McNemar(0, 0, 1.0)


@pytest.mark.parametrize(
    ("outcomes", "clusters", "message"),
    [
        ([], [], "without runs"),
        ([[]], [[]], "without rows"),
        ([[1, 0]], [["a"]], "differ in number"),
    ],
)
def test_mean_score_nothing_to_average_error(
    outcomes: list[list[int]], clusters: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mean_score(outcomes, clusters)


def test_mcnemar_one_run_order_of_rows_and_of_models_changes_nothing_but_the_sides() -> None:
    a, b = [1, 1, 1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 1, 0]
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    there, shuffled = mcnemar([a], [b]), mcnemar([[a[i] for i in order]], [[b[i] for i in order]])
    back = mcnemar([b], [a])
    assert there == shuffled
    assert (there.a_only, there.b_only, there.p) == (back.b_only, back.a_only, back.p)
    # 3 against 1: p = 2 (C(4,0) + C(4,1)) / 2^4
    assert there == McNemar(3, 1, pytest.approx(10 / 16))


def test_detectable_difference_inverts_connors_sample_size_by_hand() -> None:
    # d = 0.25, D = 0.1: n = (1.95996 * 0.5 + 0.84162 * sqrt(0.25 - 0.01))^2 / 0.01
    #                      = (0.97998 + 0.41231)^2 / 0.01 = 193.8
    assert detectable_difference(1938, 484) == pytest.approx(0.1 / sqrt(10), rel=0.01)
    assert detectable_difference(194, 48) < 0.1 < detectable_difference(193, 49)  # type: ignore[operator]


def test_detectable_difference_little_discordance_all_pairs_go_one_way() -> None:
    # n D = (1.95996 + 0.84162 sqrt(1 - D))^2; n = 120: D = 0.06413,
    # as (1.95996 + 0.84162 * 0.96740)^2 = 7.6960 = 120 * 0.06413
    assert detectable_difference(120, 0) == pytest.approx(0.06413, abs=1e-5)
    assert detectable_difference(120, 7) == detectable_difference(120, 0)


@pytest.mark.parametrize(("rows", "discordant"), [(120, 24), (120, 4), (300, 30)])
def test_detectable_difference_the_exact_test_finds_it_about_four_times_in_five(
    rows: int, discordant: int
) -> None:
    """The power, summed over all numbers of discordant pairs and all ways that they may go."""
    difference = detectable_difference(rows, discordant)
    assert difference is not None
    share = max(discordant / rows, difference)
    up = (1 + difference / share) / 2
    power = 0.0
    for pairs in range(1, rows + 1):
        sides = np.arange(pairs + 1)
        found = 2 * binom.cdf(np.minimum(sides, pairs - sides), pairs, 0.5) <= 0.05
        power += binom.pmf(pairs, rows, share) * binom.pmf(sides, pairs, up)[found].sum()
    assert power == pytest.approx(0.8, abs=0.05)


def test_detectable_difference_more_rows_or_less_discordance_see_more() -> None:
    seen = [detectable_difference(n, n // 5) for n in (50, 100, 400, 1600)]
    assert seen == sorted(seen, reverse=True)  # type: ignore[type-var]
    less = [detectable_difference(200, d) for d in (0, 10, 40, 200)]
    assert less == sorted(less)  # type: ignore[type-var]


def test_detectable_difference_too_few_rows_none_and_impossible_counts_error() -> None:
    assert detectable_difference(5, 5) is None
    with pytest.raises(ValueError, match="7 discordant pairs of 6 rows"):
        detectable_difference(6, 7)


def test_cluster_first_group_or_the_row_itself() -> None:
    assert cluster("law-3-f1", r"^(.*)-f\d+$") == "law-3"
    assert cluster("law-3", r"^(.*)-f\d+$") == cluster("law-3", None) == "law-3"
    assert cluster("law-3", r"^(?:(x)|law)") == "law-3"
