"""An event of a feed as a reader gets it: checked against its own signed bytes.

What stands around the entry (type, order, time, position in the ledger) is the service's unsigned
word. It is believed only as far as the entry says the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from api.client.errors import AnswerRefused
from ledger.canonical import parse_canonical
from ledger.entry import MAX_ENTRY_BYTES, Envelope, SignatureBlock
from ledger.errors import VerificationError
from ledger.merkle import leaf_hash
from ledger.signing import EVENT_PREFIX, verify_signature
from ledger.values import is_order, order_of_stream
from projections.feeds import FEED_TYPES, MAY_PAY, ORDER_PAID

_EVENT_ID: Final = re.compile(r"([1-9][0-9]{0,14})-([0-9a-f]{64})", re.ASCII)
_SIGNED_FROM: Final = len(b'{"event":')
_SIGNED_UNTIL: Final = b',"sig":{"alg":"eip191"'


class EventData(BaseModel):
    """What an answer says about the entry, and the entry."""

    model_config = ConfigDict(frozen=True, strict=True)
    kind: str
    position: int
    seq: int
    entry: str


class FeedEvent(BaseModel):
    """One event in an answer; members that come with later versions are passed over."""

    model_config = ConfigDict(frozen=True, strict=True)
    pos: int
    event_id: str
    type: str
    order_id: str | None = None
    occurred_at: str
    attempt: int = 1
    redelivered: bool = False
    data: EventData


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    event: Envelope
    sig: SignatureBlock


@dataclass(frozen=True, slots=True)
class Pins:
    """What is known of the provider from elsewhere: its signing wallets, and the log's name.

    Without wallets an event is only known to be signed by whom it names.
    """

    wallets: frozenset[str] = frozenset()
    log: str | None = None

    @classmethod
    def of(cls, *wallets: str, log: str | None = None) -> Pins:
        """Pin wallets, in whatever case their addresses are written."""
        return cls(frozenset(wallet.lower() for wallet in wallets), log)


@dataclass(frozen=True, slots=True)
class Event:
    """One event at its place in a feed. `entry` are its exact signed bytes.

    `event_id` stays the same for ever, `(generation, pos)` for as long as the feed is numbered
    alike. `attempt` counts how often this cursor handed it out.
    """

    generation: int
    pos: int
    event_id: str
    type: str
    order_id: str | None
    occurred_at: str
    kind: str
    position: int
    seq: int
    signer: str
    entry: bytes
    attempt: int
    redelivered: bool

    @property
    def body(self) -> Mapping[str, object]:
        """The signed facts of the event, by the names in docs/events.md."""
        found: Mapping[str, object] = orjson.loads(self.entry)["event"]["body"]
        return found

    def to_json(self) -> dict[str, object]:
        """Return the event as the feed shows it, alike each time it is handed out."""
        shown: dict[str, object] = {
            "generation": self.generation,
            "pos": self.pos,
            "event_id": self.event_id,
            "type": self.type,
            "occurred_at": self.occurred_at,
            "data": {
                "kind": self.kind,
                "position": self.position,
                "seq": self.seq,
                "entry": self.entry.decode(),
            },
        }
        return shown if self.order_id is None else {**shown, "order_id": self.order_id}


def checked_event(said: FeedEvent, generation: int, pins: Pins) -> Event:
    """Return an event whose bytes say what the answer says, or raise `AnswerRefused`."""
    entry = said.data.entry.encode()
    try:
        signer = _verified(said, entry, pins)
    except (VerificationError, ValidationError) as error:
        reason = error.message if isinstance(error, VerificationError) else "it is no entry"
        raise AnswerRefused(f"the event at position {said.pos}: {reason}") from error
    return Event(
        generation=generation,
        pos=said.pos,
        event_id=said.event_id,
        type=said.type,
        order_id=said.order_id,
        occurred_at=said.occurred_at,
        kind=said.data.kind,
        position=said.data.position,
        seq=said.data.seq,
        signer=signer,
        entry=entry,
        attempt=said.attempt,
        redelivered=said.redelivered,
    )


def _verified(said: FeedEvent, entry: bytes, pins: Pins) -> str:
    """Return who signed the entry."""
    # (1): the id is that of these bytes, and names the position that is told beside them.
    match = _EVENT_ID.fullmatch(said.event_id)
    if match is None or match[2] != leaf_hash(entry).hex():
        raise VerificationError("the entry does not hash to the event's id")
    if int(match[1]) != said.data.position:
        raise VerificationError("the id names another position of the ledger")
    # (2): one strict parse, of a kind that this version knows or not.
    if len(entry) > MAX_ENTRY_BYTES:
        raise VerificationError("the entry is too long")
    parsed = _Entry.model_validate(parse_canonical(entry))
    # (3): the words around the entry are its own.
    _require_same_words(said, parsed.event)
    # (4): signed, by a pinned wallet if there are any, in the pinned log if there is one.
    signed = entry[_SIGNED_FROM : entry.rindex(_SIGNED_UNTIL)]
    verify_signature(EVENT_PREFIX + signed, parsed.sig.value, parsed.sig.by)
    if pins.wallets and parsed.sig.by not in pins.wallets:
        raise VerificationError(f"{parsed.sig.by} is not a wallet that was pinned")
    if pins.log is not None and parsed.event.log != pins.log:
        raise VerificationError(f"it is of the log {parsed.event.log!r}")
    return parsed.sig.by


def _require_same_words(said: FeedEvent, event: Envelope) -> None:
    order_id = order_of_stream(event.stream) if is_order(event.stream) else None
    told = (said.data.kind, said.data.seq, said.occurred_at, said.order_id)
    if told != (event.kind, event.seq, event.at, order_id):
        raise VerificationError("the answer says otherwise than the signed entry")
    known = FEED_TYPES.get(event.kind)
    words = (
        {known[0]} | ({ORDER_PAID} if event.kind in MAY_PAY else set()) if known else {said.type}
    )
    if said.type not in words:
        raise VerificationError(f"a {event.kind!r} is told as {said.type!r}")
