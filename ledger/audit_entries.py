"""Checks of one entry by its bytes, its row and its place in the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from ledger.audit_patterns import PLAIN, Read, form_of
from ledger.audit_report import CLEAN, Problems
from ledger.audit_signatures import Signed, Verify
from ledger.canonical import Json, canonical, parse_strict
from ledger.entry import MAX_ENTRY_BYTES, Beacon, Envelope, SignatureBlock, SignedEvent
from ledger.errors import InvalidInput, VerificationError
from ledger.event import Event
from ledger.events import EVENT_OF, event_from_body
from ledger.merkle import leaf_hash
from ledger.signing import EVENT_PREFIX
from ledger.values import UnixMs, parse_iso, stream_key

_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_BEFORE_EVENT: Final = len(b'{"event":')
_AFTER_EVENT: Final = len(f',"sig":{{"alg":"eip191","by":"0x{"":40}","value":"0x{"":130}"}}}}')
_COMMIT: Final = r'(?:"[a-z0-9_]+":"[0-9a-f]{64}"(?:,(?=")|(?=\}))){0,64}'


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    event: Envelope
    sig: SignatureBlock


@dataclass(slots=True)
class Parts:
    """A well-formed entry: its event, and what only checks ask of it."""

    signed: SignedEvent
    log: str
    prev: str
    base_size: int
    base_root: str
    signature: str

    def claim(self) -> Signed:
        """Return what the entry's signature is over and whose it is said to be."""
        signed = self.signed
        message = EVENT_PREFIX + signed.entry[_BEFORE_EVENT:-_AFTER_EVENT]
        return Signed(message, self.signature, signed.signer)


@dataclass(slots=True)
class Opened:
    """What the bytes of an entry say; without `parts`, `problem` names the check and the reason."""

    leaf: bytes
    parts: Parts | None = None
    problem: tuple[str, str] | None = None


def open_entry(entry: bytes) -> Opened:
    """Read an entry by its bytes alone: C01 and C02."""
    leaf, check = leaf_hash(entry), "C01"
    parts = _in_its_form(entry, leaf)
    if parts is not None:
        return Opened(leaf, parts)
    try:
        value = c01_strict_json(entry)
        check = "C02"
        c02_canonical(value, entry)
        check = "C01"
        return Opened(leaf, c01_known_shape(value, entry, leaf))
    except VerificationError as error:
        return Opened(leaf, problem=(check, error.message))


def _in_its_form(entry: bytes, leaf: bytes) -> Parts | None:
    """Read an entry the short way, or return None.

    The pattern of its kind describes the one form of an entry to the byte; what is committed to and
    the block that is named are read and written again. So there is nothing else in the bytes, no
    key twice, no float, no other encoding. Whatever does not fit is left to the long way, which
    says what is wrong with it, or that it is only rare.
    """
    try:
        text = entry.decode()
        end = text.rfind('","log":"')
        form = _form_of_entry(EVENT_OF[text[text.rfind('"', 0, end) + 1 : end]])
        match = form[0](text) if form is not None and len(entry) <= MAX_ENTRY_BYTES else None
        if form is None or match is None:
            return None
        second, ms, root, size, body, commit, log, nb, prev, seq, stream, by, value = match.groups()
        committed = {} if commit == "{}" else _commit(commit)
        beacon = None if nb is None else _beacon(nb)
        at = UnixMs(_unix_second(second) + int(ms))
        event = form[1](orjson.loads(body))
    except (ValueError, KeyError, VerificationError, InvalidInput):
        return None
    signed = SignedEvent(stream, int(seq), at, event, committed, by, entry, leaf, beacon)
    return Parts(signed, log, prev, int(size), root, value)


@cache
def _form_of_entry(
    kind: type[Event],
) -> tuple[Callable[[str], re.Match[str] | None], Read] | None:
    """Return what matches a whole entry of a kind, and what makes its event of the body."""
    form = form_of(kind)
    if form is None or form.read is None:
        return None
    pattern = re.compile(
        rf'\{{"event":\{{"actor":"{kind.actor}",'
        r'"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z",'
        r'"base":\{"root":"([0-9a-f]{64})","size":(0|[1-9]\d{0,14})\},'
        rf'"body":({form.pattern}),"commit":(\{{{_COMMIT}\}}),"kind":"{kind.kind}",'
        rf'"log":"({PLAIN}{{1,200}})",(?:"nb":(\{{[^{{}}]*\}}),)?"prev":"([0-9a-f]{{64}})",'
        r'"salt":"[0-9a-f]{32}","seq":([1-9]\d{0,14}),'
        rf'"stream":"({PLAIN}{{1,200}})","v":1\}},'
        r'"sig":\{"alg":"eip191","by":"(0x[0-9a-f]{40})","value":"(0x[0-9a-f]{130})"\}\}',
        re.ASCII,
    )
    return pattern.fullmatch, form.read


def _commit(text: str) -> dict[str, str]:
    value: dict[str, str] = orjson.loads(text)
    if orjson.dumps(value, option=orjson.OPT_SORT_KEYS) != text.encode():
        raise ValueError(text)  # a name twice, or in another order
    return value


def _beacon(text: str) -> Beacon:
    beacon = Beacon.model_validate_json(text)
    if canonical(beacon.model_dump()) != text.encode():
        raise ValueError(text)
    return beacon


@lru_cache(maxsize=1024)
def _unix_second(text: str) -> int:
    """Return the milliseconds of a moment's whole second: many events share one."""
    return parse_iso(f"{text}Z")


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


def c01_known_shape(value: Json, entry: bytes, leaf: bytes) -> Parts:
    """C01: exactly the documented fields, the body of the kind, written in its one form."""
    try:
        parsed = _Entry.model_validate(value)
    except ValidationError as error:
        msg = f"not an entry: {error.errors(include_url=False)[0]}"
        raise VerificationError(msg) from error
    envelope, sig = parsed.event, parsed.sig
    event = event_from_body(envelope.kind, envelope.body)
    if event.actor != envelope.actor:
        msg = f"{envelope.kind} records the act of the {event.actor}, not the {envelope.actor}"
        raise VerificationError(msg)
    if not isinstance(value, dict) or value["event"] != _written(envelope, event):
        msg = f"{envelope.kind} is not written in its one form"
        raise VerificationError(msg)
    signed = SignedEvent(
        envelope.stream,
        envelope.seq,
        _moment(envelope.at),
        event,
        envelope.commit,
        sig.by,
        entry,
        leaf,
        envelope.nb,
    )
    base = envelope.base
    return Parts(signed, envelope.log, envelope.prev, base.size, base.root, sig.value)


def _written(envelope: Envelope, event: Event) -> dict[str, object]:
    return envelope.model_dump(exclude={"body"}, exclude_none=True) | {"body": event.body()}


def c03_origin(parts: Parts, origin: str) -> Problems:
    """C03: the event names this log, so an entry of another log has no place here."""
    if parts.log == origin:
        return CLEAN
    return [f"the event belongs to the log {parts.log!r}, not {origin!r}"]


def c04_signature(parts: Parts, verify: Verify) -> Iterator[str]:
    """C04: the signature is over the event's bytes and recovers to the address it names."""
    claim = parts.claim()
    try:
        verify(claim.message, claim.signature, claim.signer)
    except VerificationError as error:
        yield error.message


def c10_time(at: str, last_at: str) -> Problems:
    """C10: by position, never by time: an event is not older than the one before it.

    The one form of time sorts as its moments do.
    """
    if at >= last_at:
        return CLEAN
    return [f"the event is of {at}, but an earlier position is of {last_at}"]


def c30_position(position: object, expected: int) -> Problems:
    """C30: positions run 1…n without a gap."""
    if position == expected:
        return CLEAN
    return [f"the row stands at position {position!r} where {expected} was expected"]


def c30_columns(row: tuple[object, object, object], signed: SignedEvent) -> Problems:
    """C30: the row's key, version and topic repeat what the signed bytes say."""
    said = (_key_of(signed.stream), signed.seq, signed.event.kind)
    if row == said and type(row[1]) is int:
        return CLEAN
    names = ("originator_id", "originator_version", "topic")
    return [
        f"{name} is {stored!r}, but the entry says {wanted!r}"
        for name, stored, wanted in zip(names, row, said, strict=True)
        if type(stored) is not type(wanted) or stored != wanted
    ]


_key_of: Final = lru_cache(maxsize=64)(stream_key)


def _moment(text: str) -> UnixMs:
    try:
        if _AT.fullmatch(text):
            return parse_iso(text)
    except InvalidInput as error:
        msg = "the event's time names no moment"
        raise VerificationError(msg) from error
    msg = "the event's time is not in its form"
    raise VerificationError(msg)
