"""What pages of other sites may read: every answer, whatever became of the request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from multidict import CIMultiDict

from api.answers import LEDGER_HEAD, REPLAYED
from api.app import ROUTES
from api.cors import ALLOWED_HEADERS, EXPOSED_HEADERS, Cors
from api.keys import LIMITS
from api.limits import Limits
from api.log.held import CONSISTENCY
from api.routes import REGISTRY, Route
from api.window import Allowance
from tests.contract.kit import Service, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

HUB = "https://hub.example"
ORDER_ID = "ivxp-00000000-0000-4000-8000-000000000000"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Return a service that one site and a page of this machine may read."""
    origins = f"{HUB}, http://localhost:3000"
    async with serving(tmp_path_factory.mktemp("hub"), cors_origins=origins) as running:
        yield running


async def ask(
    service: Service, method: str, path: str, origin: str | None = HUB, **headers: str
) -> aiohttp.ClientResponse:
    """Send what a browser sends for a page of a site."""
    said = {**headers, **({"Origin": origin} if origin else {})}
    async with service.session.request(method, service.url + path, headers=said) as response:
        await response.read()
        return response


def filled(path: str) -> str:
    """Return a route's path with something in its placeholders."""
    return re.sub(r"\{\w+(:[^}]*)?\}", ORDER_ID, path)


def may_read(response: aiohttp.ClientResponse, origin: str = "*") -> bool:
    exposed = response.headers.get("Access-Control-Expose-Headers", "").split(", ")
    allowed = response.headers.getall("Access-Control-Allow-Origin", [])
    return allowed == [origin] and set(exposed) == set(EXPOSED_HEADERS)


@pytest.mark.parametrize("path", sorted({m + route.path for route in ROUTES for m in route.mounts}))
async def test_every_known_path_answers_a_preflight_with_its_methods(
    service: Service, path: str
) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}

    response = await ask(service, "OPTIONS", filled(path), **wanted)

    assert (response.status, may_read(response)) == (204, True)
    methods = {r.method for r in ROUTES for mount in r.mounts if mount + r.path == path}
    expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    assert set(response.headers["Access-Control-Allow-Methods"].split(", ")) >= expected
    assert response.headers["Access-Control-Allow-Headers"] == ", ".join(ALLOWED_HEADERS)
    assert response.headers["Access-Control-Max-Age"] == "7200"
    assert "Access-Control-Allow-Credentials" not in response.headers


async def test_the_headers_that_clients_send_may_be_sent() -> None:
    assert set(ALLOWED_HEADERS) >= {
        "Content-Type",
        "Authorization",
        "Idempotency-Key",
        "IVXP-Version",
        "IVXP-View",
        "Ledger-Head",
        "Last-Event-ID",
    }


async def test_a_page_may_read_the_headers_that_our_own_answers_add() -> None:
    ours = {LEDGER_HEAD, CONSISTENCY, REPLAYED, *Allowance(1, 1, 1, granted=True).headers}

    assert set(EXPOSED_HEADERS) >= {*ours, "Retry-After", "Location", "Allow", "WWW-Authenticate"}


async def test_options_without_a_preflight_names_the_methods(service: Service) -> None:
    response = await ask(service, "OPTIONS", "/health", origin=None)

    assert (response.status, response.headers["Allow"]) == (204, "GET,HEAD,OPTIONS")
    assert "Access-Control-Allow-Methods" not in response.headers


async def test_a_preflight_of_an_unknown_path_is_not_found_and_can_be_read(
    service: Service,
) -> None:
    response = await ask(service, "OPTIONS", "/nowhere")

    assert (response.status, may_read(response)) == (404, True)
    assert (await response.json())["error"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ivxp/catalog", 200),
        ("HEAD", "/ivxp/catalog", 200),
        ("GET", "/nowhere", 404),
        ("POST", f"/ivxp/orders/{ORDER_ID}/nothing", 404),
        ("GET", f"/ivxp/orders/{ORDER_ID}", 404),
        ("DELETE", "/ivxp/catalog", 405),
        ("POST", "/ivxp/request", 400),
        ("GET", "/v1/work", 401),
    ],
)
async def test_an_error_can_be_read_like_any_answer(
    service: Service, method: str, path: str, status: int
) -> None:
    for origin in (HUB, None):
        response = await ask(service, method, path, origin)

        assert (response.status, may_read(response)) == (status, True)


async def test_what_is_refused_for_its_size_or_number_and_what_fails_can_be_read(
    tmp_path: Path,
) -> None:
    async def fail(_request: web.Request) -> web.Response:
        raise ZeroDivisionError

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": connected\n\n")
        return response

    def prepare(app: web.Application) -> None:
        app[LIMITS] = Limits(per_minute=2, max_open_quotes=0, clock=lambda: 0.0)
        app.router.add_get("/fail", fail)
        app.router.add_get("/stream", stream)

    async with serving(tmp_path, prepare=prepare, body_max_bytes=1024) as service:
        url = service.url + "/ivxp/request"
        for status, data in ((413, b"x" * 5000), (400, b""), (429, b"")):
            async with service.session.post(url, data=data, headers={"Origin": HUB}) as response:
                await response.read()
                assert (response.status, may_read(response)) == (status, True)
        assert (await ask(service, "GET", "/fail")).status == 500
        assert may_read(await ask(service, "GET", "/fail"))
        assert may_read(await ask(service, "GET", "/stream"))


async def test_preflights_are_no_writes(tmp_path: Path) -> None:
    def prepare(app: web.Application) -> None:
        app[LIMITS] = Limits(per_minute=1, max_open_quotes=0, clock=lambda: 0.0)

    wanted = {"Access-Control-Request-Method": "POST"}
    async with serving(tmp_path, prepare=prepare) as service:
        for _ in range(5):
            assert (await ask(service, "OPTIONS", "/ivxp/request", **wanted)).status == 204

        assert (await ask(service, "POST", "/ivxp/request")).status == 400
        assert (await ask(service, "POST", "/ivxp/request")).status == 429
        assert (await ask(service, "OPTIONS", "/ivxp/request", **wanted)).status == 204


async def test_with_a_list_only_its_sites_may_read(hub: Service) -> None:
    for origin in (HUB, "http://localhost:3000"):
        response = await ask(hub, "GET", "/ivxp/catalog", origin)
        assert may_read(response, origin)

    for stranger in (None, "null", "https://evil.example", HUB + ".evil.example", HUB + ":444"):
        for method in ("GET", "OPTIONS"):
            response = await ask(
                hub, method, "/ivxp/catalog", stranger, **{"Access-Control-Request-Method": "GET"}
            )
            assert response.status in (200, 204)
            named = [name for name in response.headers if name.startswith("Access-Control")]
            assert named == []


async def test_with_a_list_every_answer_varies_by_origin(hub: Service) -> None:
    for path in ("/ivxp/catalog", "/nowhere", f"/ivxp/status/{ORDER_ID}"):
        for origin in (HUB, None):
            response = await ask(hub, "GET", path, origin)
            [vary] = response.headers.getall("Vary")
            assert "Origin" in vary.split(", ")


async def test_none_lets_no_site_read(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins="none") as service:
        response = await ask(service, "GET", "/ivxp/catalog")
        assert response.status == 200
        assert not any(name.startswith("Access-Control") for name in response.headers)

        preflight = await ask(
            service, "OPTIONS", "/ivxp/request", **{"Access-Control-Request-Method": "POST"}
        )
        assert preflight.status == 204
        assert not any(name.startswith("Access-Control") for name in preflight.headers)


async def test_the_registry_knows_of_no_options(service: Service) -> None:
    routes: list[Route] = list(service.app[REGISTRY].routes.values())

    assert "OPTIONS" not in {route.method for route in routes}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], "Origin"),
        (["Accept"], "Accept, Origin"),
        (["IVXP-Version, IVXP-View", "Accept"], "IVXP-Version, IVXP-View, Accept, Origin"),
        (["origin, Accept"], "origin, Accept"),
        (["*"], "*"),
    ],
)
async def test_another_vary_is_kept(before: list[str], after: str) -> None:
    headers = CIMultiDict([("Vary", line) for line in before])

    Cors([HUB]).add_to(headers, None)

    assert ", ".join(headers.getall("Vary")) == after
