"""Imitation: supervised learning of the oracle's choices on training windows. No RL.

1. Per update, some windows are labelled with the greedy oracle's picks, which see the true output,
   and the policy takes some steps on all windows labelled so far, along the listwise likelihood of
   the picks in their order (``refrag_rl.agents.demonstrations`` has the equation and its source).
2. It learns to behave like a bound that knows what the policy cannot know, so where the best chunk
   cannot be told from the observation it spreads its probability, and what it selects need not be
   what is best on average: this is the price of having no reward.
3. A label is expensive: each pick costs a set for every chunk left, ``picks * L`` sets a window,
   against ``G`` of a group. ``picks`` cuts the order off after the first ones, which matter most.
   ``total_rewards`` counts all of these sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refrag_rl.agents import arguments
from refrag_rl.agents.demonstrations import (
    BATCH_WINDOWS,
    LABELLED_PER_UPDATE,
    LEARNING_RATE,
    PICKS,
    STEPS_PER_UPDATE,
    Demonstration,
    Demonstrations,
    from_json,
    imitation_loss,
)
from refrag_rl.agents.figures import Stopwatch
from refrag_rl.agents.learning import LearningAgent
from refrag_rl.agents.monitor import Monitor
from refrag_rl.agents.optimization import gradient_step
from refrag_rl.agents.selector import Problem, VectorView

_DEMONSTRATIONS = "demonstrations"
"""Of what a checkpoint keeps."""


class Imitation(LearningAgent):
    """Learns the oracle's picks; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        total_rewards: Sets scored by the oracle in training; rounded up to whole updates. One set a
            labelled window is scored besides, for the report.
        picks: Oracle picks a window, at most; None: the whole budget.
        windows_per_update: Windows labelled an update.
        steps_per_update: Gradient steps an update.
        batch_windows: Labelled windows a gradient step.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant`` or ``linear``.
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the best heuristic scores as well.
        seed: Same seed, same curve, on a CPU.
        device: ``auto`` or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name = "imitation"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        total_rewards: int = 20_000,
        picks: int | None = PICKS,
        windows_per_update: int = LABELLED_PER_UPDATE,
        steps_per_update: int = STEPS_PER_UPDATE,
        batch_windows: int = BATCH_WINDOWS,
        learning_rate: float = LEARNING_RATE,
        learning_rate_schedule: str = "linear",
        max_grad_norm: float = 1.0,
        reference_windows: int = 16,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            policy=policy,
            warm_start=None,
            warm_start_rewards=0,
            total_rewards=total_rewards,
            learning_rate=learning_rate,
            learning_rate_schedule=learning_rate_schedule,
            entropy_coef=0.0,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )
        self.picks = None if picks is None else arguments.whole_number("picks", picks, at_least=1)
        self.windows_per_update = arguments.whole_number(
            "windows_per_update", windows_per_update, at_least=1
        )
        self.steps_per_update = arguments.whole_number(
            "steps_per_update", steps_per_update, at_least=1
        )
        self.batch_windows = arguments.whole_number("batch_windows", batch_windows, at_least=1)

    def learn(self, env: VectorView, monitor: Monitor) -> None:
        """Label windows of the environment's problem and learn the labels; see ``Agent.learn``."""
        problem: Problem = env.problem
        training = self._begin_with_adam(monitor, problem)
        policy, optimizer = training.policy, training.optimizer
        demonstrations = Demonstrations(problem, self.picks, self.windows_per_update, self.seed)
        demonstrations.restore(training.kept.get(_DEMONSTRATIONS, []))
        training.keep = lambda: {_DEMONSTRATIONS: demonstrations.to_json()}
        for rng in self._updates(training):
            before = demonstrations.scored
            with Stopwatch() as stopwatch:
                made = demonstrations.add(training.update)
                scalars = self._figures(problem, made, monitor, rng)
                steps = []
                for _ in range(self.steps_per_update):
                    drawn = demonstrations.sample(self.batch_windows, rng)
                    loss = imitation_loss(policy, problem, drawn)
                    norm = gradient_step(policy, optimizer, loss, self.max_grad_norm)
                    steps.append([float(loss.detach()), float(norm)])
            scalars["policy/loss"], scalars["policy/grad_norm"] = np.mean(steps, axis=0).tolist()
            scored = demonstrations.scored - before
            self._end_update(monitor, training, scalars, scored, stopwatch.seconds)

    def check_progress(self, progress: Mapping[str, Any]) -> None:
        """Check how far a kept training says to be, and its labels; see ``LearningAgent``."""
        super().check_progress(progress)
        labelled = len(from_json(progress.get("kept", {}).get(_DEMONSTRATIONS, [])))
        most = progress["update"] * self.windows_per_update
        # A window may be drawn again.
        if not min(most, 1) <= labelled <= most:
            raise ValueError(f"its demonstrations are of {labelled} windows, of {most} at most")

    def _figures(
        self,
        problem: Problem,
        made: list[Demonstration],
        monitor: Monitor,
        rng: np.random.Generator,
    ) -> dict[str, float]:
        """Return how the policy does on windows that were just labelled, before it learns them."""
        indices = np.array([each.window for each in made])
        budgets = np.array([each.budget for each in made])
        figures, expanded = self._greedy_figures(problem, indices, budgets, monitor, rng)
        agreement = [row[each.order].mean() for row, each in zip(expanded, made, strict=True)]
        return {**figures, "policy/agreement_with_oracle": float(np.mean(agreement))}
