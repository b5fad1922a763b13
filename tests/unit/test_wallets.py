"""Wallets: spellings and accounts, and Ed25519 signatures that have one form and one maker."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Final

import base58
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from ledger.audit_parties import c16_signature
from ledger.errors import InvalidInput, Unauthorized, VerificationError
from ledger.event import ClientText
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.curves import require_text_signed
from ledger.signing import Signer, verify_signature, verify_text
from ledger.values import address_of
from ledger.wallets import (
    SOLANA_CHAINS,
    SOLANA_USDC,
    Wallet,
    account_of,
    ed25519_of_stored,
    is_evm,
    is_solana,
    parse_address_of_either,
    parse_ed25519_signature,
    parse_wallet,
    stored_ed25519,
    verify_ed25519,
)
from tests.support.solana_keys import SolanaKey

ANNE: Final = SolanaKey("anne")
BERT: Final = SolanaKey("bert")
EVM: Final = "0x" + "ab" * 20
PROVIDER: Final = Signer(b"\x07" * 32)
TEXT: Final = "Confirm delivery: ivxp-1 | Timestamp: 2025-01-01T00:00:00Z"
MESSAGE: Final = TEXT.encode()
GROUP: Final = 2**252 + 27742317777372353535851937790883648493
PRIME: Final = 2**255 - 19
Y_OF_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
WALLET: Final[TypeAdapter[str]] = TypeAdapter(Wallet)

NEUTRAL: Final = (1).to_bytes(32, "little")
SMALL: Final = [
    (y | sign << 255).to_bytes(32, "little")
    for y in (0, 1, PRIME - 1, Y_OF_ORDER_8, PRIME - Y_OF_ORDER_8, PRIME, PRIME + 1)
    for sign in (0, 1)
]


def base58_of(data: bytes) -> str:
    return base58.b58encode(data).decode()


def text_of(signer: str, signature: bytes, text: str = TEXT) -> ClientText:
    return ClientText(text=text, signature=stored_ed25519(signature), signer=signer)


# Spellings


@pytest.mark.parametrize(
    ("said", "spelled"),
    [
        (ANNE.address, ANNE.address),
        (EVM.upper().replace("0X", "0x"), EVM),
        (EVM, EVM),
        ("alice", "alice"),
        ("Al.i-ce_1", "Al.i-ce_1"),
        ("0x12", "0x12"),
        ("a" * 64, "a" * 64),
    ],
)
def test_a_wallet_has_one_spelling(said: str, spelled: str) -> None:
    assert parse_wallet(said) == spelled
    assert WALLET.validate_python(spelled) == spelled


@pytest.mark.parametrize(
    "said",
    ["", "a" * 65, "a b", "a/b", "a:b", "älice", "alice\n", "provider", "workers", "Provider"],
)
def test_what_is_no_word_or_names_a_party_of_every_ledger_is_no_wallet(said: str) -> None:
    with pytest.raises(InvalidInput):
        parse_wallet(said)
    with pytest.raises(ValidationError):
        WALLET.validate_python(said)


def test_an_event_holds_no_second_spelling_of_an_evm_wallet() -> None:
    with pytest.raises(ValidationError, match="lower case"):
        WALLET.validate_python("0x" + "AB" * 20)


def test_a_solana_address_is_the_base58_of_32_bytes_and_of_no_other_number() -> None:
    assert all(map(is_solana, [*SOLANA_USDC.values(), ANNE.address, "1" * 32]))
    assert not any(map(is_solana, [EVM, "1" * 31, "1" * 33, "alice", ANNE.address + "\n"]))
    assert not is_solana(base58_of(b"\xff" * 33))
    assert not is_solana(ANNE.address[:-1] + "0")
    assert is_evm(EVM.upper().replace("0X", "0x"))
    assert not is_evm(ANNE.address)
    assert base58.b58decode(ANNE.address) == ANNE.public


def test_only_addresses_can_be_proven() -> None:
    assert parse_address_of_either("0x" + "AB" * 20) == EVM
    assert parse_address_of_either(ANNE.address) == ANNE.address
    with pytest.raises(InvalidInput):
        parse_address_of_either("alice")


def test_an_account_says_where_its_wallet_is_and_gives_it_back() -> None:
    chain = SOLANA_CHAINS["devnet"]
    accounts = {w: account_of(w, 84532, chain) for w in (EVM, ANNE.address, "al.ice")}

    assert accounts == {
        EVM: f"eip155:84532:{EVM}",
        ANNE.address: f"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1:{ANNE.address}",
        "al.ice": "aether:open:al.ice",
    }
    assert [address_of(account) for account in accounts.values()] == list(accounts)


# Signatures


@pytest.mark.parametrize("form", ["base58", "base64", "hex", "0x hex", "upper-case hex"])
def test_a_signature_is_read_in_each_form(form: str) -> None:
    raw = ANNE.raw(MESSAGE)
    texts = {
        "base58": base58_of(raw),
        "base64": b64encode(raw).decode(),
        "hex": raw.hex(),
        "0x hex": "0x" + raw.hex(),
        "upper-case hex": raw.hex().upper(),
    }

    assert parse_ed25519_signature(texts[form]) == raw
    verify_ed25519(ANNE.address, MESSAGE, raw)


def test_signatures_of_zeros_have_their_forms_too() -> None:
    assert parse_ed25519_signature("1" * 64) == bytes(64)
    assert parse_ed25519_signature("A" * 86 + "==") == bytes(64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "11",
        base58_of(b"\xff" * 63),
        base58_of(b"\xff" * 65),
        b64encode(bytes(64)).decode().rstrip("="),
        "A" * 85 + "B==",
        b64encode(bytes(65)).decode(),
        "0x" + "00" * 65,
        "00" * 63,
        "0X" + "00" * 64,
        "ed25519:" + "00" * 64,
        " " + "00" * 64,
        "ü" * 88,
    ],
)
def test_no_other_text_is_a_signature(text: str) -> None:
    with pytest.raises(Unauthorized):
        parse_ed25519_signature(text)


def test_the_stored_form_is_one() -> None:
    raw = ANNE.raw(MESSAGE)

    assert ed25519_of_stored(stored_ed25519(raw)) == raw
    for other in (raw.hex(), "ed25519:" + raw.hex().upper(), stored_ed25519(raw) + "00"):
        with pytest.raises(Unauthorized):
            ed25519_of_stored(other)


def judged(signer: str, signature: bytes, message: bytes = MESSAGE) -> list[bool]:
    """Return what each of those who judge says: the service, the audit, the bundle's verifier."""
    found = []
    stored = stored_ed25519(signature)
    for judge in (
        partial(verify_ed25519, signer, message, signature),
        partial(verify_text, message, stored, signer),
        partial(require_text_signed, message, stored, signer),
    ):
        try:
            judge()
        except (Unauthorized, VerificationError, Bad):
            found.append(False)
        else:
            found.append(True)
    return found


def second_form(signature: bytes) -> bytes:
    """Return the signature with the group's order added to s: the same to a lenient eye."""
    s = int.from_bytes(signature[32:], "little") + GROUP
    return signature[:32] + s.to_bytes(32, "little")


@pytest.mark.parametrize(
    ("signer", "signature", "message"),
    [
        pytest.param(BERT.address, ANNE.raw(MESSAGE), MESSAGE, id="another wallet's"),
        pytest.param(ANNE.address, ANNE.raw(MESSAGE), MESSAGE + b" ", id="another text's"),
        pytest.param(ANNE.address, second_form(ANNE.raw(MESSAGE)), MESSAGE, id="a second form"),
        pytest.param(ANNE.address, bytes(64), MESSAGE, id="zeros"),
        pytest.param(ANNE.address, b"\xff" * 64, MESSAGE, id="ones"),
        pytest.param(ANNE.address, ANNE.raw(MESSAGE)[:63], MESSAGE, id="too short"),
        pytest.param(ANNE.address, ANNE.raw(MESSAGE) + b"\0", MESSAGE, id="too long"),
        pytest.param(EVM, ANNE.raw(MESSAGE), MESSAGE, id="an EVM wallet's"),
        pytest.param(SOLANA_USDC["devnet"], ANNE.raw(MESSAGE), MESSAGE, id="a mint's"),
        pytest.param(base58_of((2).to_bytes(32, "little")), bytes(64), MESSAGE, id="no point"),
    ],
)
def test_everybody_refuses_a_signature_that_is_not_the_wallets(
    signer: str, signature: bytes, message: bytes
) -> None:
    assert judged(ANNE.address, ANNE.raw(MESSAGE)) == [True, True, True]
    assert judged(signer, signature, message) == [False, False, False]


@pytest.mark.parametrize("key", SMALL, ids=[key.hex()[:8] + key.hex()[-2:] for key in SMALL])
def test_keys_that_need_no_secret_are_refused(key: bytes) -> None:
    for nonce in SMALL:
        assert judged(base58_of(key), nonce + bytes(32)) == [False, False, False]
        assert judged(ANNE.address, nonce + ANNE.raw(MESSAGE)[32:]) == [False, False, False]


def test_the_library_alone_would_take_a_key_that_needs_no_secret() -> None:
    Ed25519PublicKey.from_public_bytes(NEUTRAL).verify(NEUTRAL + bytes(32), b"whatever it says")

    assert judged(base58_of(NEUTRAL), NEUTRAL + bytes(32), b"whatever it says") == [False] * 3


# Texts in events


def test_a_text_of_either_kind_is_judged_by_its_own_scheme() -> None:
    evm = ClientText(text="ivxp-claim:x", signature="0x" + "1" * 130, signer=EVM)
    solana = ANNE.sign(TEXT)
    bad = text_of(BERT.address, ed25519_of_stored(solana.signature))

    assert list(c16_signature(solana, verify_signature)) == []
    assert len(list(c16_signature(bad, verify_signature))) == 1
    assert len(list(c16_signature(evm, verify_signature))) == 1


def test_the_two_kinds_do_not_mix() -> None:
    message = b"ivxp-claim:" + b"0" * 36
    signature = PROVIDER.sign(message)
    verify_text(message, signature, PROVIDER.address)

    for signer, value in ((ANNE.address, signature), (EVM, stored_ed25519(ANNE.raw(message)))):
        with pytest.raises(VerificationError):
            verify_text(message, value, signer)
        with pytest.raises(Bad):
            require_text_signed(message, value, signer)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("signature", "ed25519:" + "0" * 127),
        ("signature", "ed25519:" + "A" * 128),
        ("signature", "0x" + "0" * 128),
        ("signature", "0x" + "0" * 130 + "\n"),
        ("signer", "0x" + "A" * 40),
        ("signer", "0" * 32),
        ("signer", "1" * 45),
        ("signer", "alice"),
    ],
)
def test_a_text_of_another_form_is_in_no_event(field: str, value: str) -> None:
    good = ANNE.sign(TEXT).model_dump()

    with pytest.raises(ValidationError, match=field):
        ClientText.model_validate({**good, field: value})
