"""What an agent sees of a window: the names and shapes that all parts share.

Nothing here depends on the output tokens; that the output never leaks into an observation is a
test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from refrag_rl.errors import UserError

EmbeddingSource = Literal["encoder", "projector"]
"""Where chunk embeddings come from: the encoder's ``c_i`` or the projector's ``e_i^cnk``."""

CHUNK_FEATURES: tuple[str, ...] = (
    "position",
    "log_perplexity",
    "similarity",
    "lexical",
    "suffix_match",
    "passage_rank",
    "passage_start",
    "reconstruction_loss",
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
- ``reconstruction_loss``: log-perplexity of the chunk's tokens given its own projected chunk
  embedding and nothing else, nats per token: how much of the chunk its embedding has lost.

What they cost at inference: ``log_perplexity`` and ``reconstruction_loss`` depend on the chunk
alone and, like the chunk embeddings, can be computed once and stored with the passages, at a
decoder pass over its ``k`` tokens each; ``position``, ``passage_rank`` and ``passage_start`` come
with the retrieved passages; ``similarity``, ``lexical`` and ``suffix_match`` need the prompt and
are computed without the decoder (``similarity`` from the prompt's embedding).
"""

DEFAULT_FEATURES: tuple[str, ...] = CHUNK_FEATURES[:7]
"""What a policy reads unless it is told otherwise: all but ``reconstruction_loss``."""


@dataclass(frozen=True)
class Inputs:
    """What a selector reads of a window.

    Attributes:
        features: Of ``CHUNK_FEATURES``; others are not computed.
        chunk_embeddings: Which ones; ``None``: any, or none. Every observation has some.

    Raises:
        UserError: A name is none of those allowed.
    """

    features: tuple[str, ...] = DEFAULT_FEATURES
    chunk_embeddings: EmbeddingSource | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", check_features(self.features))
        sources = get_args(EmbeddingSource)
        if self.chunk_embeddings is not None and self.chunk_embeddings not in sources:
            raise UserError(
                f"chunk_embeddings={self.chunk_embeddings!r}: choose from {', '.join(sources)}"
            )


def check_features(names: Any) -> tuple[str, ...]:
    """Return names of features as a tuple.

    Raises:
        UserError: They are no list, a name is none of ``CHUNK_FEATURES``, or stands twice.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UserError(f"features={names!r}: give a list of names, such as [position]")
    names = tuple(names)
    unknown = [name for name in names if name not in CHUNK_FEATURES]
    if unknown:
        raise UserError(
            f"unknown chunk feature {unknown[0]!r}; choose from {', '.join(CHUNK_FEATURES)}"
        )
    if len(set(names)) < len(names):
        raise UserError(f"chunk features {list(names)}: each may stand once")
    return names


def inputs_of(selector: object) -> Inputs:
    """Return what a selector says that it reads, in its attribute ``inputs``; else the default."""
    inputs = getattr(selector, "inputs", None)
    return inputs if isinstance(inputs, Inputs) else Inputs()


class Observation(TypedDict):
    """One window as arrays, or a batch of them with a leading dimension ``B``.

    Attributes:
        chunk_embeddings: (L, d) float32, encoder output ``c_i`` or what the projector makes of it;
            zeros in padding chunks.
        prompt_embedding: (d,) float32, as the chunks', zeros where there is no prompt.
        features: (L, f) float32, columns as in ``CHUNK_FEATURES``; zeros in padding chunks. Columns
            that were not asked for are NaN where selectors are given them, so that nobody takes
            them for values, and zeros in the environment's observations.
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
        UserError: The observation was made without it.
        ValueError: The name is none of ``CHUNK_FEATURES``.
    """
    column = observation["features"][..., CHUNK_FEATURES.index(name)]
    require_computed(name, column)
    return column


def require_computed(name: str, column: NDArray[np.float32]) -> None:
    """Raise if a feature's column is one that was not asked for.

    Raises:
        UserError: It is.
    """
    if np.isnan(column).any():
        raise UserError(
            f"the observation was made without the feature {name}; ask for it: "
            f'observe(indices, budgets, Inputs(features=("{name}", ...)))'
        )
