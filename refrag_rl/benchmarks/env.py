"""``python -m refrag_rl.benchmark env``: steps per second of the views, and where the time goes.

1. Random permitted actions are played through the single, the vector and the Stable-Baselines3
   view of one problem.
2. Each measurement begins with empty caches, so chunks are encoded and observations are made.
3. The time is split into the decoder's, the encoder's, and all that is outside of both:
   observations, features, rules, and the drawing of actions.
4. The views take turns in one process. Of the measurements of a view, the one of median rate is
   shown with its own shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from omegaconf import DictConfig

from refrag_rl.benchmarks.machine import describe_device, seconds_of
from refrag_rl.benchmarks.model_clock import ModelClock
from refrag_rl.benchmarks.random_play import VIEWS, Played
from refrag_rl.benchmarks.report import Column, finish
from refrag_rl.composition import build_problem
from refrag_rl.envs.options import RewardTiming
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.loading import load
from refrag_rl.modeling.bfloat16 import Format, number_format
from refrag_rl.reward import RewardModel
from refrag_rl.run_folder import choose_run_folder


class EnvRow(TypedDict):
    """One view.

    Attributes:
        view: ``single``, ``vector`` or ``sb3``.
        num_envs: Episodes side by side.
        steps_per_second: Chunks picked, of all episodes.
        episodes_per_second: Episodes ended, each with a reward.
        decoder_share: Of the time, spent in the decoder.
        encoder_share: Of the time, spent encoding chunks and prompts.
        outside_share: Of the time, spent in neither.
        dtype: Number format of the decoder's products.
        device: Where the model ran.
    """

    view: str
    num_envs: int
    steps_per_second: float
    episodes_per_second: float
    decoder_share: float
    encoder_share: float
    outside_share: float
    dtype: str
    device: str


_COLUMNS = (
    Column("view", "view", "{}"),
    Column("episodes", "num_envs", "{}"),
    Column("steps/s", "steps_per_second", "{:.1f}"),
    Column("episodes/s", "episodes_per_second", "{:.1f}"),
    Column("decoder", "decoder_share", "{:.1%}"),
    Column("encoder", "encoder_share", "{:.1%}"),
    Column("outside", "outside_share", "{:.1%}"),
)


def run(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_env.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    if not config.views:
        raise UserError(f"views=[]: give one or more of {', '.join(VIEWS)}")
    folder = choose_run_folder(config, "benchmark")
    refrag, windows = load(config)
    problem = build_problem(
        windows,
        refrag,
        budget=config.budget,
        reward=config.env.reward.value,
        reward_baseline=config.env.reward_baseline.value,
    )
    rows = measure(
        problem,
        refrag.reward_model,
        views=list(dict.fromkeys(view.value for view in config.views)),
        num_envs=config.env.num_envs,
        timing=config.env.reward_timing.value,
        episodes=config.episodes,
        repeats=config.repeats,
        seed=config.seed,
        dtype=number_format(config.refrag.dtype.value, refrag.reward_model.model.device.type),
    )
    title = (
        f"{config.episodes} episodes on {len(windows)} windows; {rows[0]['device']}, "
        f"{rows[0]['dtype']}"
    )
    note = (
        "random permitted actions, from empty caches; episodes: side by side; decoder, encoder, "
        "outside: shares of the time."
    )
    finish(rows, _COLUMNS, folder, config, command="benchmark env", title=title, note=note)


def measure(
    problem: ExpansionProblem,
    reward_model: RewardModel,
    *,
    views: Sequence[str],
    num_envs: int,
    timing: RewardTiming,
    episodes: int,
    repeats: int,
    seed: int,
    dtype: Format,
) -> list[EnvRow]:
    """Measure the views in turns.

    Args:
        problem: What is played.
        reward_model: Of the problem.
        views: Names in ``VIEWS``.
        num_envs: Episodes side by side; the single view plays one.
        timing: When the reward comes.
        episodes: Of each measurement, at least; all that end in the last step count.
        repeats: Measurements of each view.
        seed: Of the first measurement's episodes and actions; each later one has the next.
        dtype: Stands in the rows.

    Returns:
        One row a view.
    """
    measured: dict[str, list[EnvRow]] = {view: [] for view in views}
    for repeat in range(repeats):
        for view in views:
            measured[view].append(
                _measure_once(
                    problem,
                    reward_model,
                    view,
                    1 if view == "single" else num_envs,
                    timing,
                    episodes,
                    seed + repeat,
                    dtype,
                )
            )
    return [
        sorted(rows, key=lambda row: row["steps_per_second"])[len(rows) // 2]
        for rows in measured.values()
    ]


def _measure_once(
    problem: ExpansionProblem,
    reward_model: RewardModel,
    view: str,
    num_envs: int,
    timing: RewardTiming,
    episodes: int,
    seed: int,
    dtype: Format,
) -> EnvRow:
    problem.clear()
    reward_model.clear()
    device = reward_model.model.device
    played: list[Played] = []
    with ModelClock(reward_model) as clock:
        seconds = seconds_of(
            lambda: played.append(VIEWS[view](problem, num_envs, timing, episodes, seed)), device
        )
        inside = clock.read()
    return EnvRow(
        view=view,
        num_envs=num_envs,
        steps_per_second=played[0].steps / seconds,
        episodes_per_second=played[0].episodes / seconds,
        decoder_share=inside.decoder / seconds,
        encoder_share=inside.encoder / seconds,
        outside_share=1 - (inside.decoder + inside.encoder) / seconds,
        dtype=dtype,
        device=describe_device(device),
    )
