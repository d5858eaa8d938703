"""A corpus as token ids, with the way back from tokens to the characters they were made from."""

from __future__ import annotations

import bisect
import copy
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from refrag_rl.corpora.collection import StoredDocuments
from refrag_rl.corpora.cutting import pieces_of, token_boundaries, token_ids
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.mapped import MappedTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DOCUMENTS_AT_ONCE = 64
_CHARACTERS_AT_ONCE = 2_000_000
_PIECES_AT_ONCE = 512

_Tokens = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Token ids of a document, (n,), and the number of tokens of each of its pieces, (pieces,)."""

_SCHEMA = pa.schema([("token_ids", pa.list_(pa.int32())), ("piece_tokens", pa.list_(pa.int32()))])


class TokenizedDocument:
    """A document's text and its tokens.

    The text is tokenized in pieces (``refrag_rl.corpora.cutting``), so that the characters of a few
    tokens can be found by tokenizing one piece again instead of keeping two offsets for each token
    of the corpus.

    Two are equal that are the same document of the same corpus.

    Args:
        documents: Of the corpus.
        number: Which of them.
        token_ids: (n,) int32.
        piece_tokens: (pieces,) int32, tokens of each piece.
        tokenizer: That they were made with.

    Attributes:
        token_ids: (n,) int32.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        number: int,
        token_ids: NDArray[np.int32],
        piece_tokens: NDArray[np.int32],
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.token_ids = token_ids
        self._documents = documents
        self._number = number
        self._piece_tokens = piece_tokens
        self._tokenizer = tokenizer

    @cached_property
    def _document(self) -> Document:
        return self._documents[self._number]

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """The first token and the first character of each piece, and the end of the last."""
        characters = [len(piece) for piece in pieces_of(self.text)]
        return (
            [0, *np.cumsum(self._piece_tokens).tolist()],
            [0, *np.cumsum(characters).tolist()],
        )

    @property
    def id(self) -> str:
        """``Document.id``."""
        return self._document.id

    @property
    def domain(self) -> str:
        """``Document.domain``."""
        return self._document.domain

    @property
    def text(self) -> str:
        """``Document.text``."""
        return self._document.text

    def __eq__(self, other: object) -> bool:
        """Return whether this is the same document of the same corpus."""
        return (
            isinstance(other, TokenizedDocument)
            and self._documents is other._documents
            and self._number == other._number
        )

    def __hash__(self) -> int:
        """Return a hash that equal ones share."""
        return hash((id(self._documents), self._number))

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
        token_starts, character_starts = self._starts
        piece = bisect.bisect_right(token_starts, token) - 1
        first = character_starts[piece]
        text = self.text[first : character_starts[piece + 1]]
        boundaries = token_boundaries(self._tokenizer, text, not piece)
        return first + boundaries[token - token_starts[piece]]


class TokenizedCorpus(Sequence[TokenizedDocument]):
    """The tokenized documents of one split.

    Tokens lie where the documents lie: in memory, or in a temporary file.

    Args:
        documents: In a fixed order; windows are drawn by position in it.
        tokenizer: The decoder's fast tokenizer; special tokens are not added.
    """

    def __init__(self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._documents = documents
        names: dict[str, int] = {}
        lengths, domains = array("q"), array("q")

        def tokens() -> Iterator[_Tokens]:
            for document, each in _tokenize(documents, tokenizer):
                lengths.append(len(each[0]))
                domains.append(names.setdefault(document.domain, len(names)))
                yield each

        self._tokens: Callable[[int], _Tokens]
        if isinstance(documents, StoredDocuments):
            table = MappedTable(_SCHEMA, tokens())
            self._tokens = partial(_stored_tokens, table)
        else:
            self._tokens = list(tokens()).__getitem__
        self._lengths = np.array(lengths, np.int64)
        self._domains = np.array(domains, np.int64)
        self._domain_names = tuple(names)
        self._rows = np.arange(len(lengths))

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._rows)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Return one document, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self._document(int(row)) for row in self._rows[index]]
        return self._document(int(self._rows[index]))

    def _document(self, row: int) -> TokenizedDocument:
        return TokenizedDocument(self._documents, row, *self._tokens(row), self.tokenizer)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each document, (n,)."""
        return self._lengths[self._rows]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in the order of their first documents."""
        found, first = np.unique(self._domains[self._rows], return_index=True)
        return tuple(self._domain_names[number] for number in found[np.argsort(first)])

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths.sum())

    def of_domain(self, domain: str) -> TokenizedCorpus:
        """Return the corpus of one domain's documents."""
        return self.of_domains([domain])

    def of_domains(self, domains: Iterable[str]) -> TokenizedCorpus:
        """Return the corpus of some domains' documents."""
        names = set(domains)
        numbers = [number for number, name in enumerate(self._domain_names) if name in names]
        part = copy.copy(self)
        part._rows = self._rows[np.isin(self._domains[self._rows], numbers)]
        return part


def _stored_tokens(table: MappedTable, row: int) -> _Tokens:
    return table.numbers("token_ids", row), table.numbers("piece_tokens", row)


def _tokenize(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[Document, _Tokens]]:
    for batch in _batches(documents):
        pieces = [pieces_of(document.text) for document in batch]
        flat = [(piece, not number) for group in pieces for number, piece in enumerate(group)]
        encoded = chain.from_iterable(
            token_ids(tokenizer, flat[first : first + _PIECES_AT_ONCE])
            for first in range(0, len(flat), _PIECES_AT_ONCE)
        )
        for document, group in zip(batch, pieces, strict=True):
            of_pieces = list(islice(encoded, len(group)))
            whole = np.concatenate([np.empty(0, np.int32), *of_pieces])
            yield document, (whole, np.array([len(each) for each in of_pieces], np.int32))


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Give documents some at a time: many short ones, few long ones."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == _DOCUMENTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
