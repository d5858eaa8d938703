"""A cache that computes what it misses, in one call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


Entries = tuple[dict[Any, Any], Callable[..., Any]]
"""Entries of a cache by key, and what makes a value of its arrays again."""


class LruCache(Generic[Value]):
    """A dictionary that forgets what was least recently used.

    Args:
        capacity: How many values it holds; 0 holds none.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def collect(
        self,
        keys: Sequence[Hashable],
        items: Sequence[Item],
        compute: Callable[[list[Item]], Sequence[Value]],
    ) -> list[Value]:
        """Return a value for each key, computing each that is missing once, all in one call.

        Args:
            keys: ``n`` of them, repeats allowed; equal keys mean equal values.
            items: ``n``, what the values are computed from.
            compute: Takes the items of the missing keys, returns their values in order.
        """
        missing: dict[Hashable, Item] = {}
        found: dict[Hashable, Value] = {}
        for key, item in zip(keys, items, strict=True):
            if key in self._values:
                self._values.move_to_end(key)
                found[key] = self._values[key]
            else:
                missing.setdefault(key, item)
        if missing:
            fresh = dict(zip(missing, compute(list(missing.values())), strict=True))
            found |= fresh
            self._values.update(fresh)
            while len(self._values) > self.capacity:
                self._values.popitem(last=False)
        return [found[key] for key in keys]

    @property
    def entries(self) -> dict[Hashable, Value]:
        """Return what it holds, what was least recently used first; to be kept and put back."""
        return self._values

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
