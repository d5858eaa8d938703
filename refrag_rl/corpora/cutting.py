"""How a text of any length is cut into tokens: in pieces of some thousand characters.

So that the characters of a few tokens can be found by tokenizing one piece again. Pieces end at a
line's end where there is one. Some tokenizers put a space before a text (those of Llama 2 and of
many encoders); only the first piece of a text has it, or each would add a token that stands nowhere
in the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

_PIECE_CHARACTERS = 4000


def pieces_of(text: str) -> list[str]:
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


def token_ids(
    tokenizer: PreTrainedTokenizerFast, pieces: Sequence[tuple[str, bool]]
) -> list[NDArray[np.int32]]:
    """Return the tokens of pieces, each with whether it is the first of its text.

    Special tokens are not added.
    """
    found: dict[int, NDArray[np.int32]] = {}
    for first in (True, False):
        numbers = [number for number, (_, is_first) in enumerate(pieces) if is_first is first]
        encodings = _cutter(tokenizer, first).encode_batch_fast(
            [pieces[number][0] for number in numbers], add_special_tokens=False
        )
        for number, encoding in zip(numbers, encodings, strict=True):
            found[number] = np.array(encoding.ids, np.int32)
    return [found[number] for number in range(len(pieces))]


@lru_cache(maxsize=256)
def token_boundaries(
    tokenizer: PreTrainedTokenizerFast, piece: str, first: bool
) -> tuple[int, ...]:
    """Return for each token of a piece the first character that is not of an earlier token.

    Args:
        tokenizer: That the tokens were made with.
        piece: Its text.
        first: Whether it is the first of its text.
    """
    boundaries = []
    furthest = 0
    for start, stop in _cutter(tokenizer, first).encode(piece, add_special_tokens=False).offsets:
        boundaries.append(max(start, furthest))
        furthest = max(furthest, stop)
    if boundaries:
        boundaries[0] = 0
    return tuple(boundaries)


def _cutter(tokenizer: PreTrainedTokenizerFast, first: bool) -> Tokenizer:
    """Return what cuts a piece into its tokens, whatever its length.

    A folder that was saved after fine-tuning may have the tokenizer cut texts short, or pad them,
    and so may a call of it; its other calls set both anew.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer if first else _without_prefix(tokenizer)
    backend.no_truncation()
    backend.no_padding()
    return backend


@lru_cache(maxsize=8)
def _without_prefix(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """Return a tokenizer that puts nothing before a text: the same one if it never does."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    plain = {name: _plain(state[name]) for name in ("normalizer", "pre_tokenizer")}
    if all(plain[name] == state[name] for name in plain):
        return backend
    return type(backend).from_str(json.dumps(state | plain))


def _plain(part: Any) -> Any:
    """Return the state of a normalizer or a pre-tokenizer without what puts a space first."""
    if not isinstance(part, dict):
        return part
    if part.get("type") == "Prepend":
        return None
    part = dict(part)
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            part[name] = [kept for each in part[name] if (kept := _plain(each)) is not None]
    if "prepend_scheme" in part:
        part["prepend_scheme"] = "never"
    if "add_prefix_space" in part:
        part["add_prefix_space"] = False
    return part
