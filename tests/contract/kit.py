"""The service in this process, with a real ledger in a folder, and buyers who talk HTTP to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.app import make_app
from api.config import Settings, load_settings
from api.keys import LEDGER, RUNNER
from api.routes import Route
from ledger.service import Clock, system_clock
from ledger.values import UnixMs
from scripts.buyer import Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.described import Watch
from tests.support.chain import account_named, funded_account

PAYMENT_ADDRESS = "0x00000000000000000000000000000000000000aa"
RECOVERY_ADDRESS = "0x00000000000000000000000000000000000000bb"
NETWORK = "base-sepolia"
WAIT_SECONDS = 20
POLL_SECONDS = 0.02
NO_ID = "00000000-0000-4000-8000-000000000000"
"""Of no agent and no conversation."""
ECHO_MICROS = 100_000
"""The price of `text_echo` in the catalog that ships."""


@dataclass
class MovableClock:
    """The present time, moved by hand."""

    offset_ms: int = 0

    def __call__(self) -> UnixMs:
        return UnixMs(system_clock() + self.offset_ms)


def make_settings(folder: Path, chain: DevChain | None = None, **changes: object) -> Settings:
    """Return settings for a ledger in a folder, without limits unless asked for."""
    values: dict[str, object] = {
        "data_dir": folder / "data",
        "rpc_urls": chain.rpc_url if chain else "",
        "dev_chain": True,
        "payment_address": PAYMENT_ADDRESS,
        "recovery_address": RECOVERY_ADDRESS,
        "rate_limit": 0,
        "max_open_quotes": 0,
        "loop_interval": 0.05,
        # Tests share a chain and an address: what is found there is not a test's own doing.
        "scan_interval": 0,
    }
    return load_settings(**{**values, **changes})


@dataclass
class Service:
    """A running application and what a test needs of its inside."""

    app: web.Application
    url: str
    session: aiohttp.ClientSession
    folder: Path

    @property
    def position(self) -> int:
        """How many events the ledger holds."""
        return self.app[LEDGER].head.size

    def buyer(self, name: str) -> Buyer:
        """Return a wallet of this name that talks to the service."""
        return Buyer(self.session, self.url, "0x" + bytes(account_named(name).key).hex())

    def kinds(self, order_id: str) -> list[str]:
        """Return the kinds of an order's events, in order."""
        return [placed.signed.event.kind for placed in self.app[LEDGER].read_order(order_id)]

    async def quote(self, buyer: Buyer, service: str = "text_echo", text: str = "hello") -> str:
        """Return the id of a fresh order."""
        answer = await buyer.request(service, text)
        return str(answer.require(200)["order_id"])

    async def views_have(self, position: int) -> None:
        """Wait until the views show everything up to a position."""
        assert await self.app[RUNNER].wait_for(position, WAIT_SECONDS)

    async def recorded(self, order_id: str, count: int) -> None:
        """Wait until an order has this many events, and the views show them."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                position = self.app[RUNNER].position
                placed = self.app[LEDGER].read_order(order_id)
                if len(placed) >= count:
                    await self.views_have(placed[-1].position)
                    return
                await self.app[RUNNER].wait_for(position + 1, WAIT_SECONDS)

    async def status_when(self, buyer: Buyer, order_id: str, words: set[str]) -> dict[str, Any]:
        """Return the status answer once it shows one of the words.

        Between two questions it waits for the views to move, not for time to pass.
        """
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                position = self.app[RUNNER].position
                body = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
                if body["status"] in words:
                    return body
                await self.app[RUNNER].wait_for(position + 1, WAIT_SECONDS)


def path_of(path: str, order_id: str) -> str:
    """Return a route's path filled in, for an order with at least one event."""
    parts = {"order_id": order_id, "level": "0", "tile": "000.p/1", "seq": "1"}
    parts |= {"party": "provider", "name": "one", "pos": "1", "event_id": "1-" + "0" * 64}
    parts |= {"agent_id": NO_ID, "conversation_id": NO_ID, "token": "token"}
    query = "?from=1" if path == "/ledger/proof/consistency" else ""
    for name, value in parts.items():
        path = path.replace(f"{{{name}}}", value)
    return path + query


def methods_at(routes: list[Route], path: str) -> set[str]:
    """Return the methods that some routes take at a filled path, whatever their mounts."""
    found: set[str] = set()
    for route in routes:
        for mount in route.mounts:
            place = mount + (route.pattern or route.path)
            pattern = re.sub(r"\{\w+(:[^}]*)?\}", lambda m: (m[1] or ":[^/]+")[1:], place)
            if re.fullmatch(pattern, path):
                found |= {"GET", "HEAD"} if route.method == "GET" else {route.method}
    return found


@asynccontextmanager
async def serving(
    folder: Path,
    chain: DevChain | None = None,
    *,
    clock: Clock = system_clock,
    prepare: Callable[[web.Application], None] = lambda _app: None,
    watched: bool = True,
    **changes: object,
) -> AsyncIterator[Service]:
    """Run the application behind a real socket for the length of a block.

    Every answer is compared with the OpenAPI document, unless it is not `watched`: that costs more
    than the answers themselves.
    """
    app = make_app(make_settings(folder, chain, **changes), clock=clock)
    prepare(app)
    watch = Watch()
    if watched:
        watch.install(app)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Service(app, str(server.make_url("")).rstrip("/"), session, folder)
    watch.require_as_described()


def payer(chain: DevChain, service: Service, name: str, micros: int = 10_000_000) -> Buyer:
    """Return a buyer whose wallet holds USDC."""
    funded_account(chain, name, micros)
    return service.buyer(name)


def pay(chain: DevChain, buyer: Buyer, micros: int = ECHO_MICROS) -> str:
    """Pay the provider and return the transaction's hash."""
    return chain.transfer(buyer.private_key, PAYMENT_ADDRESS, micros)


async def paid_order(
    service: Service, chain: DevChain, buyer: Buyer, kind: str = "text_echo", text: str = "hello"
) -> str:
    """Return the id of an order whose notice was accepted."""
    answer = (await buyer.request(kind, text)).require(200)
    order_id, quote = str(answer["order_id"]), answer["quote"]
    assert isinstance(quote, dict)
    tx_hash = pay(chain, buyer, round(quote["price_usdc"] * 1_000_000))
    (await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))).require(200)
    return order_id


async def send(
    service: Service, method: str, path: str, data: bytes, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send bytes as they are; return status, JSON body and headers of the answer."""
    async with service.session.request(
        method,
        service.url + path,
        data=data,
        headers={"Content-Type": "application/json", **headers},
    ) as response:
        body = await response.json() if method != "HEAD" else {}
        return response.status, body, dict(response.headers)


async def delivered_status(buyer: Buyer, order_id: str) -> dict[str, Any]:
    """Ask a service in another process as its clients do, until the order is delivered."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            body = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
            assert body["status"] != "delivery_failed"
            if body["status"] == "delivered":
                return body
            await asyncio.sleep(POLL_SECONDS)


def signed_notice(buyer: Buyer, order_id: str, tx_hash: str, text: str) -> dict[str, object]:
    """Return a payment notice with a text of the test's own choice, signed by the buyer."""
    notice = buyer.notice(order_id, tx_hash, NETWORK)
    return {**notice, "signed_message": text, "signature": buyer.sign(text)}


def strict_text(order_id: str, tx_hash: str, nonce: str, stamp: str | None = None) -> str:
    """Return the notice text that carries a nonce."""
    rest = f"Nonce: {nonce} | Timestamp: {stamp or utc_now()}"
    return f"IVXP-DELIVER | Order: {order_id} | Payment: {tx_hash} | {rest}"


async def chain_recognised(buyer: Buyer) -> None:
    """Ask as an operator does, until payments can be verified."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if (await buyer.get("/health")).require(200)["payments"] == "ready":
                return
            await asyncio.sleep(POLL_SECONDS)
