"""``python -m refrag_rl.benchmark [rewards|env|train|latency|pretrain]``: speed.

``rewards`` measures the reward model, ``latency`` the time to the first token and after it,
``pretrain`` the training step, each against what one would do instead; ``env`` the views of the
environment, ``train`` the agents. What is compared is measured in one process; ``benchmark.json``
holds the rows of the table that is printed.
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


def env(config: DictConfig) -> None:
    """Measure steps per second of the environment's views, print them, and write the rows.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_env.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    from refrag_rl.benchmarks.env import run

    run(config)


def train(config: DictConfig) -> None:
    """Measure how fast agents train, print it, and write the rows.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_train.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    from refrag_rl.benchmarks.train import run

    run(config)


def latency(config: DictConfig) -> None:
    """Measure times to the first token and after it, print them, and write table and figure.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_latency.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    from refrag_rl.benchmarks.latency import run

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
    tasks = {
        "rewards": rewards,
        "env": env,
        "train": train,
        "latency": latency,
        "pretrain": pretrain,
    }
    run_one_of(tasks, "benchmark", default="rewards")


if __name__ == "__main__":
    main()
