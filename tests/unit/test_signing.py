"""Signatures: equal to those of an independent library, one stored form, no signing oracle."""

import stat
from pathlib import Path
from typing import Final

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import Misconfigured, Unauthorized, VerificationError
from ledger.signing import (
    CLAIM_PREFIX,
    EVENT_PREFIX,
    EVIDENCE_PREFIX,
    ORDER_HEAD_PREFIX,
    SIGNABLE_PREFIXES,
    Signer,
    eip191_digest,
    keccak256,
    load_secret,
    normalise_signature,
    recover,
    verify_signature,
    write_secret,
)
from tests.unit import builders as b

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
MESSAGE: Final = EVENT_PREFIX + b'{"a":1}'
SIGNATURE: Final = Signer(b.PROVIDER.secret).sign(MESSAGE)
R, S, V = SIGNATURE[2:66], SIGNATURE[66:130], SIGNATURE[130:]

secrets = st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32, "big"))


def word(number: int) -> str:
    return f"{number:064x}"


def high_s(signature: str) -> str:
    """Return the other signature of the same message by the same key: n - s and the other v."""
    s, v = int(signature[66:130], 16), int(signature[130:], 16)
    return signature[:66] + word(ORDER - s) + f"{55 - v:02x}"


# Against an independent library


@settings(deadline=None)
@given(secrets, st.binary(max_size=200))
def test_a_signature_is_the_one_that_eth_account_makes(secret: bytes, text: bytes) -> None:
    message = EVENT_PREFIX + text
    signer = Signer(secret)

    expected = Account.sign_message(encode_defunct(primitive=message), secret)

    assert signer.sign(message) == "0x" + bytes(expected.signature).hex()
    assert signer.address == Account.from_key(secret).address.lower()


@settings(deadline=None)
@given(secrets, st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_a_text_that_eth_account_signed_recovers_to_its_address(secret: bytes, text: str) -> None:
    signed = Account.sign_message(encode_defunct(text=text), secret)
    signature = normalise_signature("0x" + bytes(signed.signature).hex())

    assert recover(text.encode(), signature) == Account.from_key(secret).address.lower()


@settings(deadline=None)
@given(st.binary(max_size=80), st.binary(min_size=65, max_size=65))
def test_any_65_bytes_recover_as_in_eth_account_or_are_refused(text: bytes, raw: bytes) -> None:
    try:
        signature = normalise_signature(raw.hex())
        recovered = recover(text, signature)
    except Unauthorized:
        return
    assert (
        recovered
        == Account.recover_message(encode_defunct(primitive=text), signature=signature).lower()
    )


@given(st.binary(max_size=300))
def test_the_digest_counts_bytes_as_eth_account_does(message: bytes) -> None:
    signable = encode_defunct(primitive=message)

    assert eip191_digest(message) == keccak256(
        b"\x19" + signable.version + signable.header + signable.body
    )


def test_the_empty_keccak_is_that_of_ethereum_and_not_of_sha_3() -> None:
    expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"

    assert keccak256(b"").hex() == expected


def test_a_composed_and_a_decomposed_letter_are_signed_apart() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    signature = b.CLIENT.text(composed).signature

    assert recover(composed.encode(), signature) == b.CLIENT.address
    assert recover(decomposed.encode(), signature) != b.CLIENT.address


def test_signing_twice_gives_the_same_signature() -> None:
    assert Signer(b.PROVIDER.secret).sign(MESSAGE) == SIGNATURE


# The one stored form


@pytest.mark.parametrize(
    "other",
    [
        SIGNATURE,
        SIGNATURE[2:],
        "0x" + SIGNATURE[2:].upper(),
        SIGNATURE[2:].upper(),
        "0x" + R + S + f"{int(V, 16) - 27:02x}",
    ],
    ids=["stored form", "without 0x", "upper case", "upper case without 0x", "v from 0"],
)
def test_the_accepted_forms_become_the_one_stored_form(other: str) -> None:
    assert normalise_signature(other) == SIGNATURE


BAD_SIGNATURES: Final = {
    "empty": "",
    "0x alone": "0x",
    "0X": "0X" + SIGNATURE[2:],
    "no hexadecimal digits": "0x" + "zz" * 65,
    "a space before": " " + SIGNATURE,
    "a line end": SIGNATURE + "\n",
    "digits of another script": "0x" + "\u0661" * 130,
    "64 bytes": "0x" + R + S,
    "64 bytes of EIP-2098": "0x" + R + word(int(S, 16) | (int(V, 16) - 27) << 255),
    "66 bytes": SIGNATURE + "00",
    "half a byte more": SIGNATURE + "0",
    "ERC-6492": "0x" + "00" * 96 + SIGNATURE[2:] + "6492" * 16,
    "ERC-1271 of two owners": SIGNATURE + SIGNATURE[2:],
    "high s": high_s(SIGNATURE),
    "s just above the half": "0x" + R + word(ORDER // 2 + 1) + "1b",
    "r is 0": "0x" + word(0) + S + "1b",
    "s is 0": "0x" + R + word(0) + "1b",
    "r is n": "0x" + word(ORDER) + S + "1b",
    "s is n": "0x" + R + word(ORDER) + "1b",
    "r above n": "0x" + "ff" * 32 + S + "1b",
    "s above n": "0x" + R + "ff" * 32 + "1b",
    **{f"v {v}": "0x" + R + S + f"{v:02x}" for v in (2, 3, 26, 29, 30, 31, 34, 35, 36, 37, 255)},
}


@pytest.mark.parametrize("form", BAD_SIGNATURES)
def test_a_second_encoding_or_a_broken_signature_is_refused(form: str) -> None:
    bad = BAD_SIGNATURES[form]

    with pytest.raises(Unauthorized):
        normalise_signature(bad)
    with pytest.raises(VerificationError):
        verify_signature(MESSAGE, bad, b.PROVIDER.address)


def test_the_high_s_twin_is_a_real_signature_that_others_would_accept() -> None:
    twin = high_s(SIGNATURE)

    recovered = Account.recover_message(encode_defunct(primitive=MESSAGE), signature=twin)

    assert recovered.lower() == b.PROVIDER.address


def test_every_v_but_four_is_refused() -> None:
    accepted = set()
    for v in range(256):
        try:
            normalise_signature("0x" + R + S + f"{v:02x}")
        except Unauthorized:
            continue
        accepted.add(v)

    assert accepted == {0, 1, 27, 28}


def test_the_largest_low_s_is_in_range() -> None:
    form = "0x" + R + word(ORDER // 2) + "1b"

    assert normalise_signature(form) == form


def test_an_r_that_is_on_no_point_recovers_to_no_key() -> None:
    no_point = "0x" + word(5) + S + "1b"

    with pytest.raises(Unauthorized):
        recover(MESSAGE, normalise_signature(no_point))
    with pytest.raises(VerificationError):
        verify_signature(MESSAGE, no_point, b.PROVIDER.address)


@pytest.mark.parametrize(
    ("message", "signature", "signer"),
    [
        (MESSAGE + b" ", SIGNATURE, b.PROVIDER.address),
        (MESSAGE, SIGNATURE, b.CLIENT.address),
        (MESSAGE, SIGNATURE, b.PROVIDER.address.upper()),
        (MESSAGE, SIGNATURE[2:], b.PROVIDER.address),
        (MESSAGE, "0x" + R + S + f"{int(V, 16) - 27:02x}", b.PROVIDER.address),
        (MESSAGE, "0x" + SIGNATURE[2:].upper(), b.PROVIDER.address),
    ],
    ids=["text", "signer", "case of the signer", "without 0x", "v from 0", "case"],
)
def test_a_signature_verifies_for_its_text_signer_and_form_only(
    message: bytes, signature: str, signer: str
) -> None:
    verify_signature(MESSAGE, SIGNATURE, b.PROVIDER.address)

    with pytest.raises(VerificationError):
        verify_signature(message, signature, signer)


# What the wallet signs


@pytest.mark.parametrize("prefix", SIGNABLE_PREFIXES)
def test_the_wallet_signs_texts_with_a_known_prefix(prefix: bytes) -> None:
    signature = Signer(b.PROVIDER.secret).sign(prefix + b"text")

    verify_signature(prefix + b"text", signature, b.PROVIDER.address)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"Order: x | Payment: 0x | Timestamp: 2026-01-01T00:00:00.000Z",
        b"Confirm delivery: x | Timestamp: 2026-01-01T00:00:00.000Z",
        b"IVXP-DELIVER | Order: x | Payment: 0x | Nonce: y | Timestamp: z",
        b"IVXP Identity Verification | Order: x | Address: 0x | Timestamp: z",
        b"IVXP Rating Submission\nOrder: x\nStars: 5\nTimestamp: 1",
        b"ledger.example wants you to sign in with your Ethereum account:\n0x",
        b"\x19Ethereum Signed Message:\n32",
        b"\x19\x01" + bytes(64),
        b"\xf8\x6b" + bytes(64),
        b" " + EVENT_PREFIX,
        EVENT_PREFIX[:-1],
        EVENT_PREFIX.lower(),
        EVENT_PREFIX[:-1] + b"\r\n",
        b"IVXP-LEDGER-EVENT/2\n{}",
        b"IVXP-CLAIM:00000000-0000-4000-8000-000000000001",
        b"ivxp-claim",
    ],
)
def test_the_wallet_refuses_every_other_text(text: bytes) -> None:
    with pytest.raises(VerificationError):
        Signer(b.PROVIDER.secret).sign(text)


def test_no_text_begins_with_two_of_the_prefixes() -> None:
    assert SIGNABLE_PREFIXES == (
        EVENT_PREFIX,
        ORDER_HEAD_PREFIX,
        EVIDENCE_PREFIX,
        CLAIM_PREFIX,
    )
    for one in SIGNABLE_PREFIXES:
        others = [p for p in SIGNABLE_PREFIXES if p != one]

        assert one
        assert not any(one.startswith(other) for other in others)


def test_no_prefix_begins_a_typed_data_digest_or_a_transaction() -> None:
    # EIP-712 signs 0x19 0x01 ..., EIP-191 prepends 0x19 itself, transactions begin with 0x01 to
    # 0x04 or an RLP list from 0xc0 up; each prefix begins with a letter.
    assert all(prefix[:1].isalpha() for prefix in SIGNABLE_PREFIXES)


def test_a_typed_data_signature_is_not_one_of_a_text() -> None:
    typed = encode_typed_data(
        {"name": "x"}, {"Text": [{"name": "text", "type": "string"}]}, {"text": "y"}
    )
    signed = Account.sign_message(typed, b.PROVIDER.secret)

    with pytest.raises(VerificationError):
        verify_signature(MESSAGE, "0x" + bytes(signed.signature).hex(), b.PROVIDER.address)


# Keys


def test_a_missing_key_file_is_made_with_mode_0600_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "provider.json"

    secret = load_secret(f"file:{path}")

    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(f"file:{path}") == secret
    assert load_secret(f"file:{tmp_path / 'other.json'}") != secret


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    write_secret(path, b.PROVIDER.secret)

    with pytest.raises(FileExistsError):
        write_secret(path, b.CLIENT.secret)

    assert load_secret(f"file:{path}") == b.PROVIDER.secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    write_secret(path, b.PROVIDER.secret)
    path.chmod(mode)

    with pytest.raises(Misconfigured, match="0600"):
        load_secret(f"file:{path}")


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"secret": null}', '{"secret": "0x12"}', "0x" + "11" * 32, '"x"'],
)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.touch(mode=0o600)
    path.write_text(content)

    with pytest.raises(Misconfigured):
        load_secret(f"file:{path}")


@pytest.mark.parametrize("form", ["{}", "0x{}", " 0x{}\n"])
def test_a_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("LEDGER_TEST_KEY", form.format(b.PROVIDER.secret.hex()))

    assert load_secret("env:LEDGER_TEST_KEY") == b.PROVIDER.secret


@pytest.mark.parametrize(
    "source", ["", "env:", "file:", "env:LEDGER_TEST_KEY_THAT_IS_NOT_SET", "0x" + "11" * 32, "x:y"]
)
def test_a_source_that_names_no_key_is_refused_without_showing_it(source: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_secret(source)

    assert "11" * 32 not in str(refused.value)


def test_a_key_that_is_too_short_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEDGER_TEST_KEY", "ab" * 31)

    with pytest.raises(Misconfigured) as refused:
        load_secret("env:LEDGER_TEST_KEY")

    assert "abab" not in str(refused.value)


@pytest.mark.parametrize("number", [0, ORDER])
def test_a_key_outside_the_curves_order_is_a_misconfiguration(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("LEDGER_TEST_KEY", word(number))

    with pytest.raises(Misconfigured) as refused:
        Signer(load_secret("env:LEDGER_TEST_KEY"))

    assert word(number).removeprefix("0x") not in str(refused.value)


def test_the_test_keys_are_those_of_the_curve_library() -> None:
    assert PrivateKey(b.PROVIDER.secret).secret == b.PROVIDER.secret
    assert Signer(b.PROVIDER.secret).address == b.PROVIDER.address
