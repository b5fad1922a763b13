"""What feeds and cursors answer."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from api.answers import Time
from api.ivxp.responses import LedgerBlock


class EventData(BaseModel):
    """The signed event itself: `entry` is its exact text, `position` its place in the ledger."""

    kind: str
    position: int
    seq: int
    entry: str


class FeedEvent(BaseModel):
    """One event of a feed; `attempt` and `redelivered` belong to a hand-out."""

    pos: int
    event_id: str
    type: str
    order_id: str | None = None
    occurred_at: Time
    attempt: int | None = None
    redelivered: bool | None = None
    data: EventData


class LeaseView(BaseModel):
    """The newest lease; it may have ended."""

    lease_token: int
    holder: str
    from_: int = Field(alias="from")
    to: int
    expires_at: Time


class BackoffView(BaseModel):
    """How long a refused event rests."""

    initial_seconds: float
    max_seconds: float


class CursorResponse(BaseModel):
    """Where a cursor stands. `lag` is how many positions lie between it and the feed's head."""

    party: str
    name: str
    generation: int
    start: str
    types: list[str] | None = None
    mode: Literal["ack", "auto"]
    lease_seconds: float
    max_batch: int
    max_attempts: int
    backoff: BackoffView
    on_poison: Literal["park", "block"]
    opened_at: Time | None = None
    acked: int
    head: int
    lag: int
    lease: LeaseView | None = None
    attempts: int
    next_attempt_at: Time | None = None
    blocked: int | None = None
    parked: int
    ledger: LedgerBlock | None = None


class CursorsResponse(BaseModel):
    """Every cursor of a party."""

    cursors: list[CursorResponse]


class FetchResponse(BaseModel):
    """A hand-out; without events nothing was recorded and there is no `ledger`."""

    generation: int
    lease_token: int | None
    lease_expires_at: Time | None
    acked: int
    head: int
    lag: int
    events: list[FeedEvent]
    more: bool
    next_attempt_at: Time | None = None
    ledger: LedgerBlock | None = None


class AckResponse(BaseModel):
    """How far the cursor is done; `changed` says whether this call moved it."""

    acked: int
    changed: bool
    ledger: LedgerBlock | None = None


class NackResponse(BaseModel):
    """When the events come again, or which one was put aside."""

    next_attempt_at: Time | None = None
    parked: int | None = None
    ledger: LedgerBlock | None = None


class LeaseResponse(BaseModel):
    """Until when the lease lasts now; null once it was released."""

    lease_token: int
    lease_expires_at: Time | None
    ledger: LedgerBlock | None = None


class SeekResponse(BaseModel):
    """Where the cursor stands now; older tokens are void."""

    acked: int
    lease_token: int
    ledger: LedgerBlock | None = None


class ParkedEvent(BaseModel):
    """An event that was put aside, and why."""

    pos: int | None = None
    event_id: str
    attempts: int
    by: Literal["reader", "attempts"]
    reason: str | None = None
    parked_at: Time
    event: FeedEvent | None = None


class ParkedResponse(BaseModel):
    """What a cursor put aside."""

    parked: list[ParkedEvent]
    next: int | None = None


class ReplayResponse(BaseModel):
    """The next fetch hands it out once more."""

    replayed: int
    ledger: LedgerBlock | None = None


class HandOutView(BaseModel):
    """One hand-out: to whom, what, when, and what came of it."""

    token: int
    generation: int
    holder: str
    from_: int = Field(alias="from")
    to: int
    attempt: int
    transport: Literal["http", "ws"]
    handed_at: Time
    until: Time
    acked_through: int | None = None
    acked_at: Time | None = None
    ended: Literal["released", "refused", "moved"] | None = None
    ended_at: Time | None = None


class HandOutsResponse(BaseModel):
    """What was handed out, oldest first; `next` is the `after` of the next page."""

    handouts: list[HandOutView]
    next: int | None = None


class EventsResponse(BaseModel):
    """A page of a feed; `next` is the `after` of the next page, if there may be one."""

    generation: int
    head: int
    events: list[FeedEvent]
    next: int | None = None


class ReceiptResponse(BaseModel):
    """The receipt as it was recorded."""

    event_id: str
    kind: Literal["received", "read", "processed", "rejected"]
    content_hash: str | None = None
    receiver: str
    recorded_at: Time
    ledger: LedgerBlock | None = None
