"""What is said to feeds and cursors."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from api.ivxp.models import Message
from api.work import plain_number
from ledger.cursor_events import MAX_ATTEMPTS, MAX_BATCH

MAX_WAIT_SECONDS: Final = 30
MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100

Position = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[int, Field(ge=0, lt=2**63)]


def _seconds(value: object) -> object:
    return Decimal(value) if type(value) is int else value


def _token(value: object) -> object:
    plain = isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII)
    return int(str(value)) if plain else value


# The bounds stand on the number, not on what reads it: else its schema would not have them.
_Plain = BeforeValidator(_seconds)
LeaseSeconds = Annotated[Decimal, Field(ge=Decimal("0.01"), le=3600), _Plain]
RestSeconds = Annotated[Decimal, Field(ge=0, le=86_400), _Plain]
WaitSeconds = Annotated[Decimal, Field(ge=0, le=MAX_WAIT_SECONDS), _Plain]
Token = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_token)]
HolderName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=200)]
TypeName = Annotated[str, StringConstraints(min_length=3, max_length=64)]


class Backoff(Message):
    """How long a refused event rests: twice as long each time, up to the longest."""

    initial_seconds: RestSeconds = Decimal(0)
    max_seconds: RestSeconds = Decimal(300)


class OpenRequest(Message):
    """PUT /v1/feeds/{party}/cursors/{name}. Fixed for ever; the same again changes nothing.

    `start` is `earliest`, `latest`, a position (the first event comes after it) or a time. Without
    `on_poison`, a cursor that lets events of orders through blocks.
    """

    start: (
        Annotated[int, Field(ge=0, lt=2**53)]
        | Annotated[str, StringConstraints(min_length=1, max_length=40)]
    )
    types: Annotated[list[TypeName], Field(min_length=1, max_length=64)] | None = None
    mode: Literal["ack", "auto"] = "ack"
    lease_seconds: LeaseSeconds = Decimal(30)
    max_batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 100
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = 10
    backoff: Backoff = Backoff()
    on_poison: Literal["park", "block"] | None = None


class FetchRequest(Message):
    """POST …/fetch. `holder` names the reader: it gets its own lease again, others wait."""

    holder: HolderName
    lease_token: Token | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_BATCH)] = MAX_BATCH
    wait_seconds: WaitSeconds = Decimal(0)
    lease_seconds: LeaseSeconds | None = None
    pipeline: bool = False


class AckRequest(Message):
    """POST …/ack. `results` is kept as a digest: what the reader made of the events."""

    generation: Number | None = None
    lease_token: Token
    through: Number
    results: dict[str, object] | list[object] | None = None


class NackRequest(Message):
    """POST …/nack. It acknowledges nothing; the reason stands in the log for ever."""

    lease_token: Token
    at: Number
    retry_after: RestSeconds | None = None
    reason: Reason | None = None
    action: Literal["retry", "park"] = "retry"


class LeaseRequest(Message):
    """POST …/lease: `extend` the lease to so many seconds from now, or `release` it."""

    lease_token: Token
    extend: LeaseSeconds | None = None
    release: bool = False


class SeekRequest(Message):
    """POST …/seek: a position or event id that counts as done, a time to go on at, or an end."""

    to: (
        Annotated[int, Field(ge=0, lt=2**53)]
        | Annotated[str, StringConstraints(min_length=1, max_length=100)]
    )
    reason: Reason = "sought by the owner"


class PageQuery(Message):
    """The page after a place."""

    after: Annotated[int, Field(ge=0, lt=2**53), BeforeValidator(plain_number)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(plain_number)] = DEFAULT_PAGE


class EventsQuery(PageQuery):
    """GET /v1/feeds/{party}/events; `types` is a list with commas between."""

    types: Annotated[str, StringConstraints(pattern=r"^[a-z_.,]{1,2000}$")] | None = None


Seen = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,9}-[0-9]{1,15})?$")]


class SeenQuery(Message):
    """GET …/stream, for readers that can set no header: the last event that was seen."""

    last_event_id: Seen = ""


class SeenHeaders(Message):
    """GET …/stream: the `id` of the last event that was seen; what comes after it is told."""

    seen: Annotated[Seen, Field(alias="Last-Event-ID")] = ""


class ReceiptRequest(Message):
    """POST /v1/events/{event_id}/receipts: the text in docs/cursors.md, signed by the receiver."""

    kind: Literal["received", "read", "processed", "rejected"]
    content_hash: Annotated[str, StringConstraints(max_length=80)] | None = None
    at: Annotated[str, StringConstraints(max_length=40)]
    signature: str


class EmptyRequest(BaseModel):
    """Nothing has to be said."""
