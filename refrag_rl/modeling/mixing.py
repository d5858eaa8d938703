"""Mixing: projected chunk embeddings and token embeddings in one sequence ("compress anywhere").

1. Every row reads ``[bos] context prompt output`` (``prompt_position="after"``) or
   ``[bos] prompt context output`` (``"before"``, the paper's RAG layout), order kept, positions
   contiguous from 0 (arXiv 2509.01092, section 2).
2. In the context, a chunk that is expanded stands as its ``k`` tokens; any other stands as one
   projected chunk embedding ``e_i^cnk``; padding chunks do not stand at all.
3. Rows differ in length, so they are padded on the right. A causal decoder never looks to its
   right, which is why padding changes no number of any other position.

A row is laid out in two moves without a loop: all slots that could be used are enumerated, and
those in use are moved together by a prefix sum. The embeddings are then one gather from one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import torch
from torch import Tensor

PromptPosition = Literal["after", "before"]


class Kind(IntEnum):
    """What stands at a position."""

    PADDING = 0
    BOS = 1
    PROMPT = 2
    CHUNK = 3
    """A compressed chunk: one projected chunk embedding."""
    EXPANDED = 4
    """A token of an expanded chunk."""
    OUTPUT = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """What each position of a batch of mixed sequences holds.

    Attributes:
        kind: (B, T) int8, a ``Kind`` per position; padding on the right only.
        token_ids: (B, T) int64, the token at each position; 0 where there is none (compressed
            chunks, padding).
        chunk_index: (B, T) int64, the chunk that a position belongs to (``CHUNK``, ``EXPANDED``);
            -1 elsewhere.
        lengths: (B,) int64, positions in use.
    """

    kind: Tensor
    token_ids: Tensor
    chunk_index: Tensor
    lengths: Tensor

    @property
    def attention_mask(self) -> Tensor:
        """(B, T) bool, true off the padding."""
        return self.kind != Kind.PADDING

    @property
    def output_mask(self) -> Tensor:
        """(B, T) bool, true at output tokens: those of the reward."""
        return self.kind == Kind.OUTPUT

    @property
    def token_mask(self) -> Tensor:
        """(B, T) bool, true at every token but bos: prompt, expanded chunks and output."""
        return (
            (self.kind == Kind.PROMPT) | (self.kind == Kind.EXPANDED) | (self.kind == Kind.OUTPUT)
        )

    @property
    def labels(self) -> Tensor:
        """(B, T) int64, the token at output positions and -100 elsewhere (not shifted)."""
        return torch.where(self.output_mask, self.token_ids, -100)


def lay_out(
    context_ids: Tensor,
    chunk_mask: Tensor,
    expanded: Tensor,
    prompt_ids: Tensor,
    output_ids: Tensor,
    *,
    bos_token_id: int,
    prompt_position: PromptPosition | Sequence[PromptPosition] = "after",
    prompt_mask: Tensor | None = None,
    output_mask: Tensor | None = None,
) -> Layout:
    """Lay out a batch of mixed sequences.

    Args:
        context_ids: (B, L, k) int64; ``L`` may be 0 (no context).
        chunk_mask: (B, L) bool, true for chunks that hold text.
        expanded: (B, L) bool, true for chunks that stand as tokens; ignored in padding chunks.
        prompt_ids: (B, q) int64; ``q`` may be 0.
        output_ids: (B, o) int64.
        bos_token_id: Token that each sequence starts with.
        prompt_position: Where the prompt stands, for all rows or one per row.
        prompt_mask: (B, q) bool, true for tokens in use; ``None``: all of them.
        output_mask: (B, o) bool, as ``prompt_mask``.

    Returns:
        The layout, ``T`` being the longest row's length.

    Raises:
        ValueError: A prompt position is none of "after" and "before".
    """
    batch, num_chunks, chunk_size = context_ids.shape
    device = context_ids.device
    prompt_mask = _mask_like(prompt_ids, prompt_mask)
    output_mask = _mask_like(output_ids, output_mask)
    before = _prompt_is_before(prompt_position, batch, device)

    # A compressed chunk takes the first of its k slots, an expanded one all of them.
    chunk_mask, expanded = chunk_mask.bool(), expanded.bool() & chunk_mask.bool()
    first_slot = torch.arange(chunk_size, device=device) == 0
    chunk_in_use = chunk_mask[..., None] & (expanded[..., None] | first_slot)
    chunk_kind = torch.where(expanded, int(Kind.EXPANDED), int(Kind.CHUNK))
    chunk_kind = chunk_kind[..., None].expand(-1, -1, chunk_size)
    chunk_tokens = torch.where(expanded[..., None], context_ids, 0)
    chunk_index = torch.arange(num_chunks, device=device)[None, :, None].expand_as(context_ids)

    bos = torch.full((batch, 1), bos_token_id, device=device, dtype=torch.int64)
    in_use = torch.cat(
        [
            torch.ones_like(bos, dtype=torch.bool),
            prompt_mask & before,
            chunk_in_use.flatten(1),
            prompt_mask & ~before,
            output_mask,
        ],
        dim=1,
    )
    slot_tokens = torch.cat([bos, prompt_ids, chunk_tokens.flatten(1), prompt_ids, output_ids], 1)
    slot_kind = torch.cat(
        [
            torch.full_like(bos, Kind.BOS),
            torch.full_like(prompt_ids, Kind.PROMPT),
            chunk_kind.flatten(1),
            torch.full_like(prompt_ids, Kind.PROMPT),
            torch.full_like(output_ids, Kind.OUTPUT),
        ],
        dim=1,
    )
    slot_chunk = torch.cat(
        [
            torch.full_like(bos, -1),
            torch.full_like(prompt_ids, -1),
            chunk_index.flatten(1),
            torch.full_like(prompt_ids, -1),
            torch.full_like(output_ids, -1),
        ],
        dim=1,
    )

    lengths = in_use.sum(1)
    width = int(lengths.max())
    # Unused slots all go to one column past the end, which is cut off.
    position = torch.where(in_use, in_use.cumsum(1) - 1, width)

    def move_together(slots: Tensor, empty: int) -> Tensor:
        target = slots.new_full((batch, width + 1), empty)
        return target.scatter_(1, position, slots)[:, :width]

    return Layout(
        kind=move_together(slot_kind, Kind.PADDING).to(torch.int8),
        token_ids=move_together(slot_tokens, 0),
        chunk_index=move_together(slot_chunk, -1),
        lengths=lengths,
    )


def mix(layout: Layout, chunk_embeddings: Tensor, token_embeddings: Tensor) -> Tensor:
    """Take each position's embedding from its source, in one gather.

    Args:
        layout: Of ``B`` rows and ``T`` positions.
        chunk_embeddings: (B, L, d) projected chunk embeddings ``e^cnk``.
        token_embeddings: (B, T, d) decoder embeddings of ``layout.token_ids``.

    Returns:
        (B, T, d) the decoder's ``inputs_embeds``, in the type of ``token_embeddings``.
    """
    width = token_embeddings.shape[1]
    table = torch.cat([token_embeddings, chunk_embeddings.to(token_embeddings.dtype)], dim=1)
    own = torch.arange(width, device=table.device)
    source = torch.where(layout.kind == Kind.CHUNK, width + layout.chunk_index, own)
    return table.gather(1, source[..., None].expand(-1, -1, table.shape[-1]))


def _mask_like(ids: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()


def _prompt_is_before(
    prompt_position: PromptPosition | Sequence[PromptPosition], batch: int, device: torch.device
) -> Tensor:
    """Return (B or 1, 1) bool, true where the prompt stands before the context."""
    positions = [prompt_position] if isinstance(prompt_position, str) else list(prompt_position)
    if len(positions) not in (1, batch) or not set(positions) <= set(get_args(PromptPosition)):
        raise ValueError(
            f"prompt_position is {prompt_position!r}: give 'after' or 'before', "
            f"once or for each of the {batch} rows."
        )
    return torch.tensor([[position == "before"] for position in positions], device=device)
