"""Rewards as one would compute them with Hugging Face classes alone: the ways to compare with.

Both encode the chunks again for every call of the decoder, give it an attention mask, and let it
make the logits of every position in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from refrag_rl.corpora.windows import Window
from refrag_rl.modeling.mixing import Layout
from refrag_rl.reward import RewardModel


@torch.inference_mode()
def one_at_a_time(
    reward_model: RewardModel, windows: Sequence[Window], expanded: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return log-perplexities by one forward pass with ``labels`` for each selection.

    Args:
        reward_model: In float32; its model and its encoding of chunks are used.
        windows: ``B`` windows.
        expanded: (B, L) bool.

    Returns:
        (B,) float32, nats per token.
    """
    losses = []
    for window, row in zip(windows, expanded, strict=True):
        layout, inputs_embeds = _mixed(reward_model, [window], row[None])
        output = reward_model.model.decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=layout.attention_mask,
            labels=layout.labels,
            use_cache=False,
        )
        losses.append(output.loss.item())
    return np.array(losses, dtype=np.float32)


@torch.inference_mode()
def in_batches(
    reward_model: RewardModel,
    windows: Sequence[Window],
    expanded: NDArray[np.bool_],
    batch: int,
) -> NDArray[np.float32]:
    """Return log-perplexities by forward passes over several selections.

    Args:
        reward_model: As for ``one_at_a_time``.
        windows: ``B`` windows.
        expanded: (B, L) bool.
        batch: Selections of a pass.

    Returns:
        (B,) float32, nats per token.
    """
    parts = []
    for start in range(0, len(windows), batch):
        rows = slice(start, start + batch)
        layout, inputs_embeds = _mixed(reward_model, windows[rows], expanded[rows])
        output = reward_model.model.decoder(
            inputs_embeds=inputs_embeds, attention_mask=layout.attention_mask, use_cache=False
        )
        labels = layout.labels[:, 1:]
        losses = functional.cross_entropy(
            output.logits[:, :-1].float().transpose(1, 2), labels, reduction="none"
        )
        parts.append((losses.sum(1) / (labels >= 0).sum(1)).cpu().numpy())
    return np.concatenate(parts).astype(np.float32)


def _mixed(
    reward_model: RewardModel, windows: Sequence[Window], expanded: NDArray[np.bool_]
) -> tuple[Layout, torch.Tensor]:
    """Return the layout and the decoder's inputs (B, T, d) of mixed sequences."""
    model, device = reward_model.model, reward_model.model.device

    def stack(arrays: list[NDArray[np.generic]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays)).to(device)

    reward_model.clear()
    chunk_embeddings = torch.from_numpy(reward_model.chunk_embeddings(windows)).to(device)
    layout = model.lay_out(
        stack([window.context_ids for window in windows]),
        stack([window.chunk_mask for window in windows]),
        torch.from_numpy(expanded).to(device),
        stack([window.prompt_ids for window in windows]),
        stack([window.output_ids for window in windows]),
        prompt_position=[window.prompt_position for window in windows],
    )
    return layout, model.embed(layout, chunk_embeddings)
