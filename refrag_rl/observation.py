"""What an agent sees of a window: the names and shapes that all parts share.

Nothing here depends on the output tokens; that the output never leaks into an observation is a
test.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

CHUNK_FEATURES: tuple[str, ...] = (
    "position",
    "log_perplexity",
    "similarity",
    "lexical",
    "suffix_match",
    "passage_rank",
    "passage_start",
)
"""Columns of ``features``, raw values:

- ``position``: index of the chunk over ``L - 1``, 0 for the first and 1 for the last.
- ``log_perplexity``: of the chunk's tokens under the decoder, read alone, nats per token.
- ``similarity``: cosine of the chunk's embedding and the prompt's, or the last chunk's where
there is
  no prompt.
- ``lexical``: BM25 score of the chunk for the tokens of the prompt; 0 where there is no prompt.
- ``suffix_match``: the largest share of the prompt's last tokens (0 to 1) that stands in the
context,
  in one piece and in one passage, with its end in this chunk; 0 where there is no prompt.
- ``passage_rank``: rank of the chunk's passage by retrieval score, 0 the best, over the number of
  passages.
- ``passage_start``: 1 for the first chunk of a passage, else 0.
"""


class Observation(TypedDict):
    """One window as arrays, or a batch of them with a leading dimension ``B``.

    Attributes:
        chunk_embeddings: (L, d) float32, encoder output ``c_i``; zeros in padding chunks.
        prompt_embedding: (d,) float32, zeros where there is no prompt.
        features: (L, f) float32, columns as in ``CHUNK_FEATURES``; zeros in padding chunks.
        chunk_mask: (L,) int8, 1 for chunks that hold text.
        expanded: (L,) int8, 1 for chunks expanded so far.
        action_mask: (L,) int8, 1 for chunks that may be expanded: text, and not expanded yet.
        budget_left: (1,) float32, picks left, in chunks.
    """

    chunk_embeddings: NDArray[np.float32]
    prompt_embedding: NDArray[np.float32]
    features: NDArray[np.float32]
    chunk_mask: NDArray[np.int8]
    expanded: NDArray[np.int8]
    action_mask: NDArray[np.int8]
    budget_left: NDArray[np.float32]


def feature(observation: Observation, name: str) -> NDArray[np.float32]:
    """Return one column of ``features``, (..., L).

    Args:
        observation: One or a batch.
        name: One of ``CHUNK_FEATURES``.

    Raises:
        ValueError: The name is none of ``CHUNK_FEATURES``.
    """
    return observation["features"][..., CHUNK_FEATURES.index(name)]
