"""How well the next paragraph is predicted from compressed contexts, with intervals (Table 12).

    python experiments/recipe/next_paragraph.py --data DATA --count 200 --output FILE REFRAG...

For each checkpoint and domain: the log-perplexity of the first 16, 128 and 512 tokens of the
output (P16, P128, P512) after the last chunk of the context and after all 32, compressed. The
outputs are the same for both. DATA and domains are those of ``context.py``.
"""

from __future__ import annotations

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

from refrag_rl.envs import ExpansionProblem
from refrag_rl.reward import RewardModel

CHUNKS = (1, 32)
OUTPUTS = (16, 128, 512)
"""Tokens."""


def main() -> None:
    """Measure and write."""
    options = measuring_parser(__doc__).parse_args()
    rows: list[dict[str, Any]] = []
    for domain in options.domains:
        losses: dict[tuple[int, int], Losses] = {(c, o): {} for c in CHUNKS for o in OUTPUTS}
        for refrag in options.refrags:
            lengths = ["windows.context_length=512", f"windows.output_length={max(OUTPUTS)}"]
            problem = held_out(refrag, domain, "contiguous", lengths, options)
            for chunks in CHUNKS:
                of_tokens = read(problem, chunks)
                for output in OUTPUTS:
                    mean = of_tokens[:, :output].mean(axis=1)
                    losses[chunks, output][name_of(refrag)] = mean
                print(name_of(refrag), domain, f"{chunks} chunks", f"{mean.mean():.3f}", flush=True)
        windows = windows_of(problem)
        for (chunks, output), of_refrags in losses.items():
            figures = summarize(of_refrags, windows, options.seed)
            for refrag in options.refrags:
                cell = {
                    "refrag": name_of(refrag),
                    "domain": domain,
                    "chunks": chunks,
                    "output": output,
                    "dtype": options.dtype,
                    "trained_positions": trained_positions(refrag),
                }
                rows.append({**cell, **figures[name_of(refrag)]})
        write(options.output, rows)


def read(problem: ExpansionProblem, chunks: int) -> Any:
    """Return each output token's negative log-likelihood after the last chunks, (N, o), nats."""
    assert isinstance(problem.reward_model, RewardModel)
    last = slice(problem.num_chunks - chunks, problem.num_chunks)
    windows = [part_of(window, last) for window in windows_of(problem)]
    nothing = np.zeros((len(windows), chunks), dtype=bool)
    return -np.stack(problem.reward_model.token_log_likelihood(windows, nothing))


if __name__ == "__main__":
    main()
