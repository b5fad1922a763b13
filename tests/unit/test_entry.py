"""The entry: sealed, read and verified by its stored bytes; every other bytes are refused."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import pytest

from ledger.canonical import canonical, parse_canonical
from ledger.entry import (
    MAX_ENTRY_BYTES,
    Beacon,
    Draft,
    Seal,
    SignedEvent,
    read_entry,
    seal,
    verify_entry,
)
from ledger.errors import InvalidInput, VerificationError
from ledger.event import Event, TreeHead
from ledger.events import EVENT_OF
from ledger.signing import EVENT_PREFIX, Signer, recover
from ledger.values import ZERO_LEAF, UnixMs, iso_of
from tests.unit import builders as b

LOG: Final = "ledger.example/one"
SIGNER: Final = Signer(b.PROVIDER.secret)
PLACE: Final = Seal(LOG, b.STREAM, 2, b.digest_of("previous leaf"), b.NOW, b.HEAD)
COMMIT: Final = {"statement": b.digest_of("commitment"), "a_1": b.digest_of("another")}
BEACON: Final = Beacon(chain=b.CHAIN, number=99, hash=b.block("99"))

Body = dict[str, Any]


def sealed(event: Event | None = None, place: Seal = PLACE) -> SignedEvent:
    draft = Draft(event or b.SAMPLES["disputed"], COMMIT, BEACON)
    return seal(draft, place, SIGNER)


def resealed(change: Callable[[Body], None], event: Event | None = None) -> bytes:
    """Return an entry whose event was changed before the provider signed it: only form is wrong."""
    envelope: Body = parse_canonical(sealed(event).entry)["event"]  # type: ignore[index,call-overload,assignment]
    change(envelope)
    signed = canonical(envelope)
    sig = {"alg": "eip191", "by": SIGNER.address, "value": SIGNER.sign(EVENT_PREFIX + signed)}
    return canonical({"event": envelope, "sig": sig})


@dataclass(frozen=True)
class Change:
    """Sets one place of an event, named by its keys with dots between, or removes it."""

    where: str
    value: object = ...

    def __call__(self, envelope: Body) -> None:
        *outer, name = self.where.split(".")
        for part in outer:
            envelope = envelope[part]
        if self.value is ...:
            envelope.pop(name)
        else:
            envelope[name] = self.value

    def __str__(self) -> str:
        return f"{self.where}={self.value!r:.40}"


# Round trip


def test_the_samples_hold_every_kind() -> None:
    assert set(b.SAMPLES) == set(EVENT_OF)


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_an_entry_of_each_kind_verifies_as_what_was_sealed(kind: str) -> None:
    written = sealed(b.SAMPLES[kind])

    verified = verify_entry(written.entry, log=LOG)

    assert verified.signed == written
    assert verified.signed.event == b.SAMPLES[kind]
    assert read_entry(written.entry) == written


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_the_stored_bytes_are_the_canonical_form_of_what_they_say(kind: str) -> None:
    entry = sealed(b.SAMPLES[kind]).entry

    assert canonical(parse_canonical(entry)) == entry


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_absent_options_are_left_out_and_verify(kind: str) -> None:
    full = b.SAMPLES[kind]
    required = {
        name: value
        for name, value in full.body().items()
        if type(full).model_fields[name].is_required()
    }
    event = EVENT_OF[kind].model_validate(required)

    written = sealed(event)

    assert event.body() == required
    assert b"null" not in written.entry
    assert verify_entry(written.entry, log=LOG).signed.event == event


def test_the_envelope_says_place_moment_actor_head_beacon_and_commitments() -> None:
    envelope = verify_entry(sealed().entry, log=LOG).envelope

    assert (envelope.v, envelope.log, envelope.stream, envelope.seq) == (1, LOG, b.STREAM, 2)
    assert (envelope.kind, envelope.actor) == ("disputed", "client")
    assert (envelope.at, envelope.prev) == (iso_of(b.NOW), b.digest_of("previous leaf"))
    assert (envelope.base, envelope.nb, envelope.commit) == (b.HEAD, BEACON, COMMIT)


def test_the_signature_and_the_leaf_are_those_that_the_design_writes_down() -> None:
    written = sealed()
    parsed: Body = parse_canonical(written.entry)  # type: ignore[assignment]

    text = b"IVXP-LEDGER-EVENT/1\n" + canonical(parsed["event"])

    assert recover(text, parsed["sig"]["value"]) == b.PROVIDER.address == parsed["sig"]["by"]
    assert written.leaf == sha256(b"\x00" + written.entry).digest()


def test_the_salt_makes_two_entries_of_the_same_event_differ() -> None:
    again = replace(PLACE, salt=bytes(16))

    assert sealed(place=PLACE).leaf != sealed(place=again).leaf


def test_the_first_entry_of_a_stream_has_the_zero_leaf_before_it() -> None:
    place = Seal(
        LOG, b.STREAM, 1, ZERO_LEAF, b.QUOTED_AT, TreeHead(size=0, root=sha256().hexdigest())
    )
    written = sealed(b.terms(), place)

    assert verify_entry(written.entry, log=LOG).envelope.prev == "0" * 64


# Tampering


def test_every_flipped_bit_of_every_byte_is_noticed() -> None:
    entry = sealed(b.SAMPLES["push_attempted"]).entry
    passed = []

    for index in range(len(entry)):
        for bit in range(8):
            flipped = bytearray(entry)
            flipped[index] ^= 1 << bit
            try:
                verify_entry(bytes(flipped), log=LOG)
            except VerificationError:
                continue
            passed.append((index, bit))

    assert passed == []


def test_every_cut_and_every_added_byte_is_noticed() -> None:
    entry = sealed(b.SAMPLES["push_attempted"]).entry

    cut = [entry[:length] for length in range(len(entry))]
    missing = [entry[:index] + entry[index + 1 :] for index in range(len(entry))]
    added = [entry[:index] + b" " + entry[index:] for index in range(len(entry) + 1)]
    for tampered in (*cut, *missing, *added):
        with pytest.raises(VerificationError):
            verify_entry(tampered, log=LOG)


def test_the_signature_of_another_event_is_refused() -> None:
    one, other = sealed().entry, sealed(place=replace(PLACE, salt=bytes(16))).entry
    swapped = one[: one.rindex(b',"sig":')] + other[other.rindex(b',"sig":') :]

    with pytest.raises(VerificationError):
        verify_entry(swapped, log=LOG)


def test_an_entry_that_names_another_signer_than_signed_is_refused() -> None:
    swapped = sealed().entry.replace(SIGNER.address.encode(), b.CLIENT.address.encode())

    with pytest.raises(VerificationError):
        verify_entry(swapped, log=LOG)


def test_a_signature_block_quoted_inside_a_text_does_not_move_the_signed_bytes() -> None:
    text = '","sig":{"alg":"eip191","by":"0x","value":"0x"}}'
    event = b.SAMPLES["dispute_withdrawn"].model_copy(update={"client": b.CLIENT.text(text)})

    written = sealed(event)

    assert verify_entry(written.entry, log=LOG).signed == written


# Form


def test_an_entry_of_another_log_is_refused() -> None:
    entry = sealed().entry

    for other in ("ledger.example/two", LOG + "/", LOG.upper(), ""):
        with pytest.raises(VerificationError, match="belongs to the log"):
            verify_entry(entry, log=other)


@pytest.mark.parametrize(
    "change",
    [
        Change("v", 2),
        Change("v", "1"),
        Change("log", "ledger.example/two"),
        Change("stream", ""),
        Change("stream", "x" * 201),
        Change("seq", 0),
        Change("seq", "2"),
        Change("seq", value=True),
        Change("kind", "unknown"),
        Change("kind", "Disputed"),
        Change("kind", "confirmed"),
        Change("at", "2026-01-01T12:01:00Z"),
        Change("at", "2026-01-01T12:01:00.000000Z"),
        Change("at", "2026-01-01T12:01:00.000+00:00"),
        Change("at", "2026-01-01 12:01:00.000Z"),
        Change("at", "2026-01-01T12:01:00.000Z\n"),
        Change("actor", "provider"),
        Change("actor", "system"),
        Change("actor", "arbiter"),
        Change("prev", "0x" + "00" * 32),
        Change("prev", "AA" * 32),
        Change("base", {"size": 1}),
        Change("base", {"size": -1, "root": "00" * 32}),
        Change("base", {"size": 1, "root": "00" * 32, "more": 1}),
        Change("nb", {"chain": b.CHAIN, "number": 1}),
        Change("salt", ""),
        Change("salt", "AB" * 16),
        Change("body", []),
        Change("commit", {"statement": "text"}),
        Change("commit", None),
        Change("extra", 1),
        Change("salt"),
        Change("commit"),
        Change("body"),
        Change("body.extra", 1),
        Change("body.reason", "because"),
        Change("body.content_hash", "sha256:" + b.RAW),
        Change("body.client"),
        Change("body.client.extra", 1),
        Change("body.client.signer", b.CLIENT.address.upper()),
        Change("body.client.text", ""),
    ],
    ids=str,
)
def test_a_signed_event_whose_form_is_wrong_is_refused(change: Callable[[Body], None]) -> None:
    with pytest.raises(VerificationError):
        verify_entry(resealed(change), log=LOG)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("quoted", Change("body.price", "05")),
        ("quoted", Change("body.price", "-5")),
        ("quoted", Change("body.price", "+5")),
        ("quoted", Change("body.price", "5.0")),
        ("quoted", Change("body.price", "")),
        ("quoted", Change("body.price", " 5")),
        ("quoted", Change("body.price", "\u0665")),
        ("quoted", Change("body.price", "9" * 31)),
        ("quoted", Change("body.pay_by", "1767272400")),
        ("quoted", Change("body.pay_by", value=True)),
        ("quoted", Change("body.client", b.CLIENT.address)),
        ("posted", Change("body.response_status", 404)),
        ("posted", Change("body.attempt", 0)),
        ("confirmed", Change("body.rating", 6)),
        ("confirmed", Change("body.binds", "everything")),
        ("paid", Change("body.transfers", [])),
        ("content_erased", Change("body.content_ids", [])),
        ("command_refused", Change("body.code", "not_a_code")),
    ],
    ids=str,
)
def test_a_signed_body_whose_values_are_wrong_is_refused(
    kind: str, change: Callable[[Body], None]
) -> None:
    with pytest.raises(VerificationError):
        verify_entry(resealed(change, b.SAMPLES[kind]), log=LOG)


def test_what_was_resealed_without_a_change_verifies() -> None:
    # The refusals above are refusals of the change, not of sealing again.
    assert verify_entry(resealed(lambda _: None), log=LOG).signed.event == b.SAMPLES["disputed"]


@pytest.mark.parametrize(
    "sig",
    [
        {"alg": "eip712"},
        {"by": b.PROVIDER.address.upper()},
        {"value": ""},
        {"extra": 1},
    ],
)
def test_a_signature_block_of_another_form_is_refused(sig: dict[str, object]) -> None:
    parsed: Body = parse_canonical(sealed().entry)  # type: ignore[assignment]
    parsed["sig"].update(sig)

    with pytest.raises(VerificationError):
        verify_entry(canonical(parsed), log=LOG)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"1", b'{"event":{},"sig":{}}'])
def test_bytes_that_are_no_entry_are_refused(data: bytes) -> None:
    with pytest.raises(VerificationError):
        verify_entry(data, log=LOG)


def test_an_entry_with_a_part_beside_event_and_signature_is_refused() -> None:
    parsed: Body = parse_canonical(sealed().entry)  # type: ignore[assignment]

    with pytest.raises(VerificationError):
        verify_entry(canonical({**parsed, "more": 1}), log=LOG)


@pytest.mark.parametrize(("seq", "prev"), [(2, ZERO_LEAF), (1, b.digest_of("a leaf"))])
def test_exactly_the_first_event_of_a_stream_follows_no_other(seq: int, prev: str) -> None:
    place = Seal(LOG, b.STREAM, seq, prev, b.NOW, b.HEAD)

    with pytest.raises(VerificationError, match="64 zeros"):
        verify_entry(sealed(place=place).entry, log=LOG)


# Size


def draft_of_length(length: int) -> Draft:
    """Return a draft that seals into an entry of exactly this many bytes."""
    event = b.SAMPLES["acceptance_lapsed"]
    shortest = len(seal(Draft(event, {"a": b.RAW}), PLACE, SIGNER).entry)
    return Draft(event, {"a" * (length - shortest + 1): b.RAW})


def test_an_entry_of_exactly_65_535_bytes_is_sealed_and_verifies() -> None:
    written = seal(draft_of_length(MAX_ENTRY_BYTES), PLACE, SIGNER)

    assert len(written.entry) == 65_535
    assert verify_entry(written.entry, log=LOG).signed == written


def test_an_entry_one_byte_longer_is_refused_before_anything_is_written() -> None:
    with pytest.raises(InvalidInput) as refused:
        seal(draft_of_length(MAX_ENTRY_BYTES + 1), PLACE, SIGNER)

    assert refused.value.code == "PAYLOAD_TOO_LARGE"


def test_bytes_longer_than_an_entry_are_refused_however_they_are_signed() -> None:
    too_long = resealed(Change("commit", {"a" * 70_000: b.RAW}))

    with pytest.raises(VerificationError, match="65,535"):
        verify_entry(too_long, log=LOG)


def test_a_commitment_under_a_name_that_has_no_canonical_form_is_not_sealed() -> None:
    with pytest.raises(VerificationError):
        seal(Draft(b.SAMPLES["disputed"], {"Statement": b.RAW}), PLACE, SIGNER)


def test_the_moment_is_written_to_the_millisecond() -> None:
    place = Seal(LOG, b.STREAM, 2, b.digest_of("previous"), UnixMs(b.NOW + 7), b.HEAD)

    verified = verify_entry(sealed(place=place).entry, log=LOG)

    assert verified.envelope.at == "2026-01-01T12:01:00.007Z"
    assert verified.signed.at == b.NOW + 7


# Second forms of one meaning


@pytest.mark.parametrize(
    "at",
    ["2026-02-30T12:00:00.000Z", "2026-13-01T12:00:00.000Z", "2026-01-01T25:00:00.000Z"],
)
def test_a_signed_event_at_no_moment_is_refused_as_not_verifying(at: str) -> None:
    with pytest.raises(VerificationError):
        verify_entry(resealed(Change("at", at)), log=LOG)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("quoted", Change("body.price", b.PRICE)),
        ("dispute_ruled", Change("body.amount", 0)),
        ("disputed", Change("body.content_hash", None)),
        ("processing", Change("body.nonce", None)),
        ("processing", Change("body.notice", None)),
        ("quoted", Change("body.arbiter", None)),
        ("disputed", Change("nb", None)),
        ("disputed", Change("v", value=True)),
    ],
    ids=str,
)
def test_a_second_way_to_write_the_same_event_is_refused(
    kind: str, change: Callable[[Body], None]
) -> None:
    with pytest.raises(VerificationError):
        verify_entry(resealed(change, b.SAMPLES[kind]), log=LOG)
