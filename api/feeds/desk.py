"""Where acts on cursors are done: read the feed, decide, record. HTTP and WebSocket use the same.

What an act finds in the feed goes into its decision; if another act came in between, the feed is
read again. An act that changes nothing is decided here and never reaches the writer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakValueDictionary

from aiohttp import web

from ledger.cursor import NO_CURSOR, decide_cursor
from ledger.cursor_commands import CursorCommand, FeedSlice, Renumber
from ledger.cursor_errors import FeedMoved
from ledger.cursor_events import CursorState, Place
from ledger.cursor_lease import to_replay
from ledger.errors import NotFound
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.values import UnixMs, cursor_stream
from projections.feed_reader import FeedReader, FeedRow
from projections.feeds import GENERATION
from projections.runner import Runner

Key = tuple[str, str]
"""A cursor: its party and its name."""

MAX_ATTEMPTS: Final = 8
VIEW_WAIT_SECONDS: Final = 1.0
MAX_KNOWN: Final = 10_000
"""Cursors of which it is known that nothing new is there."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A part of a feed as a decision sees it, and the same as rows."""

    slice: FeedSlice
    rows: list[FeedRow]


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the feed a decision needs; see `Desk.act`."""

    rows: int = 1
    beyond: bool = False
    at: int = 0


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

    async def act(
        self, key: Key, make: MakeCommand, *, rows: int = 1, beyond: bool = False, at: int = 0
    ) -> Done:
        """Do an act, with the part of the feed that its decision needs.

        That is `rows` events after the place, with `beyond` as many after the lease, and the one
        at position `at`.
        """
        part = Part(rows, beyond=beyond, at=at)
        async with self._turn(key):
            for _ in range(MAX_ATTEMPTS):
                try:
                    return await self._attempt(key, make, part)
                except FeedMoved:
                    continue
        raise FeedMoved("others keep moving this cursor; ask again")

    def feed(self, key: Key, state: CursorState, part: Part) -> Feed:
        """Return a part of the feed after a cursor.

        Where nothing lay after it and the views have not moved, nothing does now: a reader that
        polls an empty feed costs no look into it.
        """
        seen = (self._runner.position, state.acked.pos)
        known = self._nothing.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        found = self._read(key[0], state, part)
        if not found.rows:
            self._nothing[key] = (seen, found)
            self._nothing.move_to_end(key)
            if len(self._nothing) > MAX_KNOWN:
                self._nothing.popitem(last=False)
        return found

    def _read(self, party: str, state: CursorState, part: Part) -> Feed:
        acked, types = state.acked.pos, state.settings.types
        # One more than may be handed out, so that the answer can say whether there is more.
        limit = min(part.rows, state.settings.max_batch) + 1 + len(state.skipped)
        found, rows = self.feeds.slice(party, acked, limit, types)
        to = state.lease.to.pos if part.beyond and state.lease is not None else acked
        if to > acked:
            found, after = self.feeds.slice(party, to, limit, types)
            rows = [row for row in rows if row.pos <= to] + after
        one = self.feeds.at(party, part.at) if part.at > acked else None
        if one is not None and one not in rows and (types is None or one.type in types):
            rows = sorted([*rows, one], key=lambda row: row.pos)
        places = tuple(Place(pos=row.pos, position=row.position) for row in rows)
        head = max(found.head, acked)  # views that lag show less than was acknowledged
        return Feed(replace(found, after=acked, places=places, head=head), rows)

    async def _attempt(self, key: Key, make: MakeCommand, part: Part) -> Done:
        before = await self.state(key)
        feed = self.feed(key, before, part)
        now = self.ledger.moment
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
        for place in (*state.skipped, *to_replay(state)):
            found = self.feeds.count_until(party, place.position)
            if found.position == place.position:
                places[place.position] = found.pos
        acked = self.feeds.count_until(party, state.acked.position).pos
        return Renumber(GENERATION, acked, places, self.ledger.moment)

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
