"""A stream as the writer holds it: its folded state and where its newest event stands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ledger.cursor import evolve_cursor
from ledger.entry import SignedEvent, read_entry
from ledger.errors import InvalidInput
from ledger.evolve import evolve
from ledger.log import evolve_log
from ledger.market import evolve_agent, evolve_conversation
from ledger.values import LOG_STREAM, ZERO_LEAF, is_agent, is_conversation, is_cursor

CACHED_STREAMS: Final = 20_000
READ_STREAMS: Final = 5_000

Evolve = Callable[[Any, SignedEvent], object]


@dataclass(frozen=True, slots=True)
class StreamHead:
    """The state of one stream after `seq` events; `position` is that of the newest, 0 if none.

    `leaf` is its leaf hash in hex, which the next event carries as `prev`.
    """

    stream: str
    state: object | None = None
    seq: int = 0
    leaf: str = ZERO_LEAF
    position: int = 0

    def after(self, signed: SignedEvent, position: int) -> StreamHead:
        """Return the head after one more event."""
        state = evolver_of(self.stream)(self.state, signed)
        return StreamHead(self.stream, state, signed.seq, signed.leaf.hex(), position)


def evolver_of(stream: str) -> Evolve:
    """Return the function that folds a stream of that name."""
    if stream.startswith("order/"):
        return evolve
    if stream == LOG_STREAM:
        return evolve_log
    if is_cursor(stream):
        return evolve_cursor
    if is_agent(stream):
        return evolve_agent
    if is_conversation(stream):
        return evolve_conversation
    msg = f"no rules for a stream named {stream!r}"
    raise InvalidInput(msg)


def head_of(stream: str, entries: Iterable[tuple[int, bytes]]) -> StreamHead:
    """Fold the stored (position, entry) pairs of a stream."""
    head = StreamHead(stream)
    for position, entry in entries:
        head = head.after(read_entry(entry), position)
    return head


class ReadHeads:
    """Heads that readers loaded. One is good as long as nothing stands after it in its stream.

    Apart from the writer's own cache, which nobody else may fill: a reader could put back what the
    writer has just gone beyond.
    """

    def __init__(self, limit: int = READ_STREAMS) -> None:
        self._heads: OrderedDict[str, StreamHead] = OrderedDict()
        self._limit = limit

    def get(self, stream: str, position: int) -> StreamHead | None:
        """Return a head that ends at this position, if it is held."""
        head = self._heads.get(stream)
        return head if head is not None and head.position == position else None

    def put(self, head: StreamHead) -> None:
        """Hold a head, newest last."""
        self._heads[head.stream] = head
        self._heads.move_to_end(head.stream)
        if len(self._heads) > self._limit:
            self._heads.popitem(last=False)


class HeadCache:
    """Committed heads of the streams used last. Written by the writer's thread alone.

    Reading from another thread is safe: a head is immutable, and one dict look-up is atomic.
    """

    def __init__(self, limit: int = CACHED_STREAMS) -> None:
        self._heads: OrderedDict[str, StreamHead] = OrderedDict()
        self._limit = limit

    def get(self, stream: str) -> StreamHead | None:
        """Return the committed head if it is held."""
        return self._heads.get(stream)

    def put(self, head: StreamHead) -> None:
        """Hold a committed head, newest last."""
        self._heads[head.stream] = head
        self._heads.move_to_end(head.stream)
        if len(self._heads) > self._limit:
            stream, oldest = self._heads.popitem(last=False)
            if stream == LOG_STREAM:  # every command asks whether the log is open
                self._heads[stream] = oldest

    def clear(self) -> None:
        """Forget everything: the store may hold what we do not know of."""
        self._heads.clear()
