r"""The entry: one signed event as bytes, from sealing to strict verification.

    E     = canonical(event)            M    = "IVXP-LEDGER-EVENT/1\n" || E
    entry = canonical({"event": event, "sig": {"alg": "eip191", "by": ..., "value": sign(M)}})
    leaf  = SHA-256(0x00 || entry)

The stored bytes are the truth: they are verified as they lie and never re-serialised.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ledger.canonical import canonical, canonical_of_models, parse_canonical
from ledger.errors import InvalidInput, VerificationError
from ledger.event import Actor, Event, TreeHead
from ledger.events import event_from_body
from ledger.merkle import leaf_hash
from ledger.signing import EVENT_PREFIX, Signer, verify_signature
from ledger.values import (
    ZERO_LEAF,
    Address,
    ChainRef,
    Digest,
    Signature,
    TxHash,
    UnixMs,
    iso_of,
    parse_iso,
)

MAX_ENTRY_BYTES: Final = 65_535
"""The limit of C2SP tlog-tiles entry bundles, whose length prefix has 16 bits."""

_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Beacon(BaseModel):
    """A block that existed before the event: the event is not older."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    chain: ChainRef
    number: Annotated[int, Field(ge=0, lt=2**53)]
    hash: TxHash


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that a decider returned, before it has a place and a signature.

    `commit` maps a field name to the salted commitment of content that may be erased.
    """

    event: Event
    commit: Mapping[str, str] = field(default_factory=dict)
    beacon: Beacon | None = None


class Envelope(BaseModel):
    """What surrounds the body in the signed bytes."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    v: Annotated[int, Field(ge=1, le=1)]
    log: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    stream: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    seq: Annotated[int, Field(ge=1, lt=2**53)]
    kind: str
    at: str
    actor: Actor
    prev: Digest
    base: TreeHead
    nb: Beacon | None = None
    salt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    body: dict[str, object]
    commit: dict[str, Digest]


class SignatureBlock(BaseModel):
    """Who signed the event, and how."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    alg: Literal["eip191"]
    by: Address
    value: Signature


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    event: Envelope
    sig: SignatureBlock


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """An event with its place in its stream, its exact bytes and its leaf hash (32 bytes)."""

    stream: str
    seq: int
    at: UnixMs
    event: Event
    commit: Mapping[str, str]
    signer: str
    entry: bytes
    leaf: bytes
    beacon: Beacon | None = None


@dataclass(frozen=True, slots=True)
class Seal:
    """What the writer adds to a draft: log, place, moment, newest tree head, 16 random bytes."""

    log: str
    stream: str
    seq: int
    prev: str
    at: UnixMs
    base: TreeHead
    salt: bytes = field(default_factory=lambda: os.urandom(16))


def seal(draft: Draft, place: Seal, signer: Signer) -> SignedEvent:
    """Sign a draft into its place; raises `InvalidInput` if the entry would exceed 65,535 bytes."""
    event = draft.event
    envelope: dict[str, object] = {
        "v": 1,
        "log": place.log,
        "stream": place.stream,
        "seq": place.seq,
        "kind": event.kind,
        "at": iso_of(place.at),
        "actor": event.actor,
        "prev": place.prev,
        "base": {"size": place.base.size, "root": place.base.root},
        "salt": place.salt.hex(),
        "body": event.body(),
        "commit": dict(draft.commit),
    }
    if draft.beacon is not None:
        envelope["nb"] = draft.beacon.model_dump()
    if draft.commit:
        canonical(dict(draft.commit))  # its names come from callers, not from a model
    try:
        signed = canonical_of_models(envelope)
    except TypeError as error:  # half a surrogate pair in a text cannot be signed
        msg = "the event holds text that is no Unicode"
        raise InvalidInput(msg) from error
    signature = signer.sign(EVENT_PREFIX + signed)
    # "event" sorts before "sig", so joining the parts is the canonical form of the whole.
    entry = b'{"event":%b,"sig":{"alg":"eip191","by":"%b","value":"%b"}}' % (
        signed,
        signer.address.encode(),
        signature.encode(),
    )
    if len(entry) > MAX_ENTRY_BYTES:
        msg = f"the event would take {len(entry)} bytes; an entry holds at most {MAX_ENTRY_BYTES}"
        raise InvalidInput(msg, code="PAYLOAD_TOO_LARGE")
    return SignedEvent(
        place.stream,
        place.seq,
        place.at,
        event,
        draft.commit,
        signer.address,
        entry,
        leaf_hash(entry),
        draft.beacon,
    )


def read_entry(entry: bytes) -> SignedEvent:
    """Return the event in bytes that our own store holds; proves nothing, `verify_entry` does."""
    parsed = orjson.loads(entry)
    event = parsed["event"]
    return SignedEvent(
        event["stream"],
        event["seq"],
        parse_iso(event["at"]),
        event_from_body(event["kind"], event["body"]),
        event["commit"],
        parsed["sig"]["by"],
        entry,
        leaf_hash(entry),
        Beacon(**event["nb"]) if "nb" in event else None,
    )


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """A signed event and its envelope, after every check that needs only the bytes."""

    signed: SignedEvent
    envelope: Envelope


def verify_entry(entry: bytes, *, log: str) -> VerifiedEntry:
    """Check an entry by its bytes alone, or raise `VerificationError`.

    Whether the signer may speak at that position is the auditor's question, not answered here.
    """
    # (1): one strict parse; duplicate keys, floats and second encodings end here.
    if len(entry) > MAX_ENTRY_BYTES:
        msg = "the entry is longer than 65,535 bytes"
        raise VerificationError(msg)
    value = parse_canonical(entry)
    parsed = _parsed(value)
    envelope = parsed.event
    # (2): the event belongs to this log, has the one form of time, and follows another or none.
    if envelope.log != log:
        msg = f"the event belongs to the log {envelope.log!r}, not {log!r}"
        raise VerificationError(msg)
    at = _moment(envelope.at)
    if (envelope.prev == ZERO_LEAF) is not (envelope.seq == 1):
        msg = "the first event of a stream, and no other, names 64 zeros as the one before"
        raise VerificationError(msg)
    # (3): the body is that of its kind, in its only form, and the actor is the kind's.
    event = event_from_body(envelope.kind, envelope.body)
    _require_one_form(value, envelope, event)
    if event.actor != envelope.actor:
        msg = f"{envelope.kind} records the act of the {event.actor}, not the {envelope.actor}"
        raise VerificationError(msg)
    # (4): the signature is over exactly the event's bytes inside the entry.
    signed = entry[len(b'{"event":') : entry.rindex(b',"sig":{"alg":"eip191"')]
    verify_signature(EVENT_PREFIX + signed, parsed.sig.value, parsed.sig.by)
    return VerifiedEntry(
        SignedEvent(
            envelope.stream,
            envelope.seq,
            at,
            event,
            envelope.commit,
            parsed.sig.by,
            entry,
            leaf_hash(entry),
            envelope.nb,
        ),
        envelope,
    )


def _parsed(value: object) -> _Entry:
    try:
        return _Entry.model_validate(value)
    except ValidationError as error:
        msg = f"not an entry: {error.errors(include_url=False)[0]}"
        raise VerificationError(msg) from error


def _moment(text: str) -> UnixMs:
    try:
        if _AT.fullmatch(text):
            return parse_iso(text)
    except InvalidInput as error:
        msg = "the event's time names no moment"
        raise VerificationError(msg) from error
    msg = "the event's time is not in its form"
    raise VerificationError(msg)


def _require_one_form(value: object, envelope: Envelope, event: Event) -> None:
    """Refuse values that mean the same but are not written as `seal` writes them.

    Reading takes an amount as a number and an absent option as null; neither is ever sealed.
    """
    written = envelope.model_dump(exclude={"body"}, exclude_none=True) | {"body": event.body()}
    if not isinstance(value, dict) or value["event"] != written:
        msg = f"{envelope.kind} is not written in its one form"
        raise VerificationError(msg)
