"""How well policies predict gains of windows that they were not fitted to, without scoring a set.

    python experiments/selection/cross_validation.py OUTPUT.json RUN... [--left-out windows domains]
        [--policy NAME [KEY=VALUE...]]... [--most WINDOWS...] [--steps 600] [--batch 64] [--seeds 0]

RUN are folders of ``agent=regression`` with ``agent.replay`` above 0: their last checkpoints hold
the gains that they measured, some of each training window. A policy is fitted to those of three
quarters of the windows and asked for the rest, four times in turn; with ``--left-out domains``, to
those of all domains but one. ``--policy`` is one variant: the first run's ``agent.policy`` with
some keys changed; ``--most`` limits the windows that it is fitted to, 0: all. Held-out documents
play no part: this is for choosing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from refrag_rl.agents.gain_fitting import LEARNING_RATE, regression_loss
from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import Gains
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.optimization import gradient_step
from refrag_rl.agents.selector import Problem
from refrag_rl.allocator import keep_large_blocks
from refrag_rl.checkpoint_files import CheckpointFiles
from refrag_rl.composition import build_problem, build_refrag, build_windows, load_documents
from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy, as_tensors
from refrag_rl.run_folder import CONFIG_FILE
from refrag_rl.saved_runs import read_config
from refrag_rl.training import CHECKPOINT_FOLDER

FOLDS = 4
TAKEN = 2
"""Chunks that a prediction takes of those whose gains were measured."""
AT_ONCE = 50
"""Windows observed, or predicted, in one call."""


class Recorded:
    """Gains of the windows of some runs, and what a policy sees of those windows.

    It stands in for a problem: row ``i`` is its window ``i``, a window measured twice is two.
    """

    def __init__(self, runs: Sequence[Path]) -> None:
        self._observation: dict[str, NDArray[Any]] = {}
        self.windows: list[Gains] = []
        self.kinds: list[str] = []
        self.domains: list[str] = []
        self.names: list[str] = []
        observations: list[Mapping[str, NDArray[Any]]] = []
        for run in runs:
            observations += self._read(run)
        self._observation = {
            name: np.concatenate([each[name] for each in observations]) for name in observations[0]
        }

    def _read(self, run: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
        config = OmegaConf.create(read_config(run / CONFIG_FILE))
        assert isinstance(config, DictConfig)
        saved = CheckpointFiles(run / CHECKPOINT_FOLDER, config.keep).read()
        history = GainHistory.from_json(saved.progress.get("kept", {}).get("gains", []))
        if not len(history):
            raise UserError(f"{run}: its checkpoint holds no gains; give runs with agent.replay=9")
        refrag = build_refrag(config.refrag)
        windows = build_windows(
            config.windows,
            load_documents(config.corpus),
            "train",
            refrag,
            count=config.train_count,
            seed=config.seed,
            each_domain=False,
            with_texts=False,
        )
        problem = build_problem(windows, refrag)
        measured = list(history)
        for start in range(0, len(measured), AT_ONCE):
            part = measured[start : start + AT_ONCE]
            indices = np.concatenate([each.indices for each in part])
            budgets = np.concatenate([each.budgets for each in part])
            for index in indices:
                window = problem.window(int(index))
                self.domains.append(window.domain)
                self.kinds.append(part_of(config.windows, int(index)))
                self.names.append(f"{config.seed} {index}")
            yield cast(Mapping[str, NDArray[Any]], problem.observe(indices, budgets))
        self.windows += measured

    def observe(
        self, indices: NDArray[np.int64], budgets: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the observations of rows; see ``ExpansionProblem.observe``."""
        rows = {name: values[indices] for name, values in self._observation.items()}
        return rows | {"budget_left": budgets[:, None].astype(np.float32)}

    def gains(self, rows: NDArray[np.int64]) -> Gains:
        """Return the gains of rows, which are their windows."""
        parts = [self.windows[row] for row in rows]
        return Gains(
            indices=rows,
            budgets=np.concatenate([each.budgets for each in parts]),
            bases=np.concatenate([each.bases for each in parts]),
            rows=np.repeat(np.arange(len(rows)), [len(each.chunks) for each in parts]),
            chunks=np.concatenate([each.chunks for each in parts]),
            gains=np.concatenate([each.gains for each in parts]),
            scored=0,
        )


def part_of(windows: DictConfig, index: int) -> str:
    """Return the kind of a window, as the tables name it."""
    part = windows.parts[index % len(windows.parts)] if "parts" in windows else windows
    kind = str(part.get("kind", part.get("_target_", "")).rpartition(".")[2])
    if kind == "retrieved":
        return str(part.retriever)
    return f"q = {part.prompt_length}" if kind == "contiguous" and part.prompt_length else kind


def folds(recorded: Recorded, left_out: str) -> Iterator[NDArray[np.bool_]]:
    """Give the rows of each fold; all sets of one window are in one."""
    if left_out == "domains":
        domains = np.array(recorded.domains)
        for domain in sorted(set(recorded.domains)):
            yield domains == domain
    else:
        _, window = np.unique(recorded.names, return_inverse=True)
        fold = np.random.default_rng(0).permutation(window.max() + 1) % FOLDS
        for each in range(FOLDS):
            yield fold[window] == each


def fit(
    recorded: Recorded,
    rows: NDArray[np.int64],
    config: PointerConfig,
    agent: DictConfig,
    options: argparse.Namespace,
    seed: int,
) -> PointerPolicy:
    """Return a policy fitted to the gains of some rows."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    policy = PointerPolicy(config)
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / options.steps)
        drawn = rng.choice(rows, min(options.batch, len(rows)), replace=False)
        loss, _ = regression_loss(
            policy, cast(Problem, recorded), recorded.gains(drawn), agent.gain_scale, agent.variance
        )
        gradient_step(policy, optimizer, loss, agent.max_grad_norm)
    return policy


@torch.no_grad()
def predict(
    recorded: Recorded, rows: NDArray[np.int64], policy: PointerPolicy
) -> list[NDArray[np.floating]]:
    """Return what a policy predicts of the measured chunks of each row."""
    found: list[NDArray[np.floating]] = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        gains = recorded.gains(part)
        observation = as_tensors(recorded.observe(part, gains.budgets))
        observation["expanded"] = torch.from_numpy(gains.bases)
        logits = policy(observation, torch.from_numpy(gains.budgets)).numpy()
        found += [logits[i, recorded.windows[row].chunks] for i, row in enumerate(part)]
    return found


class Figures(NamedTuple):
    """What predictions of one kind of windows are worth.

    Attributes:
        correlation: Of predicted and measured gains, each less its window's mean.
        gain: Of the chunks predicted highest over the window's mean, nats per token.
        standard_error: Of ``gain``.
        windows: Counted once for each set.
    """

    correlation: float
    gain: float
    standard_error: float
    windows: int


def figures_of(
    predicted: Sequence[NDArray[np.floating]], measured: Sequence[NDArray[np.floating]]
) -> Figures:
    """Compare what was predicted with what was measured, window by window."""
    guesses = [each - each.mean() for each in predicted]
    gains = [each - each.mean() for each in measured]
    guess, gain = np.concatenate(guesses), np.concatenate(gains)
    scale = np.sqrt((guess**2).sum() * (gain**2).sum())
    taken = np.array(
        [
            gain[np.argsort(-guess, kind="stable")[:TAKEN]].mean()
            for guess, gain in zip(guesses, gains, strict=True)
        ]
    )
    return Figures(
        float((guess * gain).sum() / scale) if scale else 0.0,
        float(taken.mean()),
        float(taken.std() / np.sqrt(len(taken))),
        len(taken),
    )


def by_kind(
    recorded: Recorded, predicted: Mapping[int, NDArray[np.floating]], domain: str
) -> dict[str, Figures]:
    """Return the figures of each kind of windows of a domain, or of ``all``."""
    rows = [row for row, each in enumerate(recorded.domains) if domain in (each, "all")]
    return {
        kind: figures_of(
            [predicted[row] for row in rows if recorded.kinds[row] == kind],
            [recorded.windows[row].gains for row in rows if recorded.kinds[row] == kind],
        )
        for kind in dict.fromkeys(recorded.kinds)
    }


def of_heuristic(recorded: Recorded, name: str) -> dict[int, NDArray[np.floating]]:
    """Return a heuristic's scores of the measured chunks of each row."""
    found: dict[int, NDArray[np.floating]] = {}
    rng = np.random.default_rng(0)
    for start in range(0, len(recorded.windows), AT_ONCE):
        part = np.arange(start, min(start + AT_ONCE, len(recorded.windows)))
        observation = cast(Any, recorded.observe(part, recorded.gains(part).budgets))
        scores = HEURISTICS[name]().scores(observation, rng)
        for i, row in enumerate(part):
            found[int(row)] = np.asarray(scores[i, recorded.windows[row].chunks], dtype=float)
    return found


def configured(recorded: Recorded, agent: DictConfig, changes: Sequence[str]) -> PointerConfig:
    """Return the run's policy with some keys changed, each as ``KEY=VALUE``."""
    keys = OmegaConf.merge(agent.policy, OmegaConf.from_dotlist(list(changes)))
    given = cast(dict[str, Any], OmegaConf.to_object(keys))
    size = recorded.observe(np.array([0]), np.array([0]))["chunk_embeddings"].shape[-1]
    return PointerConfig(embedding_size=size, **given | {"features": tuple(given["features"])})


def validate(
    recorded: Recorded,
    config: PointerConfig,
    agent: DictConfig,
    left_out: str,
    most: int,
    options: argparse.Namespace,
) -> dict[int, NDArray[np.floating]]:
    """Return what policies predict of each row that they were not fitted to, seeds added up."""
    predicted: dict[int, NDArray[np.floating]] = {}
    for held_out in folds(recorded, left_out):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(~held_out))
        asked = np.flatnonzero(held_out)
        for seed in options.seeds:
            policy = fit(recorded, rows[: most or None], config, agent, options, seed)
            for row, guess in zip(asked, predict(recorded, asked, policy), strict=True):
                predicted[int(row)] = predicted.get(int(row), 0) + guess
    return predicted


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--policy", nargs="+", action="append", default=[])
    parser.add_argument(
        "--left-out", nargs="+", choices=("windows", "domains"), default=["windows"]
    )
    parser.add_argument("--most", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    keep_large_blocks()
    recorded = Recorded(options.runs)
    agent = OmegaConf.create(read_config(options.runs[0] / CONFIG_FILE)).agent
    results: list[dict[str, Any]] = []

    def report(
        name: str, left_out: str, most: int, predicted: Mapping[int, NDArray[np.floating]]
    ) -> None:
        for domain in ("all", *sorted(set(recorded.domains))):
            figures = by_kind(recorded, predicted, domain)
            for kind, each in figures.items():
                row = {"name": name, "left_out": left_out, "most": most, "domain": domain}
                results.append(row | {"kind": kind} | each._asdict())
            cells = [
                f"{each.correlation:.3f} ({each.gain * 1e4:.0f} ± {each.standard_error * 1e4:.0f})"
                for each in figures.values()
            ]
            cells = [name, left_out, str(most or "all"), domain, *cells]
            print(f"| {' | '.join(cells)} |", flush=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    kinds = " | ".join(dict.fromkeys(recorded.kinds))
    print(f"| predicted by | left out | fitted to | domain | {kinds} |")
    for name in HEURISTICS:
        report(name, "", 0, of_heuristic(recorded, name))
    for left_out in options.left_out:
        for most in options.most:
            for name, *changes in options.policy or [["policy"]]:
                config = configured(recorded, agent, changes)
                predicted = validate(recorded, config, agent, left_out, most, options)
                report(name, left_out, most, predicted)


if __name__ == "__main__":
    main()
