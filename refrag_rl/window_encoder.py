"""The frozen encoder's view of windows: embeddings of their chunks and of their prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer, Piece
from refrag_rl.modeling.model import RefragForCausalLM


class WindowEncoder:
    """Encodes windows; nothing is kept.

    Args:
        model: In evaluation mode, on the device where it is to run.
        chunk_tokenizer: Makes the encoder's inputs.
        batch_tokens: Positions that the encoder reads at once, at most.
    """

    def __init__(
        self, model: RefragForCausalLM, chunk_tokenizer: ChunkTokenizer, batch_tokens: int
    ) -> None:
        self._model = model
        self._chunk_tokenizer = chunk_tokenizer
        self._batch_tokens = batch_tokens

    def contexts(self, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        """Return each window's chunk embeddings, ``B`` arrays (L, d_enc), zeros in padding."""
        pieces = [
            Piece(window.context_ids[i], window.chunk_texts[i])
            for window in windows
            for i in np.flatnonzero(window.chunk_mask)
        ]
        masks = np.stack([window.chunk_mask for window in windows])
        return by_window(masks, self._encode(pieces))

    def prompts(self, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        """Return each prompt's embedding, ``B`` arrays (d_enc,), zeros where there is no prompt.

        A prompt is cut into pieces of ``k`` tokens from its end, which are encoded like chunks and
        averaged.
        """
        cut = self._chunk_tokenizer.cut_prompt
        size = self._model.config.chunk_size
        pieces = [cut(window.prompt_ids, window.prompt_text, size) for window in windows]
        embeddings = self._encode([piece for prompt in pieces for piece in prompt])
        ends = np.cumsum([len(prompt) for prompt in pieces])
        nothing = np.zeros(self._model.embedding_size, dtype=np.float32)
        return [
            embeddings[end - len(prompt) : end].mean(0) if prompt else nothing
            for prompt, end in zip(pieces, ends, strict=True)
        ]

    @torch.inference_mode()
    def project(
        self, embeddings: NDArray[np.float32], held: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return projected embeddings, (..., d_enc) to (..., d_dec), zeros where ``held`` is false.

        Args:
            embeddings: (..., d_enc).
            held: (...) bool, true where there is something.
        """
        projected = self._model.project(torch.from_numpy(embeddings).to(self._model.device))
        return np.where(held[..., None], projected.float().cpu().numpy(), np.float32(0))

    @torch.inference_mode()
    def _encode(self, pieces: list[Piece]) -> NDArray[np.float32]:
        """Return the encoder's embedding of each piece, (N, d_enc)."""
        if not pieces:
            return np.zeros((0, self._model.embedding_size), dtype=np.float32)
        inputs = self._chunk_tokenizer.encode(pieces)
        size = max(1, self._batch_tokens // inputs.input_ids.shape[1])
        device = self._model.device
        parts = [
            self._model.encode_chunks(ids.to(device), mask.to(device)).float().cpu()
            for ids, mask in zip(
                inputs.input_ids.split(size), inputs.attention_mask.split(size), strict=True
            )
        ]
        return torch.cat(parts).numpy()


def by_window(masks: NDArray[np.bool_], values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return what was found of the chunks that hold text window by window, zeros in padding.

    Args:
        masks: (B, L), true for chunks that hold text.
        values: (N, ...) of those chunks, of one window after another.

    Returns:
        ``B`` arrays (L, ...); copies, as a view would keep the whole batch alive for as long as one
        window is cached.
    """
    filled = np.zeros((*masks.shape, *values.shape[1:]), dtype=np.float32)
    filled[masks] = values
    return [row.copy() for row in filled]
