"""The rules of a cursor: lease, acknowledge, refuse, seek. Pure.

One live lease at a time; its token is the `seq` of the event that gave it, so it only ever grows
and a late reader is told apart whatever the clock did. When a lease ends is judged by the time the
event will carry, whether an acknowledgement counts by the token alone. Guarantees: docs/cursors.md.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

from ledger import cursor_commands as c
from ledger.cursor_errors import (
    CursorExists,
    FeedMoved,
    GenerationChanged,
    NotHandedOut,
    StaleLease,
)
from ledger.cursor_events import (
    CursorAcknowledged,
    CursorEvent,
    CursorLeased,
    CursorOpened,
    CursorParked,
    CursorReleased,
    CursorState,
    Lease,
    Place,
)
from ledger.cursor_lease import after_parked, blocked, fetch, reached, set_aside
from ledger.cursor_place import renumber, replay, seek
from ledger.cursor_tries import after_place, count_of, counted
from ledger.decision import Decision, decided
from ledger.entry import SignedEvent
from ledger.errors import NotFound
from ledger.values import UnixMs

NO_CURSOR: Final = "NOT_FOUND"


def decide_cursor(state: CursorState | None, command: c.CursorCommand, at: UnixMs) -> Decision:
    """Return the events that an act leads to; `at` is the time they will carry."""
    decision = _decided(state, command, at)
    for draft in decision.drafts:
        # What cannot be read back would stand in the log for ever and stop every reader of it.
        type(draft.event).model_validate(draft.event.body())
    return decision


def _decided(state: CursorState | None, command: c.CursorCommand, at: UnixMs) -> Decision:
    if isinstance(command, c.OpenCursor):
        return open_cursor(state, command)
    if state is None:
        raise NotFound("no cursor has this name", code=NO_CURSOR)
    match command:
        case c.FetchEvents():
            return fetch(state, command, at)
        case c.Acknowledge():
            return acknowledge(state, command)
        case c.Refuse():
            return refuse(state, command, at)
        case c.ProlongLease():
            return prolong(state, command, at)
        case c.ReleaseLease():
            return release(state, command, at)
        case c.Seek():
            return seek(state, command)
        case c.Renumber():
            return renumber(state, command)
        case c.ReplayParked():
            return replay(state, command)
        case _:
            assert_never(command)


def open_cursor(state: CursorState | None, command: c.OpenCursor) -> Decision:
    """Open it; the same settings again change nothing."""
    if state is None:
        opened = CursorState(
            seq=1,
            generation=command.generation,
            settings=command.settings,
            acked=command.start,
        )
        return decided(CursorOpened(state=opened))
    if state.settings != command.settings:
        raise CursorExists("a cursor of this name has other settings")
    return Decision()


def acknowledge(state: CursorState, command: c.Acknowledge) -> Decision:
    """Move the place forward. What is acknowledged already is no error, whatever the token."""
    if command.generation != state.generation:
        raise GenerationChanged(
            "the feed is numbered anew; fetch again", details={"generation": state.generation}
        )
    if command.through <= reached(state, command.feed) or _is_of_replays(state, command):
        return _acknowledge_replays(state, command)
    lease = require_lease(state, command.token)
    if command.through > lease.to.pos:
        raise _not_handed_out(command.through)
    if command.position is None:
        raise FeedMoved("the feed does not show this position yet; ask again")
    acked = Place(pos=command.through, position=command.position)
    moved = past(state, acked, command.feed)
    event = CursorAcknowledged(
        token=command.token,
        through=command.through,
        results=command.results,
        state=next_state(state, **moved),
    )
    return decided(event)


def past(state: CursorState, acked: Place, feed: c.FeedSlice) -> dict[str, Any]:
    """Return what changes when everything up to `acked` is done with, and what was parked next."""
    acked = after_parked(acked, state.skipped, feed)
    failed, stopped = state.failed, state.blocked
    cleared = {"failed": None, "retry_at": None} if failed and failed.pos <= acked.pos else {}
    return {
        "blocked": stopped if stopped and stopped.pos > acked.pos else None,
        "acked": acked,
        "tries": after_place(state.tries, acked.pos),
        "skipped": tuple(place for place in state.skipped if place.pos > acked.pos),
        **cleared,
    }


def _is_of_replays(state: CursorState, command: c.Acknowledge) -> bool:
    """Whether it names a parked event under a lease of such that lie ahead of the place.

    Of a repeat the event is no part of that lease any more.
    """
    lease = state.lease
    if lease is None or command.token != state.token or lease.first <= lease.to.pos:
        return False
    return command.through in {place.pos for place in (*lease.replays, *state.skipped)}


def _acknowledge_replays(state: CursorState, command: c.Acknowledge) -> Decision:
    """Take off what was handed out again and lies up to there, if the token is that lease's."""
    lease = state.lease
    if lease is None or command.token != state.token:
        return Decision()
    done = {place.pos for place in lease.replays if place.pos <= command.through}
    if not done:
        return Decision()
    left = tuple(place for place in lease.replays if place.pos not in done)
    event = CursorAcknowledged(
        token=command.token,
        through=command.through,
        results=command.results,
        state=next_state(state, lease=lease.model_copy(update={"replays": left})),
    )
    return decided(event)


def refuse(state: CursorState, command: c.Refuse, at: UnixMs) -> Decision:
    """End the lease because of one event, or put that event aside. Acknowledges nothing.

    The same refusal again changes nothing: the event lies aside, or rests, as it did.
    """
    lease = require_lease(state, command.token)
    again = next((place for place in lease.replays if place.pos == command.at), None)
    skipped = {place.pos for place in state.skipped}
    done = command.at <= state.acked.pos or command.at in skipped
    if command.park and command.parked and done and again is None:
        return Decision()
    if not command.park and state.failed and state.failed.pos == command.at and lease.until <= at:
        return Decision()
    place = again or next((p for p in command.feed.places if p.pos == command.at), None)
    covered = again or state.acked.pos < command.at <= lease.to.pos
    if place is None or not covered or command.at in skipped:
        raise _not_handed_out(command.at)
    return _park(state, command, place) if command.park else _retry(state, command, place, at)


def _park(state: CursorState, command: c.Refuse, place: Place) -> Decision:
    lease = state.lease
    if lease is not None and place in lease.replays:
        left = tuple(each for each in lease.replays if each != place)
        changes: dict[str, Any] = {"lease": lease.model_copy(update={"replays": left})}
    else:
        aside = set_aside(state, place, command.feed)
        with_it = next_state(state, skipped=(*state.skipped, place))
        changes = past(with_it, aside["acked"], command.feed)
    event = CursorParked(
        place=place,
        attempts=max(1, count_of(state.tries, place.pos)),
        by="reader",
        blocked=False,
        reason=command.reason,
        state=next_state(state, **changes),
    )
    return decided(event)


def _retry(state: CursorState, command: c.Refuse, place: Place, at: UnixMs) -> Decision:
    wait = command.retry_ms
    if wait is None:
        wait = backoff(state, count_of(state.tries, place.pos))
    retry_at = at + wait
    event = CursorReleased(
        token=command.token,
        at=place.pos,
        retry_at=retry_at,
        reason=command.reason,
        state=next_state(state, lease=_ended(state, at), failed=place, retry_at=retry_at),
    )
    return decided(event)


def backoff(state: CursorState, attempts: int) -> int:
    """Return how long a refused event rests: twice as long each time, up to the longest."""
    settings = state.settings
    # 2^40 ms is beyond any longest rest; the shift stays small whatever the count is.
    wait = settings.backoff_ms << min(40, max(0, attempts - 1))
    return min(wait, max(settings.backoff_ms, settings.backoff_max_ms))


def prolong(state: CursorState, command: c.ProlongLease, at: UnixMs) -> Decision:
    """Make the newest lease last longer, also one that has ended and that nobody took over."""
    lease = require_lease(state, command.token)
    if state.blocked is not None:
        raise blocked(state.blocked)
    longer = lease.model_copy(update={"until": at + command.lease_ms})
    event = CursorLeased(
        holder=lease.holder,
        first=lease.first,
        to=lease.to.pos,
        until=longer.until,
        attempt=count_of(state.tries, lease.first),
        transport="http",
        extends=lease.token,
        state=next_state(state, lease=longer),
    )
    return decided(event)


def release(state: CursorState, command: c.ReleaseLease, at: UnixMs) -> Decision:
    """End the lease; what it covered and was not acknowledged does not count as tried."""
    lease = require_lease(state, command.token)
    if lease.until <= at:
        return Decision()
    tries = counted(state.tries, state.acked.pos, lease.to.pos, -1)
    event = CursorReleased(
        token=command.token, state=next_state(state, lease=_ended(state, at), tries=tries)
    )
    return decided(event)


def require_lease(state: CursorState, token: int) -> Lease:
    """Return the newest lease if the token is its own; whether it has ended does not matter."""
    if state.lease is None or token != state.token:
        raise StaleLease(
            "the lease was taken over, or the cursor was moved", details={"newest": state.token}
        )
    return state.lease


def next_state(state: CursorState, **changes: object) -> CursorState:
    """Return the state after one more event."""
    return state.model_copy(update={"seq": state.seq + 1, **changes})


def evolve_cursor(_before: CursorState | None, signed: SignedEvent) -> CursorState:
    """Return the state after an event: every event carries it."""
    event = signed.event
    if not isinstance(event, CursorEvent):
        msg = f"{event.kind!r} is not an event of a cursor"
        raise TypeError(msg)
    return event.state


def _ended(state: CursorState, at: UnixMs) -> Lease | None:
    lease = state.lease
    if lease is None:
        return None
    return lease.model_copy(update={"until": min(lease.until, at)})


def _not_handed_out(pos: int) -> NotHandedOut:
    return NotHandedOut("the position was not handed out under this token", details={"pos": pos})
