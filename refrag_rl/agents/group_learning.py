"""What the agents share that learn from groups of whole selections: drawing, scoring, stepping."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.agents import arguments
from refrag_rl.agents.credit import chunk_credit, pick_credit
from refrag_rl.agents.figures import Stopwatch, difference_to_reference
from refrag_rl.agents.learning import LearningAgent
from refrag_rl.agents.losses import mean_over_picks
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.optimization import gradient_step
from refrag_rl.agents.selector import Problem, VectorView
from refrag_rl.policies import plackett_luce, selections
from refrag_rl.policies.pointer import PointerPolicy, as_tensors


class GroupBatch(NamedTuple):
    """``G`` scored selections of each of ``W`` windows; rows are window by window, ``B = W G``.

    Attributes:
        indices: (W,) windows.
        budgets: (W,) chunks.
        observation: Of the windows, (W, ...) tensors.
        order: (B, T) the picks.
        log_prob: (B, T) of the picks when they were made.
        rewards: (W, G) float64.
        log_perplexity: (W, G) nats per token.
        greedy_rewards: (W,) float64 of the most probable selections; None where not asked for.
    """

    indices: NDArray[np.int64]
    budgets: NDArray[np.int64]
    observation: dict[str, Tensor]
    order: Tensor
    log_prob: Tensor
    rewards: NDArray[np.float64]
    log_perplexity: NDArray[np.float32]
    greedy_rewards: NDArray[np.float64] | None = None

    @property
    def scored(self) -> int:
        """Selections that the batch took, those of the baseline included."""
        return self.rewards.size + (0 if self.greedy_rewards is None else self.greedy_rewards.size)


class Advantages(NamedTuple):
    """What an agent makes of a batch's rewards.

    Attributes:
        values: (W, G) of whole selections.
        figures: What to report of them.
    """

    values: Tensor
    figures: dict[str, float]


class GroupAgent(LearningAgent):
    """An agent whose update draws groups of selections and steps along an objective of them.

    Args:
        group_size: ``G``, selections of each window.
        windows_per_update: ``W``.
        epochs: Passes over an update's selections.
        minibatches: Parts that each pass is cut into, by windows.
        credit_per_chunk: Whether each pick gets its own chunk's share of the advantage; see
            ``refrag_rl.agents.credit``.
        credit_ridge: Of the regression behind the shares, in selections.
        least_group: The smallest ``G`` that the agent's baseline allows.
        **shared: Of ``LearningAgent``.

    Raises:
        UserError: A value is out of range.
    """

    scores_greedy = False
    """Whether the most probable selection of each window is scored as well."""

    def __init__(
        self,
        *,
        group_size: int,
        windows_per_update: int,
        epochs: int = 1,
        minibatches: int = 1,
        credit_per_chunk: bool = False,
        credit_ridge: float = 1.0,
        least_group: int = 2,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.group_size = arguments.whole_number("group_size", group_size, at_least=least_group)
        self.windows_per_update = arguments.whole_number(
            "windows_per_update", windows_per_update, at_least=1
        )
        self.epochs = arguments.whole_number("epochs", epochs, at_least=1)
        self.minibatches = arguments.whole_number("minibatches", minibatches, at_least=1)
        self.credit_per_chunk = arguments.switch("credit_per_chunk", credit_per_chunk)
        self.credit_ridge = arguments.number("credit_ridge", credit_ridge, above=0)

    @abstractmethod
    def advantages(self, batch: GroupBatch) -> Advantages:
        """Return the advantages of whole selections."""

    @abstractmethod
    def objective(
        self, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, picked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to be minimised, a scalar, and scalars to report.

        Args:
            log_prob: (B, T) of the picks, with gradient.
            old_log_prob: (B, T) when they were made.
            advantages: (B, T).
            picked: (B, T) bool.
        """

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Train on the environment's problem, whole selections at a time; see ``Agent.learn``."""
        problem: Problem = env.problem
        training = self._begin_with_adam(monitor, problem)
        for rng in self._updates(training):
            with Stopwatch() as stopwatch:
                batch = self.collect(training.policy, problem, rng)
                scalars = self.improve(training.policy, training.optimizer, batch)
            few = slice(self.reference_windows)
            scalars |= difference_to_reference(
                problem,
                monitor.reference,
                batch.indices[few],
                batch.budgets[few],
                batch.rewards.mean(-1)[few],
                rng,
            )
            self._end_update(monitor, training, scalars, batch.scored, stopwatch.seconds)

    def collect(
        self, policy: PointerPolicy, problem: Problem, rng: np.random.Generator
    ) -> GroupBatch:
        """Draw windows and a group of selections of each, and score them in one call."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        indices = problem.sample_indices(self.windows_per_update, rng)
        budgets = problem.sample_budgets(indices, rng)
        observation = as_tensors(problem.observe(indices, budgets), self.device)
        budget_tensor = torch.from_numpy(budgets).to(self.device)
        with torch.no_grad():
            groups = (policy, observation, budget_tensor)
            order = selections.sample(*groups, generator, self.group_size)
            log_prob = selections.pick_probabilities(*groups, order, self.group_size).log_prob
        expanded = plackett_luce.expanded_from(order, problem.num_chunks).cpu().numpy()
        rows = np.repeat(indices, self.group_size)
        drawn = len(rows)
        if self.scores_greedy:
            with torch.no_grad():
                greedy = selections.greedy(*groups)
            best = plackett_luce.expanded_from(greedy, problem.num_chunks).cpu().numpy()
            rows, expanded = np.concatenate([rows, indices]), np.concatenate([expanded, best])
        levels, rewards = problem.log_perplexity_and_rewards(rows, expanded)
        shape = (len(indices), self.group_size)
        return GroupBatch(
            indices,
            budgets,
            observation,
            order,
            log_prob,
            rewards[:drawn].reshape(shape),
            levels[:drawn].reshape(shape),
            rewards[drawn:] if self.scores_greedy else None,
        )

    def improve(
        self, policy: PointerPolicy, optimizer: torch.optim.Optimizer, batch: GroupBatch
    ) -> dict[str, float]:
        """Take the gradient steps of one update; return its figures."""
        advantages, figures = self.advantages(batch)
        of_picks = self._advantages_of_picks(advantages, batch.order)
        budgets = torch.from_numpy(batch.budgets).to(self.device)
        windows = torch.arange(len(batch.indices), device=self.device)
        steps: list[dict[str, float]] = []
        for _ in range(self.epochs):
            # Windows are drawn at random already, so consecutive ones make a random part.
            for part in windows.tensor_split(self.minibatches):
                if not len(part):
                    continue
                members = torch.arange(self.group_size, device=self.device)
                rows = (part.unsqueeze(-1) * self.group_size).add(members).flatten()
                order = batch.order[rows]
                picked = order != plackett_luce.NO_PICK
                observation = {name: tensor[part] for name, tensor in batch.observation.items()}
                found = selections.pick_probabilities(
                    policy, observation, budgets[part], order, self.group_size
                )
                loss, scalars = self.objective(
                    found.log_prob, batch.log_prob[rows], of_picks[rows], picked
                )
                entropy = mean_over_picks(found.entropy, picked)
                loss_with_bonus = loss - self.entropy_coef * entropy
                norm = gradient_step(policy, optimizer, loss_with_bonus, self.max_grad_norm)
                scalars |= {"loss": loss, "entropy": entropy, "grad_norm": norm}
                steps.append({name: float(value.detach()) for name, value in scalars.items()})
        figures |= {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        return {
            "reward/mean": float(batch.rewards.mean()),
            "reward/log_perplexity": float(batch.log_perplexity.mean()),
            **{f"policy/{name}": value for name, value in figures.items()},
        }

    def _advantages_of_picks(self, advantages: Tensor, order: Tensor) -> Tensor:
        """Return the advantages of single picks, (B, T) float32, from those of selections."""
        if not self.credit_per_chunk:
            return advantages.flatten().float().unsqueeze(-1).expand(order.shape)
        num_chunks = int(order.max()) + 1
        groups = order.view(*advantages.shape, -1)
        expanded = plackett_luce.expanded_from(order, num_chunks).view(*advantages.shape, -1)
        credit = chunk_credit(advantages, expanded, self.credit_ridge)
        return pick_credit(credit, groups).flatten(0, 1).float()
