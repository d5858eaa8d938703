"""What a frozen REFRAG gains from its context, read in several ways, with intervals.

    python experiments/recipe/context.py --data DATA --count 200 --output FILE REFRAG...

For each checkpoint (a folder or an embedded name), domain and kind of window, the log-perplexity of
the output: without context; from the last ``s / k`` context tokens; with a random share ``p`` of
the chunks expanded (``p_0``: nothing, ``p_1``: everything); on ``recall``, with the planted chunks
expanded and nothing else. With ``--base`` the base decoder reads all tokens, too. DATA holds
``books/``, ``math/`` and ``wiki/validation.jsonl.gz``; ``docs`` is its split ``test``.

``share_of_full_gain`` is the share of the gap between no context and full context, both read by the
checkpoint's own decoder, that a reading closes; null where the gap's interval reaches 0.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

import numpy as np
from measures import (
    Losses,
    held_out,
    measuring_parser,
    name_of,
    summarize,
    windows_of,
    write,
)
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.envs import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.evaluation.statistics import bootstrap_mean, bootstrap_ratio
from refrag_rl.reward import RewardModel

FRACTIONS = [Fraction(1, 15), Fraction(1, 5), Fraction(7, 15)]
"""``p`` between 0 and 1; at ``k = 16`` the effective compression rates 8, 4 and 2."""

CELLS = {
    "contiguous": ("contiguous", []),
    "contiguous, q = 64": ("contiguous", ["windows.prompt_length=64"]),
    "retrieved": ("retrieved", []),
    "recall": ("recall", []),
}
"""Name of a kind of window -> its config and what is changed in it."""


def main() -> None:
    """Measure and write."""
    parser = measuring_parser(__doc__)
    parser.add_argument("--base", help="checkpoint whose decoder is the base decoder")
    parser.add_argument("--kinds", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument(
        "--fractions", nargs="*", type=Fraction, default=FRACTIONS, help="p besides 0 and 1"
    )
    options = parser.parse_args()

    rows: list[dict[str, Any]] = []
    for domain in options.domains:
        for kind in options.kinds:
            base = _Base(domain, kind, options)
            for refrag in options.refrags:
                problem = _problem(refrag, domain, kind, options)
                losses = read(problem, options.fractions, options.seed) | base.read_as(problem)
                cell = {
                    "refrag": name_of(refrag),
                    "chunk_size": problem.chunk_size,
                    "num_chunks": problem.num_chunks,
                    "domain": domain,
                    "windows": kind,
                    "dtype": options.dtype,
                }
                rows += _rows(losses, windows_of(problem), cell, options.seed)
                figures = (f"{reading} {values.mean():.3f}" for reading, values in losses.items())
                print(cell["refrag"], domain, kind, *figures, sep="  ", flush=True)
                write(options.output, rows)


class _Base:
    """The base decoder on all tokens of one kind of windows, read once for all checkpoints."""

    def __init__(self, domain: str, kind: str, options: argparse.Namespace) -> None:
        self._losses: Losses = {}
        self._outputs: list[list[int]] = []
        if options.base:
            problem = _problem(options.base, domain, kind, options)
            everything = np.ones((len(problem), problem.num_chunks), dtype=bool)
            losses = problem.log_perplexity(np.arange(len(problem)), everything)
            self._losses = {"base_decoder": losses}
            self._outputs = _outputs(problem)

    def read_as(self, problem: ExpansionProblem) -> Losses:
        """Return its log-perplexities on the windows of a problem; nothing without a base.

        Raises:
            UserError: It reads other text.
        """
        if self._losses and self._outputs != _outputs(problem):
            raise UserError("--base cuts other windows: give a checkpoint of the same tokenizer")
        return self._losses


def _problem(refrag: str, domain: str, kind: str, options: argparse.Namespace) -> ExpansionProblem:
    windows, changes = CELLS[kind]
    return held_out(refrag, domain, windows, changes, options)


def _outputs(problem: ExpansionProblem) -> list[list[int]]:
    return [window.output_ids.tolist() for window in windows_of(problem)]


def read(problem: ExpansionProblem, fractions: list[Fraction], seed: int) -> Losses:
    """Return each reading's log-perplexities, (N,), nats per token."""
    model, windows = problem.reward_model, windows_of(problem)
    assert isinstance(model, RewardModel)
    num_chunks = problem.num_chunks
    losses: Losses = {
        "no_context": model.log_perplexity_of_last_tokens(windows, 0),
        "last_tokens": model.log_perplexity_of_last_tokens(windows, num_chunks),
    }
    # One order of the chunks for each window: a larger p expands a superset.
    orders = np.random.default_rng(seed).random((len(windows), num_chunks)).argsort(axis=1)
    ranks = orders.argsort(axis=1)
    for fraction in sorted({Fraction(0), *fractions, Fraction(1)}):
        losses[f"p_{fraction}"] = model.log_perplexity(
            windows, ranks < round(fraction * num_chunks)
        )
    planted = np.stack([window.planted for window in windows])
    if planted.any(axis=1).all():
        losses["planted"] = model.log_perplexity(windows, planted)
    return losses


def _rows(
    losses: Losses, windows: list[Window], cell: dict[str, Any], seed: int
) -> list[dict[str, Any]]:
    """Return a row for each reading."""
    figures = summarize(losses, windows, seed)
    rows = []
    for reading, values in losses.items():
        share = _share_of_full_gain(losses, values, windows, seed)
        rows.append({**cell, "reading": reading, **figures[reading], "share_of_full_gain": share})
    return rows


def _share_of_full_gain(
    losses: Losses, values: NDArray[np.float32], windows: list[Window], seed: int
) -> list[float | None] | None:
    documents = [window.document_id for window in windows]
    full_gain = losses["no_context"] - losses["p_1"]
    lowest = bootstrap_mean(full_gain, documents, seed=seed).low
    if lowest is None or lowest <= 0:
        return None
    share = bootstrap_ratio(losses["no_context"] - values, full_gain, documents, seed=seed)
    return None if share is None else [share.mean, share.low, share.high]


if __name__ == "__main__":
    main()
