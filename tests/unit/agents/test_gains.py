"""Where gains are measured: beside uniform sets, or where the policy would pick."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from refrag_rl.agents.gains import Gains, measure_gains
from refrag_rl.agents.regression import Regression
from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.bandits import CHUNKS, SINGLE, bandit

FAVOURITE = 3


class Fixed(PointerPolicy):
    """A policy that wants one chunk first and is indifferent otherwise."""

    def __init__(self, favourite: int) -> None:
        super().__init__(PointerConfig(embedding_size=4, width=8, heads=2, features=()))
        self.favourite = favourite

    def forward(self, observation: dict[str, Tensor], budget: Tensor) -> Tensor:
        logits = torch.zeros(observation["chunk_mask"].shape)
        logits[:, self.favourite] = 100.0
        return logits


def measured(on_policy: float, favourite: int = FAVOURITE, windows: int = 200) -> Gains:
    rng = np.random.default_rng(0)
    return measure_gains(Fixed(favourite), bandit("additive"), windows, 2, on_policy, rng)


def share_with_the_favourite(gains: Gains) -> float:
    seen = gains.bases[:, FAVOURITE].copy()
    seen[gains.rows[gains.chunks == FAVOURITE]] = True
    return float(seen.mean())


def test_the_policys_first_pick_is_in_every_set_or_measured_first():
    assert share_with_the_favourite(measured(1.0)) == 1.0


def test_uniform_draws_do_not_hang_on_the_policy():
    one, other = measured(0.0, favourite=0), measured(0.0, favourite=5)
    for mine, theirs in zip(one, other, strict=True):
        assert np.array_equal(mine, theirs)
    # 2 chunks beside a set of 0 or 1 of 6.
    assert share_with_the_favourite(one) == pytest.approx(2.5 / CHUNKS, abs=0.1)


def test_shares_in_between_mix_both():
    assert 0.5 < share_with_the_favourite(measured(0.5)) < 0.9


def test_the_gains_are_those_of_the_chunks_wherever_they_are_measured():
    gains = measured(0.5)
    assert gains.gains == pytest.approx(
        [SINGLE["additive"][chunk] for chunk in gains.chunks], abs=1e-5
    )
    assert not gains.bases[gains.rows, gains.chunks].any()
    assert (gains.bases.sum(axis=1) < gains.budgets).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
def test_a_share_outside_0_and_1_is_refused(share):
    with pytest.raises(UserError, match="on_policy"):
        Regression(on_policy=share)
