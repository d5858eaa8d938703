"""Windows of several domains, as many of each; and the later ones of a source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.errors import UserError


class JoinedWindows:
    """Window sources one after another; a ``WindowSource`` itself.

    Args:
        sources: At least one; all of one kind and of one size.

    Raises:
        ValueError: There are none, or they differ in kind, ``L`` or ``k``.
    """

    def __init__(self, sources: Sequence[WindowSource]) -> None:
        if len({(source.kind, source.num_chunks, source.chunk_size) for source in sources}) != 1:
            raise ValueError("window sources to join must be of one kind, L and k")
        self.kind = sources[0].kind
        self.num_chunks = sources[0].num_chunks
        self.chunk_size = sources[0].chunk_size
        self._sources = list(sources)
        self._ends = list(accumulate(len(source) for source in sources))

    def __len__(self) -> int:
        """Return the number of windows of all sources."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Window:
        """Return window ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index}: there are {len(self)}")
        position = bisect_right(self._ends, index)
        source = self._sources[position]
        return source[index - (self._ends[position] - len(source))]


class LaterWindows:
    """The windows of a source from the ``first``-th on; a ``WindowSource`` itself.

    Args:
        source: Of more than ``first`` windows.
        first: How many windows are left out.

    Raises:
        UserError: No window is left.
    """

    def __init__(self, source: WindowSource, first: int) -> None:
        if not 0 <= first < len(source):
            raise UserError(f"first={first}: of {len(source)} windows none is left; give fewer")
        self.kind = source.kind
        self.num_chunks = source.num_chunks
        self.chunk_size = source.chunk_size
        self._source = source
        self._first = first

    def __len__(self) -> int:
        """Return the number of windows that are left."""
        return len(self._source) - self._first

    def __getitem__(self, index: int) -> Window:
        """Return window ``index`` of those that are left."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index}: there are {len(self)}")
        return self._source[self._first + index]
