"""Documents are strangers' text: it is shown, never interpreted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refrag_rl.printable import printable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What decoders put in place of the bytes of a character that is not complete."""

Decode = Callable[[Sequence[int]], str]
"""Token ids -> text, special tokens included."""


def plain(text: str) -> str:
    r"""Return a text in which line breaks are the only control characters left.

    Tabs become four spaces. Every other character that cannot be seen, steers a terminal or turns
    the direction of writing is shown as an escape such as ``\x1b``.
    """
    return "\n".join(printable(line) for line in text.replace("\t", "    ").split("\n"))


def decoding(tokenizer: PreTrainedTokenizerFast) -> Decode:
    """Return what turns a tokenizer's ids into text, all of it."""

    def decode(token_ids: Sequence[int]) -> str:
        text = tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    return decode


@dataclass(frozen=True)
class Piece:
    """Some tokens that make whole characters together; mostly one token.

    Attributes:
        text: Their text, as ``plain`` returns it.
        tokens: How many.
    """

    text: str
    tokens: int


def split_tokens(token_ids: Sequence[int], decode: Decode) -> list[Piece]:
    """Return the pieces of a text, in order; all tokens are in one of them.

    A character may be made of several tokens, whose single texts would be no characters. So the
    tokens of the piece before are decoded again with each piece, and what they add is its text.

    Args:
        token_ids: (o,) ids.
        decode: Of their tokenizer.
    """
    ids = [int(token) for token in token_ids]
    pieces = []
    context, done = 0, 0
    for stop in range(1, len(ids) + 1):
        text = decode(ids[context:stop])
        if text.endswith(_INCOMPLETE) and stop < len(ids):
            continue
        before = decode(ids[context:done]) if done else ""
        pieces.append(Piece(plain(text[len(before) :]), stop - done))
        context, done = done, stop
    return pieces
