"""Handing events out: one attempt, or waiting for events to come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from api.feeds.desk import Desk, Done, Feed, Key
from api.feeds.events import Json, event_json, handed_out
from api.followers import Followers
from ledger.cursor_commands import FetchEvents
from ledger.cursor_events import CursorLeased, CursorState, Place, Transport
from ledger.cursor_lease import outstanding, reached, to_replay, waiting
from ledger.cursor_tries import count_of
from ledger.receipt import Receipt
from ledger.values import UnixMs
from projections.feed_reader import FeedRow
from projections.runner import feed_key

MAX_WAITING: Final = 200
"""Readers that wait for one feed at once."""
POLL_SECONDS: Final = 1.0
"""Being woken is a hint; this is how long one that was lost is missed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader asks for."""

    holder: str
    limit: int
    token: int | None = None
    lease_ms: int | None = None
    pipeline: bool = False
    transport: Transport = "http"


@dataclass(frozen=True, slots=True)
class HandedOut:
    """What a reader gets. `token` and `until` are those of its lease, if it has one."""

    done: Done
    events: list[Json]
    acked: int
    head: int
    more: bool
    token: int | None
    until: int | None

    @property
    def receipt(self) -> Receipt | None:
        """What was recorded, if anything was."""
        return self.done.receipt


async def hand_out(desk: Desk, key: Key, wish: Wish) -> HandedOut:
    """Hand out what there is now; raises what the cursor refuses with."""

    def make(state: CursorState, feed: Feed, now: UnixMs) -> FetchEvents:
        token = None if state.settings.mode == "auto" else wish.token
        return FetchEvents(
            wish.holder,
            token,
            wish.limit,
            wish.lease_ms,
            wish.pipeline,
            wish.transport,
            feed.slice,
            now,
        )

    done = await desk.act(key, make, rows=wish.limit, beyond=wish.pipeline)
    return _answer(desk, key, wish, done)


async def hand_out_when_there(
    desk: Desk,
    followers: Followers,
    key: Key,
    address: str,
    wish: Wish,
    seconds: float,
    still_there: Callable[[], None],
) -> HandedOut:
    """Hand out what there is, waiting up to `seconds` for something to come.

    `still_there` raises once the reader has left or may not read any more: nothing is claimed then.
    """
    if seconds <= 0:
        return await hand_out(desk, key, wish)
    running = asyncio.get_running_loop()
    ends = running.time() + seconds
    with followers.following(feed_key(key[0]), address, most=MAX_WAITING) as moved:
        while True:
            moved.clear()
            still_there()
            found = await hand_out(desk, key, wish)
            left = ends - running.time()
            if found.events or left <= 0 or followers.closing:
                return found
            try:
                async with asyncio.timeout(min(left, POLL_SECONDS)):
                    await moved.wait()
            except TimeoutError:
                continue


def _answer(desk: Desk, key: Key, wish: Wish, done: Done) -> HandedOut:
    state, feed = done.state, done.feed
    leased = _leased(done)
    given = _given(wish, done, leased)
    rows = {row.pos: row for row in feed.rows}
    events = [
        handed_out(
            event_json(desk.ledger, rows.get(place.pos) or _row(desk, key[0], place)),
            _attempt(desk, key, state, leased, place),
        )
        for place in given
    ]
    last = given[-1].pos if given else state.acked.pos
    lease = state.lease if state.settings.mode == "ack" else None
    live = lease is not None and (bool(events) or lease.until > done.now)
    return HandedOut(
        done=done,
        events=events,
        acked=reached(state, feed.slice),
        head=feed.slice.head,
        more=any(place.pos > last for place in waiting(state, feed.slice)),
        token=(leased.state.token if leased else lease.token if lease and live else None),
        until=(leased.until if leased else lease.until if lease and live else None),
    )


def _leased(done: Done) -> CursorLeased | None:
    """Return the lease that the act gave, or None if it gave the same again, or nothing."""
    events = done.receipt.events if done.receipt is not None else ()
    for signed in events:
        if isinstance(signed.event, CursorLeased) and signed.event.extends is None:
            return signed.event
    return None


def _given(wish: Wish, done: Done, leased: CursorLeased | None) -> tuple[Place, ...]:
    state, feed = done.state, done.feed.slice
    if leased is not None:
        if leased.replays is not None:
            asked = set(leased.replays)
            return tuple(place for place in to_replay(done.before) if place.pos in asked)
        skipped = {place.pos for place in state.skipped}
        return tuple(
            place
            for place in feed.places
            if leased.first <= place.pos <= leased.to and place.pos not in skipped
        )
    lease = state.lease
    if lease is None or lease.until <= done.now:
        return ()  # it rests, or there is nothing to hand out
    if wish.pipeline and wish.token is not None and not lease.replays:
        return ()  # nothing has come after what the lease covers
    most = min(wish.limit, state.settings.max_batch)
    return (lease.replays or outstanding(state, feed, lease))[:most]


def _attempt(
    desk: Desk, key: Key, state: CursorState, leased: CursorLeased | None, place: Place
) -> int:
    replays = state.lease is not None and place in state.lease.replays
    if replays or (leased is not None and leased.replays is not None):
        before = desk.feeds.parked(*key, after=place.position - 1, limit=1)
        return 1 + (before[0].attempts if before and before[0].position == place.position else 1)
    return max(1, count_of(state.tries, place.pos))


def _row(desk: Desk, party: str, place: Place) -> FeedRow:
    row = desk.feeds.at(party, place.pos)
    assert row is not None  # noqa: S101 - what was handed out once is in the feed for ever
    return row
