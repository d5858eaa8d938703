"""A byte-level BPE tokenizer for the embedded model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora.documents import Document

BOS, EOS, PAD, CLS = "<s>", "</s>", "<pad>", "<cls>"

_SLICE = 20_000


def train_tokenizer(
    documents: Iterable[Document], *, vocabulary_size: int, share: float, seed: int
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; any text can be encoded and comes back unchanged.

    Args:
        documents: Training documents.
        vocabulary_size: Tokens in all, special tokens included.
        share: Share of the text to train on, drawn in slices of 20,000 characters.
        seed: Seed of the draw.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _slices(documents, share, np.random.default_rng(seed)),
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[BOS, EOS, PAD, CLS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        cls_token=CLS,
        clean_up_tokenization_spaces=False,
    )


def _slices(documents: Iterable[Document], share: float, rng: np.random.Generator) -> Iterator[str]:
    for document in documents:
        for start in range(0, len(document.text), _SLICE):
            if rng.random() < share:
                yield document.text[start : start + _SLICE]
