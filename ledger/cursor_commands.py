"""One frozen class per act on a cursor. What the feed holds comes in as a slice of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.cursor_events import CursorSettings, Place, Transport
from ledger.values import UnixMs


@dataclass(frozen=True, slots=True)
class FeedSlice:
    """The events after a position that a cursor's filter lets through, in order.

    `whole` says that it reaches to `head`, the feed's newest position.
    """

    generation: int
    after: int
    places: tuple[Place, ...]
    whole: bool
    head: int


@dataclass(frozen=True, slots=True)
class OpenCursor:
    """Open a cursor; `start` is the place before the first event it hands out."""

    settings: CursorSettings
    generation: int
    start: Place
    now: UnixMs


@dataclass(frozen=True, slots=True)
class FetchEvents:
    """Hand out events: a new lease, or with the token of one the same events again.

    With `pipeline` the hand-out goes on after what the lease covers. `lease_ms` is None for the
    cursor's own.
    """

    holder: str
    token: int | None
    limit: int
    lease_ms: int | None
    pipeline: bool
    transport: Transport
    feed: FeedSlice
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Acknowledge everything up to `through`; `position` is the ledger's for it, if it has one."""

    generation: int
    token: int
    through: int
    position: int | None
    results: str | None
    feed: FeedSlice
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say that the event at `at` could not be dealt with: try again later, or put it aside.

    `parked` says that it lies aside already.
    """

    token: int
    at: int
    park: bool
    retry_ms: int | None
    reason: str | None
    parked: bool
    feed: FeedSlice
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ProlongLease:
    """Make the lease last `lease_ms` from now."""

    token: int
    lease_ms: int
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """Give the lease back before its time."""

    token: int
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Seek:
    """Move the cursor: `to` is the place before the next event."""

    to: Place
    reason: str
    now: UnixMs


@dataclass(frozen=True, slots=True)
class Renumber:
    """Carry the cursor over to a new numbering: ledger position to position in the feed.

    `acked` is where the acknowledged place lies now; an event that the feed has no more is left out
    of `places`.
    """

    generation: int
    acked: int
    places: Mapping[int, int]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ReplayParked:
    """Hand a parked event out again."""

    place: Place
    now: UnixMs


CursorCommand = (
    OpenCursor
    | FetchEvents
    | Acknowledge
    | Refuse
    | ProlongLease
    | ReleaseLease
    | Seek
    | Renumber
    | ReplayParked
)
