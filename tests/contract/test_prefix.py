"""Below a path prefix everything is as it is without one; above it there is nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from api.app import ROUTES
from api.routes import REGISTRY
from scripts.devchain import DevChain
from tests.contract.kit import Service, delivered_status, paid_order, payer, send, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFIX = "/agents/~me/ledger.v1"
ORDER_ID = "ivxp-00000000-0000-4000-8000-000000000000"
PATHS = sorted({route.path for route in ROUTES})
MOUNTED = sorted({mount + route.path for route in ROUTES for mount in route.mounts})
GETS = sorted({route.path for route in ROUTES if route.method == "GET"})
SECONDS = 10


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def root(chain: DevChain, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Return a service that answers below a prefix, as seen from the host's root."""
    async with serving(tmp_path_factory.mktemp("prefix"), chain, path_prefix=PREFIX) as running:
        yield running


@pytest.fixture
def below(root: Service) -> Service:
    """Return it as its clients name it."""
    return replace(root, url=root.url + PREFIX)


def filled(path: str) -> str:
    return re.sub(r"\{\w+(:[^}]*)?\}", ORDER_ID, path)


async def test_an_order_goes_its_whole_way(below: Service, chain: DevChain) -> None:
    buyer = payer(chain, below, "prefix order")
    order_id = await paid_order(below, chain, buyer)
    await delivered_status(buyer, order_id)

    body = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)

    (await buyer.confirm(order_id, str(body["content"]))).require(200)
    (await buyer.get("/health")).require(200)


@pytest.mark.parametrize("path", MOUNTED)
async def test_every_path_is_below_the_prefix_and_only_there(
    root: Service, below: Service, path: str
) -> None:
    known, body, headers = await send(below, "TRACE", filled(path), b"")
    unknown, nothing, _ = await send(root, "GET", filled(path), b"")

    assert (known, body["error"]) == (405, "METHOD_NOT_ALLOWED")
    methods = {
        route.method for route in ROUTES for mount in route.mounts if mount + route.path == path
    }
    assert set(headers["Allow"].split(",")) >= methods
    assert (unknown, nothing["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "health", "/ivxp/catalog/", PREFIX + "/health"]
)
async def test_what_is_not_below_the_prefix_is_not_found(below: Service, path: str) -> None:
    status, body, headers = await send(below, "GET", path, b"")

    assert (status, body["error"]) == (404, "NOT_FOUND")
    assert headers["Access-Control-Allow-Origin"] == "*"


async def test_roles_are_asked_for_below_the_prefix_too(below: Service) -> None:
    for route in ROUTES:
        if route.roles:
            status, body, _ = await send(below, route.method, filled(route.path), b"{}")
            assert (status, body["error"]) == (401, "UNAUTHORIZED"), route.path


async def test_the_registry_names_routes_without_the_prefix(root: Service) -> None:
    known = root.app[REGISTRY]

    assert known.prefix == PREFIX
    assert {path for _, path in known.routes} == set(PATHS)
    assert {path for _, path in known.mounted} == set(MOUNTED)


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_as_get_does_and_at_once(below: Service, path: str) -> None:
    url = below.url + filled(path)
    async with asyncio.timeout(SECONDS):
        async with below.session.head(url) as head:
            assert await head.read() == b""
        async with below.session.get(url) as got:
            assert got.content_type == head.content_type
            assert (head.status, head.headers.get("Allow")) == (got.status, None)


async def test_head_of_a_stream_that_goes_on_does_not(below: Service) -> None:
    order_id = await below.quote(below.buyer("prefix stream"))
    url = f"{below.url}/ivxp/stream/{order_id}"
    async with asyncio.timeout(SECONDS), below.session.head(url) as head:
        assert (head.status, head.content_type) == (200, "text/event-stream")
        assert await head.read() == b""
