"""Raw chunk features -> the columns that a policy reads.

The transforms are fixed (nothing is fitted to data), so that a saved policy is its weights and its
config alone. What a value means against the other chunks of its window matters more than the value,
so most features give two columns: the value on a common scale, and the value within its window.
Padding chunks are zero in every column and change nothing in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from refrag_rl.observation import CHUNK_FEATURES

EPSILON = 1e-6
WAVE_PERIODS = (4, 8, 16, 32, 64, 128)
"""Periods of the sinusoidal position columns, in chunks."""


def _window_standardised(raw: Tensor, mask: Tensor) -> Tensor:
    """Return ``raw`` minus its mean over its window's chunks, over their spread, (B, L)."""
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    centred = (raw - (raw * mask).sum(-1, keepdim=True) / count) * mask
    spread = ((centred**2).sum(-1, keepdim=True) / count).sqrt()
    return centred / (spread + EPSILON)


def _over_window_maximum(raw: Tensor, mask: Tensor) -> Tensor:
    """Return non-negative ``raw`` over its window's largest value, 0 where all are 0, (B, L)."""
    return raw / ((raw * mask).amax(-1, keepdim=True) + EPSILON)


def _position(raw: Tensor, mask: Tensor) -> list[Tensor]:
    # Counted from the mask, not from `raw`: the raw value depends on how much padding a window has.
    index = torch.arange(mask.shape[-1], device=mask.device, dtype=mask.dtype).expand_as(mask)
    last = mask.sum(-1, keepdim=True) - 1
    line = 2 * index / last.clamp(min=1) - 1
    near_the_ends = [torch.exp(-index / 2), torch.exp(-(last - index).clamp(min=0) / 2)]
    angles = [2 * torch.pi * index / period for period in WAVE_PERIODS]
    return [line, *near_the_ends, *(wave(a) for a in angles for wave in (torch.sin, torch.cos))]


def _log_perplexity(raw: Tensor, mask: Tensor) -> list[Tensor]:
    # Language models read text alone at about 4 nats per token, give or take 2.
    return [(raw - 4) / 2, _window_standardised(raw, mask)]


def _similarity(raw: Tensor, mask: Tensor) -> list[Tensor]:
    # Encoders differ in the range that their cosines fill; within the window they are comparable.
    return [raw, _window_standardised(raw, mask)]


def _lexical(raw: Tensor, mask: Tensor) -> list[Tensor]:
    return [torch.log1p(raw.clamp(min=0)), _over_window_maximum(raw, mask)]


def _suffix_match(raw: Tensor, mask: Tensor) -> list[Tensor]:
    return [raw, _over_window_maximum(raw, mask)]


def _passage_rank(raw: Tensor, mask: Tensor) -> list[Tensor]:
    return [2 * raw - 1, (raw == 0).to(raw.dtype)]


def _passage_start(raw: Tensor, mask: Tensor) -> list[Tensor]:
    return [raw]


def _reconstruction_loss(raw: Tensor, mask: Tensor) -> list[Tensor]:
    # From 0 (everything kept) to about what the chunk has alone.
    return [(raw - 2) / 2, _window_standardised(raw, mask)]


TRANSFORMS: Mapping[str, tuple[Callable[[Tensor, Tensor], list[Tensor]], int]] = {
    "position": (_position, 3 + 2 * len(WAVE_PERIODS)),
    "log_perplexity": (_log_perplexity, 2),
    "similarity": (_similarity, 2),
    "lexical": (_lexical, 2),
    "suffix_match": (_suffix_match, 2),
    "passage_rank": (_passage_rank, 2),
    "passage_start": (_passage_start, 1),
    "reconstruction_loss": (_reconstruction_loss, 2),
}
"""Feature name -> its transform ``(raw (B, L), mask (B, L)) -> columns``, and how many columns."""


def count_columns(names: Sequence[str]) -> int:
    """Return how many columns ``feature_columns`` gives for these features."""
    return sum(TRANSFORMS[name][1] for name in names)


def feature_columns(features: Tensor, chunk_mask: Tensor, names: Sequence[str]) -> Tensor:
    """Return the policy's columns of the named features.

    Args:
        features: (B, L, f) raw values, one column for each of ``CHUNK_FEATURES``.
        chunk_mask: (B, L), true or 1 for chunks that hold text.
        names: Which features, in the order wanted; at least one.

    Returns:
        (B, L, c) float32, zeros in padding chunks.
    """
    mask = chunk_mask.to(torch.float32)
    columns: list[Tensor] = []
    for name in names:
        transform, _ = TRANSFORMS[name]
        columns += transform(features[..., CHUNK_FEATURES.index(name)].float() * mask, mask)
    return torch.stack(columns, dim=-1) * mask.unsqueeze(-1)
