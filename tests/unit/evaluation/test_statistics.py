from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrag_rl.evaluation.statistics import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_test,
    resampling_unit,
)


def documents(count: int, each: int) -> list[str]:
    return [f"d{number}" for number in range(count) for _ in range(each)]


def width(values: np.ndarray, ids: list[str]) -> float:
    interval = bootstrap_mean(values, ids)
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_repeating_the_windows_of_each_document_does_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    once = width(values, documents(30, 1))
    assert width(np.repeat(values, 8), documents(30, 8)) == pytest.approx(once, rel=1e-9)
    # An interval over windows would have believed that there are 8 times as many facts.
    assert width(np.repeat(values, 8), documents(240, 1)) < 0.5 * once


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        values = np.repeat(rng.normal(size=40), 3) + 0.1 * rng.normal(size=120)
        interval = bootstrap_mean(values, documents(40, 3), seed=trial, resamples=400)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_documents_count_by_their_windows() -> None:
    ids = ["long"] * 9 + ["a", "b", "c", "d"]
    values = np.array([1.0] * 9 + [0.0] * 4)
    assert bootstrap_mean(values, ids).mean == pytest.approx(9 / 13)


@pytest.mark.parametrize(("count", "unit"), [(1, "windows"), (4, "windows"), (5, "documents")])
def test_few_documents_are_resampled_by_windows(count: int, unit: str) -> None:
    assert resampling_unit(documents(count, 3)) == unit


def test_one_window_has_a_mean_and_no_interval() -> None:
    interval = bootstrap_mean([2.5], ["d"])
    assert (interval.mean, interval.low, interval.high) == (2.5, None, None)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(2).normal(size=20)
    first, again, other = (bootstrap_mean(values, documents(20, 1), seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other


@settings(max_examples=30, deadline=None)
@given(st.floats(-50, 50), st.integers(1, 12), st.integers(1, 3))
def test_equal_values_have_an_interval_of_width_zero(value: float, count: int, each: int) -> None:
    interval = bootstrap_mean([value] * (count * each), documents(count, each), resamples=50)
    assert interval.mean == pytest.approx(value)
    if count * each > 1:
        assert interval.low == pytest.approx(value)
        assert interval.high == pytest.approx(value)


@pytest.mark.parametrize(
    ("values", "ids"),
    [([], []), ([1.0, float("nan")], ["a", "b"]), ([float("inf")], ["a"]), ([1.0], ["a", "b"])],
)
def test_values_without_a_mean_are_refused(values: list[float], ids: list[str]) -> None:
    with pytest.raises(ValueError, match="values"):
        bootstrap_mean(values, ids)


def test_the_p_value_is_below_5_percent_about_where_the_interval_leaves_0_out() -> None:
    rng = np.random.default_rng(3)
    agree = 0
    for trial in range(100):
        values, ids = rng.normal(0.25, 1, size=60), documents(30, 2)
        interval = bootstrap_mean(values, ids, seed=trial, resamples=1000)
        _, p_value = bootstrap_test(values, ids, seed=trial, resamples=1000)
        assert interval.low is not None
        assert interval.high is not None
        assert p_value is not None
        agree += (p_value < 0.05) == (interval.low > 0 or interval.high < 0)
    assert agree >= 98


def test_p_values_without_an_effect_are_uniform_enough() -> None:
    rng = np.random.default_rng(4)
    found = [
        bootstrap_test(rng.normal(size=40), documents(40, 1), seed=trial, resamples=300)[1]
        for trial in range(300)
    ]
    assert 0.01 <= np.mean([p is not None and p < 0.05 for p in found]) <= 0.1
    assert np.mean([p for p in found if p is not None]) == pytest.approx(0.5, abs=0.06)


def test_a_p_value_is_never_0_and_1_where_nothing_differs() -> None:
    ids = documents(20, 1)
    assert bootstrap_test(np.ones(20), ids, resamples=99)[1] == pytest.approx(2 / 100)
    assert bootstrap_test(np.zeros(20), ids, resamples=99)[1] == 1
    assert bootstrap_test([1.0], ["d"])[1] is None


def test_a_p_value_of_few_documents_is_no_smaller_than_a_sign_test_s() -> None:
    # All documents agree, so no resample is on the other side of 0.
    assert bootstrap_test(np.ones(30), documents(5, 6))[1] == 2**-4
    assert bootstrap_test(np.ones(48), documents(8, 6))[1] == 2**-7
    assert bootstrap_test(np.ones(40), documents(20, 2))[1] == pytest.approx(2 / 5001)


def test_a_ratio_is_of_means_and_its_parts_are_resampled_together() -> None:
    rng = np.random.default_rng(5)
    gap, ids = rng.uniform(0.1, 3, size=60), documents(20, 3)
    share = bootstrap_ratio(0.4 * gap, gap, ids, resamples=500)
    assert share is not None
    assert (share.mean, share.low, share.high) == pytest.approx((0.4, 0.4, 0.4))
    other = bootstrap_ratio(rng.normal(0.5, 1, size=60), gap, ids, resamples=500)
    assert other is not None
    assert other.low is not None
    assert other.high is not None
    assert other.low < other.mean < other.high


def test_no_gap_has_no_share_and_a_doubtful_one_no_interval() -> None:
    ids = documents(6, 1)
    assert bootstrap_ratio(np.ones(6), -np.ones(6), ids) is None
    assert bootstrap_ratio(np.ones(6), np.zeros(6), ids) is None
    doubtful = bootstrap_ratio(np.ones(6), [9.0, -1, -1, -1, -1, -1], ids)
    assert doubtful is not None
    assert (doubtful.mean, doubtful.low) == (pytest.approx(1.5), None)
