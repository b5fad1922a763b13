"""A real nginx in front, with the configuration that ships: nothing is lost or added on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from api.app import make_app
from api.keys import LIMITS
from api.window import Window
from scripts.buyer import Buyer
from scripts.devchain import DevChain
from scripts.listening import Listening, listening
from tests.contract.callers import ROLES, WORKER, signed_in
from tests.contract.feeds import connected, following, opened, path, quotes
from tests.contract.kit import (
    NETWORK,
    WAIT_SECONDS,
    Service,
    delivered_status,
    make_settings,
    paid_order,
    pay,
    payer,
    send,
)
from tests.support.nginx import CUT_OFF, PREFIX, Front, front

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY_LIMIT = 8192
CONTENT_LIMIT = 2**20
CATALOG = (
    Path("catalog.toml").read_text("utf-8")
    + '\n[[services]]\ntype = "by_hand"\nkind = "external"\nprice_usdc = "0.1"\n'
    "estimated_delivery_hours = 1\n"
)
NGINX_ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Shop:
    """A service, nginx before it, and both ways in."""

    service: Service
    """As its clients see it: through nginx."""
    inner: str
    place: Listening
    front: Front

    def called_from(self, address: str) -> aiohttp.ClientSession:
        """Return a session whose connections come from another of this machine's addresses."""
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        return aiohttp.ClientSession(connector=connector)

    @contextmanager
    def limited(self, per_minute: int) -> Iterator[None]:
        """Count from zero for the length of a block, at a time that stands still."""
        window = Window(per_minute, max_holders=100, clock=lambda: 0.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.service.app[LIMITS], "_writes", window)
            yield


@asynccontextmanager
async def shop(
    folder: Path,
    chain: DevChain | None = None,
    *,
    public_path: str = "",
    changes: tuple[tuple[str, str], ...] = (),
    **settings: object,
) -> AsyncIterator[Shop]:
    """Run a service with nginx before it."""
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    with front(folder / "nginx") as before:
        values = {
            "catalog": catalog,
            "public_url": before.url + public_path,
            "trusted_proxies": NGINX_ADDRESS,
            "body_max_bytes": BODY_LIMIT,
            "content_max_bytes": CONTENT_LIMIT,
            **ROLES,
            **settings,
        }
        app = make_app(make_settings(folder, chain, **values))
        async with (
            listening(app, NGINX_ADDRESS, 0) as place,
            aiohttp.ClientSession() as session,
        ):
            with before.before(place.urls[0], *changes):
                service = Service(app, before.url + public_path, session, folder)
                yield Shop(service, place.urls[0], place, before)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plain(chain: DevChain, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with shop(tmp_path_factory.mktemp("nginx"), chain) as open_shop:
        yield open_shop


async def whole_way(open_shop: Shop, chain: DevChain, name: str) -> str:
    """Buy something, collect it and sign for it."""
    service = open_shop.service
    buyer = payer(chain, service, name)
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)
    body = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    (await buyer.confirm(order_id, str(body["content"]))).require(200)
    return order_id


async def test_an_order_goes_its_whole_way_and_no_log_holds_its_secret(
    plain: Shop, chain: DevChain
) -> None:
    order_id = await whole_way(plain, chain, "nginx whole")

    # Its one process takes the next request after it wrote the lines of those before.
    await send(replace(plain.service, url=plain.front.url), "GET", "/health", b"")
    log = plain.front.log
    assert log.count(" POST 200 ") >= 3
    assert order_id.removeprefix("ivxp-") not in log
    assert "/ivxp/" not in log


async def test_a_prefix_is_kept_when_the_service_knows_it(tmp_path: Path, chain: DevChain) -> None:
    async with shop(tmp_path, chain, public_path=PREFIX, path_prefix=PREFIX) as kept:
        await whole_way(kept, chain, "nginx kept")
        assert await stream_is_there(kept, chain, "nginx kept stream")
        status, body, _ = await send(
            replace(kept.service, url=kept.front.url), "GET", "/health", b""
        )
        assert (status, body["error"]) == (404, "NOT_FOUND")


async def test_a_prefix_is_cut_off_when_only_nginx_knows_it(
    tmp_path: Path, chain: DevChain
) -> None:
    async with shop(tmp_path, chain, public_path=PREFIX, changes=CUT_OFF) as open_shop:
        await whole_way(open_shop, chain, "nginx cut")
        assert await stream_is_there(open_shop, chain, "nginx cut stream")


async def stream_is_there(open_shop: Shop, chain: DevChain, name: str) -> bool:
    """Whether the absolute URL that the acceptance names leads through nginx to the stream."""
    service = open_shop.service
    buyer = payer(chain, service, name)
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
    url = str((await buyer.deliver(notice)).require(200)["stream_url"])
    assert url.startswith(service.url + "/ivxp/stream/")
    async with service.session.get(url) as response:
        return response.status == 200


async def next_event(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the next event of a stream that stays open; comments are passed over."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            frame = await response.content.readuntil(b"\n\n")
            if not frame.startswith(b":"):
                lines = dict(line.split(": ", 1) for line in frame.decode().rstrip().split("\n"))
                return {"event": lines["event"], **json.loads(lines["data"])}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_each_event_of_a_stream_arrives_while_the_next_has_not_happened(
    tmp_path: Path, chain: DevChain, version: str
) -> None:
    """Before HTTP/1.0, which others may have configured, nginx buffers unless it is told not to."""
    spoken = (("proxy_http_version 1.1;", f"proxy_http_version {version};"),)
    async with shop(tmp_path, chain, changes=spoken) as open_shop:
        await follow_to_the_end(open_shop.service, chain, f"nginx stream {version}")


async def follow_to_the_end(service: Service, chain: DevChain, name: str) -> None:
    worker, buyer = await signed_in(service, WORKER), payer(chain, service, name)
    order_id = await service.quote(buyer, "by_hand")
    url = f"{service.url}/ivxp/stream/{order_id}"
    async with asyncio.timeout(2 * WAIT_SECONDS), service.session.get(url) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert (await next_event(response))["ledger_status"] == "quoted"

        notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
        (await buyer.deliver(notice)).require(200)
        assert (await next_event(response))["ledger_status"] == "paid"
        assert (await next_event(response))["ledger_status"] == "processing"

        path = f"/v1/work/{order_id}/deliverable"
        assert (await worker.post(path, {"content": "made"})).status == 200
        assert (await next_event(response))["ledger_status"] == "ready"
        assert (await next_event(response))["event"] == "completed"
        async with asyncio.timeout(WAIT_SECONDS):
            assert await response.content.read() == b""


async def post_from(
    session: aiohttp.ClientSession, url: str, **headers: str
) -> tuple[int, dict[str, str]]:
    """Send the cheapest write; return status and headers."""
    async with session.post(url + "/ivxp/request", data=b"", headers=headers) as response:
        body = await response.json()
        assert body["error"] in ("INVALID_JSON", "RATE_LIMITED")
        return response.status, dict(response.headers)


async def test_each_caller_behind_nginx_has_an_allowance_of_its_own(plain: Shop) -> None:
    with plain.limited(2):
        async with plain.called_from("127.0.0.2") as one, plain.called_from("127.0.0.3") as other:
            both = [
                [await post_from(session, plain.service.url) for _ in range(3)]
                for session in (one, other)
            ]

    for answers in both:
        assert [status for status, _ in answers] == [400, 400, 429]
        assert [headers["RateLimit"][:12] for _, headers in answers] == [
            f'"writes";r={left}' for left in (1, 0, 0)
        ]
        assert answers[2][1]["Retry-After"] == "60"
        assert answers[2][1]["Access-Control-Allow-Origin"] == "*"


async def test_nobody_is_counted_as_the_address_that_he_claims(plain: Shop) -> None:
    claims = ["198.51.100.1", "198.51.100.2, 127.0.0.1", "::1"]
    async with plain.called_from("127.0.0.4") as session:
        for url in (plain.service.url, plain.inner):
            with plain.limited(2):
                answers = [await post_from(session, url, **claimed(claim)) for claim in claims]
            assert [status for status, _ in answers] == [400, 400, 429], url


def claimed(address: str) -> dict[str, str]:
    return {
        "X-Forwarded-For": address,
        "X-Real-IP": address,
        "Forwarded": f"for={address}",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "ftp",
    }


async def test_the_public_url_is_told_whatever_the_caller_claims(
    plain: Shop, chain: DevChain
) -> None:
    buyer = payer(chain, plain.service, "nginx claims")
    order_id = await plain.service.quote(buyer)
    notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
    async with plain.service.session.post(
        plain.service.url + "/ivxp/deliver",
        json=notice,
        headers={"Host": "evil.example", **claimed("127.0.0.1")},
    ) as response:
        body = await response.json()

    assert body["stream_url"] == f"{plain.front.url}/ivxp/stream/{order_id}"


async def test_a_body_passes_up_to_the_limit_of_the_service_and_its_413_comes_back(
    plain: Shop,
) -> None:
    buyer = plain.service.buyer("nginx body")
    for length, status, error in (
        (BODY_LIMIT, 400, "INVALID_JSON"),
        (BODY_LIMIT + 1, 413, "PAYLOAD_TOO_LARGE"),
        (3 * 2**20, 413, "PAYLOAD_TOO_LARGE"),
    ):
        async with plain.service.session.post(
            plain.service.url + "/ivxp/request", data=BytesIO(b" " * length)
        ) as response:
            body = await response.json()
        assert (response.status, body["error"]) == (status, error)
        assert response.headers["Access-Control-Expose-Headers"]
        assert str(BODY_LIMIT) in body["message"] or status == 400
    assert (await buyer.request("text_echo", "x" * 7000)).status == 200


async def test_a_deliverable_at_the_limit_passes_both_ways(plain: Shop, chain: DevChain) -> None:
    service, worker = plain.service, await signed_in(plain.service, WORKER)
    buyer = payer(chain, service, "nginx content")
    order_id = await paid_order(service, chain, buyer, "by_hand")
    content = "x" * CONTENT_LIMIT
    async with service.session.post(
        f"{service.url}/v1/work/{order_id}/deliverable",
        data=BytesIO(json.dumps({"content": content}).encode()),
        headers={"Authorization": f"Bearer {worker.token}", "Content-Type": "application/json"},
    ) as response:
        assert response.status == 200, await response.text()

    await service.views_have(service.position)
    body = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)

    assert body["content"] == content


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("body", 413, "PAYLOAD_TOO_LARGE"),
        ("target", 414, "URI_TOO_LONG"),
        ("headers", 431, "HEADERS_TOO_LARGE"),
        ("two hosts", 400, "INVALID_REQUEST"),
        ("no http", 400, "INVALID_REQUEST"),
        ("no path", 400, "INVALID_REQUEST"),
    ],
)
async def test_what_nginx_itself_refuses_is_answered_in_the_same_form(
    plain: Shop, name: str, status: int, code: str
) -> None:
    long = b"a" * 40_000
    request = {
        "body": b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
        "target": b"GET /" + long + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "headers": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + long + b"\r\n\r\n",
        "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "no http": b"FOO! /ivxp HTTP/1.1\r\nHost: x\r\n\r\n",
        "no path": b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    }[name]
    reader, writer = await asyncio.open_connection(*plain.front.address)
    async with asyncio.timeout(WAIT_SECONDS):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
    writer.close()

    assert head.startswith(f"http/1.1 {status} ")
    assert "content-type: application/json\r\n" in head
    assert "access-control-allow-origin: *\r\n" in head
    assert (body["error"], set(body)) == (code, {"error", "message"})


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("HEAD", "/ivxp/catalog", 200, None),
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "//ivxp//catalog", 404, "NOT_FOUND"),
        ("GET", "/ivxp/status/a%2F..%2Fb", 404, "ORDER_NOT_FOUND"),
        ("GET", "/ivxp/status/%2e%2e", 404, "ORDER_NOT_FOUND"),
        ("DELETE", "/ivxp/catalog", 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/ivxp/catalog", 204, None),
    ],
)
async def test_methods_and_paths_arrive_as_they_were_sent(
    plain: Shop, method: str, path: str, status: int, code: str | None
) -> None:
    url = aiohttp.client.URL(plain.service.url + path, encoded=True)
    async with plain.service.session.request(method, url) as response:
        body = await response.json() if code else None

    assert response.status == status
    assert body is None or body["error"] == code
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_nginx_keeps_its_connections_to_the_service(
    plain: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, made = plain.place.edge, []
    admit = edge.admit
    monkeypatch.setattr(edge, "admit", lambda transport: made.append(1) or admit(transport))
    buyer = plain.service.buyer("nginx kept connections")
    for _ in range(50):
        (await buyer.get("/health")).require(200)

    assert len(made) <= 3


async def test_a_service_that_is_silent_may_have_recorded_what_it_was_sent(
    tmp_path: Path,
) -> None:
    with front(tmp_path / "nginx") as before, before.before("http://127.0.0.1:9"):
        async with aiohttp.ClientSession() as session:
            buyer = Buyer(session, before.url, "0x" + "11" * 32)
            answer = await buyer.request("text_echo", "x")

    assert (answer.status, answer.body["error"]) == (503, "OUTCOME_UNKNOWN")
    assert answer.body["retryable"] is True


async def test_one_address_holds_so_many_connections_and_another_is_served(
    tmp_path: Path,
) -> None:
    fewer = (("limit_conn order_ledger 100;", "limit_conn order_ledger 2;"),)
    async with shop(tmp_path, changes=fewer) as open_shop:
        order_id = await open_shop.service.quote(open_shop.service.buyer("nginx many"))
        stream = f"{open_shop.service.url}/ivxp/stream/{order_id}"
        async with (
            open_shop.called_from("127.0.0.2") as one,
            open_shop.called_from("127.0.0.3") as other,
            one.get(stream) as first,
            one.get(stream) as second,
        ):
            assert (first.status, second.status) == (200, 200)
            async with one.get(stream) as third:
                assert (third.status, third.headers["Retry-After"]) == (503, "2")
                assert (await third.json())["error"] == "SERVICE_UNAVAILABLE"
            async with other.get(stream) as of_another:
                assert of_another.status == 200


async def test_a_cursors_stream_and_socket_come_through(plain: Shop) -> None:
    party = await signed_in(plain.service, "nginx reader")
    await opened(party)

    async with connected(party) as line, following(party) as frames:
        assert (await line.say(type="nothing"))["error"] == "INVALID_REQUEST"
        await quotes(plain.service, party)
        handed = await line.events()
        assert (await line.ack(handed))["acked"] == 1
        assert (await frames.event())[2]["event_id"] == handed["events"][0]["event_id"]
    plain_get = await party.get(path(party, rest="/ws?holder=desk"))
    assert plain_get.outcome == (426, "UPGRADE_REQUIRED")
