from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from refrag_rl.evaluation.statistics import Interval, bootstrap_mean
from refrag_rl.evaluation.training_seeds import (
    interquartile_difference,
    interquartile_mean,
    interquartile_ratio,
    interquartile_test,
    probability_of_improvement,
)

IDS = [f"d{number}" for number in range(40)]


def width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_the_level_is_the_mean_of_the_middle_half_of_the_seeds() -> None:
    levels = np.array([5.0, 1.0, 2.0, 3.0, -90.0, 4.0, 2.5, 100.0])
    values = levels[:, None] + np.zeros((8, 40))
    assert interquartile_mean(values, IDS, resamples=50).mean == pytest.approx(
        np.mean([2.0, 2.5, 3.0, 4.0])
    )


def test_a_failed_seed_does_not_move_the_level() -> None:
    values = np.random.default_rng(0).normal(size=(5, 40))
    failed = values.copy()
    failed[2] += 1000
    level = interquartile_mean(values, IDS, resamples=50).mean
    assert abs(interquartile_mean(failed, IDS, resamples=50).mean - level) < 1


def test_seeds_and_documents_both_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    by_document, by_seed = rng.normal(size=40), rng.normal(size=(8, 1))
    same_seeds = np.tile(by_document, (8, 1))
    assert width(interquartile_mean(same_seeds, IDS)) == pytest.approx(
        width(bootstrap_mean(by_document, IDS)), rel=0.1
    )
    only_seeds = width(interquartile_mean(by_seed + np.zeros((8, 40)), IDS))
    both = width(interquartile_mean(same_seeds + by_seed, IDS))
    assert both > max(only_seeds, width(interquartile_mean(same_seeds, IDS)))


def test_the_interval_holds_the_true_level_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(150):
        values = 0.3 * rng.normal(size=(8, 1)) + rng.normal(size=40)
        interval = interquartile_mean(values, IDS, seed=trial, resamples=300)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0 <= interval.high
    assert hits / 150 >= 0.87


def test_windows_of_a_document_stay_together() -> None:
    values = np.random.default_rng(3).normal(size=(5, 20))
    ids = [f"d{number}" for number in range(20)]
    once = interquartile_mean(values, ids)
    repeated = interquartile_mean(np.repeat(values, 6, axis=1), list(np.repeat(ids, 6)))
    assert width(repeated) == pytest.approx(width(once), rel=1e-9)


def test_one_seed_or_one_window_has_no_interval() -> None:
    assert interquartile_mean(np.ones((1, 40)), IDS) == Interval(1.0, None, None)
    assert interquartile_mean(np.ones((5, 1)), ["d"]) == Interval(1.0, None, None)


def test_the_p_value_goes_with_the_interval() -> None:
    rng = np.random.default_rng(7)
    agree = 0
    for trial in range(40):
        values = 0.2 * rng.normal(size=(5, 1)) + rng.normal(0.4, 1, size=40)
        interval, p_value = interquartile_test(values, IDS, seed=trial, resamples=400)
        assert interval == interquartile_mean(values, IDS, seed=trial, resamples=400)
        assert interval.low is not None
        assert interval.high is not None
        assert p_value is not None
        agree += (p_value < 0.05) == (interval.low > 0 or interval.high < 0)
    assert agree >= 38
    assert interquartile_test(np.ones((1, 40)), IDS)[1] is None


def test_a_p_value_of_few_documents_is_no_smaller_than_a_sign_test_s() -> None:
    ids = [f"d{number % 5}" for number in range(40)]
    assert interquartile_test(np.ones((5, 40)), ids)[1] == 2**-4


def test_a_share_is_of_the_interquartile_mean_and_seeds_and_documents_are_resampled() -> None:
    rng = np.random.default_rng(11)
    gap = rng.uniform(0.5, 2, size=40)
    shares = np.array([-5.0, 0.4, 0.5, 0.6, 9.0])[:, None]
    same = interquartile_ratio(np.tile(0.5 * gap, (5, 1)), gap, IDS)
    assert same is not None
    assert (same.mean, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5))
    spread = interquartile_ratio(shares * gap, gap, IDS)
    assert spread is not None
    assert spread.mean == pytest.approx(0.5)
    assert width(spread) > 0.5
    assert interquartile_ratio(np.ones((5, 40)), -gap, IDS) is None
    alone = interquartile_ratio(0.5 * gap[None], gap, IDS)
    assert alone is not None
    assert (alone.mean, alone.low) == (pytest.approx(0.5), None)


@pytest.mark.parametrize("shape", [(0, 40), (5,), (5, 39)])
def test_what_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="values of shape"):
        interquartile_mean(np.zeros(shape), IDS)


def test_the_probability_is_mann_whitney_s_over_the_number_of_pairs() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 6, size=(5, 3)), rng.integers(1, 7, size=(7, 3))
    expected = np.mean([mannwhitneyu(second[:, c], first[:, c]).statistic / 35 for c in range(3)])
    assert probability_of_improvement(first, second, resamples=50).mean == pytest.approx(expected)


def test_the_probability_is_the_other_s_complement_and_one_half_against_itself() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(5, 4)), rng.normal(0.4, 1, size=(6, 4))
    ours = probability_of_improvement(first, second, resamples=50).mean
    assert ours + probability_of_improvement(second, first, resamples=50).mean == pytest.approx(1)
    assert ours > 0.5
    assert probability_of_improvement(first, first, resamples=50).mean == 0.5


def test_clear_wins_leave_no_doubt_and_even_runs_leave_much() -> None:
    rng = np.random.default_rng(6)
    sure = probability_of_improvement(rng.random((5, 2)), rng.random((5, 2)) + 1, resamples=200)
    assert (sure.mean, sure.low, sure.high) == pytest.approx((1, 1, 1))
    open_ = probability_of_improvement(rng.random((5, 2)), rng.random((5, 2)), resamples=400)
    assert width(open_) > 0.2
    alone = probability_of_improvement(rng.random((1, 2)), rng.random((5, 2)))
    assert alone.low is None


def test_many_cells_are_not_taken_for_many_runs() -> None:
    rng = np.random.default_rng(12)
    holds = 0
    for trial in range(100):
        # A good run is good in all cells: the truth is one half.
        first, second = (rng.normal(size=(5, 1)) + 0.5 * rng.normal(size=(5, 60)) for _ in range(2))
        found = probability_of_improvement(first, second, seed=trial, resamples=300)
        assert found.low is not None
        assert found.high is not None
        holds += found.low <= 0.5 <= found.high
    assert holds >= 80


@pytest.mark.parametrize(("first", "second"), [((5, 2), (5, 3)), ((5,), (5,)), ((0, 2), (5, 2))])
def test_runs_in_other_cells_are_refused(first: tuple, second: tuple) -> None:
    with pytest.raises(ValueError, match="runs of shapes"):
        probability_of_improvement(np.zeros(first), np.zeros(second))


def test_a_difference_of_agents_resamples_the_seeds_of_both() -> None:
    rng = np.random.default_rng(9)
    hits = 0
    for trial in range(150):
        windows = rng.normal(size=40)
        first, second = (0.3 * rng.normal(size=(8, 1)) + windows for _ in range(2))
        interval = interquartile_difference(first, second, IDS, seed=trial, resamples=300)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0 <= interval.high
    assert hits / 150 >= 0.87


def test_a_difference_of_agents_cancels_what_the_windows_share() -> None:
    windows = np.random.default_rng(10).normal(size=40)
    first, second = (np.tile(windows + shift, (3, 1)) for shift in (0.5, 0.0))
    interval = interquartile_difference(first, second, IDS)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))
    assert interquartile_difference(first, second[:1], IDS).low is None
