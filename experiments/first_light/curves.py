"""Draw curves.png: log-perplexity of the sampled selections in training, from TensorBoard's events.

python experiments/first_light/curves.py RUNS_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
TAG = "reward/log_perplexity"
SMOOTHED = 7
LEGS = {
    "recall-ppo": ("recall-ppo-1", "recall-ppo-2", "recall-ppo"),
    "recall-grpo": ("recall-grpo-1", "recall-grpo-2", "recall-grpo"),
}
"""Runs that were trained in several legs, each from the policy of the one before."""


def main(runs: Path) -> None:
    """Draw one panel a kind of windows and one curve an agent."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for panel, windows in zip(panels, ("recall", "retrieved", "contiguous"), strict=True):
        for agent, color in (("ppo", "#0072b2"), ("grpo", "#d55e00")):
            name = f"{windows}-{agent}"
            steps, values = read(runs, LEGS.get(name, (name,)))
            panel.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            mean = np.convolve(values, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
            panel.plot(steps[SMOOTHED - 1 :], mean, color=color, label=agent)
        panel.set_title(f"{windows} (docs)")
        panel.set_xlabel("training rewards")
    panels[0].set_yscale("log")
    panels[0].set_ylabel("log-perplexity in training\n(nats per token)")
    panels[0].legend(frameon=False)
    figure.savefig(HERE / "curves.png", dpi=150)


def read(runs: Path, legs: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return training rewards and values of one or more legs, one after the other."""
    steps: list[int] = []
    values: list[float] = []
    for leg in legs:
        events = EventAccumulator(str(runs / leg / "tensorboard"))
        events.Reload()
        start = steps[-1] if steps else 0
        steps += [start + point.step for point in events.Scalars(TAG)]
        values += [point.value for point in events.Scalars(TAG)]
    return np.array(steps), np.array(values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
