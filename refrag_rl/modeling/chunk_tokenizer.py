"""What the encoder reads for a chunk.

1. Chunks are cut by the decoder's tokens. With a shared tokenizer the encoder reads those very ids
   behind one start token.
2. With its own tokenizer the encoder reads the chunk's text, sliced from the original by character
   offsets. Decoding the ids and tokenizing the result would let boundaries drift: a character of
   several bytes may lie across two chunks, and neither half decodes to text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from refrag_rl.errors import UserError


class EncoderInputs(NamedTuple):
    """A batch for the encoder, padded on the right.

    Attributes:
        input_ids: (N, t) int64.
        attention_mask: (N, t) int64, 1 for tokens, at least one a row.
    """

    input_ids: Tensor
    attention_mask: Tensor


class Piece(NamedTuple):
    """Up to ``k`` consecutive tokens.

    Attributes:
        ids: (n,) int64, decoder token ids; what a shared tokenizer's encoder reads.
        text: Their text; what any other encoder reads.
    """

    ids: NDArray[np.int64]
    text: str


class ChunkTokenizer:
    """Makes encoder inputs of chunks.

    Args:
        decoder_tokenizer: Cuts the chunks; it must know character offsets (a fast tokenizer) where
            ``encoder_tokenizer`` is given.
        encoder_tokenizer: The encoder's own; ``None`` where both share the decoder's.
        start_token_id: Token before each chunk, where the tokenizer is shared.
        max_tokens: The encoder's limit: a chunk of more encoder tokens is cut at its end. ``None``:
            no limit.

    Attributes:
        is_shared: Whether the encoder reads the decoder's token ids.

    Raises:
        UserError: The encoder has a tokenizer of its own and the decoder's has no offsets.
    """

    def __init__(
        self,
        decoder_tokenizer: PreTrainedTokenizerBase,
        encoder_tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        start_token_id: int,
        max_tokens: int | None = None,
    ) -> None:
        if encoder_tokenizer is not None and not decoder_tokenizer.is_fast:
            raise UserError(
                f"{type(decoder_tokenizer).__name__} gives no character offsets: "
                "use a fast tokenizer for the decoder."
            )
        self.decoder_tokenizer = decoder_tokenizer
        self.encoder_tokenizer = encoder_tokenizer
        self.is_shared = encoder_tokenizer is None
        self._start_token_id = start_token_id
        self._max_tokens = max_tokens

    def encode(self, pieces: Sequence[Piece]) -> EncoderInputs:
        """Return the encoder's inputs for chunks or pieces of a prompt, one a row.

        Args:
            pieces: ``N`` of them.
        """
        rows = self._rows(pieces)
        width = max((len(row) for row in rows), default=0)
        input_ids = np.full((len(rows), width), self._padding_id, dtype=np.int64)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        attention_mask = np.arange(width) < lengths[:, None]
        if rows:
            input_ids[attention_mask] = np.concatenate(rows)
        return EncoderInputs(
            torch.from_numpy(input_ids), torch.from_numpy(attention_mask.astype(np.int64))
        )

    def cut_prompt(self, prompt_ids: NDArray[np.int64], text: str, chunk_size: int) -> list[Piece]:
        """Cut a prompt into pieces of ``chunk_size`` tokens, counted from its end.

        With a tokenizer of its own the encoder needs each piece's text, and a prompt has none but
        its own: it is cut at the tokens that this text has for the decoder.

        Args:
            prompt_ids: (q,) decoder token ids.
            text: The prompt's text.
            chunk_size: ``k``.

        Returns:
            The pieces in order, none where there is no prompt. Only the first may be shorter.
        """
        if len(prompt_ids) == 0:
            return []
        if self.is_shared:
            bounds = _bounds_from_end(len(prompt_ids), chunk_size)
            return [Piece(prompt_ids[i:j], "") for i, j in pairwise(bounds)]
        encoding = self.decoder_tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True
        )
        offsets = encoding["offset_mapping"]
        bounds = _bounds_from_end(len(offsets), chunk_size)
        cuts = [0, *(offsets[i][0] for i in bounds[1:-1]), len(text)]
        nothing = np.zeros(0, dtype=np.int64)
        return [Piece(nothing, text[i:j]) for i, j in pairwise(cuts)]

    @property
    def _padding_id(self) -> int:
        """Any id of the encoder's vocabulary: the attention mask hides it."""
        if self.encoder_tokenizer is None or self.encoder_tokenizer.pad_token_id is None:
            return 0
        return self.encoder_tokenizer.pad_token_id

    def _rows(self, pieces: Sequence[Piece]) -> list[NDArray[np.int64]]:
        """Return each piece's encoder tokens, at least one."""
        if self.encoder_tokenizer is None:
            start = np.array([self._start_token_id], dtype=np.int64)
            return [np.concatenate([start, piece.ids]) for piece in pieces]
        if not pieces:
            return []
        encoding = self.encoder_tokenizer(
            [piece.text for piece in pieces],
            truncation=self._max_tokens is not None,
            max_length=self._max_tokens,
        )
        # A text of no tokens (a lone fragment of a character, to a tokenizer that marks neither
        # start nor end) still is a chunk; the padding token stands for it.
        rows = [row or [self._padding_id] for row in encoding["input_ids"]]
        return [np.asarray(row, dtype=np.int64) for row in rows]


def _bounds_from_end(length: int, size: int) -> list[int]:
    """Return the cuts 0, ..., length into pieces of ``size``, of which the first may be shorter."""
    return [0, *range(length % size or size, length + 1, size)] if length > 0 else [0, 0]
