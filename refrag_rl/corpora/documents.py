"""Documents, and the split of a corpus by document."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "validation", "test", "all"]
SPLITS: tuple[str, ...] = get_args(Split)

_VALIDATION_PERCENT = 5
_TEST_PERCENT = 5


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus.

    Attributes:
        id: Stable name, unique in its corpus. The split depends on it and on nothing else.
        domain: Name of the group that results are reported by, such as ``docs`` or ``books``.
        text: The text itself.
    """

    id: str
    domain: str
    text: str


class DistinctNames:
    """Tells documents of one name apart: the second of ``a`` becomes ``a#2``, say.

    The number is one by which it is of the split of ``a``: they may be copies, or parts of one
    text.
    """

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._repeats: Counter[str] = Counter()

    def of(self, name: str) -> str:
        """Return a name that was not given before, by the order in which they are asked for."""
        apart = name
        while apart in self._given or split_of(apart) != split_of(name):
            self._repeats[name] += 1
            apart = f"{name}#{self._repeats[name] + 1}"
        self._given.add(apart)
        return apart


def split_of(document_id: str) -> Split:
    """Return the split that a document belongs to.

    The split is a function of the id alone (SHA-256), so adding or removing other documents never
    moves a document from one split to another: 90 % train, 5 % validation, 5 % test.

    Args:
        document_id: ``Document.id``.

    Returns:
        ``"train"``, ``"validation"`` or ``"test"``.
    """
    percent = int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:8], "big") % 100
    if percent < _VALIDATION_PERCENT:
        return "validation"
    if percent < _VALIDATION_PERCENT + _TEST_PERCENT:
        return "test"
    return "train"
