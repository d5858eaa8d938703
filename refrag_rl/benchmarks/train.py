"""``python -m refrag_rl.benchmark train``: how fast the agents train, and until a given level.

1. Each agent is trained as ``refrag_rl.train`` does it, from its own config, on the same windows,
   with a model and caches of its own, one agent after another.
2. Rewards per second: training rewards over training time. Encoding chunks and what the best
   heuristic scores beside (``reference_windows``) are in the time; evaluations are not.
3. Time to the target: training time at the first evaluation whose log-perplexity on validation
   windows is at or below it; evaluations come every ``eval_every`` rewards.
4. The time is split into the decoder's, the encoder's, and all that is outside of both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.agents.selector import Agent
from refrag_rl.allocator import keep_large_blocks
from refrag_rl.benchmarks.machine import describe_device
from refrag_rl.benchmarks.model_clock import ModelClock
from refrag_rl.benchmarks.report import Column, finish, write_rows
from refrag_rl.benchmarks.timing_monitor import Point, TimingMonitor
from refrag_rl.composition import build_agent
from refrag_rl.configs import compose_apart, overridden_key
from refrag_rl.errors import UserError
from refrag_rl.modeling.bfloat16 import number_format
from refrag_rl.reward import RewardModel
from refrag_rl.run_folder import choose_run_folder
from refrag_rl.training import prepare


class TrainRow(TypedDict):
    """One agent.

    Attributes:
        agent: Name of its config.
        rewards: Training rewards.
        rewards_per_second: Over the training time.
        training_seconds: Evaluations left out.
        compression_rate: Effective compression rate of the evaluations.
        target: Log-perplexity to reach, nats per token.
        seconds_to_target: Training time until then; ``None`` where it was not reached.
        rewards_to_target: Training rewards until then; ``None`` as above.
        log_perplexity: At the last evaluation; ``None`` where there was none.
        decoder_share: Of the training time, spent in the decoder.
        encoder_share: Of the training time, spent encoding chunks and prompts.
        dtype: Number format of the decoder's products.
        device: Where the model ran.
        curve: Of each evaluation training rewards, training seconds and log-perplexity.
    """

    agent: str
    rewards: int
    rewards_per_second: float
    training_seconds: float
    compression_rate: float
    target: float
    seconds_to_target: float | None
    rewards_to_target: int | None
    log_perplexity: float | None
    decoder_share: float
    encoder_share: float
    dtype: str
    device: str
    curve: list[Point]


_COLUMNS = (
    Column("agent", "agent", "{}"),
    Column("rewards", "rewards", "{}"),
    Column("rewards/s", "rewards_per_second", "{:.1f}"),
    Column("target", "target", "{:.4f}"),
    Column("reached s", "seconds_to_target", "{:.1f}"),
    Column("at the end", "log_perplexity", "{:.4f}"),
    Column("decoder", "decoder_share", "{:.1%}"),
    Column("encoder", "encoder_share", "{:.1%}"),
)


def run(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_train.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    if config.eval_every < 1:
        raise UserError(f"eval_every={config.eval_every}: give 1 or more")
    if not config.agents:
        raise UserError("agents=[]: give one or more, such as [ppo,grpo]")
    folder = choose_run_folder(config, "benchmark")
    # All of them before the first is trained: a mistake in the last one shows at once.
    settings = {name: _train_config(name, config) for name in dict.fromkeys(config.agents)}
    # As the command does.
    keep_large_blocks()
    console = Console(highlight=False)
    rows = []
    # Nothing but the measurements is kept.
    with tempfile.TemporaryDirectory() as scratch:
        for name, train_config in settings.items():
            train_config.output = str(Path(scratch) / name)
            with console.status(f"training {name}"):
                rows.append(_measure(name, train_config, config))
            write_rows(rows, folder, config, command="benchmark train")
    title = f"training at rate {config.rate:g}; {rows[0]['device']}, {rows[0]['dtype']}"
    note = (
        "target, at the end: log-perplexity on validation windows, nats per token; reached: "
        f"training time to the target, -: not reached; evaluated every {config.eval_every} "
        "rewards, not in the time; decoder, encoder: shares of the time."
    )
    finish(rows, _COLUMNS, folder, config, command="benchmark train", title=title, note=note)


_OWN_KEYS = ("agent", "agent.total_rewards", "evaluation.rates", "seed", "output", "resume")
"""Of ``refrag_rl.train``: what the command itself sets."""


def _train_config(name: str, config: DictConfig) -> DictConfig:
    """Return the config that ``refrag_rl.train`` would run with.

    Raises:
        UserError: An override or the agent is wrong, or the agent learns nothing.
    """
    for override in config.overrides:
        if overridden_key(str(override)) in _OWN_KEYS:
            raise UserError(f"overrides: {override} is for this command to set; leave it out")
    own = [f"agent={name}", f"evaluation.rates=[{config.rate}]", f"seed={config.seed}"]
    agent = build_agent(_compose([*own, *config.overrides]).agent)
    if not isinstance(agent, Agent):
        raise UserError(f"agents: {name} learns nothing; give agents that do, such as ppo or grpo")
    return _compose([*own, f"agent.total_rewards={config.total_rewards}", *config.overrides])


def _compose(overrides: Sequence[str]) -> DictConfig:
    folders = [
        f"file://{source.path}"
        for source in HydraConfig.get().runtime.config_sources
        if source.provider == "command-line"
    ]
    searchpath = f"hydra.searchpath=[{','.join(folders)}]"
    return compose_apart("train", [*overrides, *([searchpath] if folders else [])])


def _measure(name: str, train_config: DictConfig, config: DictConfig) -> TrainRow:
    """Train one agent."""
    learning = prepare(train_config).learning
    assert learning is not None
    reward_model = learning.env.problem.reward_model
    assert isinstance(reward_model, RewardModel)
    with ModelClock(reward_model) as clock:
        monitor = TimingMonitor(learning.comparator, config.rate, config.eval_every, clock)
        learning.agent.learn(learning.env, monitor)
        seconds, inside = monitor.seconds, monitor.model_seconds
    target = monitor.reference_level if config.target is None else config.target
    reached = monitor.first_at(target)
    device = reward_model.model.device
    return TrainRow(
        agent=name,
        rewards=monitor.rewards,
        rewards_per_second=monitor.rewards / seconds,
        training_seconds=seconds,
        compression_rate=config.rate,
        target=target,
        seconds_to_target=None if reached is None else reached.seconds,
        rewards_to_target=None if reached is None else reached.rewards,
        log_perplexity=monitor.curve[-1].log_perplexity if monitor.curve else None,
        decoder_share=inside.decoder / seconds,
        encoder_share=inside.encoder / seconds,
        dtype=number_format(train_config.refrag.dtype.value, device.type),
        device=describe_device(device),
        curve=monitor.curve,
    )
