"""Scoring many mixed sequences of different shapes: stacked without padding, read in batches."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.errors import UserError
from refrag_rl.modeling.mixing import PromptPosition
from refrag_rl.modeling.model import RefragForCausalLM
from refrag_rl.modeling.scoring import ScoringHead


@dataclass(frozen=True, slots=True, eq=False)
class MixedSequence:
    """One sequence whose output is scored.

    Attributes:
        context_ids: (L, k) int64; ``L`` may be 0.
        chunk_mask: (L,) bool, true for chunks that hold text.
        expanded: (L,) bool, true for chunks read as tokens; false in padding chunks.
        prompt_ids: (q,) int64, may be empty.
        output_ids: (o,) int64, the tokens to score.
        prompt_position: Where the prompt stands.
        chunk_embeddings: (L, d_enc) float32; ``None`` where no chunk is read compressed.
    """

    context_ids: NDArray[np.int64]
    chunk_mask: NDArray[np.bool_]
    expanded: NDArray[np.bool_]
    prompt_ids: NDArray[np.int64]
    output_ids: NDArray[np.int64]
    prompt_position: PromptPosition = "after"
    chunk_embeddings: NDArray[np.float32] | None = None

    @property
    def length(self) -> int:
        """Positions that the decoder reads, bos included."""
        compressed, tokens = (self.chunk_mask & ~self.expanded).sum(), self.expanded.sum()
        context = int(compressed) + int(tokens) * self.context_ids.shape[1]
        return 1 + context + len(self.prompt_ids) + len(self.output_ids)

    @property
    def shape(self) -> tuple[int, ...]:
        """Equal for sequences that can be stacked without padding."""
        return (self.length, *self.context_ids.shape, len(self.prompt_ids), len(self.output_ids))


class SequenceScorer:
    """Reads mixed sequences with a frozen model.

    Args:
        model: On the device where it is to run; put in evaluation mode.
        batch_tokens: Positions read at once, at most (a single longer sequence is read alone).
        use_bfloat16: Runs the decoder's body in bfloat16 by autocast, and its output layer where it
            is one matrix or more is done to its result (``ScoringHead.is_plain`` is false); the
            projector stays in the type of the weights, the log-softmax in float32.
        compile: Whether the decoder is read under ``torch.compile``, which takes a while at first.

    Attributes:
        seconds: Time spent in the decoder so far.
    """

    def __init__(
        self,
        model: RefragForCausalLM,
        batch_tokens: int,
        use_bfloat16: bool,
        compile: bool = False,
    ) -> None:
        self.model = model.eval()
        self.seconds = 0.0
        self._batch_tokens = batch_tokens
        self._use_bfloat16 = use_bfloat16
        self._compile = compile
        self._compiled_head: ScoringHead | None = None

    def log_likelihood(self, sequences: Sequence[MixedSequence]) -> list[NDArray[np.float32]]:
        """Return each sequence's output token log-likelihoods, (o,), nats, in the order given.

        Raises:
            UserError: A sequence is longer than the decoder can read.
        """
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, sequence in enumerate(sequences):
            alike[sequence.shape].append(index)
        scores: dict[int, NDArray[np.float32]] = {}
        for shape, indices in alike.items():
            self._require_readable(shape[0])
            size = max(1, self._batch_tokens // shape[0])
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                scores |= zip(batch, self._read([sequences[i] for i in batch]), strict=True)
        return [scores[index] for index in range(len(sequences))]

    def log_perplexity(self, sequences: Sequence[MixedSequence]) -> NDArray[np.float32]:
        """Return the log-perplexity of each sequence's output, (N,), nats per token.

        Raises:
            UserError: A sequence is longer than the decoder can read.
        """
        scores = self.log_likelihood(sequences)
        return -np.array([tokens.mean(dtype=np.float64) for tokens in scores], np.float32)

    @torch.inference_mode()
    def _read(self, batch: list[MixedSequence]) -> NDArray[np.float32]:
        """Return (n, o) log-likelihoods for ``n`` sequences of one shape."""
        started = time.perf_counter()
        nothing = np.zeros((len(batch[0].chunk_mask), self.model.embedding_size), np.float32)
        layout = self.model.lay_out(
            self._stack([sequence.context_ids for sequence in batch]),
            self._stack([sequence.chunk_mask for sequence in batch]),
            self._stack([sequence.expanded for sequence in batch]),
            self._stack([sequence.prompt_ids for sequence in batch]),
            self._stack([sequence.output_ids for sequence in batch]),
            prompt_position=[sequence.prompt_position for sequence in batch],
        )
        chunk_embeddings = self._stack(
            [
                nothing if sequence.chunk_embeddings is None else sequence.chunk_embeddings
                for sequence in batch
            ]
        )
        scored = layout.output_mask
        device_type = self.model.device.type
        head = self._head()
        # Few operations, and what is rounded here is off at every layer above.
        embeddings = self.model.embed(layout, chunk_embeddings)
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=self._use_bfloat16):
            states = head.states(embeddings, scored)
        scores = head.log_likelihood(
            states, layout.token_ids[scored], torch.bfloat16 if self._use_bfloat16 else None
        )
        result = scores.view(len(batch), -1).cpu().numpy()
        self.seconds += time.perf_counter() - started
        return result

    def _head(self) -> ScoringHead:
        if not self._compile:
            return self.model.head
        if self._compiled_head is None:
            self._compiled_head = self.model.head.compiled()
        return self._compiled_head

    def _stack(self, arrays: Sequence[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.model.device, non_blocking=True)

    def _require_readable(self, length: int) -> None:
        limit = self.model.max_decoder_positions
        if limit is not None and length > limit:
            raise UserError(
                f"A sequence of {length} tokens is longer than the {limit} that the decoder reads: "
                "give a shorter context, prompt or output, or a smaller budget."
            )
