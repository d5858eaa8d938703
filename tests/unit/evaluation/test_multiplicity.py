from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrag_rl.evaluation.multiplicity import holm


def test_a_worked_example() -> None:
    # By hand: 0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 * 1 is below its predecessor's.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_values_are_between_the_given_and_bonferroni_s_and_keep_the_order(
    values: list[float],
) -> None:
    given_values, adjusted = np.array(values), holm(values)
    assert (adjusted >= given_values).all()
    assert (adjusted <= np.minimum(1, len(values) * given_values) + 1e-12).all()
    order = np.argsort(given_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_false_rejections_of_any_kind_stay_below_the_level() -> None:
    rng = np.random.default_rng(0)
    # 8 true null hypotheses whose tests depend on each other, and 4 false ones.
    shared = rng.uniform(size=(4000, 1))
    null = np.where(rng.random((4000, 8)) < 0.5, shared, rng.uniform(size=(4000, 8)))
    tables = np.concatenate([null, np.full((4000, 4), 1e-6)], axis=1)
    wrong = np.array([(holm(row)[:8] <= 0.05).any() for row in tables])
    naive = (null <= 0.05).any(1)
    assert wrong.mean() <= 0.055
    assert naive.mean() > 0.15


def test_one_value_stays_as_it_is_and_none_is_none() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]).size == 0


@pytest.mark.parametrize("values", [[1.5], [-0.1], [float("nan")], [[0.1]]])
def test_what_is_no_p_value_is_refused(values: list) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm(values)
