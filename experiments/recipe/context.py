"""What a frozen REFRAG gains from its context, read in several ways, with intervals.

    python experiments/recipe/context.py --data DATA --count 200 --output FILE REFRAG...

For each checkpoint (a folder or an embedded name), domain and kind of window, the log-perplexity of
the output: without context; from the last ``s / k`` context tokens; with a random share ``p`` of
the chunks expanded (``p_0``: nothing, ``p_1``: everything); on ``recall``, with the planted chunks
expanded and nothing else. With ``--base`` the base decoder reads all tokens, too. DATA holds
``books/``, ``math/`` and ``wiki/validation.jsonl.gz``; ``docs`` is its split ``test``.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.composition import default_problem
from refrag_rl.corpora.windows import Window
from refrag_rl.envs import ExpansionProblem
from refrag_rl.evaluation.statistics import bootstrap_mean

FRACTIONS = [Fraction(0), Fraction(1, 15), Fraction(1, 5), Fraction(7, 15), Fraction(1)]
"""``p``; at ``k = 16`` the effective compression rates 16, 8, 4, 2 and 1."""

CELLS = {
    "contiguous": ("windows=contiguous", []),
    "contiguous, q = 64": ("windows=contiguous", ["windows.prompt_length=64"]),
    "retrieved": ("windows=retrieved", []),
    "recall": ("windows=recall", []),
}
"""Name of a kind of window -> its config and what is changed in it."""

Losses = dict[str, NDArray[np.float32]]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("refrags", nargs="+", help="checkpoints")
    parser.add_argument("--base", help="checkpoint whose decoder is the base decoder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=["docs", "books", "math", "wiki"])
    parser.add_argument("--kinds", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--count", type=int, default=200, help="windows of each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for refrag in options.refrags:
        for domain in options.domains:
            for kind in options.kinds:
                problem = _problem(refrag, domain, kind, options)
                losses = read(problem, options.seed)
                if options.base:
                    base = _problem(options.base, domain, kind, options)
                    everything = np.ones((len(base), base.num_chunks), dtype=bool)
                    losses["base_decoder"] = base.log_perplexity(np.arange(len(base)), everything)
                cell = {"refrag": Path(refrag).name, "domain": domain, "windows": kind}
                rows += summarize(losses, _windows(problem), cell, options.seed)
                _print(rows, cell)
                # After each cell: a run that is stopped leaves what it measured.
                options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _problem(refrag: str, domain: str, kind: str, options: Any) -> ExpansionProblem:
    name, changes = CELLS[kind]
    overrides = [*changes]
    if domain != "docs":
        overrides.append(f"corpus.path={options.data / domain / 'validation.jsonl.gz'}")
    return default_problem(
        corpus="docs" if domain == "docs" else "files",
        windows=name.partition("=")[2],
        refrag=refrag,
        split="test" if domain == "docs" else "all",
        count=options.count,
        seed=options.seed,
        overrides=overrides,
    )


def _windows(problem: ExpansionProblem) -> list[Window]:
    return [problem.window(index) for index in range(len(problem))]


def read(problem: ExpansionProblem, seed: int) -> Losses:
    """Return each reading's log-perplexities, (N,), nats per token."""
    model, windows = problem.reward_model, _windows(problem)
    tokens = problem.num_chunks
    losses: Losses = {
        "no_context": model.log_perplexity_of_last_tokens(windows, 0),  # type: ignore[attr-defined]
        "last_tokens": model.log_perplexity_of_last_tokens(windows, tokens),  # type: ignore[attr-defined]
    }
    # One order of the chunks for each window: a larger p expands a superset.
    orders = np.random.default_rng(seed).random((len(windows), tokens)).argsort(axis=1)
    ranks = orders.argsort(axis=1)
    for fraction in FRACTIONS:
        expanded = ranks < round(fraction * tokens)
        losses[f"p_{fraction}"] = model.log_perplexity(windows, expanded)
    planted = np.stack([window.planted for window in windows])
    if planted.any(axis=1).all():
        losses["planted"] = model.log_perplexity(windows, planted)
    return losses


def summarize(
    losses: Losses, windows: list[Window], cell: dict[str, Any], seed: int
) -> list[dict[str, Any]]:
    """Return a row for each reading, with its paired differences to every reading before it."""
    documents = [window.document_id for window in windows]
    full_gain = float((losses["no_context"] - losses["p_1"]).mean())
    rows = []
    for number, (reading, values) in enumerate(losses.items()):
        own = bootstrap_mean(values, documents, seed=seed)
        differences = {}
        for other in list(losses)[:number]:
            interval = bootstrap_mean(values - losses[other], documents, seed=seed)
            differences[other] = [interval.mean, interval.low, interval.high]
        gain = float((losses["no_context"] - values).mean())
        rows.append(
            {
                **cell,
                "reading": reading,
                "count": len(windows),
                "documents": len(set(documents)),
                "seed": seed,
                "log_perplexity": own.mean,
                "ci_low": own.low,
                "ci_high": own.high,
                "share_of_full_gain": gain / full_gain,
                "differences": differences,
            }
        )
    return rows


def _print(rows: list[dict[str, Any]], cell: dict[str, Any]) -> None:
    chosen = [row for row in rows if cell.items() <= row.items()]
    figures = "  ".join(f"{row['reading']} {row['log_perplexity']:.3f}" for row in chosen)
    print(", ".join(cell.values()), figures, sep="  ", flush=True)


if __name__ == "__main__":
    main()
