"""What the environment asks of a frozen REFRAG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window


class RewardModel(Protocol):
    """A frozen REFRAG as the environment sees it. Deterministic, whatever the batch.

    Attributes:
        embedding_size: ``d``, size of a chunk embedding.
    """

    embedding_size: int

    def chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the encoder's output ``c_i``, (B, L, d); zeros in padding chunks."""
        ...

    def prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the embedding of each prompt, (B, d); zeros where there is no prompt."""
        ...

    def chunk_log_perplexity(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the log-perplexity of each chunk read alone, (B, L), nats per token."""
        ...

    def chunk_reconstruction_loss(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the log-perplexity of each chunk given its own embedding, (B, L), nats per token.

        Only asked for where the feature is; so are the next three for ``projector`` embeddings.
        """
        ...

    @property
    def projected_size(self) -> int:
        """Size of a projected chunk embedding."""
        ...

    def projected_chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the projected chunk embeddings, (B, L, d_dec); zeros in padding chunks."""
        ...

    def projected_prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the projected embedding of each prompt, (B, d_dec); zeros where there is none."""
        ...

    def log_perplexity(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the log-perplexity of the output given the mixed context, (B,), nats per token.

        Args:
            windows: B windows.
            expanded: (B, L) bool, the chunks left as tokens.
        """
        ...

    def token_log_likelihood(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Return the log-likelihood of each output token, ``B`` arrays of (o,), nats.

        Only the oracle asks for it; training does not. Arguments as ``log_perplexity``.
        """
        ...
