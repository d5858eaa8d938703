"""``python -m refrag_rl.benchmark [rewards|pretrain]``: speed, against what one would do instead.

``rewards`` measures the reward model, ``pretrain`` the training step. Everything that is compared
is measured in turns in one process; ``benchmark.json`` holds the rows of the table that is printed.
"""

from __future__ import annotations

from omegaconf import DictConfig

from refrag_rl.commands import run_one_of


def rewards(config: DictConfig) -> None:
    """Measure rewards per second, print them, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_rewards.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.benchmarks.rewards import run

    run(config)


def pretrain(config: DictConfig) -> None:
    """Measure training steps, print the result, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_pretrain.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    from refrag_rl.benchmarks.pretrain import run

    run(config)


def main() -> None:
    """Run the measurement that the command line names."""
    run_one_of({"rewards": rewards, "pretrain": pretrain}, "benchmark", default="rewards")


if __name__ == "__main__":
    main()
