"""The parts of the pointer policy: a transformer layer, the features of neighbours, its value."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """One pre-norm transformer layer without dropout, its feed-forward part twice as wide.

    Written out because ``nn.TransformerEncoderLayer`` takes another code path in evaluation, whose
    results differ in the last digits: the ratio of the first pass would not be 1.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the layer's output, (B, N, w).

        Args:
            hidden: (B, N, w).
            mask: (B, N) bool, true for the tokens that may be attended to.
        """
        batch, length, width = hidden.shape
        projected = self.query_key_value(self.attention_norm(hidden))
        projected = projected.view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        hidden = hidden + self.attention_out(attended.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.mlp(hidden)


class NeighbourFeatures(nn.Module):
    """Two convolutions over neighbouring chunks: feature columns (B, L, c) -> (B, L, w)."""

    def __init__(self, columns: int, width: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(columns, width, kernel, padding="same")
        self.second = nn.Conv1d(width, width, kernel, padding="same")

    def forward(self, columns: Tensor, mask: Tensor) -> Tensor:
        """Return (B, L, w); padding chunks, per ``mask`` (B, L) bool, count as the border does."""
        hidden = nn.functional.gelu(self.first(columns.transpose(1, 2)))
        return self.second(hidden * mask.unsqueeze(1)).transpose(1, 2)


class PassageNeighbours(nn.Module):
    """A chunk's feature columns and those beside it in its passage: (B, L, c) -> (B, L, w).

    The columns of the chunk, of the ``BESIDE`` ones (zeros where there is none in the same passage)
    and which of them there are enter two linear layers. A passage's text goes on from chunk to
    chunk; the end of one passage and the start of the next have nothing to do with each other.
    """

    BESIDE = (-2, -1, 1)
    """Places of the neighbours, in chunks after the chunk itself."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(columns + len(self.BESIDE) * (columns + 1), width)
        self.second = nn.Linear(width, width)

    def forward(self, columns: Tensor, passage_start: Tensor, mask: Tensor) -> Tensor:
        """Return (B, L, w).

        Args:
            columns: (B, L, c), zeros in padding chunks.
            passage_start: (B, L), 1 for the first chunk of a passage, else 0.
            mask: (B, L) bool, true for chunks that hold text.
        """
        # Padding chunks and what lies outside the window are of no passage.
        passage = passage_start.long().cumsum(-1).masked_fill(~mask, -1)
        before, after = -min(self.BESIDE), max(self.BESIDE)
        all_passages = nn.functional.pad(passage, (before, after), value=-1)
        all_columns = nn.functional.pad(columns, (0, 0, before, after))
        inputs = [columns]
        for place in self.BESIDE:
            there = slice(before + place, before + place + passage.shape[-1])
            held = ((all_passages[:, there] == passage) & mask).to(columns.dtype).unsqueeze(-1)
            inputs += [all_columns[:, there] * held, held]
        return self.second(nn.functional.gelu(self.first(torch.cat(inputs, dim=-1))))


class ValueHead(nn.Module):
    """State value: what is in the context, what is expanded already, how many picks are left."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.per_chunk = nn.Sequential(nn.Linear(width + 3, width), nn.GELU())
        out = nn.Linear(width, 1)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.pooled = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), out)

    def forward(
        self, hidden: Tensor, logits: Tensor, mask: Tensor, expanded: Tensor, budget_left: Tensor
    ) -> Tensor:
        """Return values, (B,), in units of the reward.

        Args:
            hidden: (B, L, w) of the chunks.
            logits: (B, L) of the policy, finite, not differentiated through.
            mask: (B, L) bool, true for chunks that hold text.
            expanded: (B, L) bool.
            budget_left: (B,) picks left.
        """
        weight = mask.unsqueeze(-1).float()
        count = weight.sum(1).clamp(min=1)
        left = (budget_left.unsqueeze(-1) / count).unsqueeze(1).expand(-1, hidden.shape[1], -1)
        likely = logits.detach().masked_fill(~mask | expanded, -1e9).softmax(-1)
        state = [hidden, expanded.unsqueeze(-1).float(), likely.unsqueeze(-1), left]
        per_chunk = self.per_chunk(torch.cat(state, dim=-1)) * weight
        mean = per_chunk.sum(1) / count
        # The mean over the context dilutes single chunks; the sum of those expanded does not.
        of_expanded = (per_chunk * expanded.unsqueeze(-1)).sum(1) / 4
        return self.pooled(torch.cat([mean, of_expanded], dim=-1)).squeeze(-1)
