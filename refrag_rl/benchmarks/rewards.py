"""``python -m refrag_rl.benchmark rewards``: rewards per second, the plain ways and ours.

1. A reward is the log-perplexity of one selection of one window. Each window has a group of
   different random selections, as GRPO scores them.
2. One at a time: a Hugging Face forward pass with ``labels`` in float32 for each selection, its
   window's chunks encoded again.
3. In batches: the same for several selections at once, each batch's chunks encoded again.
4. Ours: ``RewardModel`` with empty caches. It encodes each window's chunks once and scores each
   selection once; both are in its time. With ``cached`` it has the chunk embeddings beforehand, as
   of windows that a training meets again; the selections it has not. As in ``refrag_rl.train``, the
   process keeps freed memory (``refrag_rl.allocator``); the plain ways run as the system's defaults
   have it.
5. With ``model`` the frozen model is a shape of random weights; windows, tokenizer and chunk size
   are those of ``refrag``, and the encoder reads the decoder's token ids.
6. The ways take turns in one process, and the medians count. The share of the machine's limit (MFU)
   counts the FLOPs of ours, encoding included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from refrag_rl.allocator import keep_large_blocks, return_large_blocks
from refrag_rl.benchmarks import plain_rewards
from refrag_rl.benchmarks.machine import MatrixProduct, count_flops, describe_device
from refrag_rl.benchmarks.report import Column, finish, write_rows
from refrag_rl.benchmarks.selections import random_groups
from refrag_rl.benchmarks.shapes import build_shape
from refrag_rl.benchmarks.turns import median_seconds
from refrag_rl.comparison import build_columns
from refrag_rl.composition import FrozenRefrag
from refrag_rl.corpora.windows import Window
from refrag_rl.errors import UserError
from refrag_rl.loading import load
from refrag_rl.modeling.bfloat16 import Format, computes_in_bfloat16, warn_of_imitated_bfloat16
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.reward import RewardModel
from refrag_rl.run_folder import choose_run_folder
from refrag_rl.schema import NumberFormat


class RewardsRow(TypedDict):
    """One rate and number format.

    Attributes:
        compression_rate: Effective compression rate of the selections.
        rewards_per_second: Of ours.
        ratio_to_one_at_a_time: Rewards per second of ours over those of the way one at a time.
        ratio_to_plain_batches: The same over the way in batches.
        mfu: Share of the machine's limit that ours reaches.
        dtype: Number format of ours; the plain ways run in float32.
        device: What all ran on.
        largest_difference: Of the log-perplexities of the three ways, nats per token.
    """

    compression_rate: float
    rewards_per_second: float
    ratio_to_one_at_a_time: float
    ratio_to_plain_batches: float
    mfu: float
    dtype: str
    device: str
    largest_difference: float


_COLUMNS = (
    Column("rate", "compression_rate", "{:.3g}"),
    Column("dtype", "dtype", "{}"),
    Column("rewards/s", "rewards_per_second", "{:.1f}"),
    Column("one at a time", "ratio_to_one_at_a_time", "{:.2f}x"),
    Column("batches", "ratio_to_plain_batches", "{:.2f}x"),
    Column("MFU", "mfu", "{:.2f}"),
    Column("difference", "largest_difference", "{:.1e}"),
)


def run(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_rewards.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    if config.dtypes is not None and not config.dtypes:
        raise UserError("dtypes=[]: give one or both of float32 and bfloat16, or null")
    folder = choose_run_folder(config, "benchmark")
    refrag, source = load(config)
    reward_model = refrag.reward_model if config.model is None else _with_shape(refrag, config)
    columns = build_columns(
        config.rates, [], chunk_size=source.chunk_size, num_chunks=source.num_chunks
    )
    windows = [source[index] for index in range(len(source))]
    masks = np.stack([window.chunk_mask for window in windows])
    dtypes = _choose_dtypes(config.dtypes, reward_model.model.device)
    rows: list[RewardsRow] = []
    for column in columns:
        budgets = column.chunks_of(masks.sum(axis=1))
        expanded = random_groups(masks, budgets, config.group_size, config.seed)
        rows += measure(
            reward_model,
            windows,
            expanded,
            compression_rate=column.compression_rate,
            dtypes=dtypes,
            plain_batch=config.plain_batch,
            cached=config.cached,
            repeats=config.repeats,
        )
        write_rows(rows, folder, config, command="benchmark rewards")
    title = f"{len(windows)} windows x {config.group_size} selections; {rows[0]['device']}"
    if config.model is not None:
        title = f"{config.model.name}; {title}"
    note = (
        "one at a time, batches: our rewards per second over those of Hugging Face forward passes "
        "in float32; MFU: share of the rate of a large matrix product in the same dtype; "
        "difference: the largest of the log-perplexities, nats per token."
    )
    finish(rows, _COLUMNS, folder, config, command="benchmark rewards", title=title, note=note)


def _with_shape(refrag: FrozenRefrag, config: DictConfig) -> RewardModel:
    """Return the reward model of a shape of random weights that reads the checkpoint's tokens.

    Raises:
        UserError: The shape cannot be made, or knows fewer tokens than the tokenizer has.
    """
    shape = OmegaConf.to_container(config.model, resolve=True)
    assert isinstance(shape, dict)
    model = build_shape(
        shape["decoder"],
        shape["encoder"],
        refrag.chunk_size,
        seed=config.seed,
        device=refrag.reward_model.model.device,
        dtype=torch.float32,
    )
    tokens = len(refrag.tokenizer)
    for name, part in (("decoder", model.decoder), ("encoder", model.encoder)):
        if part.config.vocab_size < tokens:
            raise UserError(
                f"model={config.model.name}: its {name} knows {part.config.vocab_size} tokens, the "
                f"tokenizer of refrag.path {tokens}; give model.{name}.vocab_size={tokens} or more"
            )
    return RewardModel(
        model,
        ChunkTokenizer(refrag.tokenizer, start_token_id=model.config.chunk_start_token_id),
        batch_tokens=config.refrag.batch_tokens,
        compile=config.refrag.compile,
    )


def _choose_dtypes(asked: Sequence[NumberFormat] | None, device: torch.device) -> list[Format]:
    """Return the number formats to measure: what is asked for, else all that the device has."""
    if asked is None:
        return ["float32", "bfloat16"] if computes_in_bfloat16(device.type) else ["float32"]
    if NumberFormat.bfloat16 in asked:
        warn_of_imitated_bfloat16("dtypes=[bfloat16]", "dtypes=[float32]", device.type)
    return [dtype.value for dtype in asked]


def measure(
    reward_model: RewardModel,
    windows: Sequence[Window],
    expanded: NDArray[np.bool_],
    *,
    compression_rate: float,
    dtypes: Sequence[Format],
    plain_batch: int,
    cached: bool = False,
    repeats: int,
    side: int | None = None,
) -> list[RewardsRow]:
    """Measure all ways at one rate.

    Args:
        reward_model: Gives model, device and size of batches.
        windows: N windows.
        expanded: (N, G, L) bool.
        compression_rate: Stands in the rows.
        dtypes: Number formats of ours.
        plain_batch: Selections of a pass of the plain way in batches.
        cached: Whether ours has the chunk embeddings beforehand.
        repeats: Measurements of each way.
        side: Of the matrices that MFU is measured against; ``None``: as the device needs.

    Returns:
        One row a number format.
    """
    group_size = expanded.shape[1]
    scored = [window for window in windows for _ in range(group_size)]
    selections = expanded.reshape(len(scored), -1)
    plain = reward_model.with_dtype("float32", compile=False)
    ours = {dtype: reward_model.with_dtype(dtype) for dtype in dtypes}
    device = plain.model.device
    products = {dtype: MatrixProduct(dtype, device, side) for dtype in dtypes}
    score = _score_cached if cached else _score_anew
    calls: dict[tuple[str, str], Any] = {
        ("one", ""): partial(_plain, plain_rewards.one_at_a_time, plain, scored, selections),
        ("batches", ""): partial(
            _plain, plain_rewards.in_batches, plain, scored, selections, plain_batch
        ),
    }
    for dtype in dtypes:
        calls["ours", dtype] = partial(score, ours[dtype], scored, selections)
        calls["product", dtype] = products[dtype]
    one, batches = calls["one", ""](), calls["batches", ""]()
    if cached:
        plain.chunk_embeddings(windows)  # the plain ways leave none in its cache
    flops = count_flops(partial(score, plain, scored, selections))
    seconds = median_seconds(calls, repeats, device)
    rows = []
    for dtype in dtypes:
        log_perplexity = calls["ours", dtype]()
        own = seconds["ours", dtype]
        limit = products[dtype].flops / seconds["product", dtype]
        rows.append(
            RewardsRow(
                compression_rate=compression_rate,
                rewards_per_second=len(scored) / own,
                ratio_to_one_at_a_time=seconds["one", ""] / own,
                ratio_to_plain_batches=seconds["batches", ""] / own,
                mfu=flops / own / limit,
                dtype=dtype,
                device=describe_device(device),
                largest_difference=float(
                    max(np.abs(log_perplexity - other).max() for other in (one, batches))
                ),
            )
        )
    return rows


def _plain(way: Callable[..., NDArray[np.float32]], *arguments: Any) -> NDArray[np.float32]:
    """Return the log-perplexities (B,), nats per token, of a plain way."""
    return_large_blocks()
    return way(*arguments)


def _score_anew(
    reward_model: RewardModel, windows: Sequence[Window], expanded: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the log-perplexities (B,), nats per token, computed with empty caches."""
    keep_large_blocks()
    reward_model.clear()
    return reward_model.log_perplexity(windows, expanded)


def _score_cached(
    reward_model: RewardModel, windows: Sequence[Window], expanded: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the log-perplexities (B,), nats per token; of the caches only embeddings are used."""
    keep_large_blocks()
    scores = reward_model.token_log_likelihood(windows, expanded)
    return np.array([-tokens.mean() for tokens in scores], np.float32)
