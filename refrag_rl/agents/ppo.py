"""PPO: sb3-contrib's ``MaskablePPO`` with the pointer policy, one chunk a step.

1. An episode picks ``T'`` chunks one after another; the policy is the masked softmax of REFRAG
   (arXiv 2509.01092, A.1), the optimiser is PPO with clipped ratios and generalised advantages
   (Schulman et al. 2017, arXiv 1707.06347; 2016, arXiv 1506.02438), actions masked as by Huang and
   Ontanon (arXiv 2006.14171). The algorithm is sb3-contrib's, unchanged.
2. Departures from the paper: a learned state value is the baseline instead of a group's mean, so
   that no window is scored more often than it is met; logits are computed again at each step of the
   update, but from what does not change through an episode, so they are the paper's.
3. Departures from the defaults of sb3-contrib, each because of the problem: no discount (an episode
   is one decision in parts); the update's size is counted in episodes, the unit of every agent
   here; the learning rate may fall over the whole training although each update is a call of its
   own.
4. The rollout buffer holds each episode's context once (``refrag_rl.agents.rollout``); what is
   learned from it is the same.
5. Each update begins new episodes, so that a training can be resumed between two of them.
   Those that an update cuts off are not scored; the state's value stands in for their reward. Long
   ones are cut off more often, so where there are many environments small budgets end more often
   than they are drawn: of budgets from 2 to 15 in 64 environments and 128 episodes an update, about
   a quarter of the picks are of episodes that are cut off, and those that end pick 7.5 chunks on
   average in place of 8.5. Fewer environments (``env.num_envs``) make that less. The figures of
   training windows are of episodes that end; comparisons have budgets of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed

from refrag_rl.agents import arguments
from refrag_rl.agents.figures import Stopwatch, difference_to_reference
from refrag_rl.agents.learning import LearningAgent
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.ppo_policy import MaskablePointerPolicy
from refrag_rl.agents.rollout import EpisodeRolloutBuffer
from refrag_rl.agents.selector import Problem, VectorView
from refrag_rl.envs.options import RewardTiming

BUDGET_SAMPLES = 256
"""Windows from which the mean length of episodes is estimated."""
LONGEST_OF = 16
"""Budgets drawn of each of them to find the longest."""


class Episodes(NamedTuple):
    """Episodes that ended in an update.

    Attributes:
        indices: (E,) windows.
        budgets: (E,) chunks.
        expanded: (E, L) bool.
        log_perplexity: (E,) nats per token.
    """

    indices: NDArray[np.int64]
    budgets: NDArray[np.int64]
    expanded: NDArray[np.bool_]
    log_perplexity: NDArray[np.float64]


class EpisodeRecorder(BaseCallback):
    """Keeps what the environment says of each episode that ends."""

    READ = ("window", "budget", "expanded", "log_perplexity")

    def __init__(self) -> None:
        super().__init__()
        self._ended: list[Mapping[str, Any]] = []

    def _on_step(self) -> bool:
        infos, dones = self.locals["infos"], self.locals["dones"]
        # Not the whole information: it holds the last observation.
        self._ended += [
            {name: info[name] for name in self.READ}
            for info, done in zip(infos, dones, strict=True)
            if done
        ]
        return True

    def take(self, num_chunks: int) -> Episodes:
        """Return the episodes that ended since the last call."""
        ended, self._ended = self._ended, []
        return Episodes(
            np.array([info["window"] for info in ended], dtype=np.int64),
            np.array([info["budget"] for info in ended], dtype=np.int64),
            np.array([info["expanded"] for info in ended], dtype=bool).reshape(-1, num_chunks),
            np.array([info["log_perplexity"] for info in ended], dtype=np.float64),
        )


class Ppo(LearningAgent):
    """PPO on single picks; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        warm_start: ``imitation``, ``regression``, a policy folder, or None; see ``LearningAgent``.
        warm_start_rewards: Sets scored by the imitation or regression that comes first; None: a
            quarter of ``total_rewards``.
        total_rewards: Episodes scored in training; rounded up to whole updates.
        episodes_per_update: Episodes between two updates, about: ``n_steps`` of sb3-contrib is this
            times the mean budget over the number of environments, but no less than the longest
            of 4096 sampled episodes.
        minibatches: Parts that an update's steps are cut into (``batch_size``).
        epochs: Passes over an update's steps (``n_epochs``).
        clip_range: ``eps`` of the ratio (arXiv 1707.06347, equation 7).
        gae_lambda: Between one-step estimates of the advantage, 0, and whole returns, 1
            (arXiv 1506.02438, equation 16).
        gamma: Discount per pick; 1 is none.
        value_coef: Weight of the value's squared error (``vf_coef``).
        target_kl: Ends an update early once the new policy is 1.5 times this from the old, nats per
            pick; None: never.
        reward_timing: ``terminal``: one reward an episode, or ``per_step``: what each pick gained,
            at up to ``T' + 1`` evaluations of the decoder an episode in place of 1, and those of
            episodes that an update cuts off.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant`` or ``linear``.
        entropy_coef: Weight of the entropy bonus, per nat and pick (``ent_coef``).
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the best heuristic scores as well.
        seed: Same seed, same curve, on a CPU.
        device: ``auto`` or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name = "ppo"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        warm_start: str | None = None,
        warm_start_rewards: int | None = None,
        total_rewards: int = 4_000,
        episodes_per_update: int = 128,
        minibatches: int = 1,
        epochs: int = 4,
        clip_range: float = 0.2,
        gae_lambda: float = 0.95,
        gamma: float = 1.0,
        value_coef: float = 0.5,
        target_kl: float | None = None,
        reward_timing: str = "terminal",
        learning_rate: float = 1e-3,
        learning_rate_schedule: str = "linear",
        entropy_coef: float = 0.0,
        max_grad_norm: float = 0.5,
        reference_windows: int = 16,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            policy=policy,
            warm_start=warm_start,
            warm_start_rewards=warm_start_rewards,
            total_rewards=total_rewards,
            learning_rate=learning_rate,
            learning_rate_schedule=learning_rate_schedule,
            entropy_coef=entropy_coef,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )
        self.episodes_per_update = arguments.whole_number(
            "episodes_per_update", episodes_per_update, at_least=1
        )
        self.minibatches = arguments.whole_number("minibatches", minibatches, at_least=1)
        self.epochs = arguments.whole_number("epochs", epochs, at_least=1)
        self.clip_range = arguments.number("clip_range", clip_range, above=0, below=1)
        self.gae_lambda = arguments.number("gae_lambda", gae_lambda, at_least=0, at_most=1)
        self.gamma = arguments.number("gamma", gamma, above=0, at_most=1)
        self.value_coef = arguments.number("value_coef", value_coef, at_least=0)
        self.target_kl = (
            None if target_kl is None else arguments.number("target_kl", target_kl, above=0)
        )
        self.reward_timing: RewardTiming = arguments.one_of(
            "reward_timing", reward_timing, get_args(RewardTiming)
        )

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Train on as many parallel episodes as the environment has; see ``Agent.learn``."""
        problem: Problem = env.problem
        model = self._make_model(env)
        assert model.env is not None
        recorder = EpisodeRecorder()
        training = self._begin(monitor, problem, self._trained().policy, model.policy.optimizer)
        while training.done < self.total_rewards:
            rng = self._rng(training)
            # SB3 draws from the global generators.
            set_random_seed(int(rng.integers(2**31)))
            model.env.seed(int(rng.integers(2**31)))
            model.lr_schedule = _constant(self._learning_rate_after(training.done))
            with Stopwatch() as stopwatch:
                model.learn(model.n_steps * env.num_envs, recorder)
            episodes = recorder.take(problem.num_chunks)
            training.advance(len(episodes.indices))
            if len(episodes.indices):
                figures = model.logger.name_to_value
                # Scored a moment ago: read from the reward model's cache.
                rewards = problem.rewards(episodes.indices, episodes.expanded)
                scalars = _scalars(rewards, episodes, figures, stopwatch.seconds)
                few = slice(self.reference_windows)
                scalars |= difference_to_reference(
                    problem,
                    monitor.reference,
                    episodes.indices[few],
                    episodes.budgets[few],
                    rewards[few],
                    rng,
                )
                self._report(monitor, training, scalars)

    def _make_model(self, env: VectorView) -> MaskablePPO:
        """Return the algorithm, on the view of the environment that it needs."""
        # Imported here: the view brings stable-baselines3's environments, which no other agent
        # needs.
        from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv

        problem: Problem = env.problem
        view = SelectiveExpansionVecEnv(
            problem=env.problem, num_envs=env.num_envs, reward_timing=self.reward_timing, flat=False
        )
        rng = np.random.default_rng(self.seed)
        sample = problem.sample_indices(BUDGET_SAMPLES, rng)
        budgets = problem.sample_budgets(sample, rng)
        steps = round(self.episodes_per_update * float(budgets.mean()) / env.num_envs)
        # At least as many as the longest episode, so that every episode can end in an update.
        longest = problem.sample_budgets(np.repeat(sample, LONGEST_OF), rng).max()
        n_steps = max(2, steps, int(longest))
        model = MaskablePPO(
            MaskablePointerPolicy,
            view,
            learning_rate=self.learning_rate,
            n_steps=n_steps,
            batch_size=_batch_size(n_steps * env.num_envs, self.minibatches),
            n_epochs=self.epochs,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            clip_range=self.clip_range,
            ent_coef=self.entropy_coef,
            vf_coef=self.value_coef,
            max_grad_norm=self.max_grad_norm,
            target_kl=self.target_kl,
            rollout_buffer_class=EpisodeRolloutBuffer,
            policy_kwargs={"pointer": self._start(problem)},
            seed=self.seed,
            device=self.device,
        )
        # Without outputs of its own: the figures are read from it and go to the monitor.
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model


def _batch_size(steps: int, minibatches: int) -> int:
    """Return the size of about that many equal parts, none of which is a single step.

    The advantages of a part are divided by their standard deviation, which one step does not have.
    """
    size = max(2, -(-steps // minibatches))
    while steps % size == 1:
        size += 1
    return size


def _constant(value: float) -> Any:
    """Return the schedule that is ``value`` at any share of the training left."""
    return lambda _: value


def _scalars(
    rewards: NDArray[np.float64],
    episodes: Episodes,
    figures: Mapping[str, float],
    seconds: float,
) -> dict[str, float]:
    """Return the figures of an update under the names that all agents share."""
    return {
        "reward/mean": float(rewards.mean()),
        "reward/log_perplexity": float(episodes.log_perplexity.mean()),
        "reward/rewards_per_second": len(rewards) / seconds,
        "policy/loss": float(figures["train/loss"]),
        "policy/entropy": -float(figures["train/entropy_loss"]),
        "policy/clip_fraction": float(figures["train/clip_fraction"]),
        "policy/approximate_kl": float(figures["train/approx_kl"]),
        "policy/value_loss": float(figures["train/value_loss"]),
        "policy/explained_variance": float(figures["train/explained_variance"]),
        "policy/learning_rate": float(figures["train/learning_rate"]),
    }
