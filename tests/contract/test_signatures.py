"""Who signed what: every form of signature and text that is taken, and its near misses."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from api.keys import LEDGER
from ledger.service import system_clock
from scripts.buyer import Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.kit import (
    NETWORK,
    Service,
    delivered_status,
    paid_order,
    pay,
    payer,
    signed_notice,
    strict_text,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
TX = "0x" + "12" * 32
NONCE = "nonce-0123456789"
PASSES = (402, "PAYMENT_NOT_VERIFIED")
"""What a valid notice of a transaction that nobody has seen gets: it is kept."""


def parts(signature: str) -> tuple[str, str, int]:
    raw = signature.removeprefix("0x")
    return raw[:64], raw[64:128], int(raw[128:], 16)


def with_v(signature: str, v: int) -> str:
    r, s, _ = parts(signature)
    return f"0x{r}{s}{v:02x}"


def high_s(signature: str) -> str:
    """Return the other signature that recovers to the same key."""
    r, s, v = parts(signature)
    return f"0x{r}{ORDER - int(s, 16):064x}{55 - v:02x}"


def compact(signature: str) -> str:
    """Return the 64 bytes of EIP-2098."""
    r, s, v = parts(signature)
    return f"0x{r}{int(s, 16) | (v - 27) << 255:064x}"


def with_r(signature: str, r: int) -> str:
    _, s, v = parts(signature)
    return f"0x{r:064x}{s}{v:02x}"


def with_s(signature: str, s: int) -> str:
    r, _, v = parts(signature)
    return f"0x{r}{s:064x}{v:02x}"


BAD_FORMS = {
    "empty": lambda _: "",
    "0x alone": lambda _: "0x",
    "64 bytes, EIP-2098": compact,
    "64 bytes, v cut off": lambda s: s[:-2],
    "66 bytes": lambda s: s + "00",
    "odd digits": lambda s: s[:-1],
    "ERC-6492": lambda s: s + "6492" * 16,
    "ERC-1271, long": lambda s: "0x" + s[2:] * 40,
    "0X": lambda s: "0X" + s[2:],
    "two prefixes": lambda s: "0x" + s,
    "space before": lambda s: " " + s,
    "newline after": lambda s: s + "\n",
    "no hexadecimal": lambda s: s[:-2] + "zz",
    "full-width digits": lambda s: s[:-2] + "\uff11\uff12",
    "high s": high_s,
    "r zero": lambda s: with_r(s, 0),
    "r the order": lambda s: with_r(s, ORDER),
    "s zero": lambda s: with_s(s, 0),
    "s the order": lambda s: with_s(s, ORDER),
    "all zeros": lambda _: "0x" + "00" * 65,
    "all ones": lambda _: "0x" + "ff" * 65,
    "of nobody": lambda _: "0x" + "11" * 64 + "1b",
    "v flipped": lambda s: with_v(s, 55 - parts(s)[2]),
    **{f"v {v}": lambda s, v=v: with_v(s, v) for v in (2, 26, 29, 34, 35, 36, 37, 38, 255)},
}


@pytest.mark.parametrize("form", BAD_FORMS)
async def test_a_signature_of_another_form_is_refused_and_nothing_is_recorded(
    service: Service, form: str
) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, TX, NETWORK)
    notice["signature"] = BAD_FORMS[form](str(notice["signature"]))

    await judged(service, buyer, notice, (401, "SIGNATURE_INVALID"), recorded=0)


@pytest.mark.parametrize(
    "form",
    [
        lambda s: s,
        lambda s: s.removeprefix("0x"),
        lambda s: "0x" + s[2:].upper(),
        lambda s: with_v(s, parts(s)[2] - 27),
        lambda s: with_v(s, parts(s)[2] - 27).removeprefix("0x"),
    ],
    ids=["as libraries make it", "without 0x", "upper case", "v 0 or 1", "v 0 or 1 without 0x"],
)
async def test_each_accepted_form_pays_and_is_stored_in_the_one_form(
    service: Service, chain: DevChain, form: Callable[[str], str]
) -> None:
    buyer = payer(chain, service, "signatures accepted")
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
    plain = str(notice["signature"])

    answer = await buyer.deliver({**notice, "signature": form(plain)})

    ledger = answer.require(200)["ledger"]
    assert isinstance(ledger, dict)
    stored = json.loads(ledger["entry"])["event"]["body"]["notice"]
    assert stored == {
        "signature": plain,
        "signer": buyer.address.lower(),
        "text": notice["signed_message"],
    }


async def test_another_wallet_cannot_give_notice_for_the_order(service: Service) -> None:
    buyer, stranger = service.buyer("signatures"), service.buyer("signatures stranger")
    order_id = await service.quote(buyer)

    await judged(
        service,
        stranger,
        stranger.notice(order_id, TX, NETWORK),
        (401, "SIGNATURE_INVALID"),
        recorded=0,
    )


async def test_a_stranger_cannot_name_the_client_as_payer(service: Service) -> None:
    buyer, stranger = service.buyer("signatures"), service.buyer("signatures stranger")
    notice = stranger.notice(await service.quote(buyer), TX, NETWORK)
    notice["payment_proof"] = buyer.notice("x", TX, NETWORK)["payment_proof"]

    await judged(service, stranger, notice, (401, "SIGNATURE_INVALID"), recorded=0)


async def test_typed_data_and_raw_digests_are_no_signed_text(service: Service) -> None:
    buyer = service.buyer("signatures")
    notice = buyer.notice(await service.quote(buyer), TX, NETWORK)
    typed = encode_typed_data(
        {"name": "IVXP"}, {"N": [{"name": "t", "type": "string"}]}, {"t": "x"}
    )
    for signable in (typed, encode_defunct(text=str(notice["signed_message"]) + " ")):
        signed = Account.sign_message(signable, buyer.private_key)
        notice["signature"] = "0x" + signed.signature.hex().removeprefix("0x")

        await judged(service, buyer, notice, (401, "SIGNATURE_INVALID"), recorded=0)


async def test_the_base_alias_is_the_main_network(service: Service) -> None:
    buyer = service.buyer("signatures")
    notice = buyer.notice(await service.quote(buyer), TX, "base")

    await judged(service, buyer, notice, (400, "INVALID_NETWORK"), recorded=0)


def minimal(order_id: str, stamp: str) -> str:
    return f"Order: {order_id} | Payment: {TX} | Timestamp: {stamp}"


def hub(order_id: str, address: str, milliseconds: str) -> str:
    who = f"Order: {order_id} | Address: {address} | Timestamp: {milliseconds}"
    return f"IVXP Identity Verification | {who}"


BAD_TEXTS = {
    "empty": lambda _o, _t: "",
    "a sentence": lambda _o, _t: "I paid.",
    "the order alone": lambda o, _t: f"Order: {o}",
    "trailing newline": lambda o, t: minimal(o, t) + "\n",
    "trailing space": lambda o, t: minimal(o, t) + " ",
    "leading space": lambda o, t: " " + minimal(o, t),
    "byte order mark": lambda o, t: "\ufeff" + minimal(o, t),
    "CRLF": lambda o, t: minimal(o, t) + "\r\n",
    "NUL": lambda o, t: minimal(o, t) + "\0",
    "other case": lambda o, t: minimal(o, t).lower(),
    "no spaces": lambda o, t: minimal(o, t).replace(" ", ""),
    "two spaces": lambda o, t: minimal(o, t).replace(" | ", "  |  "),
    "no-break space": lambda o, t: minimal(o, t).replace(" ", "\u00a0"),
    "full-width bar": lambda o, t: minimal(o, t).replace("|", "\uff5c"),
    "an extra field": lambda o, t: minimal(o, t) + " | Amount: 1",
    "an extra field first": lambda o, t: "To: you | " + minimal(o, t),
    "a field twice": lambda o, t: minimal(o, t) + f" | Timestamp: {t}",
    "fields exchanged": lambda o, t: f"Payment: {TX} | Order: {o} | Timestamp: {t}",
    "without the payment": lambda o, t: f"Order: {o} | Timestamp: {t}",
    "another order": lambda _o, t: minimal("ivxp-00000000-0000-4000-8000-000000000000", t),
    "another transaction": lambda o, t: minimal(o, t).replace(TX, "0x" + "34" * 32),
    "a transaction cut short": lambda o, t: minimal(o, t).replace(TX, TX[:-2]),
    "composed letter": lambda o, t: minimal(o, t) + unicodedata.normalize("NFC", "e\u0301"),
    "decomposed letter": lambda o, t: minimal(o, t) + unicodedata.normalize("NFD", "\u00e9"),
    "a nonce with a second timestamp": lambda o, t: strict_text(
        o, TX, f"{NONCE} | Timestamp: {t}", t
    ),
    "a short nonce": lambda o, t: strict_text(o, TX, "n" * 15, t),
    "a long nonce": lambda o, t: strict_text(o, TX, "n" * 129, t),
    "an empty nonce": lambda o, t: strict_text(o, TX, "", t),
    "a nonce of other letters": lambda o, t: strict_text(o, TX, "nonce.0123456789", t),
    "a nonce in a text without one": lambda o, t: (
        f"Order: {o} | Payment: {TX} | Nonce: {NONCE} | Timestamp: {t}"
    ),
    "a receipt": lambda o, t: f"Confirm delivery: {o} | Timestamp: {t}",
    "a dispute": lambda o, t: (
        f"Dispute delivery: {o} | Reason: other | Hash: none | Statement: none | Timestamp: {t}"
    ),
    "our own event": lambda o, t: "IVXP-LEDGER-EVENT/1\n" + minimal(o, t),
    "hub text of another address": lambda o, _t: hub(o, "0x" + "ab" * 20, "1700000000000"),
    "hub text in seconds": lambda o, _t: hub(o, "0x" + "ab" * 20, "1700000000"),
    "an ISO time in seconds only": lambda o, _t: minimal(o, "2026-01-01"),
    "a time with words": lambda o, _t: minimal(o, "2026-01-01T00:00:00 UTC"),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
async def test_a_signed_text_of_another_form_is_refused_and_nothing_is_recorded(
    service: Service, name: str
) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    notice = signed_notice(buyer, order_id, TX, BAD_TEXTS[name](order_id, utc_now()))

    await judged(service, buyer, notice, (401, "SIGNATURE_INVALID"), recorded=0)


@pytest.mark.parametrize(
    "stamp",
    [
        "2020-01-01T00:00:00Z",
        "2999-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+0000",
    ],
)
async def test_a_text_from_another_time_is_refused(service: Service, stamp: str) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    notice = signed_notice(buyer, order_id, TX, minimal(order_id, stamp))

    await judged(service, buyer, notice, (400, "INVALID_TIMESTAMP"), recorded=0)


@pytest.mark.parametrize(
    "text",
    [
        minimal,
        lambda o, t: minimal(o, t.replace("Z", "+00:00")),
        lambda o, t: minimal(o, t).replace(TX, "0x" + TX[2:].upper()),
        lambda o, t: strict_text(o, TX, NONCE, t),
    ],
    ids=["minimal", "with an offset", "hash in upper case", "with a nonce"],
)
async def test_each_documented_text_is_kept_while_its_payment_is_unknown(
    service: Service, text: Callable[[str, str], str]
) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    notice = signed_notice(buyer, order_id, TX, text(order_id, utc_now()))

    await judged(service, buyer, notice, PASSES, recorded=1)


async def test_the_hub_text_with_the_own_address_is_kept(service: Service) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    text = hub(order_id, buyer.address, str(system_clock()))

    await judged(service, buyer, signed_notice(buyer, order_id, TX, text), PASSES, recorded=1)


async def test_the_nonce_of_the_body_has_to_be_the_signed_one(service: Service) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    notice = signed_notice(buyer, order_id, TX, strict_text(order_id, TX, NONCE))

    await judged(
        service,
        buyer,
        {**notice, "nonce": "another-0123456789"},
        (401, "SIGNATURE_INVALID"),
        recorded=0,
    )
    await judged(service, buyer, {**notice, "nonce": NONCE}, PASSES, recorded=1)


async def test_a_nonce_is_used_once_per_order(service: Service) -> None:
    buyer = service.buyer("signatures")
    order_id = await service.quote(buyer)
    first = signed_notice(buyer, order_id, TX, strict_text(order_id, TX, NONCE))
    await judged(service, buyer, first, PASSES, recorded=1)
    other = "0x" + "34" * 32
    second = signed_notice(buyer, order_id, other, strict_text(order_id, other, NONCE))

    await judged(service, buyer, second, (409, "NONCE_REUSED"), recorded=0)


RECEIPTS = {
    "sdk": lambda o, _h, t: f"Confirm delivery: {o} | Timestamp: {t}",
    "documents": lambda o, h, t: f"Order: {o} | Received: true | Hash: {h} | Timestamp: {t}",
    "prefixed hash": lambda o, h, t: (
        f"Order: {o} | Received: true | Hash: sha256:{h} | Timestamp: {t}"
    ),
    "with a head": lambda o, h, t: (
        f"Order: {o} | Received: true | Hash: {h} | Head: HEAD | Timestamp: {t}"
    ),
    "skill document": lambda o, _h, t: f"Order: {o} | Received: {t} | Satisfied: true",
}


@pytest.mark.parametrize("form", RECEIPTS)
async def test_each_documented_receipt_confirms(
    service: Service, chain: DevChain, form: str
) -> None:
    buyer, order_id, digest = await delivered(service, chain)
    head = service.app[LEDGER].head
    text = RECEIPTS[form](order_id, digest, utc_now())
    text = text.replace("HEAD", f"{head.size}:{head.root.hex()}")

    answer = await buyer.post("/ivxp/confirm", receipt(buyer, order_id, text))

    assert answer.require(200)["status"] == "confirmed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Confirm delivery: {o} | Timestamp: {t}\n", (401, "SIGNATURE_INVALID")),
        ("Confirm delivery: {o} | Hash: {h} | Timestamp: {t}", (401, "SIGNATURE_INVALID")),
        ("Order: {o} | Received: false | Hash: {h} | Timestamp: {t}", (401, "SIGNATURE_INVALID")),
        ("Order: {o} | Received: {t} | Satisfied: false", (401, "SIGNATURE_INVALID")),
        ("Order: {o} | Payment: {tx} | Timestamp: {t}", (401, "SIGNATURE_INVALID")),
        ("Confirm delivery: {o} | Timestamp: 2020-01-01T00:00:00Z", (400, "INVALID_TIMESTAMP")),
        (
            "Order: {o} | Received: true | Hash: {other} | Timestamp: {t}",
            (409, "CONTENT_HASH_MISMATCH"),
        ),
    ],
)
async def test_a_receipt_of_another_form_or_for_other_bytes_is_refused(
    service: Service, chain: DevChain, text: str, expected: tuple[int, str]
) -> None:
    buyer, order_id, digest = await delivered(service, chain)
    said = text.format(o=order_id, h=digest, t=utc_now(), tx=TX, other="ab" * 32)
    before = service.kinds(order_id)

    answer = await buyer.post("/ivxp/confirm", receipt(buyer, order_id, said))

    assert (answer.status, answer.body["error"]) == expected
    assert service.kinds(order_id) == before


async def test_only_the_client_can_confirm(service: Service, chain: DevChain) -> None:
    _, order_id, _ = await delivered(service, chain)
    stranger = service.buyer("signatures stranger")

    answer = await stranger.confirm(order_id, "hello")

    assert (answer.status, answer.body["error"]) == (401, "SIGNATURE_INVALID")


async def judged(
    service: Service,
    buyer: Buyer,
    notice: dict[str, object],
    expected: tuple[int, str],
    *,
    recorded: int,
) -> None:
    """Give notice; check the answer and how many events it left."""
    order_id = str(notice["order_id"])
    before = service.kinds(order_id)
    answer = await buyer.deliver(notice)
    assert (answer.status, answer.body["error"]) == expected, answer.body
    assert service.kinds(order_id) == before + ["payment_claimed"] * recorded


async def delivered(service: Service, chain: DevChain) -> tuple[Buyer, str, str]:
    """Return a buyer, its delivered order and the hash of what was delivered."""
    buyer = payer(chain, service, "signatures delivered")
    order_id = await paid_order(service, chain, buyer)
    status = await delivered_status(buyer, order_id)
    return buyer, order_id, str(status["content_hash"])


def receipt(buyer: Buyer, order_id: str, text: str) -> dict[str, object]:
    return {
        "protocol": "IVXP/1.0",
        "message_type": "delivery_confirmation",
        "timestamp": utc_now(),
        "order_id": order_id,
        "confirmation": {"received": True},
        "signature": buyer.sign(text),
        "signed_message": text,
    }
