"""Where acts on cursors are done: read the feed, decide, record. HTTP and WebSocket use the same.

What an act finds in the feed goes into its decision; if another act came in between, the feed is
read again. An act that changes nothing is decided here and never reaches the writer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import web

from ledger.cursor import NO_CURSOR, decide_cursor
from ledger.cursor_commands import CursorCommand, FeedSlice, Renumber
from ledger.cursor_errors import FeedMoved
from ledger.cursor_events import CursorState
from ledger.errors import InvalidInput, NotFound
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.values import UnixMs, cursor_stream
from projections.feed_reader import FeedReader, FeedRow
from projections.feeds import GENERATION
from projections.runner import Runner

Key = tuple[str, str]
"""A cursor: its party and its name."""

MAX_ATTEMPTS: Final = 8
MAX_AHEAD: Final = 10_000
"""Positions that may be handed out and not acknowledged, with `pipeline`."""
VIEW_WAIT_SECONDS: Final = 1.0
MAX_KNOWN: Final = 10_000
"""Cursors of which it is known that nothing new is there."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A part of a feed as a decision sees it, and the same as rows."""

    slice: FeedSlice
    rows: list[FeedRow]


@dataclass(frozen=True, slots=True)
class Done:
    """What an act led to, decided at `now`; without a receipt nothing was recorded."""

    now: UnixMs
    before: CursorState
    state: CursorState
    feed: Feed
    receipt: Receipt | None


MakeCommand = Callable[[CursorState, Feed, UnixMs], CursorCommand]


class Desk:
    """Acts on cursors, one at a time for each cursor of this process.

    The turn is no rule of the protocol: deciders hold that. It only spares readers of one cursor
    from losing races against each other.
    """

    def __init__(self, ledger: Ledger, runner: Runner, feeds: FeedReader) -> None:
        self.ledger: Final = ledger
        self.feeds: Final = feeds
        self._runner = runner
        self._nothing: OrderedDict[Key, tuple[tuple[int, int], Feed]] = OrderedDict()
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def state(self, key: Key) -> CursorState:
        """Return a cursor, carried over to the present numbering, or raise `NotFound`."""
        state = await self.ledger.cursor(cursor_stream(*key))
        if state is None:
            raise NotFound("no cursor has this name", code=NO_CURSOR)
        if state.generation != GENERATION:
            command = self._renumber(key[0], state)
            receipt = await self.ledger.act_on_cursor(cursor_stream(*key), command)
            state = state_of(receipt)
        return state

    async def act(self, key: Key, make: MakeCommand, *, rows: int = 1) -> Done:
        """Do an act. `rows` is how many events of the feed its decision may need."""
        async with self._turn(key):
            for _ in range(MAX_ATTEMPTS):
                try:
                    return await self._attempt(key, make, rows)
                except FeedMoved:
                    continue
        raise FeedMoved("others keep moving this cursor; ask again")

    def feed(self, key: Key, state: CursorState, rows: int) -> Feed:
        """Return what lies after a cursor: what is handed out, and so many events more.

        Where nothing lay after it and the views have not moved, nothing does now: a reader that
        polls an empty feed costs no look into it.
        """
        seen = (self._runner.position, state.acked.pos)
        known = self._nothing.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        found = self._read(key[0], state, rows)
        if not found.rows:
            self._nothing[key] = (seen, found)
            self._nothing.move_to_end(key)
            if len(self._nothing) > MAX_KNOWN:
                self._nothing.popitem(last=False)
        return found

    def _read(self, party: str, state: CursorState, rows: int) -> Feed:
        lease = state.lease
        ahead = max(0, lease.to.pos - state.acked.pos) if lease else 0
        if ahead > MAX_AHEAD:
            msg = f"more than {MAX_AHEAD} positions are handed out; acknowledge first"
            raise InvalidInput(msg)
        # One more than may be handed out, so that the answer can say whether there is more.
        limit = min(rows, state.settings.max_batch) + 1 + ahead + len(state.skipped)
        return Feed(*self.feeds.slice(party, state.acked.pos, limit, state.settings.types))

    async def _attempt(self, key: Key, make: MakeCommand, rows: int) -> Done:
        before = await self.state(key)
        feed = self.feed(key, before, rows)
        now = self.ledger.clock()
        command = make(before, feed, now)
        decision = decide_cursor(before, command, now)
        if not decision.drafts and decision.error is None:
            return Done(now, before, before, feed, None)
        receipt = await self.ledger.act_on_cursor(cursor_stream(*key), command)
        await self.settle(receipt)
        return Done(now, before, state_of(receipt), feed, receipt)

    def is_parked(self, key: Key, pos: int) -> bool:
        """Whether an event of the feed was put aside."""
        row = self.feeds.at(key[0], pos) if pos < 2**53 else None
        if row is None:
            return False
        found = self.feeds.parked(*key, after=row.position - 1, limit=1)
        return bool(found) and found[0].position == row.position

    async def settle(self, receipt: Receipt) -> None:
        """Wait until the views have it; after a second the answer goes out all the same."""
        await self._runner.wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)

    def _renumber(self, party: str, state: CursorState) -> Renumber:
        if self._runner.position < state.acked.position:
            raise FeedMoved("the feed is still being numbered anew; ask again")
        places = {}
        for place in state.skipped:
            found = self.feeds.count_until(party, place.position)
            if found.position == place.position:
                places[place.position] = found.pos
        acked = self.feeds.count_until(party, state.acked.position).pos
        return Renumber(GENERATION, acked, places, self.ledger.clock())

    @asynccontextmanager
    async def _turn(self, key: Key) -> AsyncIterator[None]:
        lock = self._turns.get(key)
        if lock is None:
            lock = self._turns[key] = asyncio.Lock()
        async with lock:
            yield


def state_of(receipt: Receipt) -> CursorState:
    """Return the cursor that a receipt is of."""
    state = receipt.stream.state
    assert isinstance(state, CursorState)  # noqa: S101 - the stream is a cursor's
    return state


DESK: Final = web.AppKey("desk", Desk)
