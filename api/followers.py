"""Who follows which order, and waking them when the views have moved it. For one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from ledger.errors import Overloaded

MAX_PER_ORDER: Final = 16
MAX_PER_ADDRESS: Final = 200


class Followers:
    """Open streams by order. `closing` is set at the end of the service: streams end then."""

    def __init__(self, max_streams: int) -> None:
        self._max = max_streams
        self._count = 0
        self._of: Counter[str] = Counter()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closing = False

    @contextmanager
    def following(
        self, order_id: str, address: str, most: int = MAX_PER_ORDER
    ) -> Iterator[asyncio.Event]:
        """Return what is set each time the order, or feed, has moved.

        Raises `Overloaded` at the limits; `most` is that of this order or feed.
        """
        own = self._waiting.get(order_id, set())
        crowded = len(own) >= most or self._of[address] >= MAX_PER_ADDRESS
        if self._count >= self._max or crowded:
            raise Overloaded("too many streams are open; ask for the status instead")
        moved = asyncio.Event()
        self._waiting.setdefault(order_id, own).add(moved)
        self._count += 1
        self._of[address] += 1
        try:
            yield moved
        finally:
            self._count -= 1
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
            own.discard(moved)
            if not own:
                self._waiting.pop(order_id, None)

    def moved(self, order_ids: Iterable[str]) -> None:
        """Wake who follows one of these orders."""
        for order_id in order_ids:
            for moved in self._waiting.get(order_id, ()):
                moved.set()

    def close(self) -> None:
        """Let every stream end."""
        self.closing = True
        self.moved(list(self._waiting))
