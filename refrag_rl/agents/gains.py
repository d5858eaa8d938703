"""What single chunks gain beside random sets, as examples to learn from.

The measurements and the loss of ``refrag_rl.agents.regression``, which says why; and the warm start
of other agents by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.agents.optimization import gradient_step
from refrag_rl.agents.selector import Problem
from refrag_rl.observation import Observation
from refrag_rl.policies.plackett_luce import sample
from refrag_rl.policies.pointer import PointerPolicy, as_tensors

Variance = Literal["constant", "predicted"]
"""How far gains are expected to lie from their predictions; see ``regression_loss``."""

WINDOWS_PER_UPDATE = 16
CHUNKS_PER_WINDOW = 7
ON_POLICY = 0.0
GAIN_SCALE = 0.05
VARIANCE: Variance = "constant"
EPOCHS = 2
REPLAY = 0
LEARNING_RATE = 2e-3
"""What a warm start uses, and the defaults of the agent ``regression``."""


class Gains(NamedTuple):
    """Measured gains of single chunks.

    Attributes:
        indices: (W,) windows.
        budgets: (W,) chunks.
        bases: (W, L) bool, the sets beside which they were measured.
        rows: (N,) place in ``indices`` of the window that each gain is of.
        chunks: (N,) the chunk that it is of.
        gains: (N,) nats per token.
        scored: Sets that were scored.
    """

    indices: NDArray[np.int64]
    budgets: NDArray[np.int64]
    bases: NDArray[np.bool_]
    rows: NDArray[np.int64]
    chunks: NDArray[np.int64]
    gains: NDArray[np.float64]
    scored: int


def measure_gains(
    policy: PointerPolicy,
    problem: Problem,
    windows: int,
    chunks_per_window: int,
    on_policy: float,
    rng: np.random.Generator,
) -> Gains:
    """Draw windows, sets and chunks, and measure what the chunks gain, in one call.

    Args:
        policy: Draws some of the sets and chunks.
        problem: Windows, and what scores them.
        windows: ``W``.
        chunks_per_window: Chunks beside each set, at most: there may be fewer left.
        on_policy: Share of windows whose set is the first picks drawn from the policy, and the
            chunks beside it the next ones. In the others all are drawn uniformly.
        rng: The only source of randomness.
    """
    indices = problem.sample_indices(windows, rng)
    budgets = problem.sample_budgets(indices, rng)
    observation = problem.observe(indices, budgets)
    held = observation["chunk_mask"].astype(bool)
    drawn = _draw_orders(policy, observation, budgets, rng) if on_policy > 0 else None
    bases = np.zeros_like(held)
    rows, chunks = [], []
    for row in range(len(indices)):
        if drawn is not None and rng.random() < on_policy:
            shuffled = drawn[row, : held[row].sum()]
        else:
            shuffled = rng.permutation(np.flatnonzero(held[row]))
        size = rng.integers(min(budgets[row], len(shuffled)))
        bases[row, shuffled[:size]] = True
        beside = shuffled[size : size + chunks_per_window]
        rows += [row] * len(beside)
        chunks += beside.tolist()
    of_gain, chunk = np.array(rows), np.array(chunks)
    added = bases[of_gain]
    added[np.arange(len(chunk)), chunk] = True
    sets = np.concatenate([bases, added])
    scores = problem.log_perplexity(np.concatenate([indices, indices[of_gain]]), sets)
    levels, after = np.split(scores.astype(np.float64), [len(indices)])
    return Gains(indices, budgets, bases, of_gain, chunk, levels[of_gain] - after, len(sets))


@torch.no_grad()
def _draw_orders(
    policy: PointerPolicy,
    observation: Observation,
    budgets: NDArray[np.int64],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return all chunks of each window, ordered by a draw from the policy, (W, L)."""
    device = next(policy.parameters()).device
    logits = policy(as_tensors(observation, device), torch.from_numpy(budgets).to(device))
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    orders: NDArray[np.int64] = (
        sample(logits, torch.full(logits.shape[:1], logits.shape[1], device=device), generator)
        .cpu()
        .numpy()
    )
    return orders


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
    windows of large gains err by more. The weights hang on what the policy sees and not on the
    gains measured, so that the best predictions stay the expected gains.

    Args:
        policy: Predicts with its logits.
        problem: What the gains were measured on.
        measured: The gains.
        gain_scale: Unit of the predictions, nats per token.
        variance: Of a gain about its prediction.

    Returns:
        The error, a scalar, in ``gain_scale`` squared; and the explained share of the gains'
        weighted variance.
    """
    device = next(policy.parameters()).device
    observation = as_tensors(problem.observe(measured.indices, measured.budgets), device)
    observation["expanded"] = torch.from_numpy(measured.bases).to(device)
    logits = policy(observation, torch.from_numpy(measured.budgets).to(device))
    rows = torch.from_numpy(measured.rows).to(device)
    predicted = logits[rows, torch.from_numpy(measured.chunks).to(device)]
    gains = torch.from_numpy(measured.gains).to(device).float() / gain_scale
    weights = torch.ones_like(gains)
    if variance == "predicted":
        held = observation["chunk_mask"].bool()
        squares = logits.detach().masked_fill(~held, 0.0).square().sum(-1) / held.sum(-1)
        weights = 1 / (1 + squares[rows])
    loss = (weights * (predicted - gains).square()).mean()
    centred = gains - (weights * gains).sum() / weights.sum()
    spread = (weights * centred.square()).mean().clamp(min=1e-12)
    return loss, 1 - float(loss.detach() / spread)


class History:
    """All gains measured so far, window by window: gains stay true while the policy changes."""

    def __init__(self) -> None:
        self._windows: list[Gains] = []

    def add(self, measured: Gains) -> None:
        """Keep the gains of an update."""
        for row in range(len(measured.indices)):
            here = measured.rows == row
            self._windows.append(
                Gains(
                    measured.indices[row : row + 1],
                    measured.budgets[row : row + 1],
                    measured.bases[row : row + 1],
                    np.zeros(int(here.sum()), dtype=np.int64),
                    measured.chunks[here],
                    measured.gains[here],
                    0,
                )
            )

    def draw(self, windows: int, rng: np.random.Generator) -> Gains:
        """Return the gains of windows drawn without repetition, at most as many as there are."""
        count = min(windows, len(self._windows))
        drawn = [self._windows[i] for i in rng.choice(len(self._windows), count, replace=False)]
        fields = [np.concatenate(values) for values in list(zip(*drawn, strict=True))[:-1]]
        fields[3] = np.repeat(np.arange(count), [len(each.chunks) for each in drawn])
        return Gains(*fields, scored=0)


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
        history: History,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Take the gradient steps of an update.

        Args:
            policy: Trained in place.
            optimizer: Of the policy.
            problem: What the gains were measured on.
            measured: The update's gains; added to the history.
            history: The gains of the updates before.
            rng: Draws from the history.

        Returns:
            (steps, 3), loss, explained share of the variance and gradient norm before each step;
            at least one.
        """
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
    policy: PointerPolicy, problem: Problem, rewards: int, seed: int, max_grad_norm: float
) -> int:
    """Train a policy to predict gains; see ``refrag_rl.agents.starting.WarmStart``."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    scored = update = 0
    fit, history = Fit(max_grad_norm=max_grad_norm), History()
    while scored < rewards:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - scored / rewards)
        rng = np.random.default_rng([seed, update, 3])
        measured = measure_gains(
            policy, problem, WINDOWS_PER_UPDATE, CHUNKS_PER_WINDOW, ON_POLICY, rng
        )
        fit.step(policy, optimizer, problem, measured, history, rng)
        scored += measured.scored
        update += 1
    return scored
