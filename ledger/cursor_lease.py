"""How events are handed out: the same again under a live lease, or a new lease. Pure."""

from __future__ import annotations

from typing import Any

from ledger.cursor_commands import FeedSlice, FetchEvents
from ledger.cursor_errors import CursorBlocked, CursorRefused, FeedMoved, LeaseHeld, StaleLease
from ledger.cursor_events import MAX_SKIPPED, CursorLeased, CursorParked, CursorState, Lease, Place
from ledger.cursor_tries import count_of, counted, lowered
from ledger.decision import Decision, decided
from ledger.errors import LedgerError
from ledger.event import Event
from ledger.values import UnixMs


def fetch(state: CursorState, command: FetchEvents, at: UnixMs) -> Decision:
    """Hand out events, or refuse. Without anything new to say it writes nothing."""
    if command.feed.generation != state.generation:
        raise FeedMoved("the cursor is carried over to a new numbering; ask again")
    if command.token is not None and command.token != state.token:
        raise StaleLease("the lease was taken over", details={"newest": state.token})
    lease = state.lease
    if lease is None or lease.until <= at:
        return _new_lease(state, command, at)
    if command.token is None and command.holder != lease.holder:
        raise _held(lease, at)
    if command.feed.head < lease.to.pos:
        raise FeedMoved("the feed does not show yet what the lease covers; ask again")
    if goes_on(command, lease):
        return _granted(state, command, at, after=lease.to.pos, events=())
    if lease.replays or outstanding(state, command.feed, lease):
        return _prolonged(state, command, lease, at)
    return _new_lease(state, command, at)


def goes_on(command: FetchEvents, lease: Lease) -> bool:
    """Whether a fetch asks for what comes after its lease: only who has the token has the rest."""
    return command.pipeline and command.token is not None and not lease.replays


def outstanding(state: CursorState, feed: FeedSlice, lease: Lease) -> tuple[Place, ...]:
    """Return what the lease covers and nobody acknowledged or put aside yet."""
    return tuple(place for place in waiting(state, feed) if place.pos <= lease.to.pos)


def waiting(state: CursorState, feed: FeedSlice) -> tuple[Place, ...]:
    """Return what of a slice is still to be dealt with; raises if it begins too late."""
    if feed.after > state.acked.pos:
        raise FeedMoved("the cursor was moved back meanwhile; ask again")
    skipped = {place.pos for place in state.skipped}
    return tuple(p for p in feed.places if p.pos > state.acked.pos and p.pos not in skipped)


def set_aside(state: CursorState, place: Place, feed: FeedSlice) -> dict[str, Any]:
    """Return what changes when an event is parked, or refuse: the state must stay short."""
    skipped = (*state.skipped, place)
    acked = after_parked(state.acked, skipped, feed)
    ahead = tuple(each for each in skipped if each.pos > acked.pos)
    if len(ahead) > MAX_SKIPPED:
        raise CursorRefused("too many events are parked ahead of the place; acknowledge first")
    return {"acked": acked, "skipped": ahead}


def after_parked(acked: Place, skipped: tuple[Place, ...], feed: FeedSlice) -> Place:
    """Return the acknowledged place, moved past parked events that come right after it."""
    for place in feed.places:
        if place.pos > acked.pos:
            if place not in skipped:
                break
            acked = place
    return acked


def reached(state: CursorState, feed: FeedSlice) -> int:
    """Return how far the cursor is done: what its filter holds back counts as done."""
    ahead = waiting(state, feed)
    if ahead:
        return ahead[0].pos - 1
    return max(state.acked.pos, feed.head) if feed.whole else state.acked.pos


def _held(lease: Lease, at: UnixMs) -> LeaseHeld:
    seconds = -((at - lease.until) // 1000)
    return LeaseHeld(
        "another reader holds the lease", retry_after=seconds, details={"until_ms": lease.until}
    )


def _prolonged(state: CursorState, command: FetchEvents, lease: Lease, at: UnixMs) -> Decision:
    """Hand out the same again; the lease is made longer once half of it is over."""
    lasts = command.lease_ms or state.settings.lease_ms
    if lease.until - at >= lasts / 2:
        return Decision()
    longer = lease.model_copy(update={"until": at + lasts})
    after = state.model_copy(update={"seq": state.seq + 1, "lease": longer})
    event = CursorLeased(
        holder=lease.holder,
        first=lease.first,
        to=lease.to.pos,
        until=longer.until,
        attempt=count_of(state.tries, lease.first),
        transport=command.transport,
        extends=lease.token,
        state=after,
    )
    return decided(event)


def _new_lease(state: CursorState, command: FetchEvents, at: UnixMs) -> Decision:
    """Put aside what failed too often, then lease what comes next."""
    if state.blocked is not None:
        raise blocked(state.blocked)
    events: list[Event] = []
    while (poison := _poison(state, command.feed)) is not None:
        state = _put_aside(state, command.feed, poison, events)
        if state.blocked is not None:
            return decided(*events, error=blocked(poison))
    if state.retry_at is not None and state.retry_at > at:
        return decided(*events)
    queue = to_replay(state)
    if queue:
        return _replayed(state, command, at, queue, tuple(events))
    return _granted(state, command, at, after=state.acked.pos, events=tuple(events))


def to_replay(state: CursorState) -> tuple[Place, ...]:
    """Return the parked events to hand out again: those asked for, and those that came to nothing.

    What a lease covered and nobody acknowledged is handed out until somebody does.
    """
    left = state.lease.replays if state.lease is not None else ()
    return tuple(sorted({*left, *state.replays}, key=lambda place: place.pos))


def _poison(state: CursorState, feed: FeedSlice) -> Place | None:
    """Return the event that was handed out too often: the one refused last, or the next one."""
    ahead = waiting(state, feed)
    suspects = (*(place for place in ahead if place == state.failed), *ahead[:1])
    most = state.settings.max_attempts
    return next((place for place in suspects if count_of(state.tries, place.pos) >= most), None)


def _put_aside(
    state: CursorState, feed: FeedSlice, poison: Place, events: list[Event]
) -> CursorState:
    """Park it, or stop at it. The others that were handed out with it get one more chance."""
    blocks = state.settings.on_poison == "block"
    changes: dict[str, Any] = {"seq": state.seq + 1, "failed": None, "retry_at": None}
    if blocks:
        changes["blocked"] = poison
    else:
        changes |= set_aside(state, poison, feed)
        changes["tries"] = lowered(state.tries, state.settings.max_attempts - 1)
    after = state.model_copy(update=changes)
    attempts = count_of(state.tries, poison.pos)
    events.append(
        CursorParked(place=poison, attempts=attempts, by="attempts", blocked=blocks, state=after)
    )
    return after


def _granted(
    state: CursorState, command: FetchEvents, at: UnixMs, *, after: int, events: tuple[Event, ...]
) -> Decision:
    ahead = [place for place in waiting(state, command.feed) if place.pos > after]
    given = ahead[: min(command.limit, state.settings.max_batch)]
    if not given:
        if not command.feed.whole:
            raise FeedMoved("the feed was read too short; ask again")
        return decided(*events)
    first, to = given[0], given[-1]
    tries = counted(state.tries, after, to.pos, 1)
    lease = _lease(state, command, at, to=to, first=first)
    changes: dict[str, Any] = {"tries": tries, "failed": None, "retry_at": None, "lease": lease}
    if state.settings.mode == "auto":
        changes |= {"acked": to, "tries": (), "lease": None, "skipped": ()}
    return _leased(state, command, lease, events, changes, count_of(tries, first.pos))


def _replayed(
    state: CursorState,
    command: FetchEvents,
    at: UnixMs,
    queue: tuple[Place, ...],
    events: tuple[Event, ...],
) -> Decision:
    """Hand out parked events once more, until they are acknowledged or parked again."""
    # Those ahead of the place on their own: the lease's bound then tells the two kinds apart.
    behind = tuple(place for place in queue if place.pos <= state.acked.pos)
    given = (behind or queue)[: min(command.limit, state.settings.max_batch)]
    left = tuple(place for place in queue if place not in given)
    lease = _lease(state, command, at, to=state.acked, first=given[0], replays=given)
    changes: dict[str, Any] = {
        "replays": left,
        "lease": None if state.settings.mode == "auto" else lease,
        "failed": None,
        "retry_at": None,
    }
    return _leased(state, command, lease, events, changes, 1)


def _lease(
    state: CursorState,
    command: FetchEvents,
    at: UnixMs,
    *,
    to: Place,
    first: Place,
    replays: tuple[Place, ...] = (),
) -> Lease:
    lasts = command.lease_ms or state.settings.lease_ms
    return Lease(
        token=state.seq + 1,
        holder=command.holder,
        first=first.pos,
        to=to,
        until=at + lasts,
        replays=replays,
    )


def _leased(
    state: CursorState,
    command: FetchEvents,
    lease: Lease,
    events: tuple[Event, ...],
    changes: dict[str, Any],
    attempt: int,
) -> Decision:
    after = state.model_copy(update={"seq": state.seq + 1, "token": lease.token, **changes})
    replays = tuple(place.pos for place in lease.replays)
    event = CursorLeased(
        holder=lease.holder,
        first=lease.first,
        to=lease.to.pos,
        until=lease.until,
        attempt=attempt,
        transport=command.transport,
        replays=replays or None,
        state=after,
    )
    return decided(*events, event)


def blocked(place: Place) -> LedgerError:
    """Return the refusal of a cursor that stops at an event."""
    return CursorBlocked(
        "an event failed too often and the cursor stops there; its owner seeks on or back",
        details={"pos": place.pos},
    )
