"""A bad network between a client and a provider: answers are lost, or come in pieces.

It sends requests on as they are, `Host` included, so that absolute URLs in answers lead back to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from multidict import CIMultiDict
from yarl import URL

_OF_ONE_CONNECTION = ("Connection", "Content-Length", "Keep-Alive", "Transfer-Encoding")

Applies = Callable[[str, str], bool]
"""Whether a rule is meant for a method and target."""


@dataclass
class Fault:
    """What goes wrong with the requests it applies to, for so many of them.

    `status` stands in for the provider's answer, which nobody sees: the request was not sent on.
    `lost` sends the request on and drops the answer. `cut_after` ends an answer after so many
    pieces. `redirected` sends the request on with another target.
    """

    applies: Applies
    times: int = 1
    status: int | None = None
    lost: bool = False
    cut_after: int | None = None
    redirected: Callable[[str], str] | None = None


@dataclass
class Middleman:
    """Stands at `url` for the provider behind `target`. `seen` are the requests that came."""

    session: aiohttp.ClientSession
    target: str
    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        fault = self._fault(request.method, request.raw_path)
        if fault.status is not None:
            body = {"error": "SERVICE_UNAVAILABLE", "message": "the network is bad"}
            return web.json_response(body, status=fault.status)
        headers = CIMultiDict(request.headers)
        for name in _OF_ONE_CONNECTION:
            headers.popall(name, None)
        target = fault.redirected(request.raw_path) if fault.redirected else request.raw_path
        async with self.session.request(
            request.method,
            URL(self.target + target, encoded=True),
            headers=headers,
            data=await request.content.read(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            return await self._pass_on(request, answer, fault)

    def _fault(self, method: str, target: str) -> Fault:
        for fault in self.faults:
            if fault.times and fault.applies(method, target):
                fault.times -= 1
                return fault
        return Fault(lambda _method, _target: True)

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, value in answer.headers.items():
            if name not in _OF_ONE_CONNECTION:
                response.headers.add(name, value)
        if fault.lost:
            await answer.read()
            _cut(request)
            return response
        await response.prepare(request)
        pieces = 0
        if answer.content.at_eof():
            await response.write_eof()
            return response
        async for piece, _ in answer.content.iter_chunks():
            if pieces == fault.cut_after:
                _cut(request)
                return response
            await response.write(piece)
            pieces += 1
        await response.write_eof()
        return response


def _cut(request: web.BaseRequest) -> None:
    assert request.transport is not None
    request.transport.abort()


def path_ends(tail: str) -> Applies:
    """Apply to targets that end so, whatever the method."""
    return lambda _method, target: target.endswith(tail)


@asynccontextmanager
async def between(
    session: aiohttp.ClientSession, target: str, *faults: Fault
) -> AsyncIterator[Middleman]:
    """Stand before a provider for the length of a block."""
    middleman = Middleman(session, target, faults=list(faults))
    server = RawTestServer(middleman.handle)
    await server.start_server()
    middleman.url = str(server.make_url("")).rstrip("/")
    try:
        yield middleman
    finally:
        await server.close()
