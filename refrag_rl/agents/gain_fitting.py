"""A policy fitted to measured gains: the loss and the steps of ``refrag_rl.agents.regression``.

And the warm start of other agents by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import (
    CHUNKS_PER_WINDOW,
    ON_POLICY,
    WINDOWS_PER_UPDATE,
    Gains,
    measure_gains,
)
from refrag_rl.agents.optimization import gradient_step, set_learning_rate
from refrag_rl.agents.selector import Problem
from refrag_rl.policies.pointer import PointerPolicy, as_tensors

Variance = Literal["constant", "predicted"]
"""How far gains are expected to lie from their predictions; see ``regression_loss``."""

GAIN_SCALE = 0.05
VARIANCE: Variance = "predicted"
EPOCHS = 1
REPLAY = 9
LEARNING_RATE = 2e-3
"""What a warm start uses, and the defaults of the agent ``regression``."""


def regression_loss(
    policy: PointerPolicy,
    problem: Problem,
    measured: Gains,
    gain_scale: float,
    variance: Variance = "constant",
) -> tuple[Tensor, float]:
    """Return the weighted mean squared error of the predicted gains, and what they explain.

    With a ``constant`` variance all gains have weight 1: those of windows in which some chunk
    gains nats decide, and a gain of some hundredths is noise to them. With a ``predicted`` one, a
    window's weight is ``1 / (1 + mean of its chunks' squared predictions)``: the variance function
    of a quasi-likelihood (McCullagh and Nelder, Generalized Linear Models, chapter 9), by which
    windows of large gains err by more. The weights depend on what the policy sees and not on the
    gains measured, so that the best predictions stay the expected gains.

    Args:
        policy: Predicts with its logits, each of its members for itself; errors are summed over
            them.
        problem: What the gains were measured on.
        measured: The gains.
        gain_scale: Unit of the predictions, nats per token.
        variance: Of a gain about its prediction.

    Returns:
        The error, a scalar, in ``gain_scale`` squared; and the explained share of the gains'
        weighted variance, the mean over members, NaN where the gains are all equal.
    """
    device = next(policy.parameters()).device
    observation = as_tensors(problem.observe(measured.indices, measured.budgets), device)
    observation["expanded"] = torch.from_numpy(measured.bases).to(device)
    logits = policy.of_members(observation, torch.from_numpy(measured.budgets).to(device))
    rows = torch.from_numpy(measured.rows).to(device)
    predicted = logits[:, rows, torch.from_numpy(measured.chunks).to(device)]
    gains = (torch.from_numpy(measured.gains).to(device).float() / gain_scale).expand_as(predicted)
    weights = torch.ones_like(gains)
    if variance == "predicted":
        held = observation["chunk_mask"].bool()
        squares = logits.detach().masked_fill(~held, 0.0).square().sum(-1) / held.sum(-1)
        weights = 1 / (1 + squares[:, rows])
    errors = (weights * (predicted - gains).square()).mean(-1)
    centred = gains - (weights * gains).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
    spread = (weights * centred.square()).mean(-1)
    explained = torch.where(spread > 0, 1 - errors.detach() / spread, torch.nan)
    return errors.sum(), float(explained.mean())


@dataclass(frozen=True)
class Fit:
    """How a policy is fitted to gains.

    Attributes:
        gain_scale: Unit of the predictions, nats per token.
        variance: Of a gain about its prediction.
        epochs: Gradient steps on an update's gains.
        replay: Further steps, each on as many windows drawn from all measured so far.
        max_grad_norm: Gradients are scaled down to this norm.
    """

    gain_scale: float = GAIN_SCALE
    variance: Variance = VARIANCE
    epochs: int = EPOCHS
    replay: int = REPLAY
    max_grad_norm: float = 1.0

    def step(
        self,
        policy: PointerPolicy,
        optimizer: torch.optim.Optimizer,
        problem: Problem,
        measured: Gains,
        history: GainHistory,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Take the gradient steps of an update.

        Args:
            policy: Trained in place.
            optimizer: Of the policy.
            problem: What the gains were measured on.
            measured: The update's gains; added to the history if it is drawn from.
            history: The gains of the updates before.
            rng: Draws from the history.

        Returns:
            (steps, 3), loss, explained share of the variance and gradient norm before each step;
            at least one.
        """
        if self.replay:
            history.add(measured)
        batches = [measured] * self.epochs
        batches += [history.draw(len(measured.indices), rng) for _ in range(self.replay)]
        steps = []
        for batch in batches:
            loss, explained = regression_loss(
                policy, problem, batch, self.gain_scale, self.variance
            )
            norm = gradient_step(policy, optimizer, loss, self.max_grad_norm)
            steps.append([float(loss.detach()), explained, float(norm)])
        return np.array(steps)


def warm_start(
    policy: PointerPolicy,
    problem: Problem,
    rewards: int,
    seed: int,
    max_grad_norm: float,
    advance: Callable[[int], None],
) -> int:
    """Train a policy to predict gains; see ``refrag_rl.agents.starting.WarmStart``."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    # Few rewards make an update small, so that it does not score many times as many.
    windows = min(WINDOWS_PER_UPDATE, max(1, rewards // (CHUNKS_PER_WINDOW + 1)))
    chunks = min(CHUNKS_PER_WINDOW, max(1, rewards - 1))
    scored = update = 0
    fit, history = Fit(max_grad_norm=max_grad_norm), GainHistory()
    while scored < rewards:
        set_learning_rate(optimizer, LEARNING_RATE * (1 - scored / rewards))
        rng = np.random.default_rng([seed, update, 3])
        measured = measure_gains(policy, problem, windows, chunks, ON_POLICY, rng)
        fit.step(policy, optimizer, problem, measured, history, rng)
        scored += measured.scored
        update += 1
        advance(scored)
    return scored
