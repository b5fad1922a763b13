"""Checks of one entry by its bytes, its row and its place in the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from ledger.canonical import Json, canonical, parse_strict
from ledger.entry import MAX_ENTRY_BYTES, Envelope, SignatureBlock
from ledger.errors import InvalidInput, VerificationError
from ledger.event import Event
from ledger.events import event_from_body
from ledger.merkle import leaf_hash
from ledger.signing import EVENT_PREFIX
from ledger.values import UnixMs, iso_of, parse_iso, stream_key

Verify = Callable[[bytes, str, str], None]
"""Raises `VerificationError` unless the signer made the signature over the message."""

_SIGNATURE: Final = b',"sig":{"alg":"eip191"'
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    event: Envelope
    sig: SignatureBlock


@dataclass(frozen=True, slots=True)
class Parts:
    """A well-formed entry; `signed` are the bytes that its signature is over."""

    envelope: Envelope
    event: Event
    at: UnixMs
    sig: SignatureBlock
    signed: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """What the bytes of an entry say; without `parts`, `problem` names the check and the reason."""

    leaf: bytes
    parts: Parts | None = None
    problem: tuple[str, str] | None = None


def open_entry(entry: bytes) -> Opened:
    """Read an entry by its bytes alone: C01 and C02."""
    leaf, check = leaf_hash(entry), "C01"
    parts = _written_again(entry)
    if parts is not None:
        return Opened(leaf, parts)
    try:
        value = c01_strict_json(entry)
        check = "C02"
        c02_canonical(value, entry)
        check = "C01"
        return Opened(leaf, c01_known_shape(value, entry))
    except VerificationError as error:
        return Opened(leaf, problem=(check, error.message))


def _written_again(entry: bytes) -> Parts | None:
    """Read an entry the short way: what is read, written in its one form, gives the same bytes.

    Then there was nothing else in them: no key twice, no float, no other encoding. Whatever does
    not come out the same is left to the long way, which says what is wrong with it.
    """
    if len(entry) > MAX_ENTRY_BYTES:
        return None
    try:
        parsed = _Entry.model_validate(orjson.loads(entry))
        event = event_from_body(parsed.event.kind, parsed.event.body)
        written = _written(parsed.event, event)
        if canonical({"event": written, "sig": parsed.sig.model_dump()}) != entry:
            return None
        moment = _moment(parsed.event.at)
    except (ValueError, VerificationError):
        return None
    if event.actor != parsed.event.actor:
        return None
    return Parts(parsed.event, event, moment, parsed.sig, _signed_part(entry))


def _written(envelope: Envelope, event: Event) -> dict[str, object]:
    return envelope.model_dump(exclude={"body"}, exclude_none=True) | {"body": event.body()}


def _signed_part(entry: bytes) -> bytes:
    return entry[len(b'{"event":') : entry.rindex(_SIGNATURE)]


def c01_strict_json(entry: bytes) -> Json:
    """C01: parse without any freedom; duplicate keys, floats and bad UTF-8 are refused."""
    if len(entry) > MAX_ENTRY_BYTES:
        msg = "the entry is longer than 65,535 bytes"
        raise VerificationError(msg)
    return parse_strict(entry)


def c02_canonical(value: Json, entry: bytes) -> None:
    """C02: the bytes are the one canonical encoding of their value."""
    if canonical(value) != entry:
        msg = "the bytes are JSON but not canonical"
        raise VerificationError(msg)


def c01_known_shape(value: Json, entry: bytes) -> Parts:
    """C01: exactly the documented fields, the body of the kind, written in its one form."""
    try:
        parsed = _Entry.model_validate(value)
    except ValidationError as error:
        msg = f"not an entry: {error.errors(include_url=False)[0]}"
        raise VerificationError(msg) from error
    envelope = parsed.event
    event = event_from_body(envelope.kind, envelope.body)
    if event.actor != envelope.actor:
        msg = f"{envelope.kind} records the act of the {event.actor}, not the {envelope.actor}"
        raise VerificationError(msg)
    if not isinstance(value, dict) or value["event"] != _written(envelope, event):
        msg = f"{envelope.kind} is not written in its one form"
        raise VerificationError(msg)
    return Parts(envelope, event, _moment(envelope.at), parsed.sig, _signed_part(entry))


def c03_origin(envelope: Envelope, origin: str) -> Iterator[str]:
    """C03: the event names this log, so an entry of another log has no place here."""
    if envelope.log != origin:
        yield f"the event belongs to the log {envelope.log!r}, not {origin!r}"


def c04_signature(parts: Parts, verify: Verify) -> Iterator[str]:
    """C04: the signature is over the event's bytes and recovers to the address it names."""
    try:
        verify(EVENT_PREFIX + parts.signed, parts.sig.value, parts.sig.by)
    except VerificationError as error:
        yield error.message


def c04_event_signature(entry: bytes, verify: Verify) -> Iterator[str]:
    """C04: the same of the bytes of an entry that was found to be one."""
    sig = orjson.loads(entry[entry.rindex(_SIGNATURE) + len(b',"sig":') : -1])
    try:
        verify(EVENT_PREFIX + _signed_part(entry), sig["value"], sig["by"])
    except VerificationError as error:
        yield error.message


def c10_time(at: UnixMs, last_at: UnixMs) -> Iterator[str]:
    """C10: by position, never by time: an event is not older than the one before it."""
    if at < last_at:
        yield f"the event is of {iso_of(at)}, but an earlier position is of {iso_of(last_at)}"


def c30_position(position: object, expected: int) -> Iterator[str]:
    """C30: positions run 1…n without a gap."""
    if position != expected:
        yield f"the row stands at position {position!r} where {expected} was expected"


def c30_columns(row: Sequence[object], envelope: Envelope) -> Iterator[str]:
    """C30: the row's key, version and topic repeat what the signed bytes say."""
    for name, stored, said in zip(
        ("originator_id", "originator_version", "topic"),
        row,
        (stream_key(envelope.stream), envelope.seq, envelope.kind),
        strict=True,
    ):
        if type(stored) is not type(said) or stored != said:
            yield f"{name} is {stored!r}, but the entry says {said!r}"


def _moment(text: str) -> UnixMs:
    try:
        if _AT.fullmatch(text):
            return parse_iso(text)
    except InvalidInput as error:
        msg = "the event's time names no moment"
        raise VerificationError(msg) from error
    msg = "the event's time is not in its form"
    raise VerificationError(msg)
