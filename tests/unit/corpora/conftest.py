"""A corpus of made-up words, with characters of several bytes and several tokens."""

import random

import pytest
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.pretraining.tokenizer import train_tokenizer

WORDS = [
    "der",
    "die",
    "naïve",
    "café",
    "東京",
    "🙂",
    "👩\u200d👧",
    "e\u0301",
    "x\ty",
    "alpha",
    "beta\n\n",
]


def make_documents(count: int = 12, words: int = 600) -> list[Document]:
    documents = []
    for number in range(count):
        rng = random.Random(number)
        names = [f"w{rng.randrange(400)}" for _ in range(words)]
        text = " ".join(rng.choice([rng.choice(WORDS), name]) for name in names)
        documents.append(Document(f"d{number}", ("left", "right")[number % 2], text))
    return documents


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(make_documents(), vocabulary_size=500, share=1.0, seed=0)


@pytest.fixture(scope="session")
def corpus(tokenizer: PreTrainedTokenizerFast) -> TokenizedCorpus:
    return TokenizedCorpus(make_documents(), tokenizer)
