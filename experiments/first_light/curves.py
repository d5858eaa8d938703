"""Draw curves.png: reward against the best heuristic over training, from TensorBoard's events.

python experiments/first_light/curves.py RUNS_FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
TAG = "reward/difference_to_best_heuristic"
SMOOTHED = 5


def main(runs: Path) -> None:
    """Draw one panel a kind of windows and one curve an agent."""
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for panel, windows in zip(panels, ("recall", "retrieved", "contiguous"), strict=True):
        for agent, color in (("ppo", "#0072b2"), ("grpo", "#d55e00")):
            events = EventAccumulator(str(runs / f"{windows}-{agent}" / "tensorboard"))
            events.Reload()
            points = events.Scalars(TAG)
            steps = np.array([point.step for point in points])
            values = np.array([point.value for point in points])
            panel.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            mean = np.convolve(values, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
            panel.plot(steps[SMOOTHED - 1 :], mean, color=color, label=agent)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set_title(f"{windows} (docs)")
        panel.set_xlabel("training rewards")
    panels[0].set_ylabel("reward - best heuristic\n(nats per token)")
    panels[0].legend(frameon=False)
    figure.savefig(HERE / "curves.png", dpi=150)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
