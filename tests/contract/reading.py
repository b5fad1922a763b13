"""Readers of feeds, and the network between them and the service."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from multidict import CIMultiDict
from yarl import URL

from api.client.cursor import CursorCalls, CursorOptions
from api.client.event import Event, Pins
from api.client.http import HttpClient
from api.client.inbox import Inbox
from api.client.reader import CursorReader
from api.client.signin import SignIn
from api.client.times import Sleep
from api.client.wallet import LocalWallet
from tests.contract.kit import MovableClock, Service
from tests.support.chain import account_named

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS seen (n INTEGER PRIMARY KEY AUTOINCREMENT,"
    " event_id TEXT NOT NULL, pos INTEGER NOT NULL)"
)
_OF_ONE_CONNECTION = ("Connection", "Content-Length", "Keep-Alive", "Transfer-Encoding")

Rule = Callable[[str, int], str | tuple[int, dict[str, Any]] | None]
"""What becomes of the n-th request with a path's last word: None lets it pass."""


def note(db: sqlite3.Connection, event: Event) -> None:
    """Write an event down; there is no check that it is there already."""
    db.execute("INSERT INTO seen (event_id, pos) VALUES (?, ?)", (event.event_id, event.pos))


def noting_inbox(path: Path) -> Inbox:
    return Inbox(path, schema=SCHEMA)


def noted(path: Path) -> list[int]:
    """Return the positions that were written down, in the order of writing."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return [pos for (pos,) in connection.execute("SELECT pos FROM seen ORDER BY n")]
    finally:
        connection.close()


def key_of(name: str) -> bytes:
    return bytes(account_named(name).key)


class Time:
    """Sleeps that move the service's clock; those that are held wait to be woken."""

    def __init__(self, clock: MovableClock, *, held: Callable[[float], bool]) -> None:
        self.asked: list[float] = []
        self.clock = clock
        self._held = held
        self._woken = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        if self._held(seconds):
            await self._woken.acquire()
        else:
            self.clock.offset_ms += int(seconds * 1000) + 1
            await asyncio.sleep(0)

    def wake(self) -> None:
        self._woken.release()


def reader_at(
    url: str,
    session: aiohttp.ClientSession,
    wallet: str,
    cursor: str,
    *,
    sleep: Sleep,
    options: CursorOptions | None = None,
    inbox: Inbox | None = None,
    holder: str | None = None,
    pins: Pins | None = None,
    wait_seconds: float = 0.0,
) -> CursorReader:
    """Return a reader of a wallet's own feed."""
    http = HttpClient(url, session, sleep=sleep)
    keys = LocalWallet(key_of(wallet))
    calls = CursorCalls(http, SignIn(http, keys), keys.address, cursor)
    return CursorReader(
        calls,
        options,
        inbox=inbox,
        holder=holder,
        pins=pins,
        wait_seconds=wait_seconds,
        sleep=sleep,
    )


async def quotes(service: Service, wallet: str, count: int) -> list[str]:
    """Make so many events in a wallet's feed."""
    buyer = service.buyer(wallet)
    made = [await service.quote(buyer) for _ in range(count)]
    await service.views_have(service.position)
    return made


@dataclass
class Meddler:
    """Stands before a service: passes on, drops requests or answers, replies itself, alters."""

    session: aiohttp.ClientSession
    target: str
    url: str = ""
    rule: Rule = lambda _word, _n: None
    edit: Callable[[str, dict[str, Any]], None] = lambda _word, _body: None
    seen: dict[str, int] = field(default_factory=dict)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        word = request.path.rpartition("/")[2]
        self.seen[word] = self.seen.get(word, 0) + 1
        fate = self.rule(word, self.seen[word])
        if isinstance(fate, tuple):
            return web.json_response(fate[1], status=fate[0])
        if fate == "drop request":
            return _gone(request)
        answer, body = await self._pass_on(request)
        if fate == "drop answer":
            return _gone(request)
        if isinstance(body, dict):
            self.edit(word, body)
        headers = CIMultiDict(answer.headers)
        for name in _OF_ONE_CONNECTION:
            headers.popall(name, None)
        return web.Response(body=orjson.dumps(body), status=answer.status, headers=headers)

    async def _pass_on(self, request: web.BaseRequest) -> tuple[aiohttp.ClientResponse, object]:
        headers = CIMultiDict(request.headers)
        for name in _OF_ONE_CONNECTION:
            headers.popall(name, None)
        url = URL(self.target + request.raw_path, encoded=True)
        data = await request.content.read()
        async with self.session.request(request.method, url, headers=headers, data=data) as answer:
            return answer, orjson.loads(await answer.read())


def _gone(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def meddler_before(service: Service) -> AsyncIterator[Meddler]:
    meddler = Meddler(service.session, service.url)
    server = RawTestServer(meddler.handle)
    await server.start_server()
    meddler.url = str(server.make_url("")).rstrip("/")
    try:
        yield meddler
    finally:
        await server.close()
