"""How often the intervals and p-values of comparisons are right, where the truth is known.

    python experiments/selection/coverage.py [--samples 2000] [--seed 0]

1. Of one selector: a window's difference is its document's effect plus its own noise, both normal
   with variance 1 and mean 0, so the truth is 0. Documents have 20 windows each.
2. Of an agent with several training seeds: each seed's effect, of variance 1, is added to those of
   50 documents of one window, of variance 0.01 as their noise: the seeds differ most.

For each number of documents or seeds, the share of samples whose 95 % interval holds the truth, and
of those whose p-value is below 0.05.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from tables import table

from refrag_rl.evaluation.statistics import Interval, bootstrap_test
from refrag_rl.evaluation.training_seeds import interquartile_test

DOCUMENTS = (5, 6, 10, 20, 40, 80)
WINDOWS = 20
"""Of each document."""
SEEDS = (2, 3, 5, 10, 20)
OF_SEEDS = 50
"""Documents that each training seed is compared on."""
RESAMPLES = 1000
Outcome = tuple[Interval, float | None]


def of_documents(documents: int, seed: int, rng: np.random.Generator) -> Outcome:
    """Return interval and p-value of one sample of documents."""
    names = [str(document) for document in range(documents) for _ in range(WINDOWS)]
    effects = rng.normal(size=(documents, 1)) + rng.normal(size=(documents, WINDOWS))
    return bootstrap_test(effects.ravel(), names, seed=seed, resamples=RESAMPLES)


def of_seeds(seeds: int, seed: int, rng: np.random.Generator) -> Outcome:
    """Return interval and p-value of one sample of training seeds."""
    names = [str(document) for document in range(OF_SEEDS)]
    small = 0.1 * (rng.normal(size=(1, OF_SEEDS)) + rng.normal(size=(seeds, OF_SEEDS)))
    return interquartile_test(
        rng.normal(size=(seeds, 1)) + small, names, seed=seed, resamples=RESAMPLES
    )


def shares(
    draw: Callable[[int, int, np.random.Generator], Outcome], size: int, samples: int, seed: int
) -> list[str]:
    """Return a row: the size, the share of intervals that hold 0 and of p-values below 0.05."""
    rng = np.random.default_rng(seed)
    drawn = [draw(size, sample, rng) for sample in range(samples)]
    held = np.mean([interval.low <= 0 <= interval.high for interval, _ in drawn])
    rejected = np.mean([p_value < 0.05 for _, p_value in drawn])
    return [str(size), f"{held:.3f}", f"{rejected:.3f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, sizes, draw in (
        ("documents", DOCUMENTS, of_documents),
        ("training seeds", SEEDS, of_seeds),
    ):
        rows = [shares(draw, size, options.samples, options.seed) for size in sizes]
        print(table([name, "interval holds 0", "p below 0.05"], rows), end="\n\n")


if __name__ == "__main__":
    main()
