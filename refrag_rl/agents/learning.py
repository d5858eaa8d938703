"""What the learning agents share: arguments, the policy they hold, and what they report."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from refrag_rl.agents import arguments
from refrag_rl.agents.figures import difference_to_reference
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.numbers import stop_at_non_finite
from refrag_rl.agents.optimization import set_learning_rate
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.selector import Problem, VectorView
from refrag_rl.agents.starting import WARM_STARTS, agent_device, check_inputs, read_warm_start
from refrag_rl.bounds import LARGEST_SEED
from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs, Observation
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy

logger = logging.getLogger(__name__)

_OF_THE_ENVIRONMENT = ("embedding_size", "chunk_embeddings")
"""Options of a policy that its user does not choose."""


@dataclass
class Training:
    """A training under way. With the seed, these decide everything that follows.

    Attributes:
        policy: What is trained.
        optimizer: Of the policy.
        update: Updates made.
        done: Training rewards seen.
        kept: What else the agent goes on from, as ``keep`` gave it before; empty at the beginning.
        keep: Returns what else the agent goes on from, as JSON can hold it; asked at each save.
    """

    policy: PointerPolicy
    optimizer: torch.optim.Optimizer
    update: int
    done: int
    kept: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[], Mapping[str, Any]] = dict

    def advance(self, rewards: int) -> None:
        """Count an update that saw so many rewards."""
        self.update += 1
        self.done += rewards


def own_options(config: PointerConfig) -> dict[str, Any]:
    """Return all options of a policy that ``agent.policy`` can give, ready for JSON."""
    given = config.to_mapping()
    return {name: given[name] for name in given if name not in _OF_THE_ENVIRONMENT}


class LearningAgent(ABC):
    """An agent that trains a ``PointerPolicy``.

    Args:
        policy: Options of ``PointerConfig`` by name, without ``embedding_size`` and
            ``chunk_embeddings``, which the environment gives; None: the defaults. Of no effect
            where a policy is loaded (``warm_start``, ``load``): it keeps its own.
        warm_start: What the policy starts from: ``imitation``, some imitation of the oracle that
            comes first (``refrag_rl.agents.demonstrations``); ``regression``, the same of gains
            (``refrag_rl.agents.gains``); a run folder or policy folder; or None, nothing.
        warm_start_rewards: Sets scored by either; they count as training rewards. None: a quarter
            of ``total_rewards``.
        total_rewards: Selections scored in training, after which it ends.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant``, or ``linear``: falls to zero over all sets scored,
            those of a warm start among them, so that after a warm start it begins lower.
        entropy_coef: Weight of the entropy bonus, per nat.
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the monitor's reference scores as well; they
            cost decoder time but do not count as training rewards. 0: none.
        seed: Of the initial weights and of everything drawn in training.
        device: ``auto`` (an accelerator where there is one), or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name: str

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None,
        warm_start: str | None,
        warm_start_rewards: int | None,
        total_rewards: int,
        learning_rate: float,
        learning_rate_schedule: str,
        entropy_coef: float,
        max_grad_norm: float,
        reference_windows: int,
        seed: int,
        device: str,
    ) -> None:
        if policy is not None and not isinstance(policy, Mapping):
            raise UserError(f"agent.policy={policy!r}: give options by name, as agent.policy.width")
        self.policy_options = dict(policy or {})
        for name in _OF_THE_ENVIRONMENT:
            if name in self.policy_options:
                raise UserError(
                    f"agent.policy.{name} comes from the model; env.chunk_embeddings says which "
                    "chunk embeddings the policy reads"
                )
        # Checked before anything is loaded; the true width comes with the environment.
        self._policy_config = PointerConfig.from_mapping(
            {**self.policy_options, "embedding_size": 1}
        )
        self.total_rewards = arguments.whole_number("total_rewards", total_rewards, at_least=1)
        self.warm_start = read_warm_start(warm_start)
        if warm_start_rewards and not isinstance(self.warm_start, str):
            raise UserError(
                f"agent.warm_start_rewards={warm_start_rewards}, but agent.warm_start is "
                f"{warm_start}: give agent.warm_start={' or '.join(WARM_STARTS)}, or leave it out"
            )
        if warm_start_rewards is None:
            warm_start_rewards = self.total_rewards // 4
        self.warm_start_rewards = arguments.whole_number(
            "warm_start_rewards", warm_start_rewards, at_least=0
        )
        if isinstance(self.warm_start, str) and self.warm_start_rewards >= self.total_rewards:
            raise UserError(
                f"agent.warm_start_rewards={warm_start_rewards} leaves none of "
                f"agent.total_rewards={total_rewards} to learn from; give fewer"
            )
        self.learning_rate = arguments.number("learning_rate", learning_rate, above=0)
        self.learning_rate_schedule = arguments.one_of(
            "learning_rate_schedule", learning_rate_schedule, ("constant", "linear")
        )
        self.entropy_coef = arguments.number("entropy_coef", entropy_coef, at_least=0)
        self.max_grad_norm = arguments.number("max_grad_norm", max_grad_norm, above=0)
        self.reference_windows = arguments.whole_number(
            "reference_windows", reference_windows, at_least=0
        )
        self.seed = arguments.whole_number("seed", seed, at_least=0, at_most=LARGEST_SEED)
        self.device = agent_device(device)
        self.selector: PolicySelector | None = None
        if isinstance(self.warm_start, Path):
            self._take_over(self.warm_start)

    @property
    def inputs(self) -> Inputs:
        """What the policy reads: a new one's features, or all that a loaded one needs."""
        if self.selector is None:
            return Inputs(self._policy_config.inputs.features)
        return self.selector.inputs

    @abstractmethod
    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Train; see ``Agent.learn``."""

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Return the chunks of highest logit, (B, L) bool; see ``Selector.select``.

        Raises:
            UserError: Nothing is trained or loaded yet, or for another embedding width.
        """
        return self._trained().select(observation, budget, rng)

    def inclusion_probabilities(
        self,
        observation: Observation,
        budget: NDArray[np.int64],
        rng: np.random.Generator,
        samples: int,
    ) -> NDArray[np.float64]:
        """Return how likely each chunk is expanded; see ``PolicySelector``."""
        return self._trained().inclusion_probabilities(observation, budget, rng, samples)

    def save(self, directory: str | Path) -> None:
        """Write the policy to a folder; see ``Agent.save``."""
        self._trained().save(directory)

    def load(self, directory: str | Path) -> None:
        """Take over the policy of a folder; ``learn`` goes on from it. See ``Agent.load``.

        An imitation or regression that would come first is left out: it is for new policies.

        Raises:
            UserError: The folder holds no policy, or ``warm_start`` names another one.
        """
        if isinstance(self.warm_start, Path):
            raise UserError(
                f"agent.warm_start={self.warm_start} and start_from={directory}: give one of them"
            )
        self.warm_start = None
        self._take_over(directory)

    def check_progress(self, progress: Mapping[str, Any]) -> None:
        """Check how far a kept training says to be, before it is gone on with.

        Raises:
            ValueError: No training of this agent gets there.
        """
        update: Any = progress.get("update")
        done: Any = progress.get("done")
        total = self.total_rewards
        # An update begins below the total and sees at least one reward.
        fits = type(update) is int and type(done) is int and 0 <= update <= total
        if not fits or (not update and done >= total):
            raise ValueError(f"its update is {update!r} at {done!r} rewards, of {total} in all")
        if not isinstance(progress.get("kept", {}), dict):
            raise ValueError(f"it keeps {progress['kept']!r}")

    def _take_over(self, directory: str | Path) -> None:
        self.selector = PolicySelector.load(directory)
        self.selector.policy.to(self.device)
        own = self.selector.policy.config
        for name, given in self.policy_options.items():
            if getattr(own, name) != getattr(self._policy_config, name):
                logger.warning(
                    "agent.policy.%s=%s has no effect: the policy of %s keeps its own, %s",
                    name,
                    given,
                    directory,
                    getattr(own, name),
                )

    def _trained(self) -> PolicySelector:
        if self.selector is None:
            raise UserError(f"agent {self.name} has no policy yet: train it, or load one")
        return self.selector

    def _start(self, problem: Problem) -> PointerPolicy:
        """Return the policy to train: the one loaded, or a new one of this seed.

        Raises:
            UserError: The problem's windows or its model are not what the policy reads.
        """
        if self.selector is None:
            options = {
                **self.policy_options,
                "embedding_size": problem.embedding_size,
                "chunk_embeddings": problem.inputs.chunk_embeddings or "encoder",
            }
            # Initial weights come from torch's global generator; leave it as it was found.
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(self.seed)
                policy = PointerPolicy(PointerConfig.from_mapping(options))
            self.selector = PolicySelector(policy.to(self.device), self.name)
        check_inputs(self.selector.inputs, problem.inputs)
        self.selector.require_model(problem.embedding_size, problem.refrag)
        self.selector.refrag = problem.refrag
        # Whoever trained it before: from here on it is this agent's.
        self.selector.agent = self.selector.name = self.name
        return self.selector.policy

    def _begin(
        self,
        monitor: Monitor,
        problem: Problem,
        policy: PointerPolicy,
        optimizer: torch.optim.Optimizer,
    ) -> Training:
        """Return the training, where it begins (after its warm start) or where it was kept."""
        progress = monitor.restore(policy, optimizer)
        stop_at_non_finite(optimizer)
        if not progress and isinstance(self.warm_start, str):
            scored = WARM_STARTS[self.warm_start](
                policy,
                problem,
                self.warm_start_rewards,
                self.seed,
                self.max_grad_norm,
                lambda done: self._advance(monitor, done, {}),
            )
            if scored >= self.total_rewards:
                raise UserError(
                    f"the warm start scored {scored} sets, in whole updates, of "
                    f"agent.total_rewards={self.total_rewards}; give more"
                )
            progress = {"done": scored}
        update, done = progress.get("update", 0), progress.get("done", 0)
        training = Training(policy, optimizer, update, done, progress.get("kept", {}))
        # What a loaded policy said of its own training is not true of this one.
        self._trained().training = {"seed": self.seed, "training_rewards": training.done}
        return training

    def _begin_with_adam(self, monitor: Monitor, problem: Problem) -> Training:
        """Return the training of the policy by Adam; see ``_begin``."""
        policy = self._start(problem)
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.learning_rate)
        return self._begin(monitor, problem, policy, optimizer)

    def _updates(self, training: Training) -> Iterator[np.random.Generator]:
        """Yield each update's generator, its learning rate set, until the rewards are seen."""
        while training.done < self.total_rewards:
            set_learning_rate(training.optimizer, self._learning_rate_after(training.done))
            yield self._rng(training)

    def _end_update(
        self,
        monitor: Monitor,
        training: Training,
        scalars: Mapping[str, float],
        scored: int,
        seconds: float,
    ) -> None:
        """Count an update of ``_updates`` that scored so many sets, and report it."""
        rates = {
            "policy/learning_rate": float(training.optimizer.param_groups[0]["lr"]),
            "reward/rewards_per_second": scored / seconds,
        }
        training.advance(scored)
        self._report(monitor, training, {**scalars, **rates})

    def _rng(self, training: Training) -> np.random.Generator:
        """Return the generator of an update: its draws depend on seed and update alone."""
        return np.random.default_rng([self.seed, training.update])

    def _learning_rate_after(self, done: int) -> float:
        """Return the learning rate once ``done`` rewards have been seen."""
        if self.learning_rate_schedule == "constant":
            return self.learning_rate
        return self.learning_rate * max(0.0, 1 - done / self.total_rewards)

    def _greedy_figures(
        self,
        problem: Problem,
        indices: NDArray[np.int64],
        budgets: NDArray[np.int64],
        monitor: Monitor,
        rng: np.random.Generator,
    ) -> tuple[dict[str, float], NDArray[np.bool_]]:
        """Return what the policy as it is now would be rewarded with, and its sets (B, L).

        For agents whose training scores other sets than the policy's own.
        """
        expanded = self.select(problem.observe(indices, budgets), budgets, rng)
        levels, rewards = problem.log_perplexity_and_rewards(indices, expanded)
        few = slice(self.reference_windows)
        figures = difference_to_reference(
            problem, monitor.reference, indices[few], budgets[few], rewards[few], rng
        )
        figures["reward/mean"] = float(rewards.mean())
        figures["reward/log_perplexity"] = float(levels.mean())
        return figures, expanded

    def _advance(self, monitor: Monitor, done: int, figures: Mapping[str, float]) -> None:
        """Tell the monitor how far the training is; the last update may go beyond the end."""
        monitor.advance(min(done, self.total_rewards), self.total_rewards, figures)

    def _report(self, monitor: Monitor, training: Training, scalars: Mapping[str, float]) -> None:
        """Tell the monitor of an update; evaluate and keep the state where that is due."""
        done = training.done
        self._trained().training["training_rewards"] = done
        monitor.record(done, scalars)
        shown = {name: value for name, value in scalars.items() if name.startswith("reward/")}
        figures = {name.partition("/")[2]: value for name, value in shown.items()}
        self._advance(monitor, done, figures)
        if monitor.should_evaluate(done):
            monitor.evaluate(self, done)
        if monitor.should_save(done):
            progress = {"update": training.update, "done": done, "kept": dict(training.keep())}
            monitor.save(training.policy, training.optimizer, progress)
