"""A hand-out while it is being dealt with: kept by a task in the background, then settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from api.client.cursor import CursorCalls
from api.client.errors import ClientError, ServiceError
from api.client.event import Event
from api.client.patience import patiently
from api.client.times import Sleep

GRACE_SECONDS: Final = 5.0
"""How long a reader that ends tries to say so."""
MAX_REASON: Final = 200

_DROPPED: Final = frozenset({"stale_lease", "generation_changed"})
"""Somebody else has the events now, or they are numbered anew: fetch again."""


@dataclass(slots=True)
class HandOut:
    """Events under one lease. `done` is the last one that was dealt with, `failed` ended it.

    `lost` says that the lease is somebody else's: whatever is left is dealt with there.
    """

    generation: int
    token: int | None
    lease_seconds: float
    events: Sequence[Event]
    done: Event | None = None
    failed: tuple[Event, str] | None = None
    lost: bool = False
    acked: Event | None = field(default=None)


class Leases:
    """Keeps and settles the hand-outs of one cursor."""

    def __init__(self, calls: CursorCalls, sleep: Sleep) -> None:
        self._calls = calls
        self._sleep = sleep
        self._newest: int | None = None

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """Give back at the end of a block what is held then, so that others need not wait for it.

        Also a lease whose events are all acknowledged keeps others away until its time is over.
        """
        try:
            yield
        finally:
            token, self._newest = self._newest, None
            if token is not None:
                with suppress(ClientError, TimeoutError):
                    async with asyncio.timeout(GRACE_SECONDS):
                        await self._calls.release(token)

    @asynccontextmanager
    async def holding(self, given: HandOut) -> AsyncIterator[HandOut]:
        """Keep the lease for the length of a block, then say what was done and what failed."""
        if given.token is None:  # handed out counts as done: nothing to keep or to say
            yield given
            return
        self._newest = given.token
        keeper = asyncio.create_task(self._keep(given, given.token), name="lease")
        try:
            yield given
        except BaseException:
            # Cancelled, closed, or told to stop: what is done need not come again.
            await _end(keeper)
            with suppress(ClientError, TimeoutError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await self._acknowledge(given, given.token)
            raise
        await _end(keeper)
        await self._settle(given, given.token)

    async def _keep(self, given: HandOut, token: int) -> None:
        """Prolong at half of the lease, and acknowledge what is done so far."""
        while not given.lost:
            await self._sleep(given.lease_seconds / 2)
            try:
                await self._acknowledge(given, token)
                await self._calls.extend(token, given.lease_seconds)
            except ServiceError as error:
                given.lost = error.code in _DROPPED
            except ClientError:
                continue  # no answer now; the token alone decides whether a later one counts

    async def _settle(self, given: HandOut, token: int) -> None:
        try:
            await patiently(lambda: self._acknowledge(given, token), self._sleep)
            if given.failed is not None and not given.lost:
                event, reason = given.failed
                reason = reason[:MAX_REASON]
                await patiently(lambda: self._calls.nack(token, event.pos, reason), self._sleep)
        except ServiceError as error:
            if error.code not in _DROPPED:
                raise
            given.lost = True

    async def _acknowledge(self, given: HandOut, token: int) -> None:
        """Acknowledge up to what is done. Under a lost lease it moves nothing that others moved."""
        done = given.done
        if done is not None and done is not given.acked:
            await self._calls.ack(given.generation, token, done.pos)
            given.acked = done


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
