"""The rules of a cursor that no reader meets in a short test: its bounds."""

from __future__ import annotations

import pytest

from ledger.cursor import decide_cursor
from ledger.cursor_commands import FeedSlice, Refuse
from ledger.cursor_errors import CursorRefused
from ledger.cursor_events import (
    MAX_ATTEMPTS,
    MAX_REPLAYS,
    MAX_SKIPPED,
    CursorLeased,
    CursorSettings,
    CursorState,
    Lease,
    Place,
    Tries,
)
from ledger.cursor_tries import count_of, counted
from ledger.entry import MAX_ENTRY_BYTES, Draft, Seal, read_entry, seal
from ledger.event import TreeHead
from ledger.signing import Signer
from ledger.values import UnixMs, cursor_stream

FAR = 2**53 - 1
SETTINGS = CursorSettings(
    start="earliest",
    mode="ack",
    lease_ms=30_000,
    max_batch=1000,
    max_attempts=10,
    backoff_ms=0,
    backoff_max_ms=0,
    on_poison="park",
)


def places(count: int, first: int = 1) -> tuple[Place, ...]:
    return tuple(Place(pos=first + n, position=first + n) for n in range(count))


def test_so_many_events_may_be_parked_ahead_and_no_more() -> None:
    ahead = places(MAX_SKIPPED, first=2)
    held = Lease(token=5, holder="a", first=1, to=Place(pos=900, position=900), until=FAR)
    state = CursorState(
        seq=5,
        generation=1,
        settings=SETTINGS,
        acked=Place(pos=0, position=0),
        token=5,
        lease=held,
        skipped=ahead,
    )
    feed = FeedSlice(1, 0, places(900), whole=True, head=900)
    command = Refuse(
        5, 900, park=True, retry_ms=None, reason=None, parked=False, feed=feed, now=UnixMs(1)
    )

    with pytest.raises(CursorRefused, match="acknowledge first"):
        decide_cursor(state, command, UnixMs(1))
    shorter = state.model_copy(update={"skipped": ahead[1:]})
    assert decide_cursor(shorter, command, UnixMs(1)).drafts


def test_the_largest_state_fits_an_entry() -> None:
    far = tuple(Place(pos=FAR - n, position=FAR - n) for n in range(MAX_SKIPPED))
    name = "x" * 39
    settings = SETTINGS.model_copy(update={"types": (f"{name}.{name}",) * 64, "start": "s" * 200})
    lease = Lease(
        token=FAR, holder="h" * 128, first=FAR, to=far[0], until=FAR, replays=far[:MAX_REPLAYS]
    )
    state = CursorState(
        seq=FAR,
        generation=FAR,
        settings=settings,
        acked=far[0],
        token=FAR,
        lease=lease,
        tries=(Tries(through=FAR, count=FAR),) * (MAX_ATTEMPTS + 1),
        skipped=far,
        replays=far[:MAX_REPLAYS],
        failed=far[0],
        retry_at=FAR,
        blocked=far[0],
    )
    event = CursorLeased(
        holder="h" * 128,
        first=FAR,
        to=FAR,
        until=FAR,
        attempt=FAR,
        transport="http",
        extends=FAR,
        replays=(FAR,) * MAX_REPLAYS,
        state=state,
    )
    place = Seal(
        log="l" * 160,
        stream=cursor_stream("0x" + "a" * 40, "n" * 64),
        seq=FAR,
        prev="0" * 64,
        at=UnixMs(1_800_000_000_000),
        base=TreeHead(size=FAR, root="0" * 64),
    )

    signed = seal(Draft(event), place, Signer(b"\x01" * 32))

    assert len(signed.entry) < MAX_ENTRY_BYTES
    assert read_entry(signed.entry).event == event


def test_counts_are_those_of_every_event_alone() -> None:
    """Compare with a plain count per event, over hand-outs as cursors make them."""
    plain = [0] * 30
    steps: tuple[Tries, ...] = ()
    for after, to, by in ((0, 4, 1), (0, 4, 1), (2, 9, 1), (9, 12, 1), (2, 6, 1), (2, 6, -1)):
        steps = counted(steps, after, to, by)
        for pos in range(after + 1, to + 1):
            plain[pos] += by
        assert [count_of(steps, pos) for pos in range(1, 15)] == plain[1:15], (after, to, by)
