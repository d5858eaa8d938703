"""The reward model: log-perplexity of the true next paragraph, given a selection of chunks.

1. The log-perplexity is the mean negative log-likelihood, nats per token, of the window's output
   tokens under the frozen decoder, given the mixed context (arXiv 2509.01092, appendix A.1).
2. It is of the true output, never of a continuation that the model writes.
3. It depends on the set of expanded chunks alone: not on their order, on batch companions or on
   padding. So each (window, set) is scored once, and each chunk encoded once a window.
4. Rows of equal length are scored together, so that nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.errors import UserError
from refrag_rl.lru_cache import Entries, LruCache
from refrag_rl.modeling.chunk_statistics import chunk_log_perplexity, reconstruction_loss
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.modeling.fingerprint import fingerprint
from refrag_rl.modeling.model import RefragForCausalLM
from refrag_rl.modeling.sequences import MixedSequence, SequenceScorer
from refrag_rl.window_encoder import WindowEncoder, by_window

BodyType = Literal["float32", "bfloat16"]
Selection = tuple[Window, NDArray[np.bool_]]
"""A window and its expanded chunks (L,), padding chunks false."""


class RewardModel:
    """Scores selections of chunks with a frozen REFRAG model.

    Its caches are right as long as the weights stay as they are; ``clear`` empties them.

    Args:
        model: On the device where it is to run; put in evaluation mode, never given a gradient.
        chunk_tokenizer: Makes the encoder's inputs.
        batch_tokens: Positions that the decoder or the encoder reads at once, at most (a single
            longer sequence is read alone).
        dtype: ``"bfloat16"`` runs the decoder in bfloat16, its body by autocast, and the
            log-softmax in float32; ``"float32"`` and ``None`` run it in the type of the weights.
        compile: Whether the decoder is read under ``torch.compile``: some 30 s at first and again
            for a batch of one sequence, then faster on CPUs with AMX.
        cache_windows: Windows whose chunk embeddings are kept.
        cache_sets: (window, set) pairs whose log-perplexity is kept.

    Attributes:
        model: As given.
        embedding_size: Size ``d_enc`` of a chunk embedding.
        sets_scored: (window, set) pairs read by the decoder so far.

    Raises:
        UserError: ``dtype`` is none of those above, or ``batch_tokens`` is below 1.
    """

    def __init__(
        self,
        model: RefragForCausalLM,
        chunk_tokenizer: ChunkTokenizer,
        *,
        batch_tokens: int = 16384,
        dtype: BodyType | None = None,
        compile: bool = False,
        cache_windows: int = 8192,
        cache_sets: int = 262144,
    ) -> None:
        if dtype not in (None, "float32", "bfloat16"):
            raise UserError(f"dtype is {dtype!r}: choose from float32, bfloat16.")
        if batch_tokens < 1:
            raise UserError(f"batch_tokens is {batch_tokens}: give 1 or more.")
        self.model = model.eval()
        self.embedding_size = model.embedding_size
        self.sets_scored = 0
        self._chunk_tokenizer = chunk_tokenizer
        self._batch_tokens = batch_tokens
        self._encoder = WindowEncoder(model, chunk_tokenizer, batch_tokens)
        self._compile = compile
        self._scorer = SequenceScorer(
            model, batch_tokens, use_bfloat16=dtype == "bfloat16", compile=compile
        )
        self._chunk_embeddings: LruCache[NDArray[np.float32]] = LruCache(cache_windows)
        self._prompt_embeddings: LruCache[NDArray[np.float32]] = LruCache(cache_windows)
        self._chunk_log_perplexity: LruCache[NDArray[np.float32]] = LruCache(cache_windows)
        self._reconstruction_loss: LruCache[NDArray[np.float32]] = LruCache(cache_windows)
        self._log_perplexity: LruCache[float] = LruCache(cache_sets)

    @property
    def fingerprint(self) -> str:
        """Names the weights; see ``refrag_rl.modeling.fingerprint``."""
        return fingerprint(self.model)

    @property
    def projected_size(self) -> int:
        """Size ``d_dec`` of a projected chunk embedding."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def seconds(self) -> float:
        """Time spent in the decoder so far, encoder and caches left out."""
        return self._scorer.seconds

    def with_dtype(self, dtype: BodyType | None, *, compile: bool | None = None) -> RewardModel:
        """Return a reward model with the same weights and settings, its own caches, and this dtype.

        Args:
            dtype: As for the class.
            compile: As for the class; ``None``: as here.

        Raises:
            UserError: As for the class.
        """
        return RewardModel(
            self.model,
            self._chunk_tokenizer,
            batch_tokens=self._batch_tokens,
            dtype=dtype,
            compile=self._compile if compile is None else compile,
            cache_windows=self._chunk_embeddings.capacity,
            cache_sets=self._log_perplexity.capacity,
        )

    def clear(self) -> None:
        """Empty all caches, as after a change of the weights."""
        self._chunk_embeddings.clear()
        self._prompt_embeddings.clear()
        self._chunk_log_perplexity.clear()
        self._reconstruction_loss.clear()
        self._log_perplexity.clear()

    def caches(self) -> dict[str, Entries]:
        """Return all caches by name; see ``ScoreCaches``."""
        return {
            "chunk_embeddings": (self._chunk_embeddings.entries, np.asarray),
            "prompt_embeddings": (self._prompt_embeddings.entries, np.asarray),
            "chunk_log_perplexity": (self._chunk_log_perplexity.entries, np.asarray),
            "reconstruction_loss": (self._reconstruction_loss.entries, np.asarray),
            "log_perplexity": (self._log_perplexity.entries, float),
        }

    def chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the encoder's chunk embeddings ``c_i``, (B, L, d_enc), zeros in padding chunks.

        Raises:
            UserError: The windows' chunk size is not the model's.
        """
        self._require_chunk_size(windows)
        keys = [window.key for window in windows]
        return np.stack(self._chunk_embeddings.collect(keys, windows, self._encoder.contexts))

    def prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the prompts' embeddings, (B, d_enc), zeros where there is no prompt.

        A prompt is cut into pieces of ``k`` tokens from its end, which are encoded like chunks and
        averaged.
        """
        keys = [window.key for window in windows]
        return np.stack(self._prompt_embeddings.collect(keys, windows, self._encoder.prompts))

    def chunk_log_perplexity(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return each chunk's own log-perplexity, (B, L), nats per token, zeros in padding chunks.

        The decoder reads the chunk alone behind bos, so that it can be computed beforehand, like
        the chunk embeddings.
        """
        keys = [window.key for window in windows]
        return np.stack(self._chunk_log_perplexity.collect(keys, windows, self._score_chunks))

    def chunk_reconstruction_loss(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return each chunk's log-perplexity given its own embedding, (B, L), nats per token.

        The decoder reads bos and the chunk's projected embedding, then its tokens. Zeros in padding
        chunks. It can be computed beforehand, like the chunk embeddings.
        """
        keys = [window.key for window in windows]
        return np.stack(self._reconstruction_loss.collect(keys, windows, self._reconstruct))

    def projected_chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the projected chunk embeddings ``e_i^cnk``, (B, L, d_dec), zeros in padding.

        Raises:
            UserError: The windows' chunk size is not the model's.
        """
        masks = np.stack([window.chunk_mask for window in windows])
        return self._encoder.project(self.chunk_embeddings(windows), masks)

    def projected_prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the projected prompt embeddings, (B, d_dec), zeros where there is none."""
        asked = np.array([window.prompt_ids.size > 0 for window in windows])
        return self._encoder.project(self.prompt_embeddings(windows), asked)

    def log_perplexity(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the log-perplexity of each window's output, (B,), nats per token.

        Args:
            windows: ``B`` windows; one may stand in several rows.
            expanded: (B, L) bool, the chunks read as tokens; ignored in padding chunks.

        Raises:
            UserError: The windows' chunk size is not the model's, a window has no output, or a
                sequence is longer than the decoder can read.
        """
        selections = self._selections(windows, expanded)
        keys = [(window.key, np.packbits(row).tobytes()) for window, row in selections]
        return np.array(
            self._log_perplexity.collect(keys, selections, self._score_selections), np.float32
        )

    def token_log_likelihood(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Return the log-likelihood of each output token, ``B`` arrays of (o,), nats; not cached.

        Arguments and errors as ``log_perplexity``.
        """
        selections = self._selections(windows, expanded)
        self.sets_scored += len(selections)
        return self._scorer.log_likelihood(self._sequences(selections))

    def log_perplexity_of_last_tokens(
        self, windows: Sequence[Window], tokens: int
    ) -> NDArray[np.float32]:
        """Return the output's log-perplexity, (B,), given the context's last tokens alone.

        The decoder reads them as plain tokens; no chunk embedding is in use, nothing is cached.

        Args:
            windows: ``B`` windows.
            tokens: How many; 0 means no context.

        Raises:
            UserError: A sequence is longer than the decoder can read.
        """
        # The last tokens are laid out as one expanded chunk of their own length.
        whole = np.ones(1, dtype=np.bool_)
        sequences = []
        for window in windows:
            context = window.context_tokens()
            last = context[max(0, len(context) - tokens) :]
            sequences.append(_sequence(window, last[None], whole, whole, None))
        return self._scorer.log_perplexity(sequences)

    def _selections(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> list[Selection]:
        self._require_chunk_size(windows)
        expanded = np.asarray(expanded, dtype=np.bool_)
        return [
            (window, row & window.chunk_mask) for window, row in zip(windows, expanded, strict=True)
        ]

    def _score_selections(self, selections: list[Selection]) -> list[float]:
        self.sets_scored += len(selections)
        return self._scorer.log_perplexity(self._sequences(selections)).tolist()

    def _sequences(self, selections: list[Selection]) -> list[MixedSequence]:
        """Return what the decoder reads for each selection."""
        # Each window once: a call may hold very many sets of it.
        mixed = {
            window.key: window for window, row in selections if (window.chunk_mask & ~row).any()
        }
        embeddings: dict[str, NDArray[np.float32]] = {}
        if mixed:
            of_window = self.chunk_embeddings(list(mixed.values()))
            embeddings = dict(zip(mixed, of_window, strict=True))
        return [
            _sequence(
                window, window.context_ids, window.chunk_mask, row, embeddings.get(window.key)
            )
            for window, row in selections
        ]

    def _score_chunks(self, windows: list[Window]) -> list[NDArray[np.float32]]:
        """Return each window's chunk log-perplexities, (L,)."""
        masks = np.stack([window.chunk_mask for window in windows])
        return by_window(masks, chunk_log_perplexity(self._scorer, _chunks(windows)))

    def _reconstruct(self, windows: list[Window]) -> list[NDArray[np.float32]]:
        """Return each window's reconstruction losses, (L,)."""
        masks = np.stack([window.chunk_mask for window in windows])
        embeddings = self.chunk_embeddings(windows)[masks]
        return by_window(masks, reconstruction_loss(self._scorer, _chunks(windows), embeddings))

    def _require_chunk_size(self, windows: Sequence[Window]) -> None:
        size = self.model.config.chunk_size
        for window in windows:
            if window.chunk_size != size:
                raise UserError(
                    f"The windows have chunks of {window.chunk_size} tokens, the model reads "
                    f"chunks of {size}: cut the windows with chunk_size={size}."
                )


def _sequence(
    window: Window,
    context_ids: NDArray[np.int64],
    chunk_mask: NDArray[np.bool_],
    expanded: NDArray[np.bool_],
    chunk_embeddings: NDArray[np.float32] | None,
) -> MixedSequence:
    """Return a window's prompt and output with some context, or raise where there is no output."""
    if not window.output_ids.size:
        raise UserError(f"window {window.key} has no output tokens: there is nothing to score")
    return MixedSequence(
        context_ids=context_ids,
        chunk_mask=chunk_mask,
        expanded=expanded,
        prompt_ids=window.prompt_ids,
        output_ids=window.output_ids,
        prompt_position=window.prompt_position,
        chunk_embeddings=chunk_embeddings,
    )


def _chunks(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Return the chunks that hold text, of one window after another, (N, k)."""
    return np.concatenate([window.context_ids[window.chunk_mask] for window in windows])
