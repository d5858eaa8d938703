"""Resident memory of a training over its environment steps.

    python -m experiments.memory.measure --output experiments/memory [SETTING...]

Runs ``refrag_rl.train`` with the tiny random model and corpus of the tests, reads the resident
memory of its process (Linux) ten times a second, and finds the step of each reading by the times of
the run's curves. Leaves ``memory.json`` and ``memory.png``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import paragraphs, save_tiny_checkpoint

BUDGET = 2
SETTINGS = (
    "agent=ppo",
    "agent.policy.reads_embeddings=true",
    "agent.policy.prompt_token=true",
    "agent.warm_start=null",
    f"budget={BUDGET}",
    "agent.total_rewards=6000",
    "agent.episodes_per_update=16",
    "agent.policy.width=16",
    "env.num_envs=8",
    "windows.context_length=64",
    "windows.passage_length=16",
    "windows.prompt_length=8",
    "windows.output_length=16",
    "train_count=100",
    "save_every=1000",
    "evaluation.rates=[2]",
    "evaluation.heuristics=[random,recency]",
    "evaluation.count=4",
    "evaluation.validation_count=4",
    "evaluation.eval_every=1000",
    "report.windows=0",
    "refrag.cache_windows=50",
    "refrag.cache_sets=500",
    "seed=0",
)
"""Caches are small, so that they are full, and windows leave them, soon."""


def main() -> None:
    """Run, read, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("settings", nargs="*", help="of refrag_rl.train, after those of the script")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run, model, corpus = (Path(scratch) / name for name in ("run", "model", "corpus.jsonl"))
        save_tiny_checkpoint(model)
        corpus.write_text(
            "".join(json.dumps({"text": paragraphs(n, 120)}) + "\n" for n in range(200))
        )
        places = (f"refrag.path={model}", "corpus=files", f"corpus.path={corpus}", f"output={run}")
        arguments = (*SETTINGS, *options.settings, *places)
        times, megabytes = readings([sys.executable, "-m", "refrag_rl.train", *arguments])
        begun, ended = curve_times(run)
    steps = np.interp(times, begun, ended)
    learning = (times >= begun[0]) & (times <= begun[-1])
    points = {
        "settings": [*SETTINGS, *options.settings],
        "steps": np.round(steps[learning]).astype(int).tolist(),
        "resident_mib": np.round(megabytes[learning], 1).tolist(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "memory.json").write_text(json.dumps(points) + "\n")
    draw(points, options.output / "memory.png")


def readings(command: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds of the readings, (n,), and the resident memory at each, (n,) MiB."""
    process = subprocess.Popen(command)
    times, megabytes = [], []
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                times.append(time.time())
                megabytes.append(int(line.split()[1]) / 1024)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(process.returncode)
    return np.array(times), np.array(megabytes)


def curve_times(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return when the points of the reward's curve were written, (n,) s, and their steps, (n,)."""
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    points = events.Scalars("reward/mean")
    times = np.array([point.wall_time for point in points])
    return times, BUDGET * np.array([point.step for point in points])


def draw(points: dict, path: Path) -> None:
    """Draw the readings over the steps."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(points["steps"], points["resident_mib"], lw=1)
    top = 1.1 * max(points["resident_mib"])
    axes.set(xlabel="environment steps", ylabel="resident memory, MiB", ylim=(0, top))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
