"""Mixed windows: several kinds in turn, for a policy that is to serve all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.errors import UserError

KINDS: dict[str, Callable[..., WindowSource]] = {
    "contiguous": ContiguousWindows,
    "retrieved": RetrievedWindows,
    "recall": RecallWindows,
}


def seed_of_part(seed: int, number: int) -> int:
    """Return the seed of a part of a mixture; that of part 0 is the mixture's."""
    return seed + 1000 * number


class MixedWindows:
    """Window ``i`` is of part ``i`` modulo the number of parts, so that all have equal shares.

    Args:
        corpus: Documents of one split.
        chunk_size: ``k``, decoder tokens.
        context_length: ``s``, tokens, of all parts.
        parts: Of each part its ``kind`` and further options of that kind's windows.
        count: Number of windows.
        seed: Of the first part; the others' follow from it.
        own_places: Each part draws places of the corpus for itself, as ``conf/windows/mixed.yaml``
            has it. If false, all parts have the same seed: the windows of a turn lie at the same
            relative place, and those of parts that differ in the retriever only have the same
            prompt and output. So it was before this option, and is in runs without it.
        with_texts: Fill in the texts of chunks, prompt and output.

    Raises:
        UserError: There are no parts, a kind or an option is unknown, or an option is out of range.
    """

    kind = "mixed"

    def __init__(
        self,
        corpus: TokenizedCorpus,
        *,
        chunk_size: int,
        parts: Sequence[Mapping[str, Any]],
        context_length: int = 512,
        count: int = 1000,
        seed: int = 0,
        own_places: bool = False,
        with_texts: bool = True,
    ) -> None:
        if not isinstance(own_places, bool):
            raise UserError(f"windows.own_places={own_places!r}: give true or false")
        listed = isinstance(parts, Sequence) and not isinstance(parts, str)
        if not listed or not all(isinstance(part, Mapping) for part in parts):
            raise UserError(f"windows.parts={parts!r}: give kinds, as in [{{kind: recall}}]")
        if not parts:
            raise UserError("windows.parts is empty; give kinds, as in [{kind: recall}]")
        self._count = count
        shared = {
            "chunk_size": chunk_size,
            "context_length": context_length,
            "count": -(-count // len(parts)),
            "with_texts": with_texts,
        }
        self._parts = [
            _part(
                dict(part),
                corpus,
                {**shared, "seed": seed_of_part(seed, number) if own_places else seed},
            )
            for number, part in enumerate(parts)
        ]
        self.chunk_size = chunk_size
        self.num_chunks = self._parts[0].num_chunks

    def __len__(self) -> int:
        """Return ``count``."""
        return self._count

    def __getitem__(self, index: int) -> Window:
        """Return window ``index``."""
        if not 0 <= index < self._count:
            raise IndexError(f"window {index}: there are {self._count}")
        turn, part = divmod(index, len(self._parts))
        return self._parts[part][turn]


def _part(options: dict[str, Any], corpus: TokenizedCorpus, shared: dict[str, Any]) -> WindowSource:
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"windows.parts: kind={kind}: choose one of {', '.join(KINDS)}")
    taken = [name for name in shared if name in options]
    if taken:
        raise UserError(f"windows.parts: {taken[0]} is that of all parts; leave it out")
    try:
        return KINDS[kind](corpus, **shared, **options)
    except TypeError as error:
        raise UserError(f"windows.parts, kind={kind}: {error}") from None
