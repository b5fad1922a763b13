"""A cursor's whole life, told to a ledger: opened, handed out, refused, parked, sought."""

from __future__ import annotations

from ledger import cursor_commands as c
from ledger.cursor_events import CursorSettings, CursorState, Place
from ledger.service import Ledger
from ledger.values import UnixMs, cursor_stream, is_cursor
from projections.feeds import FEED_TYPES, GENERATION, PROVIDER

STREAM = cursor_stream(PROVIDER, "told")
SETTINGS = CursorSettings(
    start="earliest",
    mode="ack",
    lease_ms=10_000,
    max_batch=10,
    max_attempts=3,
    backoff_ms=100,
    backoff_max_ms=1000,
    on_poison="park",
)


def provider_feed(ledger: Ledger) -> tuple[Place, ...]:
    """Return the places of the provider's feed, which holds every event but those of cursors."""
    told = [
        placed.position
        for placed in ledger.read(after=0, limit=100_000)
        if not is_cursor(placed.signed.stream) and placed.signed.event.kind in FEED_TYPES
    ]
    return tuple(Place(pos=n, position=position) for n, position in enumerate(told, start=1))


class CursorStory:
    """One cursor, and what its readers do; `now` is asked for each act."""

    def __init__(self, ledger: Ledger, tick: object) -> None:
        self._ledger = ledger
        self._tick = tick
        self._places = provider_feed(ledger)

    @property
    def _feed(self) -> c.FeedSlice:
        return c.FeedSlice(GENERATION, 0, self._places, whole=True, head=len(self._places))

    def _now(self) -> UnixMs:
        assert callable(self._tick)
        return UnixMs(self._tick())

    async def do(self, command: c.CursorCommand) -> CursorState:
        receipt = await self._ledger.act_on_cursor(STREAM, command)
        assert isinstance(receipt.stream.state, CursorState)
        return receipt.stream.state

    async def fetch(self, holder: str, limit: int, token: int | None = None) -> CursorState:
        now = self._now()
        return await self.do(
            c.FetchEvents(
                holder,
                token,
                limit,
                None,
                pipeline=False,
                transport="http",
                feed=self._feed,
                now=now,
            )
        )

    async def ack(self, token: int, through: int) -> CursorState:
        position = self._places[through - 1].position
        command = c.Acknowledge(
            GENERATION, token, through, position, "ab" * 32, self._feed, self._now()
        )
        return await self.do(command)

    async def refuse(self, token: int, at: int, *, park: bool) -> CursorState:
        reason = "could not be dealt with"
        return await self.do(
            c.Refuse(
                token,
                at,
                park=park,
                retry_ms=None,
                reason=reason,
                parked=False,
                feed=self._feed,
                now=self._now(),
            )
        )


async def tell_cursors(ledger: Ledger, tick: object) -> None:
    """Tell one cursor's story; what it puts aside stays there."""
    story = CursorStory(ledger, tick)
    await story.do(c.OpenCursor(SETTINGS, GENERATION, Place(pos=0, position=0), story._now()))
    first = await story.fetch("a", 4)
    await story.refuse(first.token, 2, park=True)
    await story.refuse(first.token, 3, park=True)
    await story.ack(first.token, 4)
    await story.do(c.ReplayParked(story._places[1], story._now()))
    again = await story.fetch("a", 1)
    await story.ack(again.token, 2)
    second = await story.fetch("a", 2)
    await story.do(c.ProlongLease(second.token, 20_000, story._now()))
    await story.refuse(second.token, 5, park=False)
    third = await story.fetch("b", 2)
    await story.do(c.ReleaseLease(third.token, story._now()))
    fourth = await story.fetch("a", 2)
    await story.ack(fourth.token, 6)
    await story.do(c.Seek(story._places[2], "again", story._now()))
    await story.do(c.ReplayParked(story._places[2], story._now()))
    await story.fetch("b", 1)
