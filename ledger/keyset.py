"""A set that only grows, is never changed in place, and is not copied to add to it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)  # no slots: a generic class in slots cannot be called by its full name
class KeySet(Generic[K]):
    """Parts of falling size: adding n keys one by one costs n log n, not n squared.

    The folded state of a stream is kept and shared, so a set that is changed in place will not do.
    """

    parts: tuple[frozenset[K], ...] = ()

    def adding(self, keys: Iterable[K]) -> KeySet[K]:
        """Return the set with more keys."""
        parts = [*self.parts, frozenset(keys)]
        while len(parts) > 1 and len(parts[-2]) <= len(parts[-1]):
            last = parts.pop()
            parts[-1] |= last
        return KeySet(tuple(parts))

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self.parts)

    def __iter__(self) -> Iterator[K]:
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)
