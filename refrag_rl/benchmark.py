"""``python -m refrag_rl.benchmark``: rewards per second of the reward model.

1. The same random selections are scored by ``RewardModel`` in one batched call, and one at a time
   by the decoder's own Hugging Face forward with labels.
2. Both have the chunk embeddings beforehand. Both are run once unmeasured; then the best of
   ``repeats`` timings of each counts, measured in turns.
3. The ratio is of two measurements of one run on one machine; ``benchmark.json`` holds them and the
   largest difference between the two results, in nats per token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.commands import run_command
from refrag_rl.errors import UserError

if TYPE_CHECKING:
    from refrag_rl.corpora.windows import Window
    from refrag_rl.reward import RewardModel


def benchmark(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.comparison import build_columns
    from refrag_rl.composition import (
        build_refrag,
        build_windows,
        evaluation_split,
        load_documents,
    )
    from refrag_rl.run_folder import choose_run_folder, create_run_folder, shown

    if config.repeats < 1:
        raise UserError(f"repeats={config.repeats}: give 1 or more")
    folder = choose_run_folder(config, "benchmark")
    split = evaluation_split(config.corpus, learns=False)
    refrag = build_refrag(config.refrag)
    source = build_windows(
        config.windows,
        load_documents(config.corpus),
        split,
        refrag,
        count=config.selections,
        seed=config.seed,
        each_domain=False,
    )
    (column,) = build_columns(
        [config.rate], [], chunk_size=source.chunk_size, num_chunks=source.num_chunks
    )
    windows = [source[index] for index in range(len(source))]
    mask = np.stack([window.chunk_mask for window in windows])
    expanded = _random_selections(mask, column.chunks_of(mask.sum(axis=1)), config.seed)
    results = measure(refrag.reward_model, windows, expanded, config.repeats)
    create_run_folder(folder, config, command="benchmark")
    text = json.dumps(results, indent=1, allow_nan=False)
    (folder / "benchmark.json").write_text(text + "\n", encoding="utf-8")
    console = Console(highlight=False)
    for name, value in results.items():
        console.print(f"{name}: {value:.6g}")
    console.print(f"results: {shown(folder)}", soft_wrap=True, markup=False)


def measure(
    reward_model: RewardModel,
    windows: Sequence[Window],
    expanded: NDArray[np.bool_],
    repeats: int,
) -> dict[str, float]:
    """Time both ways of scoring.

    Args:
        reward_model: The batched way; its model is used by the other one.
        windows: B windows.
        expanded: (B, L) bool.
        repeats: Timings of each way.

    Returns:
        ``rewards_per_second``, ``rewards_per_second_one_at_a_time``, their ``ratio``, and
        ``largest_difference`` of the log-perplexities, nats per token.
    """
    embeddings = reward_model.chunk_embeddings(windows)

    def batched() -> NDArray[np.float32]:
        # Scores are cached, so they are forgotten, and the embeddings computed anew beforehand.
        reward_model.clear()
        reward_model.chunk_embeddings(windows)
        return reward_model.log_perplexity(windows, expanded)

    def one_at_a_time() -> NDArray[np.float32]:
        return _one_at_a_time(reward_model, windows, expanded, embeddings)

    difference = np.abs(batched() - one_at_a_time()).max()
    seconds: dict[str, list[float]] = {"batched": [], "single": []}
    for _ in range(repeats):
        before = reward_model.seconds
        batched()
        # Of the decoder only: encoding is no part of the other way's time, either.
        seconds["batched"].append(reward_model.seconds - before)
        seconds["single"].append(_seconds(one_at_a_time))
    batched_rate = len(windows) / min(seconds["batched"])
    single_rate = len(windows) / min(seconds["single"])
    return {
        "rewards_per_second": batched_rate,
        "rewards_per_second_one_at_a_time": single_rate,
        "ratio": batched_rate / single_rate,
        "largest_difference": float(difference),
    }


def _one_at_a_time(
    reward_model: RewardModel,
    windows: Sequence[Window],
    expanded: NDArray[np.bool_],
    embeddings: NDArray[np.float32],
) -> NDArray[np.float32]:
    import torch

    model = reward_model.model
    device = model.device
    log_perplexity = []
    with torch.inference_mode():
        for window, chunks, embedding in zip(windows, expanded, embeddings, strict=True):
            layout = model.lay_out(
                torch.from_numpy(window.context_ids)[None].to(device),
                torch.from_numpy(window.chunk_mask)[None].to(device),
                torch.from_numpy(chunks)[None].to(device),
                torch.from_numpy(window.prompt_ids)[None].to(device),
                torch.from_numpy(window.output_ids)[None].to(device),
                prompt_position=window.prompt_position,
            )
            inputs_embeds = model.embed(layout, torch.from_numpy(embedding)[None].to(device))
            output = model.decoder(inputs_embeds=inputs_embeds, labels=layout.labels)
            # item() waits for the device.
            log_perplexity.append(output.loss.item())
    return np.array(log_perplexity, dtype=np.float32)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _random_selections(
    chunk_mask: NDArray[np.bool_], budgets: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Return ``budgets`` (B,) random chunks of text in each row, (B, L) bool."""
    noise = np.where(chunk_mask, np.random.default_rng(seed).random(chunk_mask.shape), -1.0)
    ranks = np.argsort(np.argsort(-noise, axis=1), axis=1)
    return ranks < budgets[:, None]


if __name__ == "__main__":
    run_command(benchmark, "benchmark")
