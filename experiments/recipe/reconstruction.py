"""How well chunks are reproduced from their embeddings, with intervals.

    python experiments/recipe/reconstruction.py --data DATA --count 200 --output FILE REFRAG...

For each checkpoint and domain: the log-perplexity of ``x_{1:s}`` given the embeddings of its
``s / k`` chunks, all compressed, every token being predicted from the true ones before it (teacher
forcing), for contexts of 1, 2, 4, 8 and 32 chunks. The shorter contexts are the beginnings of the
longest ones, and all checkpoints of one chunk size and tokenizer read the same text, so that their
differences are paired. DATA and domains are those of ``context.py``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from measures import (
    Losses,
    held_out,
    measuring_parser,
    name_of,
    part_of,
    summarize,
    trained_positions,
    windows_of,
    write,
)

from refrag_rl.corpora.windows import Window
from refrag_rl.envs import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.modeling.checkpoint import find_folder
from refrag_rl.reward import RewardModel


def main() -> None:
    """Measure and write."""
    parser = measuring_parser(__doc__)
    parser.add_argument("--chunks", nargs="+", type=int, default=[1, 2, 4, 8, 32])
    options = parser.parse_args()
    sizes = {refrag: _chunk_size(refrag) for refrag in options.refrags}
    (chunk_size, *others) = sorted(set(sizes.values()))
    if others:
        raise UserError(f"chunk sizes {sizes}: measure each in a call of its own")
    longest = max(options.chunks)
    lengths = [f"windows.context_length={longest * chunk_size}", "windows.output_length=1"]

    rows: list[dict[str, Any]] = []
    for domain in options.domains:
        losses: dict[int, Losses] = {chunks: {} for chunks in options.chunks}
        for refrag in options.refrags:
            problem = held_out(refrag, domain, "contiguous", lengths, options)
            for chunks in options.chunks:
                losses[chunks][name_of(refrag)] = read(problem, chunks)
                mean = losses[chunks][name_of(refrag)].mean()
                print(name_of(refrag), domain, f"{chunks} chunks {mean:.3f}", flush=True)
        windows = windows_of(problem)
        for chunks, of_refrags in losses.items():
            figures = summarize(of_refrags, windows, options.seed)
            for refrag in options.refrags:
                cell = {
                    "refrag": name_of(refrag),
                    "chunk_size": chunk_size,
                    "domain": domain,
                    "chunks": chunks,
                    "tokens": chunks * chunk_size,
                    "dtype": options.dtype,
                    "trained_positions": trained_positions(refrag),
                }
                rows.append({**cell, **figures[name_of(refrag)]})
        write(options.output, rows)


def _chunk_size(refrag: str) -> int:
    config = find_folder("refrag", refrag) / "config.json"
    return int(json.loads(config.read_text(encoding="utf-8"))["chunk_size"])


def read(problem: ExpansionProblem, chunks: int) -> Any:
    """Return the log-perplexity of each window's first chunks, (N,), nats per token."""
    assert isinstance(problem.reward_model, RewardModel)
    windows = [_to_reconstruct(window, chunks) for window in windows_of(problem)]
    nothing = np.zeros((len(windows), chunks), dtype=bool)
    return problem.reward_model.log_perplexity(windows, nothing)


def _to_reconstruct(window: Window, chunks: int) -> Window:
    first = slice(0, chunks)
    return part_of(window, first, output_ids=window.context_ids[first].reshape(-1))


if __name__ == "__main__":
    main()
