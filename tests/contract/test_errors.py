"""Hostile input, route by route: the exact status, code and shape, and nothing recorded.

Where the answer of a refused command is recorded all the same, `test_payments.py` shows it.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.keys import VIEWS
from scripts.buyer import Buyer, utc_now
from tests.contract.kit import NETWORK, Service, make_settings, send, serving
from tests.contract.market_doors import furnished
from tests.contract.market_kit import AGENT, CLIENT, market

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"
UNKNOWN_ORDER = "ivxp-00000000-0000-4000-8000-000000000000"
TX = "0x" + "12" * 32
DELETE = object()

POSTS = [
    "/ivxp/request",
    "/ivxp/deliver",
    "/ivxp/confirm",
    f"/ivxp/orders/{UNKNOWN_ORDER}/confirm",
]


def require_error(
    status: int, body: dict[str, Any], headers: dict[str, str], *, expected: tuple[int, str]
) -> None:
    """Check the shape that every error has."""
    assert (status, body["error"]) == expected, body
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", body["error"])
    assert isinstance(body["message"], str)
    assert body["message"]
    assert set(body) <= {"error", "message", "details", "retryable", "ledger"}
    assert None not in body.values()
    assert isinstance(body.get("details", {}), dict)
    assert ("Retry-After" in headers) == (body.get("retryable") is True)
    assert headers["Content-Type"].startswith(JSON)


async def refused(
    service: Service, path: str, data: bytes, expected: tuple[int, str], **headers: str
) -> dict[str, Any]:
    """Send a body, check the error and that nothing was recorded; return the error."""
    before = service.position
    status, body, answered = await send(service, "POST", path, data, **headers)
    require_error(status, body, answered, expected=expected)
    assert service.position == before
    return body


def changed(message: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a deep copy with one member replaced, added or left out."""
    copy: dict[str, Any] = json.loads(json.dumps(message))
    *parents, name = path.split(".")
    inner = copy
    for parent in parents:
        inner = inner[parent]
    if value is DELETE:
        del inner[name]
    else:
        inner[name] = value
    return copy


def request_message(buyer: Buyer) -> dict[str, Any]:
    return {
        "protocol": "IVXP/1.0",
        "message_type": "service_request",
        "timestamp": utc_now(),
        "client_agent": {"name": "buyer", "wallet_address": buyer.address},
        "service_request": {"type": "text_echo", "description": "hello", "budget_usdc": 1},
    }


def confirm_message(buyer: Buyer, order_id: str) -> dict[str, Any]:
    stamp = utc_now()
    text = f"Confirm delivery: {order_id} | Timestamp: {stamp}"
    return {
        "protocol": "IVXP/1.0",
        "message_type": "delivery_confirmation",
        "timestamp": stamp,
        "order_id": order_id,
        "confirmation": {
            "message": text,
            "signature": buyer.sign(text),
            "signer": buyer.address,
        },
    }


HOSTILE_BYTES = {
    "nothing": b"",
    "spaces": b"   ",
    "null": b"null",
    "a number": b"5",
    "a string": b'"text"',
    "an array": b"[]",
    "an array of messages": b'[{"protocol":"IVXP/1.0"}]',
    "no JSON": b"protocol=IVXP/1.0",
    "half": b'{"protocol":"IVXP/1.0"',
    "trailing garbage": b'{"protocol":"IVXP/1.0"} x',
    "two values": b"{}{}",
    "trailing comma": b'{"protocol":"IVXP/1.0",}',
    "single quotes": b"{'protocol':'IVXP/1.0'}",
    "comment": b'{"protocol":"IVXP/1.0"/* */}',
    "duplicate keys": b'{"protocol":"IVXP/1.0","protocol":"IVXP/1.0"}',
    "duplicate keys inside": b'{"protocol":"IVXP/1.0","client_agent":{"name":"a","name":"b"}}',
    "duplicate keys by escape": b'{"protocol":"IVXP/1.0","\\u0070rotocol":"IVXP/1.1"}',
    "NaN": b'{"protocol":"IVXP/1.0","x":NaN}',
    "Infinity": b'{"protocol":"IVXP/1.0","x":Infinity}',
    "-Infinity": b'{"protocol":"IVXP/1.0","x":-Infinity}',
    "a number beyond all bounds": b'{"protocol":"IVXP/1.0","x":1e400}',
    "an exponent of many digits": b'{"protocol":"IVXP/1.0","x":1e-99999999999999999999}',
    "an integer of many digits": b'{"protocol":"IVXP/1.0","x":' + b"9" * 5000 + b"}",
    "leading zero": b'{"protocol":"IVXP/1.0","x":01}',
    "hexadecimal": b'{"protocol":"IVXP/1.0","x":0x1}',
    "bad UTF-8": b'{"protocol":"IVXP/1.0","x":"\xff"}',
    "overlong UTF-8": b'{"protocol":"IVXP/1.0","x":"\xc0\xaf"}',
    "UTF-16": '{"protocol":"IVXP/1.0"}'.encode("utf-16"),
    "Latin-1": '{"protocol":"IVXP/1.0","x":"é"}'.encode("latin-1"),
    "byte order mark": b'\xef\xbb\xbf{"protocol":"IVXP/1.0"}',
    "lone high surrogate": b'{"protocol":"IVXP/1.0","x":"\\ud800"}',
    "lone low surrogate": b'{"protocol":"IVXP/1.0","x":"\\udc00"}',
    "surrogate as bytes": b'{"protocol":"IVXP/1.0","x":"\xed\xa0\x80"}',
    "raw control character": b'{"protocol":"IVXP/1.0","x":"\n"}',
    "deep arrays": b"[" * 60_000,
    "deep arrays inside": b'{"protocol":"IVXP/1.0","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep objects": b'{"a":' * 10_000,
}


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("name", HOSTILE_BYTES)
async def test_a_body_that_is_no_strict_json_object_is_refused(
    service: Service, path: str, name: str
) -> None:
    await refused(service, path, HOSTILE_BYTES[name], (400, "INVALID_JSON"))


async def test_nesting_of_a_hundred_thousand_is_refused_whatever_the_size_limit(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, body_max_bytes=2**20) as roomy:
        for opening in (b"[", b'{"a":'):
            await refused(roomy, "/ivxp/request", opening * 100_000, (400, "INVALID_JSON"))


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "protocol", [DELETE, "IVXP/2.0", "IVXP/1.0 ", "ivxp/1.0", "", None, 1, [], {}, ["IVXP/1.0"]]
)
async def test_another_protocol_or_none_has_a_code_of_its_own(
    service: Service, path: str, protocol: object
) -> None:
    message = {"protocol": "IVXP/1.0"}

    body = await refused(
        service,
        path,
        json.dumps(changed(message, "protocol", protocol)).encode(),
        (400, "PROTOCOL_VERSION_UNSUPPORTED"),
    )

    assert body["details"] == {"field": "protocol"}


REQUEST_FIELDS: list[tuple[str, object, str]] = [
    ("message_type", "delivery_request", "INVALID_REQUEST"),
    ("message_type", None, "INVALID_REQUEST"),
    ("client_agent", DELETE, "INVALID_REQUEST"),
    ("client_agent", None, "INVALID_REQUEST"),
    ("client_agent", [], "INVALID_REQUEST"),
    ("client_agent", "buyer", "INVALID_REQUEST"),
    ("client_agent.name", DELETE, "INVALID_REQUEST"),
    ("client_agent.name", "", "INVALID_REQUEST"),
    ("client_agent.name", 7, "INVALID_REQUEST"),
    ("client_agent.name", "n" * 201, "INVALID_REQUEST"),
    ("client_agent.wallet_address", DELETE, "INVALID_REQUEST"),
    ("client_agent.wallet_address", None, "INVALID_REQUEST"),
    ("client_agent.wallet_address", "", "INVALID_REQUEST"),
    ("client_agent.wallet_address", "0x" + "a" * 39, "INVALID_REQUEST"),
    ("client_agent.wallet_address", "0x" + "a" * 41, "INVALID_REQUEST"),
    ("client_agent.wallet_address", "0x" + "g" * 40, "INVALID_REQUEST"),
    ("client_agent.wallet_address", "a" * 40, "INVALID_REQUEST"),
    ("client_agent.wallet_address", "0x" + "a" * 40 + "\n", "INVALID_REQUEST"),
    ("client_agent.wallet_address", "0X" + "a" * 40, "INVALID_REQUEST"),
    ("client_agent.wallet_address", 0xAA, "INVALID_REQUEST"),
    ("client_agent.contact_endpoint", "", "INVALID_REQUEST"),
    ("client_agent.contact_endpoint", 5, "INVALID_REQUEST"),
    ("client_agent.contact_endpoint", "h" * 2049, "INVALID_REQUEST"),
    ("service_request", DELETE, "INVALID_REQUEST"),
    ("service_request", [{}], "INVALID_REQUEST"),
    ("service_request.type", DELETE, "INVALID_REQUEST"),
    ("service_request.type", 1, "INVALID_REQUEST"),
    ("service_request.type", "", "INVALID_REQUEST"),
    ("service_request.type", "no_such_service", "SERVICE_TYPE_NOT_SUPPORTED"),
    ("service_request.type", "TEXT_ECHO", "SERVICE_TYPE_NOT_SUPPORTED"),
    ("service_request.type", "text_echo\n", "SERVICE_TYPE_NOT_SUPPORTED"),
    ("service_request.type", "../text_echo", "SERVICE_TYPE_NOT_SUPPORTED"),
    ("service_request.type", "\u0000", "SERVICE_TYPE_NOT_SUPPORTED"),
    ("service_request.description", DELETE, "INVALID_REQUEST"),
    ("service_request.description", "", "INVALID_REQUEST"),
    ("service_request.description", {"text": "hello"}, "INVALID_REQUEST"),
    ("service_request.description", "d" * 49_153, "INVALID_REQUEST"),
    ("service_request.budget_usdc", DELETE, "INVALID_REQUEST"),
    ("service_request.budget_usdc", None, "INVALID_REQUEST"),
    ("service_request.budget_usdc", "1", "INVALID_REQUEST"),
    ("service_request.budget_usdc", True, "INVALID_REQUEST"),
    ("service_request.budget_usdc", [1], "INVALID_REQUEST"),
    ("service_request.budget_usdc", 0, "INVALID_REQUEST"),
    ("service_request.budget_usdc", -1, "INVALID_REQUEST"),
    ("service_request.budget_usdc", -0.0, "INVALID_REQUEST"),
    ("service_request.budget_usdc", 0.099999, "BUDGET_TOO_LOW"),
    ("service_request.budget_usdc", 1e-300, "BUDGET_TOO_LOW"),
    ("service_request.delivery_format", 1, "INVALID_REQUEST"),
    ("service_request.delivery_format", "f" * 65, "INVALID_REQUEST"),
    ("service_request.deadline", 1, "INVALID_REQUEST"),
    ("timestamp", 1_700_000_000, "INVALID_TIMESTAMP"),
    ("timestamp", [], "INVALID_TIMESTAMP"),
    ("timestamp", "", "INVALID_TIMESTAMP"),
    ("timestamp", "yesterday", "INVALID_TIMESTAMP"),
    ("timestamp", "2020-01-01T00:00:00Z", "INVALID_TIMESTAMP"),
    ("timestamp", "2999-01-01T00:00:00Z", "INVALID_TIMESTAMP"),
    ("timestamp", "0000-00-00T00:00:00Z", "INVALID_TIMESTAMP"),
    ("timestamp", "9999-12-31T23:59:59-23:59", "INVALID_TIMESTAMP"),
    ("timestamp", "2026-01-01 00:00:00Z", "INVALID_TIMESTAMP"),
    ("timestamp", "2026-01-01T00:00:00", "INVALID_TIMESTAMP"),
    ("timestamp", "2026-01-01T00:00:00+0000", "INVALID_TIMESTAMP"),
    ("timestamp", "\uff12\uff10\uff12\uff16-01-01T00:00:00Z", "INVALID_TIMESTAMP"),
]


@pytest.mark.parametrize(("field", "value", "code"), REQUEST_FIELDS)
async def test_a_request_with_a_bad_field_is_refused_by_its_code(
    service: Service, field: str, value: object, code: str
) -> None:
    message = changed(request_message(service.buyer("errors")), field, value)

    body = await refused(service, "/ivxp/request", json.dumps(message).encode(), (400, code))

    if code == "INVALID_REQUEST":
        assert body["details"]["field"].rpartition(".")[2] == field.rpartition(".")[2]


@pytest.mark.parametrize("ago", [301, -90])
async def test_a_request_from_another_time_is_refused(service: Service, ago: int) -> None:
    message = changed(request_message(service.buyer("errors")), "timestamp", utc_now_minus(ago))

    await refused(
        service, "/ivxp/request", json.dumps(message).encode(), (400, "INVALID_TIMESTAMP")
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", DELETE),
        ("message_type", DELETE),
        ("protocol", "IVXP/1.1"),
        ("client_agent.contact_endpoint", None),
        ("client_agent.name", "\u0000 \U0001f600 \u202e"),
        ("client_agent.wallet_address", "0x" + "0" * 40),
        ("service_request.budget_usdc", 0.1),
        ("service_request.budget_usdc", 10**300),
        ("service_request.description", '{"text": "é\u2028"}'),
        ("service_request.delivery_format", ""),
        ("unknown", {"nested": [None, 1.5, {"deep": True}]}),
    ],
)
async def test_a_request_that_is_merely_unusual_is_quoted(
    service: Service, field: str, value: object
) -> None:
    message = changed(request_message(service.buyer("errors")), field, value)
    before = service.position

    status, body, _ = await send(service, "POST", "/ivxp/request", json.dumps(message).encode())

    assert (status, body.get("message_type")) == (200, "service_quote")
    assert service.position == before + 1
    assert body["protocol"] == message["protocol"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_of_a_request_does_not_matter(
    service: Service, content_type: str
) -> None:
    data = json.dumps(request_message(service.buyer("errors"))).encode()

    status, _, _ = await send(
        service, "POST", "/ivxp/request", data, **{"Content-Type": content_type}
    )

    assert status == 200


DELIVER_FIELDS: list[tuple[str, object, tuple[int, str]]] = [
    ("message_type", "service_request", (400, "INVALID_REQUEST")),
    ("order_id", DELETE, (400, "INVALID_REQUEST")),
    ("order_id", None, (400, "INVALID_REQUEST")),
    ("order_id", 5, (400, "INVALID_REQUEST")),
    ("order_id", "", (400, "INVALID_REQUEST")),
    ("order_id", "o" * 201, (400, "INVALID_REQUEST")),
    ("order_id", UNKNOWN_ORDER, (404, "ORDER_NOT_FOUND")),
    ("order_id", "ivxp-nonexistent", (404, "ORDER_NOT_FOUND")),
    ("order_id", "log", (404, "ORDER_NOT_FOUND")),
    ("order_id", "order/" + UNKNOWN_ORDER, (404, "ORDER_NOT_FOUND")),
    ("order_id", "ivxp-x' OR 1=1 --", (404, "ORDER_NOT_FOUND")),
    ("payment_proof", DELETE, (400, "INVALID_REQUEST")),
    ("payment_proof", None, (400, "INVALID_REQUEST")),
    ("payment_proof", [], (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", DELETE, (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", "0x12", (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", TX + "00", (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", TX + "\n", (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", "0x" + "zz" * 32, (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", 18, (400, "INVALID_REQUEST")),
    ("payment_proof.tx_hash", "0x" + "34" * 32, (401, "SIGNATURE_INVALID")),
    ("payment_proof.from_address", DELETE, (400, "INVALID_REQUEST")),
    ("payment_proof.from_address", "0x12", (400, "INVALID_REQUEST")),
    ("payment_proof.from_address", "0x" + "ab" * 20, (401, "SIGNATURE_INVALID")),
    ("payment_proof.network", DELETE, (400, "INVALID_REQUEST")),
    ("payment_proof.network", 84532, (400, "INVALID_REQUEST")),
    ("payment_proof.network", "", (400, "INVALID_REQUEST")),
    ("payment_proof.network", "base-mainnet", (400, "INVALID_NETWORK")),
    ("payment_proof.network", "base", (400, "INVALID_NETWORK")),
    ("payment_proof.network", "Base-Sepolia", (400, "INVALID_NETWORK")),
    ("payment_proof.network", "ethereum", (400, "INVALID_NETWORK")),
    ("signature", DELETE, (400, "INVALID_REQUEST")),
    ("signature", None, (400, "INVALID_REQUEST")),
    ("signature", ["0x"], (400, "INVALID_REQUEST")),
    ("signed_message", DELETE, (400, "INVALID_REQUEST")),
    ("signed_message", {}, (400, "INVALID_REQUEST")),
    ("nonce", 5, (400, "INVALID_REQUEST")),
    ("delivery_endpoint", 5, (400, "INVALID_REQUEST")),
    ("delivery_endpoint", "", (400, "INVALID_REQUEST")),
    ("timestamp", 5, (400, "INVALID_TIMESTAMP")),
    ("timestamp", "soon", (400, "INVALID_TIMESTAMP")),
    ("timestamp", "2020-01-01T00:00:00Z", (400, "INVALID_TIMESTAMP")),
    ("timestamp", "2999-01-01T00:00:00Z", (400, "INVALID_TIMESTAMP")),
]


@pytest.mark.parametrize(("field", "value", "expected"), DELIVER_FIELDS)
async def test_a_notice_with_a_bad_field_is_refused_by_its_code(
    service: Service, field: str, value: object, expected: tuple[int, str]
) -> None:
    buyer = service.buyer("errors")
    order_id = await service.quote(buyer)
    message = changed(buyer.notice(order_id, TX, NETWORK), field, value)

    await refused(service, "/ivxp/deliver", json.dumps(message).encode(), expected)


CONFIRM_FIELDS: list[tuple[str, object, tuple[int, str]]] = [
    ("message_type", "receipt", (400, "INVALID_REQUEST")),
    ("order_id", DELETE, (400, "INVALID_REQUEST")),
    ("order_id", 5, (400, "INVALID_REQUEST")),
    ("order_id", UNKNOWN_ORDER, (404, "ORDER_NOT_FOUND")),
    ("order_id", "ivxp-nonexistent", (404, "ORDER_NOT_FOUND")),
    ("confirmation", DELETE, (401, "SIGNATURE_INVALID")),
    ("confirmation", None, (400, "INVALID_REQUEST")),
    ("confirmation", [], (400, "INVALID_REQUEST")),
    ("confirmation.message", 5, (400, "INVALID_REQUEST")),
    ("confirmation.message", DELETE, (401, "SIGNATURE_INVALID")),
    ("confirmation.message", "Confirm delivery", (401, "SIGNATURE_INVALID")),
    ("confirmation.signature", DELETE, (401, "SIGNATURE_INVALID")),
    ("confirmation.signature", "0x", (401, "SIGNATURE_INVALID")),
    ("confirmation.signer", "0x" + "ab" * 20, (401, "SIGNATURE_INVALID")),
    ("confirmation.signer", "me", (400, "INVALID_REQUEST")),
    ("confirmation.received", "yes", (400, "INVALID_REQUEST")),
    ("confirmation.received", 1, (400, "INVALID_REQUEST")),
    ("confirmation.received", False, (400, "NOT_A_RECEIPT")),
    ("confirmation.content_hash", "h" * 81, (400, "INVALID_REQUEST")),
    ("confirmation.content_hash", "abc", (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", 0, (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", 6, (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", 4.5, (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", 5.0, (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", "5", (400, "INVALID_REQUEST")),
    ("confirmation.satisfaction_rating", True, (400, "INVALID_REQUEST")),
    ("timestamp", 5, (400, "INVALID_TIMESTAMP")),
    ("timestamp", "2020-01-01T00:00:00Z", (400, "INVALID_TIMESTAMP")),
    ("protocol", "IVXP/1.1", (409, "INVALID_ORDER_STATE")),
]
"""The last one has nothing wrong but that there is nothing to confirm."""


@pytest.mark.parametrize(("field", "value", "expected"), CONFIRM_FIELDS)
async def test_a_confirmation_with_a_bad_field_is_refused_by_its_code(
    service: Service, field: str, value: object, expected: tuple[int, str]
) -> None:
    buyer = service.buyer("errors")
    order_id = await service.quote(buyer)
    message = changed(confirm_message(buyer, order_id), field, value)

    await refused(service, "/ivxp/confirm", json.dumps(message).encode(), expected)


async def test_a_confirmation_for_another_order_than_the_path_names_is_refused(
    service: Service,
) -> None:
    buyer = service.buyer("errors")
    message = confirm_message(buyer, await service.quote(buyer))

    await refused(
        service,
        f"/ivxp/orders/{UNKNOWN_ORDER}/confirm",
        json.dumps(message).encode(),
        (400, "INVALID_REQUEST"),
    )


LIMIT = 65_536


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_above_the_limit_is_refused(service: Service, path: str) -> None:
    await refused(service, path, b" " * (LIMIT + 1), (413, "PAYLOAD_TOO_LARGE"))


async def test_a_body_above_the_limit_is_refused_on_the_marketplace_and_a_result_may_be_longer(
    tmp_path: Path,
) -> None:
    limits = {"body_max_bytes": 4096, "content_max_bytes": 8192}
    async with market(tmp_path, "credentials", **limits) as m:
        world = await furnished(m)
        deliver = f"/orders/{world.orders['deliver']}/deliver"
        for path, who, size, expected in (
            ("/orders", AGENT, 4097, (413, "PAYLOAD_TOO_LARGE")),
            ("/conversations", CLIENT, 4097, (413, "PAYLOAD_TOO_LARGE")),
            (deliver, AGENT, 4096 + 8192 + 1, (413, "PAYLOAD_TOO_LARGE")),
            (deliver, AGENT, 4096 + 8192, (400, "INVALID_JSON")),
        ):
            token = await m.token(who)
            data, sent = b" " * size, {"Authorization": f"Bearer {token}"}
            await refused(m.service, path, data, expected, **sent)
        said = {"agentWallet": AGENT.address, "result": "x" * 8192}
        data = json.dumps(said).encode()
        await refused(m.service, deliver, data, (413, "PAYLOAD_TOO_LARGE"), **sent)


async def test_a_body_at_the_limit_is_read(service: Service) -> None:
    data = json.dumps(request_message(service.buyer("errors"))).encode()

    status, _, _ = await send(service, "POST", "/ivxp/request", data.ljust(LIMIT))

    assert status == 200


async def test_a_chunked_body_above_the_limit_is_refused(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 8192

    url = service.url + "/ivxp/request"
    async with service.session.post(url, data=chunks()) as response:
        body = await response.json()

    require_error(
        response.status, body, dict(response.headers), expected=(413, "PAYLOAD_TOO_LARGE")
    )


async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(service: Service) -> None:
    bomb = gzip.compress(b" " * 50 * 2**20)
    assert len(bomb) < LIMIT

    await refused(
        service,
        "/ivxp/request",
        bomb,
        (413, "PAYLOAD_TOO_LARGE"),
        **{"Content-Encoding": "gzip"},
    )


async def test_a_body_that_is_not_packed_as_its_header_says_is_refused(service: Service) -> None:
    await refused(
        service,
        "/ivxp/request",
        b"{}",
        (400, "INVALID_REQUEST"),
        **{"Content-Encoding": "gzip"},
    )


async def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, body_timeout=0.2) as impatient:
        before = impatient.position

        async def trickle() -> AsyncIterator[bytes]:
            yield b'{"protocol":'
            await asyncio.Event().wait()

        async with impatient.session.post(
            impatient.url + "/ivxp/request", data=trickle()
        ) as response:
            body = await response.json()

        require_error(
            response.status, body, dict(response.headers), expected=(408, "REQUEST_TIMEOUT")
        )
        assert impatient.position == before


async def test_a_quote_that_would_not_fit_into_the_ledger_is_never_too_long(
    service: Service,
) -> None:
    """What may be long lies outside the entry, so that the longest request has room."""
    message = request_message(service.buyer("errors"))
    message["client_agent"]["name"] = "\u0001" * 200
    message["client_agent"]["contact_endpoint"] = "h" * 2048
    message["service_request"]["description"] = "d" * 49_152
    message["service_request"]["delivery_format"] = "\U0001f600" * 32

    status, body, _ = await send(service, "POST", "/ivxp/request", json.dumps(message).encode())

    assert (status, body["message_type"]) == (200, "service_quote")


async def test_the_limit_that_the_tests_assume_is_the_default(tmp_path: Path) -> None:
    assert make_settings(tmp_path).body_max_bytes == LIMIT


def utc_now_minus(seconds: int) -> str:
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_a_store_that_cannot_be_read_is_unavailable_and_no_fault_of_the_caller(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await service.quote(service.buyer("errors store"))

    def fails(_order_id: str) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(service.app[VIEWS], "order", fails)
    status, body, headers = await send(service, "GET", f"/ivxp/status/{order_id}", b"")

    assert (status, body["error"], body["retryable"]) == (503, "SERVICE_UNAVAILABLE", True)
    assert headers["Retry-After"]
