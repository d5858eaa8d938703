"""``python -m refrag_rl.benchmark [rewards|env|train|latency|pretrain]``: speed.

``rewards`` measures the reward model, ``latency`` the time to the first token and after it,
``pretrain`` the training step, each against what one would do instead; ``env`` the views of the
environment, ``train`` the agents. What is compared is measured in one process; ``benchmark.json``
holds the rows of the table that is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from omegaconf import DictConfig

from refrag_rl.commands import run_one_of

MEASUREMENTS = ("rewards", "env", "train", "latency", "pretrain")
"""Modules of ``refrag_rl.benchmarks``; the config of each is ``conf/benchmark_<name>.yaml``."""


def measurement(name: str) -> Callable[[DictConfig], None]:
    """Return the task that measures, prints the rows and writes them.

    Args:
        name: One of ``MEASUREMENTS``.
    """

    def run(config: DictConfig) -> None:
        # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
        import_module(f"refrag_rl.benchmarks.{name}").run(config)

    return run


def main() -> None:
    """Run the measurement that the command line names."""
    tasks = {name: measurement(name) for name in MEASUREMENTS}
    run_one_of(tasks, "benchmark", default="rewards")


if __name__ == "__main__":
    main()
