"""Losses on held-out windows in the course of pre-training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.pretraining.batch import Batch, choose_chunks, reconstruction, stack
from refrag_rl.printable import printable

_ROWS = 8
_RANDOM_FRACTION = 0.2
_CONTEXT, _PASSAGE = 512, 64
"""Tokens, where the chunk size divides them; else those next to them that it divides."""


class _Kind(NamedTuple):
    """A kind of windows.

    Attributes:
        make: Its class.
        prompt: ``q``, tokens.
        output: ``o``, tokens.
        has_passages: The context is passages, not what stands before the prompt.
    """

    make: Callable[..., WindowSource]
    prompt: int
    output: int
    has_passages: bool


_KINDS = {
    "contiguous": _Kind(ContiguousWindows, 0, 128, False),
    "recall": _Kind(RecallWindows, 16, 32, True),
    "retrieved": _Kind(RetrievedWindows, 32, 128, True),
}


class Validation:
    """Fixed held-out windows, read in several ways.

    The names of the figures are ``<kind>-<domain>/<reading>``, the reading being ``no_context``,
    ``full`` (all tokens) and, with chunk embeddings, ``compressed`` and ``random`` (a fifth of the
    chunks as tokens). ``reconstruction-1`` and ``-8`` are one and eight chunks reproduced.

    Contexts have about 512 tokens in passages of about 64, both in whole chunks, and fewer where
    the decoder cannot read as many. What cannot be cut from the documents is left out.

    Args:
        corpus: Held-out documents.
        chunk_size: ``k``.
        count: Windows of each kind and domain.
        max_positions: That the decoder reads at once; ``None``: any number.
        with_texts: The encoder has a tokenizer of its own and reads the chunks' texts.

    Attributes:
        context_length: ``s``, tokens; 0 where the decoder can read no context.
        left_out: Names of figures that there are none of, each with the reason.
    """

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        count: int,
        max_positions: int | None = None,
        with_texts: bool = False,
    ) -> None:
        self._batches: dict[str, list[Batch]] = {}
        self._fixed: dict[str, Any] = {
            "chunk_size": chunk_size,
            "count": count,
            "with_texts": with_texts,
            "seed": 1,
        }
        self.left_out: list[str] = []
        passage, passages = _passages(chunk_size, max_positions)
        self.context_length = passage * passages
        unreadable = f"the decoder reads {max_positions} positions"
        if not passages:
            self.left_out.append(f"contexts ({unreadable})")
        for domain in corpus.domains if passages else ():
            self._add_contexts(domain, corpus.of_domain(domain), passage)
        for chunks in (1, 8):
            if max_positions is None or 1 + chunks * (1 + chunk_size) <= max_positions:
                self._add_reconstruction(chunks, corpus)
            else:
                self.left_out.append(f"reconstruction-{chunks} ({unreadable})")

    def _add_contexts(self, domain: str, corpus: TokenizedCorpus, passage: int) -> None:
        """Cut the windows of a domain that have a context, of passages of so many tokens."""
        for name, kind in _KINDS.items():
            if name == "retrieved" and domain != "docs":
                continue
            text = kind.prompt + kind.output
            needed = max(passage, text) if kind.has_passages else self.context_length + text
            if not self._has_document(f"{name}-{domain}", corpus, needed):
                continue
            source = kind.make(
                corpus,
                context_length=self.context_length,
                prompt_length=kind.prompt,
                output_length=kind.output,
                **({"passage_length": passage} if kind.has_passages else {}),
                **self._fixed,
            )
            self._add(f"{name}-{domain}", source)

    def _add_reconstruction(self, chunks: int, corpus: TokenizedCorpus) -> None:
        """Cut windows of so many chunks that are to be reproduced."""
        name, tokens = f"reconstruction-{chunks}", chunks * self._fixed["chunk_size"]
        if self._has_document(name, corpus, tokens + 1):
            source = ContiguousWindows(
                corpus, context_length=tokens, output_length=1, **self._fixed
            )
            windows = [source[index] for index in range(len(source))]
            self._batches[name] = [
                reconstruction(windows[first : first + _ROWS])
                for first in range(0, len(windows), _ROWS)
            ]

    def _has_document(self, name: str, corpus: TokenizedCorpus, needed: int) -> bool:
        """Return whether a document has the tokens that a window needs; else note the name."""
        longest = int(corpus.lengths.max(initial=0))
        if longest < needed:
            self.left_out.append(
                f"{printable(name)} (a window needs a document of {needed} tokens, the longest has "
                f"{longest})"
            )
        return longest >= needed

    def _add(self, name: str, source: WindowSource) -> None:
        windows = [source[index] for index in range(len(source))]
        rng = np.random.default_rng(0)
        shape = (len(windows), source.num_chunks)
        count = round(_RANDOM_FRACTION * source.num_chunks)
        readings = {
            "full": np.ones(shape, np.bool_),
            "compressed": np.zeros(shape, np.bool_),
            "random": np.stack([choose_chunks(source.num_chunks, count, rng) for _ in windows]),
        }
        for reading, expanded in readings.items():
            self._batches[f"{name}/{reading}"] = [
                stack(windows[first : first + _ROWS], expanded[first : first + _ROWS])
                for first in range(0, len(windows), _ROWS)
            ]
        self._batches[f"{name}/no_context"] = [
            _without_context(windows[first : first + _ROWS])
            for first in range(0, len(windows), _ROWS)
        ]

    @torch.no_grad()
    def __call__(
        self, loss_of: Callable[[Batch], Tensor], *, with_chunks: bool = True
    ) -> Mapping[str, float]:
        """Return the mean loss of each reading on the output, nats per token.

        Args:
            loss_of: Loss of a batch, (), by its weights.
            with_chunks: Whether what holds chunk embeddings is read, too.
        """
        figures = {}
        for name, batches in self._batches.items():
            if not with_chunks and not batches[0].expanded.all():
                continue
            rows = [len(batch.output_ids) for batch in batches]
            losses = [loss_of(_output_only(batch)).item() for batch in batches]
            figures[name] = float(np.average(losses, weights=rows))
        return figures


def _passages(chunk_size: int, max_positions: int | None) -> tuple[int, int]:
    """Return the tokens of a passage and the number of passages in a context.

    Args:
        chunk_size: ``k``; a passage is whole chunks.
        max_positions: That the decoder reads, with prompt and output; ``None``: any number.
    """
    passage = -(-_PASSAGE // chunk_size) * chunk_size
    passages = max(1, round(_CONTEXT / passage))
    if max_positions is None:
        return passage, passages
    text = max(kind.prompt + kind.output for kind in _KINDS.values())
    return passage, min(passages, max(0, max_positions - 1 - text) // passage)


def _without_context(windows: list[Window]) -> Batch:
    batch = stack(windows, np.zeros((len(windows), windows[0].num_chunks), np.bool_))
    return replace(
        batch,
        context_ids=batch.context_ids[:, :0],
        chunk_mask=batch.chunk_mask[:, :0],
        expanded=batch.expanded[:, :0],
        chunk_texts=((),) * len(windows),
    )


def _output_only(batch: Batch) -> Batch:
    return replace(batch, context_weight=0.0, prompt_weight=0.0)
