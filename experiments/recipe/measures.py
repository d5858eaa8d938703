"""What the measurements of this folder share: problems, parts of windows, rows with intervals."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.default_problem import default_problem
from refrag_rl.envs import ExpansionProblem
from refrag_rl.evaluation.statistics import bootstrap_mean
from refrag_rl.pretraining.recipe import STAGES
from refrag_rl.training_state import Checkpoint

RESAMPLES = 5000
DOMAINS = ("docs", "books", "math", "wiki")

Losses = dict[str, NDArray[np.float32]]
"""Name of what was measured -> log-perplexities, (N,), nats per token."""


def measuring_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all measurements have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("refrags", nargs="+", help="checkpoints: folders or embedded names")
    parser.add_argument("--data", type=Path, required=True, help="folder of books/, math/, wiki/")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument("--count", type=int, default=200, help="windows of each cell")
    parser.add_argument("--seed", type=int, default=0, help="of windows and intervals")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    return parser


def held_out(
    refrag: str, domain: str, kind: str, changes: Sequence[str], options: argparse.Namespace
) -> ExpansionProblem:
    """Return windows of held-out documents with the model that reads them.

    Args:
        refrag: A checkpoint folder or an embedded name.
        domain: ``docs`` (its split ``test``), or a folder of DATA with ``validation.jsonl.gz``.
        kind: Kind of windows.
        changes: Further settings, such as ``windows.prompt_length=64``.
        options: As parsed.
    """
    overrides = [f"refrag.dtype={options.dtype}", *changes]
    if domain != "docs":
        overrides.append(f"corpus.path={options.data / domain / 'validation.jsonl.gz'}")
    return default_problem(
        corpus="docs" if domain == "docs" else "files",
        windows=kind,
        refrag=refrag,
        split="test" if domain == "docs" else "all",
        count=options.count,
        seed=options.seed,
        overrides=overrides,
    )


def windows_of(problem: ExpansionProblem) -> list[Window]:
    """Return all windows of a problem."""
    return [problem.window(index) for index in range(len(problem))]


def name_of(refrag: str) -> str:
    """Return a checkpoint's name: its folder's, or its run's where the folder is ``model``."""
    path = Path(refrag)
    return path.parent.name if path.name == "model" else path.name


def trained_positions(refrag: str) -> dict[str, int]:
    """Return the decoder positions of each stage, where a checkpoint lies in its run's folder."""
    stages = {stage: Checkpoint(Path(refrag).parent / stage) for stage in STAGES}
    return {
        stage: int(checkpoint.progress()["tokens"])
        for stage, checkpoint in stages.items()
        if checkpoint.exists()
    }


def part_of(window: Window, chunks: slice, output_ids: NDArray[np.int64] | None = None) -> Window:
    """Return a window with some of its chunks and, if given, another output."""
    return replace(
        window,
        key=f"{window.key}/{chunks.start}:{chunks.stop}/{output_ids is None}",
        context_ids=window.context_ids[chunks],
        chunk_mask=window.chunk_mask[chunks],
        chunk_texts=window.chunk_texts[chunks],
        passage=window.passage[chunks],
        passage_scores=window.passage_scores[chunks],
        planted=window.planted[chunks],
        output_ids=window.output_ids if output_ids is None else output_ids,
    )


def summarize(losses: Losses, windows: Sequence[Window], seed: int) -> dict[str, dict[str, Any]]:
    """Return mean, interval and paired differences to everything before it, by name."""
    documents = [window.document_id for window in windows]
    figures = {}
    for number, (name, values) in enumerate(losses.items()):
        own = bootstrap_mean(values, documents, seed=seed, resamples=RESAMPLES)
        differences = {}
        for other in list(losses)[:number]:
            difference = bootstrap_mean(
                values - losses[other], documents, seed=seed, resamples=RESAMPLES
            )
            differences[other] = [difference.mean, difference.low, difference.high]
        figures[name] = {
            "count": len(windows),
            "documents": len(set(documents)),
            "seed": seed,
            "log_perplexity": own.mean,
            "ci_low": own.low,
            "ci_high": own.high,
            "differences": differences,
        }
    return figures


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON; called after each cell, so that a stopped run leaves what it measured."""
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
