"""The payment header: what the SDK sends is read, everything else is refused by its place."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.errors import InvalidInput
from ledger.spl import X402Header, read_header
from tests.support.solana import USDC, sdk_micros, signed_payment, wallet_named

CLIENT = wallet_named("client")
OWNER = str(CLIENT.pubkey())
RECIPIENT = str(wallet_named("shop").pubkey())
BLOCKHASH = RECIPIENT
NOW = 1_764_200_000
HEADER = signed_payment(CLIENT, RECIPIENT, USDC, 2.01, BLOCKHASH, now=NOW)
WHOLE = "paymentHeader"


def encoded(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64encode(raw).decode()


def document() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(base64.b64decode(HEADER))
    return decoded


def refused_field(header: str) -> object:
    with pytest.raises(InvalidInput) as caught:
        read_header(header)
    assert caught.value.code == "INVALID_PAYMENT_HEADER"
    assert "pydantic" not in caught.value.message
    return caught.value.details["field"]


def test_what_the_sdk_sends_is_read_in_full() -> None:
    transaction = document()["payload"]["signedTransaction"]

    assert read_header(HEADER) == X402Header(
        network="solana-devnet",
        sender=OWNER,
        recipient=RECIPIENT,
        value=sdk_micros(2.01),
        asset=USDC,
        valid_before=NOW + 300,
        transaction=transaction,
    )
    # The SDK's binary fractions lose the last micro of this price.
    assert sdk_micros(2.01) == 2_009_999


def test_words_that_are_not_signed_decide_nothing() -> None:
    told = document()
    told["payload"]["authorization"] |= {"value": "1", "from": RECIPIENT, "validBefore": "0"}
    told["network"] = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
    told["extra"] = {"anything": [1.5, None]}

    header = read_header(encoded(json.dumps(told)))

    assert (header.value, header.sender, header.valid_before) == (1, RECIPIENT, 0)


WRONG: list[tuple[str, object]] = [
    ("x402Version", 2),
    ("x402Version", "1"),
    ("x402Version", 1.0),
    ("x402Version", True),
    ("x402Version", None),
    ("scheme", "upto"),
    ("scheme", 1),
    ("network", ""),
    ("network", "solana devnet"),
    ("network", "n" * 65),
    ("network", 5),
    ("payload", []),
    ("payload", "text"),
    ("payload.authorization", None),
    ("payload.authorization.from", OWNER + "1"),
    ("payload.authorization.from", "0" * 44),
    ("payload.authorization.from", ""),
    ("payload.authorization.to", "0x" + "1" * 40),
    ("payload.authorization.to", 7),
    ("payload.authorization.to", "1" * 5000),
    ("payload.authorization.asset", "USDC"),
    ("payload.authorization.asset", {"mint": USDC}),
    ("payload.authorization.value", 2_010_000),
    ("payload.authorization.value", "02"),
    ("payload.authorization.value", "-1"),
    ("payload.authorization.value", "1.5"),
    ("payload.authorization.value", "1e6"),
    ("payload.authorization.value", "\u0661"),
    ("payload.authorization.value", str(2**64)),
    ("payload.authorization.value", "9" * 4000),
    ("payload.authorization.validBefore", -1),
    ("payload.authorization.validBefore", 1.5),
    ("payload.authorization.validBefore", 2**53),
    ("payload.authorization.validBefore", "soon"),
    ("payload.authorization.validBefore", "9" * 4000),
    ("payload.authorization.validBefore", True),
    ("payload.signedTransaction", ""),
    ("payload.signedTransaction", 5),
    ("payload.signedTransaction", "no base64!"),
    ("payload.signedTransaction", "A" * 2000),
    ("payload.signedTransaction", "AQ=="[:3]),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_part_is_named(field: str, value: object) -> None:
    told = document()
    *path, last = field.split(".")
    place = told
    for part in path:
        place = place[part]
    place[last] = value

    assert refused_field(encoded(json.dumps(told))) == field


@pytest.mark.parametrize(
    "field",
    [
        "x402Version",
        "scheme",
        "network",
        "payload",
        "payload.signedTransaction",
        "payload.authorization",
        "payload.authorization.value",
        "payload.authorization.validBefore",
    ],
)
def test_a_missing_part_is_named(field: str) -> None:
    told = document()
    *path, last = field.split(".")
    place = told
    for part in path:
        place = place[part]
    del place[last]

    assert refused_field(encoded(json.dumps(told))) == field


def _text() -> str:
    return json.dumps(document())


NO_HEADER: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no base64": lambda: "{}",
    "base64 of the url alphabet": lambda: encoded("~~~???").replace("+", "-").replace("/", "_"),
    "without padding": lambda: encoded(_text() + " " * (3 - len(_text()) % 3 + 1)).rstrip("="),
    "with bits that say nothing": lambda: "e31=",
    "no JSON": lambda: encoded("payment"),
    "no UTF-8": lambda: encoded(b"\xff\xfe"),
    "no object": lambda: encoded("[]"),
    "null": lambda: encoded("null"),
    "two documents": lambda: encoded(_text() + "{}"),
    "a key twice": lambda: encoded('{"x402Version":1,' + _text()[1:]),
    "a key twice inside": lambda: encoded(_text().replace('"to"', '"from"')),
    "NaN": lambda: encoded(_text().replace(str(NOW + 300), "NaN")),
    "infinity": lambda: encoded(_text().replace(str(NOW + 300), "-Infinity")),
    "a number without end": lambda: encoded(_text().replace(str(NOW + 300), "9" * 4400)),
    "nested without end": lambda: encoded("[" * 6000),
    "objects without end": lambda: encoded('{"a":' * 1200),
    "too long": lambda: encoded(" " * 8192 + _text()),
}


@pytest.mark.parametrize("make", NO_HEADER.values(), ids=NO_HEADER)
def test_what_is_no_header_is_refused_whole(make: Callable[[], str]) -> None:
    assert refused_field(make()) == WHOLE


def test_a_header_as_long_as_any_real_one_is_read() -> None:
    told = document()
    told["padding"] = "x" * (8192 * 3 // 4 - len(json.dumps(told)) - len(', "padding": ""'))
    header = encoded(json.dumps(told))

    assert len(header) == 8192
    assert read_header(header).sender == OWNER
