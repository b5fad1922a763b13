"""Methods, unknown paths, odd paths, and requests that the HTTP server itself refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from api.aether.routes import MARKET_ROUTES
from api.app import ROUTES
from scripts.devchain import DevChain
from tests.contract.kit import (
    Service,
    delivered_status,
    methods_at,
    paid_order,
    path_of,
    payer,
    send,
)
from tests.contract.market_doors import DOORS, furnished, key_of
from tests.contract.market_kit import AGENT, market

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
UNKNOWN_ORDER = "ivxp-00000000-0000-4000-8000-000000000000"


def allowed() -> dict[str, set[str]]:
    """Return the methods of each path of the registry, and of what other paths it is one of."""
    paths = {path_of(mount + each.path, UNKNOWN_ORDER) for each in ROUTES for mount in each.mounts}
    return {path: methods_at(ROUTES, path.partition("?")[0]) for path in sorted(paths)}


ALLOWED = allowed()
WRONG = [(path, m) for path, known in ALLOWED.items() for m in METHODS if m not in known]


@pytest.mark.parametrize(("path", "method"), WRONG)
async def test_another_method_on_a_known_path_is_answered_in_json_with_the_allowed_ones(
    service: Service, path: str, method: str
) -> None:
    status, body, headers = await send(service, method, path, b"{}")

    assert (status, body["error"]) == (405, "METHOD_NOT_ALLOWED")
    assert body["message"]
    assert set(headers["Allow"].split(",")) == ALLOWED[path]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/ivxp",
        "/ivxp/",
        "/ivxp/catalog/",
        "/ivxp/status/",
        "/ivxp/nothing",
        "/favicon.ico",
        "/agents",
        "/agents/",
        "/agents/search/",
        "/orders/",
        "/conversations/",
        "/api",
        "/api/",
        "/api/api/orders",
        "/api/health",
        "/t/token",
        "/t/token/api/",
        "/t/token/health",
        "/t//orders",
    ],
)
async def test_an_unknown_path_is_answered_in_json(
    service: Service, path: str, method: str
) -> None:
    status, body, _ = await send(service, method, path, b"{}")

    assert (status, body["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "order_id",
    [
        UNKNOWN_ORDER,
        "ivxp-nonexistent",
        "nothing",
        UNKNOWN_ORDER.upper(),
        UNKNOWN_ORDER + "%0A",
        UNKNOWN_ORDER + "%00",
        "%FF%FE",
        "%zz",
        "a%2Fb",
        "..%2F..%2Fetc%2Fpasswd",
        "log",
        "%F0%9F%98%80",
        "x" * 4000,
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/ivxp/status/{}", "/ivxp/orders/{}", "/ivxp/download/{}", "/ivxp/orders/{}/deliverable"],
)
async def test_an_order_that_nobody_has_is_not_found_whatever_its_id_looks_like(
    service: Service, path: str, order_id: str
) -> None:
    url = URL(service.url + path.format(order_id), encoded=True)
    async with service.session.get(url) as response:
        body = await response.json()

    assert (response.status, body["error"]) == (404, "ORDER_NOT_FOUND")


async def test_head_answers_like_get_without_a_body_and_records_nothing(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "routes head")
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)
    before = service.kinds(order_id)

    for route in ROUTES:
        if route.method != "GET" or route.roles or route in MARKET_ROUTES:
            continue
        url = service.url + path_of(route.path, order_id)
        async with service.session.head(url) as response:
            assert response.status == 200
            assert response.content_type == route.media_type
            assert await response.read() == b""
    assert service.kinds(order_id) == before


async def test_head_of_a_marketplace_route_answers_like_get_and_hands_nothing_out(
    tmp_path: Path,
) -> None:
    async with market(tmp_path, "headers") as m:
        world = await furnished(m)
        before = m.service.position
        for route in MARKET_ROUTES:
            if route.method != "GET":
                continue
            door = DOORS[key_of("GET", route.path)]
            ask = door.ask(world).claiming(door.owner.address)
            headers = {"Authorization": f"Bearer {await m.token(door.owner)}"}
            url = m.service.url + ask.path
            async with m.service.session.head(url, params=ask.query, headers=headers) as head:
                assert (head.status, head.content_type) == (200, route.media_type), route.path
                length = head.headers.get("Content-Length")
            # What a poll would hand out is not known before, so nothing is said of its length.
            assert (length is None) is route.path.endswith(("/new", "/paid")), route.path
        assert m.service.position == before

        for path in ("/agents/messages/new", "/agents/orders/paid"):
            ask = DOORS["GET", path].ask(world)
            async with m.service.session.get(
                m.service.url + ask.path,
                params=ask.query,
                headers={"Authorization": f"Bearer {await m.token(AGENT)}"},
            ) as response:
                [news] = (await response.json()).values()
                assert news, "what HEAD asked for is still to be had"


async def test_the_first_whole_download_is_recorded_once(service: Service, chain: DevChain) -> None:
    buyer = payer(chain, service, "routes download")
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)
    before = service.kinds(order_id)

    for _ in range(3):
        (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    await service.recorded(order_id, len(before) + 1)

    assert service.kinds(order_id) == [*before, "delivered"]


async def test_a_query_string_changes_nothing(service: Service) -> None:
    buyer = service.buyer("routes")
    order_id = await service.quote(buyer)

    plain = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)

    assert (await buyer.get(f"/ivxp/status/{order_id}?a=1&a=2&%zz")).require(200) == plain


HEAD = b"POST /ivxp/request HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
UNREADABLE = {
    "a header above the limit": b"GET /health HTTP/1.1\r\nHost: x\r\nX: "
    + b"a" * 20_000
    + b"\r\n\r\n",
    "too many headers": b"GET /health HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X%d: 1\r\n" % n for n in range(5000))
    + b"\r\n",
    "a path above the limit": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "a method that does not exist": b"FOO! /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a negative length": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length and chunks": HEAD
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    "an unknown packing": HEAD + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_no_http_request_gets_400_and_the_service_goes_on(
    service: Service, name: str
) -> None:
    before = service.position

    answer = await raw(service, UNREADABLE[name])

    assert answer.split(b" ", 2)[1] == b"400"
    assert service.position == before
    assert (await service.buyer("routes").get("/health")).require(200)["status"] == "ok"


@pytest.mark.parametrize("rest", [b"", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"])
async def test_a_caller_that_goes_away_in_its_request_leaves_nothing(
    service: Service, rest: bytes
) -> None:
    before = service.position
    request = HEAD + (rest or b'Content-Length: 500\r\n\r\n{"protocol":')

    await raw(service, request, then_leave=True)

    assert service.position == before
    assert (await service.buyer("routes").get("/health")).require(200)["status"] == "ok"


async def raw(service: Service, data: bytes, *, then_leave: bool = False) -> bytes:
    """Send bytes on a connection of their own and return what comes back until it is closed."""
    url = URL(service.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(data)
        await writer.drain()
        return b"" if then_leave else await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    finally:
        writer.close()
