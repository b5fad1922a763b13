"""Checks of a cursor's stream: every event against the state that the one before it left.

Deciders refuse commands; these checks judge events that exist, by the rules of the protocol alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from ledger.cursor_events import (
    CursorAcknowledged,
    CursorAct,
    CursorLeased,
    CursorOpened,
    CursorParked,
    CursorReleased,
    CursorReplayed,
    CursorSought,
    CursorState,
)
from ledger.values import UnixMs


def c08_cursor(
    before: CursorState | None, event: CursorAct, seq: int, position: int, at: UnixMs
) -> Iterator[str]:
    """C08: a cursor opens once, its tokens and its place only grow, and one reader has it."""
    after = event.state
    if after.seq != seq:
        yield f"the cursor's state says event {after.seq}, but it is event {seq}"
    if max(after.acked.position, after.lease.to.position if after.lease else 0) >= position:
        yield "the cursor stands at an event that was not recorded yet"
    if before is None or isinstance(event, CursorOpened):
        if before is not None or not isinstance(event, CursorOpened):
            yield f"{event.kind} stands where the cursor is not opened, or opens it again"
        return
    if after.settings != before.settings:
        yield "the cursor's settings changed"
    yield from _tokens(before, event, seq)
    yield from _place(before, event)
    if isinstance(event, CursorLeased):
        yield from _lease(before, event, at)


def _tokens(before: CursorState, event: CursorAct, seq: int) -> Iterator[str]:
    """Compare the token: it is the number of the event that gave it, a lease or a seek."""
    fresh = isinstance(event, CursorSought) or (
        isinstance(event, CursorLeased) and event.extends is None
    )
    if event.state.token != (seq if fresh else before.token):
        yield f"the newest token is {event.state.token}, which is not the event that gave it"
    if isinstance(event, CursorAcknowledged | CursorReleased) and event.token != before.token:
        yield f"{event.kind} under the token {event.token}, but {before.token} is the newest"


def _place(before: CursorState, event: CursorAct) -> Iterator[str]:
    """Compare the place: only acknowledging, parking what comes next, or seeking moves it."""
    old, new = before.acked, event.state.acked
    match event:
        case CursorAcknowledged():
            to = before.lease.to.pos if before.lease is not None else 0
            replayed = [p.pos for p in before.lease.replays] if before.lease is not None else []
            if event.through > max([to, *replayed]):
                yield f"{event.through} was acknowledged, but {to} is the last that was handed out"
            if new.pos < old.pos:
                yield f"an acknowledgement moved the cursor back from {old.pos} to {new.pos}"
        case CursorLeased():
            moved = event.to if before.settings.mode == "auto" and not event.replays else old.pos
            if new.pos != moved:
                yield f"a hand-out moved the cursor to {new.pos} instead of {moved}"
        case CursorParked():
            if new.pos < old.pos:
                yield f"parking moved the cursor back from {old.pos} to {new.pos}"
        case CursorReleased() | CursorReplayed():
            if new != old:
                yield f"{event.kind} moved the cursor from {old.pos} to {new.pos}"
        case CursorSought():
            if event.before != old:
                yield "the cursor was moved from where it did not stand"
        case CursorOpened():
            return
        case _:
            assert_never(event)


def _lease(before: CursorState, event: CursorLeased, at: UnixMs) -> Iterator[str]:
    """Require one reader at a time, and that nothing that is done is handed out again."""
    lease = before.lease
    if lease is not None and lease.until > at and lease.holder != event.holder:
        yield f"handed out while the lease of another reader lasted until {lease.until}"
    if event.first <= before.acked.pos and not event.replays and event.extends is None:
        yield f"{event.first} was handed out again after {before.acked.pos} was acknowledged"
