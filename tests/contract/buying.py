"""Buyers of the client library, and the crooks and crashes that they have to live with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from multidict import CIMultiDict
from yarl import URL

from api.client.buyer import Buyer
from api.client.http import HttpClient
from api.client.payer import UsdcPayer
from api.client.store import Store
from api.client.times import Clock, Sleep, system_clock
from api.client.wallet import LocalWallet
from api.keys import RUNNER
from ledger.audit_keys import Trust
from ledger.rpc import RpcEndpoint
from scripts.devchain import DevChain
from tests.contract.kit import PAYMENT_ADDRESS, Service
from tests.support.chain import TRANSFER_TOPIC, account_named

_OF_ONE_CONNECTION = ("Connection", "Content-Length", "Keep-Alive", "Transfer-Encoding")
WORDS = "hello, provider"

Edit = Callable[[str, dict[str, Any]], None]
"""Alters an answer's JSON in place; it gets the path as well."""


async def at_once(_seconds: float) -> None:
    """Do not wait."""


def when_views_move(service: Service) -> Sleep:
    """Return a sleep that ends when the service's views show something new."""

    async def sleep(_seconds: float) -> None:
        runner = service.app[RUNNER]
        await runner.wait_for(runner.position + 1, 0.5)

    return sleep


def buyer_at(
    url: str,
    session: aiohttp.ClientSession,
    store: Store,
    chain: DevChain,
    name: str,
    *,
    sleep: Sleep = at_once,
    rpc_url: str | None = None,
    trust: Trust | None = None,
    clock: Clock = system_clock,
) -> Buyer:
    """Return a buyer with the wallet of this name."""
    wallet = LocalWallet(bytes(account_named(name).key))
    payer = UsdcPayer(RpcEndpoint(rpc_url or chain.rpc_url, session), wallet)
    http = HttpClient(url, session, sleep=sleep)
    return Buyer(http, store, wallet, payer, trust=trust or Trust(), clock=clock)


def payments(chain: DevChain, name: str) -> list[int]:
    """Return what a wallet paid to the provider in all blocks, in micro-USDC."""
    words = ["0x" + address[2:].lower().rjust(64, "0") for address in _parties(name)]
    query = {"fromBlock": "0x0", "address": chain.usdc_address, "topics": [TRANSFER_TOPIC, *words]}
    return [int(log["data"], 16) for log in chain.rpc("eth_getLogs", [query])]


def _parties(name: str) -> tuple[str, str]:
    return account_named(name).address, PAYMENT_ADDRESS


class Crash(BaseException):
    """The process is gone. No handler of errors may see it as one."""


class CrashingStore(Store):
    """Dies at its n-th write: before it or right after it."""

    def __init__(self, path: Path, at: int, *, written: bool) -> None:
        self.left = at
        self._written = written
        super().__init__(path)

    def write(self, statement: str, *values: object) -> int:
        self.left -= 1
        if self.left == 0 and not self._written:
            raise Crash
        changed = super().write(statement, *values)
        if self.left == 0:
            raise Crash
        return changed


@dataclass
class Crook:
    """Stands at `url` before `target`: alters answers and their headers, drops requests' headers.

    What is `canned` never gets to the service.
    `target` may be set anew, and single paths `moved`: one URL then leads to several services.
    """

    session: aiohttp.ClientSession
    target: str
    url: str = ""
    edit: Edit = lambda _path, _body: None
    rewrite: Callable[[str, str], str] = lambda _path, text: text
    changed: dict[str, str] = field(default_factory=dict)
    canned: dict[str, dict[str, Any]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        if request.path in self.canned:
            return web.json_response(self.canned[request.path])
        headers = CIMultiDict(request.headers)
        for name in (*_OF_ONE_CONNECTION, *self.dropped):
            headers.popall(name, None)
        async with self.session.request(
            request.method,
            URL(self.moved.get(request.path, self.target) + request.raw_path, encoded=True),
            headers=headers,
            data=await request.content.read(),
            allow_redirects=False,
        ) as answer:
            data = await answer.read()
            kept = CIMultiDict(answer.headers)
            for name in _OF_ONE_CONNECTION:
                kept.popall(name, None)
            kept.update(self.changed)
            if answer.content_type == "application/json":
                body = json.loads(data)
                self.edit(request.path, body)
                data = json.dumps(body).encode()
            elif answer.content_type == "text/plain":
                data = self.rewrite(request.path, data.decode()).encode()
            return web.Response(body=data, status=answer.status, headers=kept)


@asynccontextmanager
async def crook_before(
    session: aiohttp.ClientSession, target: str, port: int | None = None
) -> AsyncIterator[Crook]:
    """Stand before a service for the length of a block; at a known port to be found again."""
    crook = Crook(session, target)
    server = RawTestServer(crook.handle, port=port)
    await server.start_server()
    crook.url = str(server.make_url("")).rstrip("/")
    try:
        yield crook
    finally:
        await server.close()
