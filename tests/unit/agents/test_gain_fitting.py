"""The loss of predicted gains: whose errors count how much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from refrag_rl.agents.gain_fitting import Fit, regression_loss
from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import Gains
from refrag_rl.agents.regression import Regression
from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.bandits import CHUNKS, bandit

SCALE = 0.05
LARGE = 9.0


class Predicts(PointerPolicy):
    """Predicts nothing in windows of budget 1, ``LARGE`` for one chunk of others; plus a weight."""

    def __init__(self) -> None:
        super().__init__(PointerConfig(embedding_size=4, width=8, heads=2, features=()))
        self.shift = torch.nn.Parameter(torch.zeros(CHUNKS))

    def of_members(
        self, observation: dict[str, Tensor], budget: Tensor, context: Tensor | None = None
    ) -> Tensor:
        logits = torch.zeros(observation["chunk_mask"].shape)
        logits[budget > 1, 0] = LARGE
        return (logits + self.shift)[None]


def gains_of(*values: tuple[int, int, int, float]) -> Gains:
    """Return gains from window's row, budget, chunk and gain in units of ``SCALE``."""
    rows, budgets, chunks, gains = zip(*values, strict=True)
    return Gains(
        indices=np.zeros(max(rows) + 1, dtype=np.int64),
        budgets=np.array([budgets[rows.index(row)] for row in range(max(rows) + 1)]),
        bases=np.zeros((max(rows) + 1, CHUNKS), dtype=bool),
        rows=np.array(rows),
        chunks=np.array(chunks),
        gains=np.array(gains) * SCALE,
        scored=0,
    )


TWO_WINDOWS = gains_of((0, 1, 1, 0.5), (0, 1, 2, -0.5), (1, 2, 1, 3.0), (1, 2, 2, -1.0))


def test_a_constant_variance_weighs_all_errors_alike():
    loss, _ = regression_loss(Predicts(), bandit("additive"), TWO_WINDOWS, SCALE, "constant")
    assert float(loss.detach()) == pytest.approx((0.25 + 0.25 + 9 + 1) / 4)


def test_a_predicted_variance_weighs_windows_by_their_squared_predictions():
    loss, _ = regression_loss(Predicts(), bandit("additive"), TWO_WINDOWS, SCALE, "predicted")
    weight = 1 / (1 + LARGE**2 / CHUNKS)
    assert float(loss.detach()) == pytest.approx((0.25 + 0.25 + weight * 9 + weight * 1) / 4)


@pytest.mark.parametrize("variance", ["constant", "predicted"])
def test_predictions_equal_to_the_mean_gains_are_where_the_gradient_is_zero(variance):
    # Twice the same window and chunk: gains 0.2 and 0.6, whose mean the policy predicts.
    policy = Predicts()
    with torch.no_grad():
        policy.shift[3] = 0.4
    measured = gains_of((0, 1, 3, 0.2), (1, 1, 3, 0.6))
    loss, explained = regression_loss(policy, bandit("additive"), measured, SCALE, variance)
    loss.backward()
    assert policy.shift.grad is not None
    assert policy.shift.grad.abs().max() < 1e-6
    assert explained == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("variance", ["constant", "predicted"])
def test_each_member_is_fitted_for_itself(variance):
    torch.manual_seed(0)
    options = {"width": 8, "heads": 2, "features": (), "output_scale": 1.0}
    both = PointerPolicy(PointerConfig(12, **options, members=2))
    problem = bandit("additive")
    loss, explained = regression_loss(both, problem, TWO_WINDOWS, SCALE, variance)
    loss.backward()
    losses, shares = [], []
    for prefix in ("", "others.0."):
        alone = PointerPolicy(PointerConfig(12, **options))
        of_both = {name: both.get_parameter(prefix + name) for name, _ in alone.named_parameters()}
        alone.load_state_dict(of_both)
        own, share = regression_loss(alone, problem, TWO_WINDOWS, SCALE, variance)
        own.backward()
        losses.append(float(own.detach()))
        shares.append(share)
        for name, weight in alone.named_parameters():
            if weight.grad is not None:
                torch.testing.assert_close(of_both[name].grad, weight.grad)
    assert float(loss.detach()) == pytest.approx(sum(losses))
    assert explained == pytest.approx(np.mean(shares))


def test_of_gains_that_are_all_equal_no_share_is_explained():
    one = gains_of((0, 1, 1, 0.5))
    _, explained = regression_loss(Predicts(), bandit("additive"), one, SCALE, "constant")
    assert np.isnan(explained)


def test_a_step_takes_its_epochs_and_its_replays():
    policy, history = Predicts(), GainHistory()
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    fit = Fit(SCALE, "constant", epochs=2, replay=3)
    rng = np.random.default_rng(0)
    steps = fit.step(policy, optimizer, bandit("additive"), TWO_WINDOWS, history, rng)
    assert steps.shape == (5, 3)
    assert len(history) == 2
    assert (np.diff(steps[:, 0]) < 0).all()


@pytest.mark.parametrize(
    "options", [{"variance": "equal"}, {"replay": -1}, {"replay": 0.5}, {"epochs": 0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=f"agent.{next(iter(options))}"):
        Regression(**options)


@pytest.mark.parametrize(("replay", "kept"), [(0, 0), (1, 2)])
def test_gains_that_are_not_replayed_are_not_kept(replay, kept):
    policy, history = Predicts(), GainHistory()
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    Fit(replay=replay).step(policy, optimizer, bandit("additive"), TWO_WINDOWS, history, rng)
    assert len(history) == kept
