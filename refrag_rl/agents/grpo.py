"""GRPO: group-relative policy optimisation, the objective of REFRAG's selection policy.

1. Per update, ``W`` windows are drawn, each with its budget ``T'``, and ``G`` ordered selections of
   each from the current policy, in one shot by Gumbel top-k. All ``W G`` sets are scored in one
   call of the reward model.
2. Advantage: ``A_i = (r_i - mean r) / std r`` over the window's group (REFRAG, arXiv 2509.01092,
   A.1; DeepSeekMath, arXiv 2402.03300, section 4.1.2).
3. Objective: the mean over the group and over the ``T'`` picks of
   ``min(ratio_t A_i, clip(ratio_t, 1 - eps, 1 + eps) A_i)`` (A.1), ``ratio_t`` from the
   Plackett-Luce probabilities of the picks as they were made.
4. Departures. (a) Groups whose spread is not above ``spread_threshold`` contribute nothing:
   dividing by a spread of the size of the reward's rounding error amplifies that error. (b) No
   divergence from a reference policy in the loss, as A.1 and against DeepSeekMath: there is no
   pre-trained policy to stay near. (c) An optional entropy bonus, which A.1 does not have; its
   gradient leaves out how the earlier picks of a selection depend on the policy. (d) Adam's
   learning rate may fall linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.agents import arguments
from refrag_rl.agents.learning import LearningAgent, Stopwatch, difference_to_reference
from refrag_rl.agents.losses import clipped_objective, group_advantages, mean_over_picks
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.selector import Problem, VectorView
from refrag_rl.policies import plackett_luce
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
    """

    indices: NDArray[np.int64]
    budgets: NDArray[np.int64]
    observation: dict[str, Tensor]
    order: Tensor
    log_prob: Tensor
    rewards: NDArray[np.float64]
    log_perplexity: NDArray[np.float32]


class Grpo(LearningAgent):
    """GRPO on whole selections; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        total_rewards: Selections scored in training; rounded up to whole updates.
        group_size: ``G``, selections of each window, at least 2 (REFRAG A.1).
        windows_per_update: ``W``.
        epochs: Passes over an update's selections; at the first all ratios are 1.
        minibatches: Parts that each pass is cut into, by windows.
        clip_range: ``eps`` of the ratio (PPO, arXiv 1707.06347, equation 7).
        normalize_spread: Whether advantages are divided by the group's standard deviation.
        spread_threshold: Groups of a standard deviation up to this contribute nothing; in units of
            the reward.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant`` or ``linear``.
        entropy_coef: Weight of the entropy bonus, per nat and pick.
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the best heuristic scores as well.
        seed: Same seed, same curve.
        device: ``auto`` or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name = "grpo"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        total_rewards: int = 4_000,
        group_size: int = 8,
        windows_per_update: int = 16,
        epochs: int = 2,
        minibatches: int = 1,
        clip_range: float = 0.2,
        normalize_spread: bool = True,
        spread_threshold: float = 1e-3,
        learning_rate: float = 2e-3,
        learning_rate_schedule: str = "linear",
        entropy_coef: float = 0.0,
        max_grad_norm: float = 1.0,
        reference_windows: int = 16,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            policy=policy,
            total_rewards=total_rewards,
            learning_rate=learning_rate,
            learning_rate_schedule=learning_rate_schedule,
            entropy_coef=entropy_coef,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )
        self.group_size = arguments.whole_number("group_size", group_size, at_least=2)
        self.windows_per_update = arguments.whole_number(
            "windows_per_update", windows_per_update, at_least=1
        )
        self.epochs = arguments.whole_number("epochs", epochs, at_least=1)
        self.minibatches = arguments.whole_number("minibatches", minibatches, at_least=1)
        self.clip_range = arguments.number("clip_range", clip_range, above=0, below=1)
        self.normalize_spread = arguments.switch("normalize_spread", normalize_spread)
        self.spread_threshold = arguments.number("spread_threshold", spread_threshold, at_least=0)

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Train on the environment's problem, whole selections at a time; see ``Agent.learn``."""
        problem: Problem = env.problem
        policy = self._start(problem.embedding_size)
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.learning_rate)
        training = self._begin(monitor, policy, optimizer)
        while training.done < self.total_rewards:
            rng = self._rng(training)
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate_after(training.done)
            with Stopwatch() as stopwatch:
                batch = self.collect(policy, problem, rng)
                scalars = self.improve(policy, optimizer, batch)
            scalars["reward/rewards_per_second"] = batch.rewards.size / stopwatch.seconds
            few = slice(self.reference_windows)
            scalars |= difference_to_reference(
                problem,
                monitor.reference,
                batch.indices[few],
                batch.budgets[few],
                batch.rewards.mean(-1)[few],
                rng,
            )
            training.advance(batch.rewards.size)
            self._report(monitor, training, scalars)

    def collect(
        self, policy: PointerPolicy, problem: Problem, rng: np.random.Generator
    ) -> GroupBatch:
        """Draw windows and a group of selections of each, and score them."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        indices = problem.sample_indices(self.windows_per_update, rng)
        budgets = problem.sample_budgets(indices, rng)
        observation = as_tensors(problem.observe(indices, budgets), self.device)
        budget_tensor = torch.from_numpy(budgets).to(self.device)
        with torch.no_grad():
            logits = policy(observation, budget_tensor).repeat_interleave(self.group_size, 0)
            order = plackett_luce.sample(
                logits, budget_tensor.repeat_interleave(self.group_size), generator
            )
            log_prob = plackett_luce.log_prob(logits, order)
        expanded = plackett_luce.expanded_from(order, logits.shape[-1]).cpu().numpy()
        rows = np.repeat(indices, self.group_size)
        rewards = problem.rewards(rows, expanded)
        shape = (len(indices), self.group_size)
        return GroupBatch(
            indices,
            budgets,
            observation,
            order,
            log_prob,
            np.asarray(rewards, dtype=np.float64).reshape(shape),
            # Scored a moment ago: this is read from the reward model's cache.
            problem.log_perplexity(rows, expanded).reshape(shape),
        )

    def improve(
        self, policy: PointerPolicy, optimizer: torch.optim.Optimizer, batch: GroupBatch
    ) -> dict[str, float]:
        """Take the gradient steps of one update; return its figures."""
        advantages, has_spread = group_advantages(
            torch.from_numpy(batch.rewards).to(self.device),
            normalize_spread=self.normalize_spread,
            spread_threshold=self.spread_threshold,
        )
        budgets = torch.from_numpy(batch.budgets).to(self.device)
        windows = torch.arange(len(batch.indices), device=self.device)
        steps: list[tuple[float, ...]] = []
        for _ in range(self.epochs):
            # Windows are drawn at random already, so consecutive ones make a random part.
            for part in windows.tensor_split(self.minibatches):
                if not len(part):
                    continue
                rows = (part.unsqueeze(-1) * self.group_size).add(
                    torch.arange(self.group_size, device=self.device)
                )
                order = batch.order[rows.flatten()]
                picked = order != plackett_luce.NO_PICK
                observation = {name: tensor[part] for name, tensor in batch.observation.items()}
                logits = policy(observation, budgets[part]).repeat_interleave(self.group_size, 0)
                objective = clipped_objective(
                    plackett_luce.log_prob(logits, order),
                    batch.log_prob[rows.flatten()],
                    advantages[part].flatten().float(),
                    picked,
                    clip_range=self.clip_range,
                )
                entropy = mean_over_picks(plackett_luce.entropy(logits, order), picked)
                optimizer.zero_grad()
                (objective.loss - self.entropy_coef * entropy).backward()
                norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
                optimizer.step()
                steps.append(
                    tuple(
                        float(value.detach())
                        for value in (
                            objective.loss,
                            entropy,
                            objective.clip_fraction,
                            objective.approximate_kl,
                            norm,
                        )
                    )
                )
        loss, mean_entropy, clip_fraction, kl, grad_norm = np.mean(steps, axis=0).tolist()
        return {
            "reward/mean": float(batch.rewards.mean()),
            "reward/log_perplexity": float(batch.log_perplexity.mean()),
            "policy/loss": loss,
            "policy/entropy": mean_entropy,
            "policy/clip_fraction": clip_fraction,
            "policy/approximate_kl": kl,
            "policy/grad_norm": grad_norm,
            "policy/learning_rate": float(optimizer.param_groups[0]["lr"]),
            "policy/groups_without_spread": 1 - float(has_spread.float().mean()),
        }
