"""The clients themselves: each refuses what the real one refuses, and overlooks the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from multidict import CIMultiDict, CIMultiDictProxy

from tests.clients import checks, hub, sdk, sdk_answers
from tests.clients.browser import Browser, CorsBlocked
from tests.clients.checks import Mismatch
from tests.clients.receivers import MAX_BYTES, CallbackServer, OldReceiver, Receiver
from tests.clients.sdk import SdkError
from tests.clients.sdk_stream import StreamExhausted, events_of, follow
from tests.clients.wire import Exchange, encode

TIME = "2026-01-01T12:00:00.000Z"
ADDRESS = "0x" + "Ab" * 20
AGENT = {"name": "provider", "wallet_address": ADDRESS}
GONE = object()

CATALOG: dict[str, Any] = {
    "protocol": "IVXP/1.0",
    "message_type": "service_catalog",
    "timestamp": TIME,
    "provider": "provider",
    "wallet_address": ADDRESS,
    "services": [{"type": "echo", "base_price_usdc": 0.1, "estimated_delivery_hours": 1}],
    "capabilities": ["sse"],
}
QUOTE: dict[str, Any] = {
    "protocol": "IVXP/1.0",
    "message_type": "service_quote",
    "timestamp": TIME,
    "order_id": "ivxp-1",
    "provider_agent": AGENT,
    "quote": {
        "price_usdc": 0.1,
        "estimated_delivery": TIME,
        "payment_address": ADDRESS,
        "network": "base-sepolia",
        "token_contract": ADDRESS,
    },
    "terms": {"payment_timeout": 3600, "revision_policy": "", "refund_policy": ""},
}
STATUS: dict[str, Any] = {
    "order_id": "ivxp-1",
    "status": "paid",
    "created_at": TIME,
    "service_type": "echo",
    "price_usdc": 0.1,
}
DELIVERABLE: dict[str, Any] = {
    "protocol": "IVXP/1.0",
    "message_type": "service_delivery",
    "timestamp": TIME,
    "order_id": "ivxp-1",
    "status": "completed",
    "provider_agent": AGENT,
    "deliverable": {"type": "echo", "format": "text", "content": "words"},
    "content_hash": "any text",
    "delivered_at": TIME,
}
CONFIRMED: dict[str, Any] = {"status": "confirmed", "confirmed_at": TIME}

Parse = Callable[[object], object]


def deliverable(body: object) -> object:
    return sdk_answers.deliverable(body, "ivxp-1")


GOOD: list[tuple[Parse, dict[str, Any]]] = [
    (sdk_answers.catalog, CATALOG),
    (sdk_answers.quote, QUOTE),
    (sdk_answers.status, STATUS),
    (deliverable, DELIVERABLE),
    (sdk_answers.confirmed, CONFIRMED),
]
BAD: list[tuple[Parse, dict[str, Any], str, object]] = [
    *((sdk_answers.catalog, CATALOG, "protocol", value) for value in ("IVXP/1.1", GONE)),
    (sdk_answers.catalog, CATALOG, "message_type", "catalog"),
    (sdk_answers.catalog, CATALOG, "provider", ""),
    (sdk_answers.catalog, CATALOG, "wallet_address", ADDRESS[:-1]),
    (sdk_answers.catalog, CATALOG, "capabilities", None),
    (sdk_answers.catalog, CATALOG, "services", {}),
    (sdk_answers.catalog, CATALOG, "services.0.type", ""),
    (sdk_answers.catalog, CATALOG, "services.0.base_price_usdc", "0.1"),
    (sdk_answers.catalog, CATALOG, "services.0.base_price_usdc", -1),
    (sdk_answers.catalog, CATALOG, "services.0.estimated_delivery_hours", 0),
    *((sdk_answers.quote, QUOTE, "quote.price_usdc", value) for value in ("0.1", 0, True, None)),
    (sdk_answers.quote, QUOTE, "message_type", GONE),
    (sdk_answers.quote, QUOTE, "order_id", ""),
    (sdk_answers.quote, QUOTE, "provider_agent.name", GONE),
    (sdk_answers.quote, QUOTE, "provider_agent.public_key", None),
    (sdk_answers.quote, QUOTE, "quote.estimated_delivery", "tomorrow"),
    (sdk_answers.quote, QUOTE, "quote.payment_address", GONE),
    (sdk_answers.quote, QUOTE, "quote.network", "base"),
    (sdk_answers.quote, QUOTE, "quote.token_contract", None),
    (sdk_answers.quote, QUOTE, "terms", None),
    (sdk_answers.quote, QUOTE, "terms.payment_timeout", 0),
    (sdk_answers.quote, QUOTE, "terms.payment_timeout", 0.5),
    *(
        (sdk_answers.status, STATUS, "status", word)
        for word in ("ready", "posted", "confirmed", "expired", "refunded", "disputed")
    ),
    *((sdk_answers.status, STATUS, name, GONE) for name in STATUS),
    (sdk_answers.status, STATUS, "service_type", ""),
    (sdk_answers.status, STATUS, "price_usdc", "0.1"),
    *(
        (sdk_answers.status, STATUS, "created_at", stamp)
        for stamp in (
            "2026-01-01T12:00:00",
            "2026-01-01T12:00:00+0000",
            "2026-01-01 12:00:00Z",
            "2026-13-01T12:00:00Z",
        )
    ),
    (deliverable, DELIVERABLE, "order_id", "ivxp-2"),
    (deliverable, DELIVERABLE, "status", "delivered"),
    (deliverable, DELIVERABLE, "content_hash", None),
    (deliverable, DELIVERABLE, "delivered_at", None),
    (deliverable, DELIVERABLE, "signature", "0xabcd"),
    (deliverable, DELIVERABLE, "provider_agent", GONE),
    (deliverable, DELIVERABLE, "deliverable", GONE),
    (deliverable, DELIVERABLE, "deliverable.type", ""),
    (deliverable, DELIVERABLE, "deliverable.format", None),
    (deliverable, DELIVERABLE, "deliverable.content", GONE),
    (sdk_answers.confirmed, CONFIRMED, "status", "already_confirmed"),
    (sdk_answers.confirmed, CONFIRMED, "confirmed_at", GONE),
]


def changed(body: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy in which one member is another, or gone."""
    result = copy.deepcopy(body)
    *outer, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = result
    for part in outer:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return result


@pytest.mark.parametrize(("parse", "body"), GOOD)
def test_the_sdk_takes_a_good_answer_with_members_it_does_not_know(
    parse: Parse, body: dict[str, Any]
) -> None:
    assert parse({**body, "ledger": {"position": 1}, "more": None}) == parse(body)


@pytest.mark.parametrize(("parse", "body", "path", "value"), BAD)
def test_the_sdk_refuses_an_answer_in_which_one_thing_is_wrong(
    parse: Parse, body: dict[str, Any], path: str, value: object
) -> None:
    with pytest.raises(Mismatch):
        parse(changed(body, path, value))


@pytest.mark.parametrize("stamp", ["2026-01-01T12:00:00.123456+00:00", "2026-01-01T12:00:00Z"])
def test_the_sdk_takes_every_time_with_a_zone(stamp: str) -> None:
    checks.time(stamp, "stamp")


@pytest.mark.parametrize(
    ("change", "url"),
    [
        ({}, "http://provider/stream"),
        ({"stream_url": GONE}, None),
        ({"stream_url": "/ivxp/stream/1"}, None),
        ({"stream_url": None}, None),
        ({"status": "paid"}, None),
        ({"message": ""}, None),
        ({"order_id": GONE}, None),
    ],
)
def test_the_sdk_overlooks_a_stream_unless_the_whole_acceptance_is_right(
    change: dict[str, object], url: str | None
) -> None:
    body: dict[str, Any] = {
        "status": "accepted",
        "order_id": "ivxp-1",
        "message": "yes",
        "stream_url": "http://provider/stream",
    }
    for path, value in change.items():
        body = changed(body, path, value)
    assert sdk_answers.stream_url(body) == url
    assert sdk_answers.stream_url(None) is None


def answer(status: int, body: bytes, media_type: str | None = "application/json") -> Exchange:
    headers = CIMultiDict({} if media_type is None else {"Content-Type": media_type})
    return Exchange(status, "Reason", CIMultiDictProxy(headers), body)


def test_the_sdk_takes_an_empty_answer_and_one_without_a_media_type() -> None:
    assert sdk._parsed(answer(200, b"", "text/html")) is None
    assert sdk._parsed(answer(201, b"{}", None)) == {}


@pytest.mark.parametrize(
    ("status", "body", "media_type", "code", "message"),
    [
        (200, b"{}", "text/plain", "SERVICE_UNAVAILABLE", None),
        (200, b"{", "application/json", "SERVICE_UNAVAILABLE", None),
        (200, b'{"price": NaN}', "application/json", "SERVICE_UNAVAILABLE", None),
        (400, b'{"error": "only this"}', "application/json", "HTTP_400", "Reason"),
        (400, b'{"message": "told"}', "text/html", "HTTP_400", "told"),
        (401, b'{"message": 5}', "application/json", "SIGNATURE_INVALID", "Reason"),
        (402, b"[]", "application/json", "PAYMENT_NOT_VERIFIED", "Reason"),
        (404, b"<html>", "text/html", "ORDER_NOT_FOUND", "Reason"),
        (409, b"", None, "HTTP_409", "Reason"),
        (500, b'{"message": "ours"}', "application/json", "SERVICE_UNAVAILABLE", "ours"),
    ],
)
def test_the_sdk_raises_by_status_and_reads_the_message_alone(
    status: int, body: bytes, media_type: str | None, code: str, message: str | None
) -> None:
    with pytest.raises(SdkError) as raised:
        sdk._parsed(answer(status, body, media_type))

    assert raised.value.code == code
    assert message in (None, raised.value.message)


def test_an_event_in_one_piece_is_read() -> None:
    piece = b": connected\n\nevent: progress\nid: 1\ndata: {}\n\nevent: completed\ndata: {}\n\n"
    assert events_of(piece) == [("progress", "{}"), ("completed", "{}")]


@pytest.mark.parametrize("cut", range(1, len(b"event: completed\ndata: {}\n\n") - 1))
def test_an_event_in_two_pieces_is_lost(cut: int) -> None:
    whole = b"event: completed\ndata: {}\n\n"
    assert events_of(whole[:cut]) + events_of(whole[cut:]) == []


@pytest.mark.parametrize(
    ("piece", "events"),
    [
        (b"event: completed\r\ndata: {}\r\n\r\n", []),
        (b"event: completed\ndata: 1\ndata: 2\n\n", [("completed", "2")]),
        (b"event: surprise\ndata: {}\n\n", []),
        (b"data: {}\n\n", []),
        (b"event: completed\n\n", []),
    ],
)
def test_the_reader_of_events_has_its_weaknesses(
    piece: bytes, events: list[tuple[str, str]]
) -> None:
    assert events_of(piece) == events


async def test_a_stream_is_given_up_after_three_connections() -> None:
    connections, slept = 0, []

    async def nothing(_request: web.BaseRequest) -> web.Response:
        nonlocal connections
        connections += 1
        return web.Response(text=": connected\n\n")

    async def pause(seconds: float) -> None:
        slept.append(seconds)

    async with RawTestServer(nothing) as server, aiohttp.ClientSession() as session:
        with pytest.raises(StreamExhausted):
            await follow(session, str(server.make_url("/")), pause, lambda *_: None)

    assert (connections, slept) == (3, [1.0, 2.0])


def pushed(**more: object) -> dict[str, Any]:
    inner = {"content": "words", "content_hash": sha256(b"words").hexdigest(), "format": "text"}
    return {"order_id": "ivxp-1", "deliverable": {**inner, **more}}


@pytest.mark.parametrize(
    ("method", "target", "raw", "status"),
    [
        ("POST", "/ivxp/callback", encode(pushed()), 200),
        (
            "POST",
            "/ivxp/callback",
            encode(pushed(content_hash="sha256:" + sha256(b"words").hexdigest())),
            200,
        ),
        ("POST", "/ivxp/callback?order=1", encode(pushed()), 404),
        ("POST", "/ivxp/callback/", encode(pushed()), 404),
        ("GET", "/ivxp/callback", b"", 405),
        ("POST", "/ivxp/callback", b"x" * (MAX_BYTES + 1), 413),
        ("POST", "/ivxp/callback", b"{", 400),
        ("POST", "/ivxp/callback", encode(pushed(content={"body": "words"})), 400),
        ("POST", "/ivxp/callback", encode(pushed(format=None)), 400),
        ("POST", "/ivxp/callback", encode(pushed(content_hash="00")), 400),
        (
            "POST",
            "/ivxp/callback",
            encode(pushed(content_hash=sha256(b"words").hexdigest().upper())),
            400,
        ),
        # What providers of that SDK push by themselves.
        ("POST", "/ivxp/callback", encode({"order_id": "ivxp-1", "content": "words"}), 400),
    ],
)
def test_the_callback_server_takes_the_sdks_push_alone(
    method: str, target: str, raw: bytes, status: int
) -> None:
    assert CallbackServer().answer(method, target, raw)[0] == status


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"format": "text", "content": "words"}, 200),
        ({"content": "words"}, 500),
        ({"content": {"title": "no body"}}, 500),
        ({"type": None}, 500),
    ],
)
def test_the_older_receiver_reads_markdown_from_a_body(
    change: dict[str, object], status: int
) -> None:
    inner = {"type": "card", "format": "markdown", "content": {"body": "# words"}, **change}
    body = {
        "protocol": "IVXP/1.0",
        "message_type": "service_delivery",
        "order_id": "ivxp-1",
        "deliverable": inner,
    }
    receiver: Receiver = OldReceiver()
    assert receiver.answer("POST", "/ivxp/receive", encode(body))[0] == status
    other = encode({**body, "protocol": "IVXP/1.1"})
    assert receiver.answer("POST", "/ivxp/receive", other)[0] == 400
    assert receiver.answer("GET", "/ivxp/health", b"")[0] == 200


@pytest.mark.parametrize(
    ("content", "content_type", "hashed", "failed"),
    [
        ("words", "text/plain", b"words", False),
        ("words", "text/plain", b"other", True),
        ("QUJDRA==", "text/plain; charset=utf-8", b"QUJDRA==", False),
        ("QUJDRA==", "application/json", b"QUJDRA==", False),
        ("QUJDRA==", "image/png", b"ABCD", False),
        ("QUJDRA==", "image/png", b"QUJDRA==", True),
        ("no base64!", "image/png", b"no base64!", False),
        ("data:image/png;base64,QUJDRA==", "text/plain", b"ABCD", False),
        ([65, 66], "image/png", b"AB", False),
    ],
)
def test_the_hubs_page_decodes_before_it_hashes(
    content: object, content_type: str, hashed: bytes, *, failed: bool
) -> None:
    for prefix in ("", "sha256:"):
        digest = prefix + sha256(hashed).hexdigest()
        body = {"content": content, "content_type": content_type, "content_hash": digest}
        assert hub.shown(body).failed is failed


@pytest.mark.parametrize(
    "body",
    [
        {"deliverable": {"content": "words"}, "content_type": "text/plain", "content_hash": ""},
        {"content": {"0": 65}, "content_type": "text/plain", "content_hash": ""},
        {"content": "words", "content_type": "text/plain"},
        {"content": "words", "content_type": "text/plain", "content_hash": "", "file_name": None},
    ],
)
def test_the_hubs_page_needs_the_flat_members(body: dict[str, object]) -> None:
    with pytest.raises(Mismatch):
        hub.shown(body)


PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "content-type",
}


@pytest.mark.parametrize(
    ("preflight_status", "preflight", "own", "read"),
    [
        (204, PREFLIGHT, {"Access-Control-Allow-Origin": "https://page"}, True),
        (204, PREFLIGHT, {"Access-Control-Allow-Origin": "*"}, True),
        (204, PREFLIGHT, {"Access-Control-Allow-Origin": "https://other"}, False),
        (204, PREFLIGHT, {"Access-Control-Allow-Origin": "https://page, *"}, False),
        (204, PREFLIGHT, {}, False),
        (404, PREFLIGHT, {"Access-Control-Allow-Origin": "*"}, False),
        (204, {}, {"Access-Control-Allow-Origin": "*"}, False),
        (
            204,
            {**PREFLIGHT, "Access-Control-Allow-Headers": "accept"},
            {"Access-Control-Allow-Origin": "*"},
            False,
        ),
    ],
)
async def test_the_browser_keeps_from_a_page_what_is_not_for_it(
    preflight_status: int, preflight: dict[str, str], own: dict[str, str], *, read: bool
) -> None:
    async def provider(request: web.BaseRequest) -> web.Response:
        if request.method == "OPTIONS":
            return web.Response(status=preflight_status, headers=preflight)
        return web.json_response({}, status=404, headers=own)

    async with RawTestServer(provider) as server, aiohttp.ClientSession() as session:
        browser = Browser(session, "https://page")
        call = browser.fetch(
            "POST", str(server.make_url("/")), {"Content-Type": "application/json"}, b"{}"
        )
        if read:
            assert (await call).status == 404
        else:
            with pytest.raises(CorsBlocked):
                await call
