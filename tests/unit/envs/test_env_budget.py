from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from refrag_rl.envs import Budget, compression_rate, expanded_fraction
from refrag_rl.errors import UserError


def chunks(spec: Any, valid: int = 32, *, k: int = 16, total: int = 32, seed: int = 0) -> int:
    budget = Budget.parse(spec, chunk_size=k, num_chunks=total)
    return int(budget.chunks(np.array([valid]), np.random.default_rng(seed))[0])


@pytest.mark.parametrize(
    ("rate", "fraction"), [("8x", 1 / 15), ("4x", 1 / 5), ("2x", 7 / 15), (" 2.5x", 5.4 / 15)]
)
def test_rate_is_the_papers_share_of_the_chunks(rate: str, fraction: float) -> None:
    assert chunks(rate, 3000, total=3000) == round(fraction * 3000)
    assert compression_rate(fraction, 16) == pytest.approx(float(rate.strip("x ")))


@given(st.floats(1.01, 15.99))
def test_rate_and_fraction_are_inverse(rate: float) -> None:
    assert compression_rate(expanded_fraction(rate, 16), 16) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("spec", "expected"), [(6, 6), (0.25, 8), ("4x", 6), ("8x", 2), ("2x", 15)]
)
def test_each_unit(spec: Any, expected: int) -> None:
    assert chunks(spec) == expected


def test_shares_count_only_the_chunks_that_hold_text() -> None:
    assert chunks(0.5, valid=10) == 5
    assert chunks("4x", valid=10) == 2


@given(
    st.one_of(st.integers(1, 32), st.floats(0.001, 0.999), st.sampled_from(["2x", "15.9x"])),
    st.integers(1, 32),
)
def test_budget_is_at_least_one_and_at_most_what_there_is(spec: Any, valid: int) -> None:
    assert 1 <= chunks(spec, valid) <= valid


@pytest.mark.parametrize("spec", [[3, 5], (5, 3), [0.1, 0.16], ["7x", "4.5x"]])
def test_range_draws_every_budget_between_its_ends(spec: Any) -> None:
    drawn = {chunks(spec, seed=seed) for seed in range(100)}
    assert drawn == {min(drawn), min(drawn) + 1, min(drawn) + 2}
    assert min(drawn) == min(chunks(spec[0]), chunks(spec[1]))
    assert max(drawn) == max(chunks(spec[0]), chunks(spec[1]))


def test_range_from_a_config_file() -> None:
    assert chunks(OmegaConf.create({"budget": [2, 2]}).budget) == 2


IMPOSSIBLE: list[Any] = [0, -1, 33, 0.0, 1.0, 4.0, float("nan"), True, None, {}]
IMPOSSIBLE += ["16x", "1x", "0x", "-2x", "nanx", "4", "x", "", "fast"]
IMPOSSIBLE += [[2], [2, 3, 4], [2, 0.5], [2, "4x"], [2, 99], [[1, 2], 3]]


@pytest.mark.parametrize("spec", IMPOSSIBLE)
def test_impossible_budget_is_a_user_error_of_two_lines(spec: Any) -> None:
    with pytest.raises(UserError) as error:
        Budget.parse(spec, chunk_size=16, num_chunks=32)
    assert len(str(error.value).splitlines()) <= 2
