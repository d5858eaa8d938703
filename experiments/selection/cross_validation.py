"""How well policies predict gains of windows that they were not fitted to, without scoring a set.

    python experiments/selection/cross_validation.py OUTPUT.json RUN... [--policy NAME KEY=VALUE...]
        [--left-out documents domains] [--most SETS...] [--steps 600] [--batch 64] [--seeds 0]

RUN are folders of ``agent=regression`` with ``agent.replay`` above 0: their last checkpoints hold
the gains that they measured, some beside a set of each training window. A policy is fitted to those
of three quarters of the documents and asked for the rest, four times in turn (windows of one
document may overlap, so all are in one fold); with ``--left-out domains``, to those of all domains
but one. ``--policy`` is one variant: the first run's ``agent.policy`` with some keys changed;
``--most`` limits the sets whose gains it is fitted to, 0: all. Held-out documents of the corpus
play no part: this is for choosing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from recorded_gains import Recorded, recorded_in

from refrag_rl.agents.gain_fitting import LEARNING_RATE, regression_loss
from refrag_rl.agents.gains import Gains
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.optimization import gradient_step, set_learning_rate
from refrag_rl.agents.selector import Problem
from refrag_rl.allocator import keep_large_blocks
from refrag_rl.observation import Observation
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy, as_tensors
from refrag_rl.run_folder import CONFIG_FILE
from refrag_rl.saved_runs import read_config

FOLDS = 4
TAKEN = 2
"""Chunks that a prediction takes of those whose gains were measured."""
AT_ONCE = 50
"""Windows predicted in one call."""


def folds(recorded: Recorded, left_out: str) -> Iterator[NDArray[np.bool_]]:
    """Give the rows of each fold; all windows of one document are in one."""
    if left_out == "domains":
        of_row = np.array([row.domain for row in recorded.rows])
        for domain in recorded.domains:
            yield of_row == domain
    else:
        _, document = np.unique([row.document for row in recorded.rows], return_inverse=True)
        fold = np.random.default_rng(0).permutation(document.max() + 1) % FOLDS
        for each in range(FOLDS):
            yield fold[document] == each


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
        set_learning_rate(optimizer, LEARNING_RATE * (1 - step / options.steps))
        drawn = rng.choice(rows, min(options.batch, len(rows)), replace=False)
        loss, _ = regression_loss(
            policy, cast(Problem, recorded), recorded.gains(drawn), agent.gain_scale, agent.variance
        )
        gradient_step(policy, optimizer, loss, agent.max_grad_norm)
    return policy


def of_measured(
    recorded: Recorded, rows: NDArray[np.int64], scores: Callable[[Gains], NDArray[np.floating]]
) -> dict[int, NDArray[np.floating]]:
    """Return, for each row, the scores of the chunks whose gains were measured.

    Args:
        recorded: The gains.
        rows: Which of them.
        scores: Gives the scores of all chunks of the windows of some gains, (W, L).
    """
    found: dict[int, NDArray[np.floating]] = {}
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        of_part = scores(recorded.gains(part))
        for scores_of_row, row in zip(of_part, part.tolist(), strict=True):
            found[row] = scores_of_row[recorded.rows[row].gains.chunks]
    return found


def of_policy(
    recorded: Recorded, rows: NDArray[np.int64], policy: PointerPolicy
) -> dict[int, NDArray[np.floating]]:
    """Return what a policy predicts of the measured chunks of each row."""

    @torch.no_grad()
    def logits(gains: Gains) -> NDArray[np.floating]:
        observation = as_tensors(recorded.observe(gains.indices, gains.budgets))
        observation["expanded"] = torch.from_numpy(gains.bases)
        found: NDArray[np.floating] = policy(observation, torch.from_numpy(gains.budgets)).numpy()
        return found

    return of_measured(recorded, rows, logits)


def of_heuristic(recorded: Recorded, name: str) -> dict[int, NDArray[np.floating]]:
    """Return a heuristic's scores of the measured chunks of each row."""
    rng = np.random.default_rng(0)

    def scores(gains: Gains) -> NDArray[np.floating]:
        observation = cast(Observation, recorded.observe(gains.indices, gains.budgets))
        return HEURISTICS[name]().scores(observation, rng)

    return of_measured(recorded, np.arange(len(recorded.rows)), scores)


class Figures(NamedTuple):
    """What predictions of one kind of windows are worth.

    Attributes:
        correlation: Of predicted and measured gains, each less its window's mean.
        gain: Of the chunks predicted highest over the window's mean, nats per token.
        standard_error: Of ``gain``, over documents: windows of one resemble each other.
        windows: Counted once for each set.
    """

    correlation: float
    gain: float
    standard_error: float
    windows: int


def figures_of(
    predicted: Sequence[NDArray[np.floating]],
    measured: Sequence[NDArray[np.floating]],
    documents: Sequence[str],
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
    of_document = np.unique(np.asarray(documents), return_inverse=True)[1]
    spread = np.bincount(of_document, taken - taken.mean())
    return Figures(
        float((guess * gain).sum() / scale) if scale else 0.0,
        float(taken.mean()),
        float(np.sqrt((spread**2).sum()) / len(taken)),
        len(taken),
    )


def by_kind(
    recorded: Recorded, predicted: Mapping[int, NDArray[np.floating]], domain: str
) -> dict[str, Figures]:
    """Return the figures of each kind of windows of a domain, or of ``all``."""
    rows = [row for row, each in enumerate(recorded.rows) if domain in (each.domain, "all")]
    found = {}
    for kind in recorded.kinds:
        of_kind = [row for row in rows if recorded.rows[row].kind == kind]
        found[kind] = figures_of(
            [predicted[row] for row in of_kind],
            [recorded.rows[row].gains.gains for row in of_kind],
            [recorded.rows[row].document for row in of_kind],
        )
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
            for row, guess in of_policy(recorded, asked, policy).items():
                predicted[row] = predicted.get(row, 0) + guess
    return predicted


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments of a script that reads recorded gains."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    return parser


def read(runs: Sequence[Path]) -> tuple[Recorded, DictConfig]:
    """Return the gains that runs kept, and the settings of the first one's agent."""
    keep_large_blocks()
    return recorded_in(runs), OmegaConf.create(read_config(runs[0] / CONFIG_FILE)).agent


def main() -> None:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--policy", nargs="+", action="append", default=[])
    parser.add_argument(
        "--left-out", nargs="+", choices=("documents", "domains"), default=["documents"]
    )
    parser.add_argument("--most", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    recorded, agent = read(options.runs)
    results: list[dict[str, Any]] = []

    def report(
        name: str, left_out: str, most: int, predicted: Mapping[int, NDArray[np.floating]]
    ) -> None:
        for domain in ("all", *recorded.domains):
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

    kinds = " | ".join(recorded.kinds)
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
