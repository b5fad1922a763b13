"""The events of a cursor, a named place of one reader in one party's feed.

Each carries the whole small state of the cursor as it is after the event, so that the newest one is
all there is to load. A place is a position in the feed with the position in the ledger beside it:
whatever the feed is numbered like, the ledger's position says where the cursor stands.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from ledger.event import Actor, Event, Part
from ledger.values import Digest, ShortText

Count = Annotated[int, Field(ge=0, lt=2**53)]
Millis = Annotated[int, Field(ge=0, lt=2**53)]
Holder = Annotated[str, StringConstraints(min_length=1, max_length=128)]
FeedType = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}\.[a-z_]{1,40}$")]
Transport = Literal["http", "ws"]

MAX_BATCH = 1000
MAX_ATTEMPTS = 100
MAX_REPLAYS = 100
MAX_SKIPPED = 100
"""Events that are parked ahead of the place: every event carries them, and an entry is short."""


class Place(Part):
    """One event of a feed: its position in the feed, and in the ledger. Zeros: before the first."""

    pos: Count
    position: Count


Places = Annotated[tuple[Place, ...], Field(max_length=MAX_SKIPPED, strict=False)]


class CursorSettings(Part):
    """What a cursor is opened with, for ever. Without `types` it lets every event through."""

    start: ShortText
    types: Annotated[tuple[FeedType, ...], Field(max_length=64, strict=False)] | None = None
    mode: Literal["ack", "auto"]
    lease_ms: Annotated[int, Field(ge=10, le=3_600_000)]
    max_batch: Annotated[int, Field(ge=1, le=MAX_BATCH)]
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
    backoff_ms: Millis
    backoff_max_ms: Millis
    on_poison: Literal["park", "block"]


class Lease(Part):
    """What was handed out, to whom, and until when nobody else gets it.

    `token` is the `seq` of the event that gave it. It covers what lies after the acknowledged place
    up to `to`; if it has `replays`, it covers these and nothing else.
    """

    token: Count
    holder: Holder
    first: Count
    to: Place
    until: Millis
    replays: Places = ()


class Tries(Part):
    """How often the events up to `through` were handed out."""

    through: Count
    count: Count


class CursorState(Part):
    """Where a cursor stands after the event `seq` of its stream.

    `token` is the newest one, with or without a lease. `tries` falls from one entry to the next.
    `skipped` are parked events after `acked`, `replays` parked ones to be handed out again. After a
    refusal, `failed` is the event it named and `retry_at` when it may be tried again.
    """

    seq: Count
    generation: Count
    settings: CursorSettings
    acked: Place
    token: Count = 0
    lease: Lease | None = None
    tries: Annotated[tuple[Tries, ...], Field(max_length=MAX_ATTEMPTS + 1, strict=False)] = ()
    skipped: Places = ()
    replays: Places = ()
    failed: Place | None = None
    retry_at: Millis | None = None
    blocked: Place | None = None


class CursorEvent(Event):
    """What every event of a cursor has."""

    state: CursorState


class CursorOpened(CursorEvent):
    """The reader opened a cursor."""

    kind: ClassVar[str] = "cursor_opened"
    actor: ClassVar[Actor] = "client"


class CursorLeased(CursorEvent):
    """Events were handed out, or with `extends` the lease of that token was made longer.

    The provider's word: it proves what was written to the connection, not that it arrived.
    """

    kind: ClassVar[str] = "cursor_leased"
    holder: Holder
    first: Count
    to: Count
    until: Millis
    attempt: Count
    transport: Transport
    extends: Count | None = None
    replays: Annotated[tuple[Count, ...], Field(max_length=MAX_REPLAYS, strict=False)] | None = None


class CursorAcknowledged(CursorEvent):
    """The reader acknowledged everything up to `through` under this token."""

    kind: ClassVar[str] = "cursor_acknowledged"
    actor: ClassVar[Actor] = "client"
    token: Count
    through: Count
    results: Digest | None = None


class CursorReleased(CursorEvent):
    """The reader gave its lease back; with `at` because that event could not be dealt with."""

    kind: ClassVar[str] = "cursor_released"
    actor: ClassVar[Actor] = "client"
    token: Count
    at: Count | None = None
    retry_at: Millis | None = None
    reason: ShortText | None = None


class CursorParked(CursorEvent):
    """An event was put aside, or with `blocked` the cursor stops at it until its owner seeks."""

    kind: ClassVar[str] = "cursor_parked"
    place: Place
    attempts: Count
    by: Literal["reader", "attempts"]
    blocked: bool
    reason: ShortText | None = None


class CursorReplayed(CursorEvent):
    """The owner asked for a parked event again."""

    kind: ClassVar[str] = "cursor_replayed"
    actor: ClassVar[Actor] = "client"
    place: Place


class CursorSought(CursorEvent):
    """The cursor was moved: by its owner, or because the feed is numbered anew."""

    kind: ClassVar[str] = "cursor_sought"
    actor: ClassVar[Actor] = "client"
    before: Place
    by: Literal["owner", "generation"]
    reason: ShortText


CursorAct = (
    CursorOpened
    | CursorLeased
    | CursorAcknowledged
    | CursorReleased
    | CursorParked
    | CursorReplayed
    | CursorSought
)
