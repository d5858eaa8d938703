"""Credit per chunk: which of a selection's chunks earned its reward.

1. Within a group of ``G`` selections of a window, the advantages are regressed on the inclusion of
   the chunks: ``A_i = sum_j x_ij beta_j``, both sides centred over the group, by ridge regression.
   Each pick then gets its own chunk's ``beta``, less the group's mean over its picks, in place of
   the advantage of the whole selection.
2. Ours, not from a paper. Nearest are linear difference rewards and Shapley-like attributions of a
   team's reward to its members.
3. Bias. The advantage of a whole selection gives the exact gradient in expectation; a chunk's own
   share does not, even for additive worth, because it leaves out that a pick takes a place and a
   chunk from the picks after it, and because ``beta`` is shrunk and estimated from the same
   rewards. What it buys is variance: with ``T'`` picks, ``T' - 1`` parts of a selection's reward
   are noise to the remaining one. For additive worth it points up the same hill: better chunks get
   more than worse ones, so the best set stays the optimum. Worth that chunks have only together is
   shared out between them. Over all groups of two of all selections of two of five chunks
   (``tests/unit/agents/test_credit.py``) the expected step has 0.38 to 0.39 of the exact gradient's
   length and a cosine of at least 0.999 with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refrag_rl.policies.plackett_luce import NO_PICK


def chunk_credit(advantages: Tensor, expanded: Tensor, ridge: float) -> Tensor:
    """Return each chunk's share of the advantages, ``beta``, (W, L).

    ``beta = X^T (X X^T + ridge I)^-1 A`` with ``X`` and ``A`` centred: ridge regression in its dual
    form, because groups are smaller than windows.

    Args:
        advantages: (W, G).
        expanded: (W, G, L) bool.
        ridge: Above 0, in selections: how many of them no effect at all would count for.
    """
    included = expanded.to(advantages.dtype)
    included = included - included.mean(dim=1, keepdim=True)
    centred = (advantages - advantages.mean(dim=1, keepdim=True)).unsqueeze(-1)
    gram = included @ included.transpose(1, 2)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(gram + ridge * identity, centred)
    return (included.transpose(1, 2) @ weights).squeeze(-1)


def pick_credit(credit: Tensor, order: Tensor) -> Tensor:
    """Return each pick's credit less the mean over its group's picks, 0 at ``NO_PICK``.

    Args:
        credit: (W, L), of ``chunk_credit``.
        order: (W, G, T) the chunks picked.

    Returns:
        (W, G, T), summing to 0 over each group.
    """
    picked = order != NO_PICK
    chunks = order.clamp(min=0).flatten(1)
    shares = credit.gather(1, chunks).view(order.shape) * picked
    count = picked.sum((1, 2), keepdim=True).clamp(min=1)
    return (shares - shares.sum((1, 2), keepdim=True) / count) * picked
