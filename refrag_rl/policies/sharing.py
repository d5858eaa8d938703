"""Which states of a batch stand in the same context, so that the context is encoded once.

REFRAG (arXiv 2509.01092, A.1) computes the logits once a context and reuses them at every pick. A
batch of single picks holds each context about ``T'`` times over; encoding it once is that saving.

A batch either says itself which context each of its rows stands in (``CONTEXT``: whoever made it
keeps each context once), or has a context in every row, and equal ones are found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

CONTEXT_KEYS = ("chunk_embeddings", "prompt_embedding", "features", "chunk_mask")
"""Keys of an observation that stay the same through an episode."""

CONTEXT = "context"
"""Key of a batch that keeps each context once: (B, 1), which of the ``U`` contexts a row stands in.
The arrays of ``CONTEXT_KEYS`` have ``U`` rows then, all others ``B``."""


class SharedContexts(NamedTuple):
    """What ``shared_contexts`` returns.

    Attributes:
        rows: (U,) for each context to be encoded, its row in the arrays of ``CONTEXT_KEYS``.
        context: (B,) the context of each row of the batch, an index into ``rows``.
    """

    rows: Tensor
    context: Tensor


def shared_contexts(observation: Mapping[str, Tensor], budget: Tensor) -> SharedContexts:
    """Find the rows of a batch that agree in everything but the state of their episode.

    Args:
        observation: A batched observation.
        budget: (B,) total picks; contexts of different budgets count as different.
    """
    if CONTEXT in observation:
        given = torch.stack([observation[CONTEXT].flatten().to(budget.dtype), budget], dim=-1)
        kinds, context = torch.unique(given, dim=0, return_inverse=True)
        return SharedContexts(kinds[:, 0].long(), context)
    batch = len(budget)
    # Rows are matched by a part of what they hold, much smaller than the embeddings, and then
    # compared in full; where the part was not enough, no row is shared.
    part = [
        observation["chunk_embeddings"][..., 0],
        observation["prompt_embedding"],
        observation["features"].flatten(1),
        observation["chunk_mask"],
        budget.unsqueeze(-1),
    ]
    key = torch.cat([column.float() for column in part], dim=-1)
    _, context = torch.unique(key, dim=0, return_inverse=True)
    rows = context.new_zeros(int(context.max()) + 1)
    rows[context] = torch.arange(batch, device=budget.device)
    same = all(
        torch.equal(observation[name], observation[name][rows][context]) for name in CONTEXT_KEYS
    )
    if same:
        return SharedContexts(rows, context)
    every = torch.arange(batch, device=budget.device)
    return SharedContexts(every, every)
