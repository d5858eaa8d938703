"""Losses on held-out windows in the course of pre-training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.pretraining.batch import Batch, choose_chunks, reconstruction, stack

_ROWS = 8
_RANDOM_FRACTION = 0.2


class Validation:
    """Fixed held-out windows, read in several ways.

    The names of the figures are ``<kind>-<domain>/<reading>``, the reading being ``no_context``,
    ``full`` (all tokens) and, with chunk embeddings, ``compressed`` and ``random`` (a fifth of the
    chunks as tokens). ``reconstruction-1`` and ``-8`` are one and eight chunks reproduced.

    Args:
        corpus: Held-out documents.
        chunk_size: ``k``.
        count: Windows of each kind and domain.
        with_chunks: Read chunk embeddings, too.
        with_texts: The encoder has a tokenizer of its own and reads the chunks' texts.
    """

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        count: int,
        with_chunks: bool,
        with_texts: bool = False,
    ) -> None:
        self._batches: dict[str, list[Batch]] = {}
        fixed: dict[str, Any] = {
            "chunk_size": chunk_size,
            "count": count,
            "with_texts": with_texts,
            "seed": 1,
        }
        for domain in corpus.domains:
            part = corpus.of_domain(domain)
            sources: list[WindowSource] = [
                ContiguousWindows(part, **fixed),
                RecallWindows(part, **fixed),
            ]
            if domain == "docs":
                sources.append(RetrievedWindows(part, **fixed))
            for source in sources:
                self._add(f"{source.kind}-{domain}", source, with_chunks)
        if with_chunks:
            for chunks in (1, 8):
                source = ContiguousWindows(
                    corpus, context_length=chunks * chunk_size, output_length=1, **fixed
                )
                windows = [source[index] for index in range(count)]
                self._batches[f"reconstruction-{chunks}"] = [reconstruction(windows)]

    def _add(self, name: str, source: WindowSource, with_chunks: bool) -> None:
        windows = [source[index] for index in range(len(source))]
        rng = np.random.default_rng(0)
        shape = (len(windows), source.num_chunks)
        readings = {"full": np.ones(shape, np.bool_)}
        if with_chunks:
            count = round(_RANDOM_FRACTION * source.num_chunks)
            readings["compressed"] = np.zeros(shape, np.bool_)
            readings["random"] = np.stack(
                [choose_chunks(source.num_chunks, count, rng) for _ in windows]
            )
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
    def __call__(self, loss_of: Callable[[Batch], Tensor]) -> Mapping[str, float]:
        """Return the mean loss of each reading on the output, nats per token.

        Args:
            loss_of: Loss of a batch, (), by its weights.
        """
        figures = {}
        for name, batches in self._batches.items():
            rows = [len(batch.output_ids) for batch in batches]
            losses = [loss_of(_output_only(batch)).item() for batch in batches]
            figures[name] = float(np.average(losses, weights=rows))
        return figures


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
