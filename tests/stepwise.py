"""The paper's way of drawing a selection: pick by pick from the masked softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from refrag_rl.policies.plackett_luce import NO_PICK, count_picks


def sample_stepwise(logits: Tensor, budget: Tensor, generator: torch.Generator) -> Tensor:
    """Draw ordered selections as an episode does; see ``plackett_luce.sample``."""
    picks = count_picks(logits, budget)
    longest = int(picks.max()) if picks.numel() else 0
    order = torch.full((logits.shape[0], longest), NO_PICK)
    remaining = logits.clone()
    for step in range(longest):
        rows = (step < picks).nonzero().squeeze(-1)
        chosen = torch.multinomial(remaining[rows].softmax(-1), 1, generator=generator).squeeze(-1)
        order[rows, step] = chosen
        remaining[rows, chosen] = -torch.inf
    return order
