"""Regression: predicts each chunk's marginal gain and expands the largest. No RL.

1. Per update, ``W`` windows; of each, a random set of fewer chunks than the budget, ``S``, and some
   chunks outside it. What chunk ``j`` gains is the log-perplexity of ``S`` less that of ``S`` and
   ``j``, nats per token, both scored by the frozen decoder.
2. The policy network's logits are the predictions, in units of ``gain_scale`` nats; the loss is
   their mean squared error. Selection takes the ``T'`` chunks of largest prediction, as it does
   for every policy. A policy whose logits are computed at each pick is shown ``S`` and
   predicts the gain beside it: it selects as the greedy oracle would, by predicted gains.
3. Gains are measured beside a random set and not alone, with its size uniform on ``0 .. T' - 1``:
   the prediction is then what a chunk adds on average while the budget fills up (a Shapley value of
   coalitions up to the budget), where gains alone would know neither that chunks repeat each other
   nor that some only work together. Both cost the same.
4. Random sets are not what the policy would expand. So a share ``on_policy`` of the sets and chunks
   is drawn from the policy as it is: gains are measured where they matter.
5. Scores are expensive, gradient steps are not: gains stay true while the policy changes, so each
   is used again (``replay``), and what selects is the average of the weights that the steps pass
   through (``averaging``).
6. Its limit where logits are computed once: the best set by sums of average gains. Two chunks that
   say the same are both taken. This is what RL adds. The reward option and the baseline of the
   environment play no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from refrag_rl.agents import arguments
from refrag_rl.agents.averaging import AveragedAdam
from refrag_rl.agents.figures import Stopwatch
from refrag_rl.agents.gain_fitting import (
    EPOCHS,
    GAIN_SCALE,
    LEARNING_RATE,
    REPLAY,
    VARIANCE,
    Fit,
    Variance,
)
from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import (
    CHUNKS_PER_WINDOW,
    ON_POLICY,
    WINDOWS_PER_UPDATE,
    measure_gains,
)
from refrag_rl.agents.learning import LearningAgent
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.selector import Problem, VectorView

_GAINS = "gains"
"""Of what a checkpoint keeps: the gains that are replayed."""


class Regression(LearningAgent):
    """Predicts marginal gains; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        warm_start: ``imitation``, ``regression``, a policy folder, or None; see ``LearningAgent``.
        warm_start_rewards: Sets scored by the imitation or regression that comes first; None: a
            quarter of ``total_rewards``.
        total_rewards: Sets scored in training; rounded up to whole updates. One set a window and
            update is scored besides, for the report.
        windows_per_update: ``W``.
        chunks_per_window: Gains measured beside each random set.
        on_policy: Share of windows whose sets and chunks are drawn from the policy.
        gain_scale: Unit of the predictions, nats per token. No selection depends on it, but what
            is drawn from the policy does: a chunk that is expected to gain one unit more is ``e``
            times as likely. An agent that goes on from this policy starts with these draws.
        variance: Of a gain about its prediction: ``constant``, or ``predicted``, by which windows
            of small gains count as much as those of large ones; see ``gain_fitting``.
        epochs: Gradient steps on each update's gains.
        replay: Further steps an update, each on as many windows drawn from all measured so far.
        averaging: Decay of the policy's average over steps, from 0, the last weights, to below 1.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant`` or ``linear``.
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the best heuristic scores as well.
        seed: Same seed, same curve, on a CPU.
        device: ``auto`` or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name = "regression"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        warm_start: str | None = None,
        warm_start_rewards: int | None = None,
        total_rewards: int = 4_000,
        windows_per_update: int = WINDOWS_PER_UPDATE,
        chunks_per_window: int = CHUNKS_PER_WINDOW,
        on_policy: float = ON_POLICY,
        gain_scale: float = GAIN_SCALE,
        variance: Variance = VARIANCE,
        epochs: int = EPOCHS,
        replay: int = REPLAY,
        averaging: float = 0.98,
        learning_rate: float = LEARNING_RATE,
        learning_rate_schedule: str = "linear",
        max_grad_norm: float = 1.0,
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
            entropy_coef=0.0,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )
        self.windows_per_update = arguments.whole_number(
            "windows_per_update", windows_per_update, at_least=1
        )
        self.chunks_per_window = arguments.whole_number(
            "chunks_per_window", chunks_per_window, at_least=1
        )
        self.on_policy = arguments.number("on_policy", on_policy, at_least=0, at_most=1)
        self.averaging = arguments.number("averaging", averaging, at_least=0, below=1)
        self.fit = Fit(
            arguments.number("gain_scale", gain_scale, above=0),
            arguments.one_of("variance", variance, get_args(Variance)),
            arguments.whole_number("epochs", epochs, at_least=1),
            arguments.whole_number("replay", replay, at_least=0),
            self.max_grad_norm,
        )

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Measure gains on the environment's problem and learn them; see ``Agent.learn``."""
        problem: Problem = env.problem
        policy = self._start(problem)
        optimizer = AveragedAdam(policy.parameters(), self.learning_rate, self.averaging)
        training = self._begin(monitor, problem, policy, optimizer)
        history = GainHistory.from_json(training.kept.get(_GAINS, []))
        if self.fit.replay:
            training.keep = lambda: {_GAINS: history.to_json()}
        for rng in self._updates(training):
            with Stopwatch() as stopwatch:
                measured = measure_gains(
                    policy,
                    problem,
                    self.windows_per_update,
                    self.chunks_per_window,
                    self.on_policy,
                    rng,
                )
                scalars, _ = self._greedy_figures(
                    problem, measured.indices, measured.budgets, monitor, rng
                )
                with optimizer.at_iterate():
                    steps = self.fit.step(policy, optimizer, problem, measured, history, rng)
            loss, _, norm = steps.mean(axis=0).tolist()
            scalars |= {
                "policy/loss": loss,
                "policy/grad_norm": norm,
                # Of the predictions made before these gains were seen.
                "policy/explained_variance": float(steps[0, 1]),
            }
            self._end_update(monitor, training, scalars, measured.scored, stopwatch.seconds)

    def check_progress(self, progress: Mapping[str, Any]) -> None:
        """Check how far a kept training says to be, and its gains; see ``LearningAgent``."""
        super().check_progress(progress)
        windows = len(GainHistory.from_json(progress.get("kept", {}).get(_GAINS, [])))
        expected = progress["update"] * self.windows_per_update if self.fit.replay else 0
        if windows != expected:
            raise ValueError(f"its gains are of {windows} windows, not of {expected}")
