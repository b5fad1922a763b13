"""Reads a feed through a cursor, in order, for as long as it runs, and never misses an event.

With an inbox each event's effect is there exactly once (`run`). Without one every event comes at
least once (`each`, `events`): a crash between your effect and its acknowledgement repeats it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from api.client.cursor import CursorCalls, CursorOptions, Fetched, Opened
from api.client.errors import AnswerRefused, ClientError, ServiceError
from api.client.event import Event, Pins, checked_event
from api.client.http import HttpClient
from api.client.inbox import Effect, Inbox, InboxFailed
from api.client.lease import HandOut, Leases
from api.client.patience import patiently
from api.client.signin import SignIn
from api.client.times import Clock, Sleep, system_clock
from api.client.wallet import LocalWallet

WAIT_SECONDS: Final = 20.0
"""How long the service keeps a question open; less than the client waits for an answer."""
SHORTEST_WAIT: Final = 0.1
"""Of the seconds that a held lease is said to last: it may be given back before its time."""

Handle = Callable[[Event], Awaitable[None]]


class CursorBlocked(ClientError):
    """An event failed too often and the cursor stops there, until its owner seeks on or back."""

    def __init__(self, pos: object) -> None:
        super().__init__(f"the cursor is blocked at position {pos}")
        self.pos: Final = pos


class StopReading(ClientError):
    """Raised by a handler that wants no more events; the present one is not acknowledged."""


@dataclass(slots=True)
class Counts:
    """What a reader did so far."""

    hand_outs: int = 0
    events: int = 0
    redelivered: int = 0
    applied: int = 0
    skipped: int = 0
    failed: int = 0


class CursorReader:
    """One reader of one cursor. Several may share the cursor: one has the lease, others wait."""

    def __init__(
        self,
        calls: CursorCalls,
        options: CursorOptions | None = None,
        *,
        inbox: Inbox | None = None,
        holder: str | None = None,
        pins: Pins | None = None,
        limit: int | None = None,
        wait_seconds: float = WAIT_SECONDS,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = system_clock,
    ) -> None:
        """`holder` tells readers apart: no two that run at once may have the same."""
        self.counts: Final = Counts()
        self._calls = calls
        self._options = options or CursorOptions()
        self._inbox = inbox
        self._holder = holder or _holder()
        self._pins = pins or Pins()
        self._limit = limit or self._options.max_batch
        self._wait = wait_seconds
        self._sleep = sleep
        self._clock = clock
        self._leases = Leases(calls, sleep)
        self._opened: Opened | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        private_key: str | bytes,
        name: str,
        *,
        party: str | None = None,
        options: CursorOptions | None = None,
        inbox: Inbox | None = None,
        pins: Pins | None = None,
    ) -> AsyncIterator[CursorReader]:
        """Run a reader of the wallet's own feed, or of `party`'s, for the length of a block."""
        wallet = LocalWallet(private_key)
        async with aiohttp.ClientSession() as session:
            http = HttpClient(url, session)
            calls = CursorCalls(http, SignIn(http, wallet), party or wallet.address, name)
            yield cls(calls, options, inbox=inbox, pins=pins)

    async def run(self, effect: Effect, *, until_idle: bool = False) -> None:
        """Apply each event's effect exactly once, for ever; needs the inbox.

        An effect that raises is tried again after the cursor's rest. `until_idle` returns once
        everything is done.
        """
        inbox = self._inbox
        if inbox is None:
            raise TypeError("a reader without an inbox can promise no single effect")
        # A thread of its own: a slow effect does not keep the lease from being prolonged.
        with ThreadPoolExecutor(1, "inbox") as thread:

            async def apply(event: Event) -> None:
                try:
                    ran = await _to_its_end(thread, lambda: inbox.apply(event, effect))
                except InboxFailed as error:
                    raise StopReading from error
                self.counts.applied += ran
                self.counts.skipped += not ran

            try:
                await self.each(apply, until_idle=until_idle)
            except StopReading as stop:
                if isinstance(stop.__cause__, InboxFailed):
                    # A full disk is no failure of the event: nothing is refused because of it.
                    raise stop.__cause__ from None
                raise

    async def each(self, handle: Handle, *, until_idle: bool = False) -> None:
        """Hand each event to `handle`, in order, at least once; what it raises fails the event."""
        async with self._leases.ending():
            while (given := await self._next(idle=until_idle)) is not None:
                async with self._leases.holding(given):
                    await self._deal(given, handle)

    async def events(self, *, until_idle: bool = False) -> AsyncIterator[Event]:
        """Yield each event at least once; asking for the next one says that it is dealt with."""
        async with self._leases.ending():
            while (given := await self._next(idle=until_idle)) is not None:
                async with self._leases.holding(given):
                    for event in given.events:
                        if given.lost:
                            break
                        yield event
                        given.done = event

    async def opened(self) -> Opened:
        """Open the cursor, or find it as it was opened."""
        if self._opened is None:
            self._opened = await patiently(lambda: self._calls.open(self._options), self._sleep)
        return self._opened

    async def _deal(self, given: HandOut, handle: Handle) -> None:
        for event in given.events:
            if given.lost:
                return
            try:
                await handle(event)
            except StopReading:
                raise
            except Exception as error:
                if given.token is None:
                    raise  # handed out counts as done: nobody would ever hear of it again
                # Whatever a handler raises is the failure of this event. Only the error's name
                # leaves: its text may hold what must not stand in a log for ever.
                given.failed = event, type(error).__name__
                self.counts.failed += 1
                return
            given.done = event

    async def _next(self, *, idle: bool) -> HandOut | None:
        """Return the next hand-out, however long it takes; None if idle and all is done."""
        cursor = await self.opened()
        wait = 0.0 if idle else self._wait
        while True:
            try:
                found = await patiently(
                    lambda: self._calls.fetch(self._holder, self._limit, wait), self._sleep
                )
            except ServiceError as error:
                if error.code == "cursor_blocked":
                    raise CursorBlocked(error.details.get("pos")) from error
                if error.code != "lease_held":
                    raise
                await self._sleep(self._until_free(error))
                continue
            if found.events:
                return self._taken(found, cursor)
            if idle:
                if found.next_attempt_at is None:
                    return None
                await self._sleep(SHORTEST_WAIT)

    def _taken(self, found: Fetched, cursor: Opened) -> HandOut:
        """Return a hand-out whose events were all verified; nothing of another one is touched."""
        events = [checked_event(said, found.generation, self._pins) for said in found.events]
        _require_order(events)
        self.counts.hand_outs += 1
        self.counts.events += len(events)
        self.counts.redelivered += sum(event.redelivered for event in events)
        token = found.lease_token if cursor.mode == "ack" else None
        return HandOut(found.generation, token, cursor.lease_seconds, events)

    def _until_free(self, error: ServiceError) -> float:
        """Return how long to wait for the lease of another reader.

        `Retry-After` is in whole seconds and the end itself in milliseconds, by the service's
        clock; if ours goes wrong, the wait is only a shorter one than need be.
        """
        said = max(error.retry_after or 1.0, SHORTEST_WAIT)
        until = error.details.get("until_ms")
        if not isinstance(until, int):
            return said
        return min(said, max((until - self._clock()) / 1000, said * SHORTEST_WAIT))


def _require_order(events: Sequence[Event]) -> None:
    """Raise `AnswerRefused` unless positions rise."""
    places = [event.pos for event in events]
    if places != sorted(set(places)):
        raise AnswerRefused("the events are out of order")


async def _to_its_end(thread: ThreadPoolExecutor, call: Callable[[], bool]) -> bool:
    """Run in a thread; who is cancelled waits for it, as its transaction cannot be left open."""
    running = asyncio.get_running_loop().run_in_executor(thread, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _holder() -> str:
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
