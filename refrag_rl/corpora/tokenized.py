"""A corpus as token ids, with the way back from tokens to the characters they were made from."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PIECE_CHARACTERS = 4000
_PIECES_AT_ONCE = 2048


class TokenizedDocument:
    """A document's text and its tokens.

    The text is tokenized in pieces of some thousand characters that end at a line's end, so that
    the characters of a few tokens can be found by tokenizing one piece again instead of keeping two
    offsets for each token of the corpus.

    Attributes:
        id: ``Document.id``.
        domain: ``Document.domain``.
        text: ``Document.text``.
        token_ids: (n,) int32.
    """

    def __init__(
        self,
        document: Document,
        pieces: Sequence[str],
        piece_ids: Sequence[Sequence[int]],
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.id = document.id
        self.domain = document.domain
        self.text = document.text
        self.token_ids: NDArray[np.int32] = np.fromiter(
            (token for ids in piece_ids for token in ids), dtype=np.int32
        )
        self._token_starts = [0, *np.cumsum([len(ids) for ids in piece_ids]).tolist()]
        self._character_starts = [0, *np.cumsum([len(piece) for piece in pieces]).tolist()]
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.token_ids)

    def text_of(self, start: int, stop: int) -> str:
        """Return the characters that tokens ``start`` to ``stop`` (exclusive) were made from.

        Consecutive ranges give consecutive texts: nothing is lost or repeated between them, also
        where one character is made of several tokens (it belongs to the first of them).
        """
        return self.text[self._first_character(start) : self._first_character(stop)]

    def _first_character(self, token: int) -> int:
        if token >= len(self):
            return len(self.text)
        piece = bisect.bisect_right(self._token_starts, token) - 1
        first = self._character_starts[piece]
        text = self.text[first : self._character_starts[piece + 1]]
        return first + _token_boundaries(self._tokenizer, text)[token - self._token_starts[piece]]


@lru_cache(maxsize=256)
def _token_boundaries(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[int, ...]:
    """Return for each token of a piece the first character that is not of an earlier token."""
    boundaries = []
    furthest = 0
    for start, stop in tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets:
        boundaries.append(max(start, furthest))
        furthest = max(furthest, stop)
    if boundaries:
        boundaries[0] = 0
    return tuple(boundaries)


class TokenizedCorpus(Sequence[TokenizedDocument]):
    """The tokenized documents of one split.

    Args:
        documents: In a fixed order; windows are drawn by position in it.
        tokenizer: The decoder's fast tokenizer; special tokens are not added.
    """

    def __init__(self, documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._documents = list(_tokenize(documents, tokenizer))

    @classmethod
    def _of(
        cls, documents: list[TokenizedDocument], tokenizer: PreTrainedTokenizerFast
    ) -> TokenizedCorpus:
        corpus = cls([], tokenizer)
        corpus._documents = documents
        return corpus

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._documents)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Return one document, or a list of them for a slice."""
        return self._documents[index]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in the order of their first documents."""
        return tuple(dict.fromkeys(document.domain for document in self._documents))

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(len(document) for document in self._documents)

    def of_domain(self, domain: str) -> TokenizedCorpus:
        """Return the corpus of one domain's documents."""
        return self.of_domains([domain])

    def of_domains(self, domains: Iterable[str]) -> TokenizedCorpus:
        """Return the corpus of some domains' documents."""
        names = set(domains)
        kept = [document for document in self._documents if document.domain in names]
        return self._of(kept, self.tokenizer)


def _tokenize(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast
) -> Iterator[TokenizedDocument]:
    backend = tokenizer.backend_tokenizer
    remaining = iter(documents)
    while batch := list(islice(remaining, 64)):
        pieces = [_pieces(document.text) for document in batch]
        flat = [piece for group in pieces for piece in group]
        ids: list[list[int]] = []
        for first in range(0, len(flat), _PIECES_AT_ONCE):
            encodings = backend.encode_batch_fast(
                flat[first : first + _PIECES_AT_ONCE], add_special_tokens=False
            )
            ids.extend(encoding.ids for encoding in encodings)
        encoded = iter(ids)
        for document, group in zip(batch, pieces, strict=True):
            yield TokenizedDocument(document, group, list(islice(encoded, len(group))), tokenizer)


def _pieces(text: str) -> list[str]:
    """Cut a text into pieces that end at a line's end where there is one."""
    pieces = []
    start = 0
    while start < len(text):
        stop = start + _PIECE_CHARACTERS
        if stop < len(text):
            line_end = text.rfind("\n", start + 1, stop)
            stop = line_end + 1 if line_end > 0 else stop
        pieces.append(text[start:stop])
        start = stop
    return pieces
