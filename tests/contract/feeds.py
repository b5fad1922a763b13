"""Readers of feeds in tests: cursors over HTTP, streams and sockets of a running service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.contract.callers import Answer, Caller
from tests.contract.kit import WAIT_SECONDS, Service

CATALOG = """
provider = "fed"
[[services]]
type = "by_hand"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1
"""

Json = dict[str, Any]


def path(caller: Caller, name: str = "one", rest: str = "") -> str:
    """Return the path of a cursor of the caller's own feed."""
    return f"/v1/feeds/{caller.address}/cursors/{name}{rest}"


async def opened(caller: Caller, name: str = "one", **settings: object) -> Json:
    """Open a cursor that begins at the first event."""
    answer = await caller.call("PUT", path(caller, name), {"start": "earliest", **settings})
    assert answer.status == 201, answer.body
    return answer.body


async def quotes(service: Service, caller: Caller, count: int = 1) -> list[str]:
    """Ask for quotes; each is one event of the caller's feed."""
    found = [await service.quote(service.buyer(caller.name), "by_hand") for _ in range(count)]
    await service.views_have(service.position)
    return found


async def fetch(caller: Caller, name: str = "one", **said: object) -> Answer:
    return await caller.post(path(caller, name, "/fetch"), {"holder": "desk", **said})


async def ack(caller: Caller, token: int, through: int, name: str = "one") -> Answer:
    said = {"generation": 1, "lease_token": token, "through": through}
    return await caller.post(path(caller, name, "/ack"), said)


async def shown(caller: Caller, name: str = "one") -> Json:
    """Return a cursor as it stands."""
    answer = await caller.get(path(caller, name))
    assert answer.status == 200, answer.body
    return answer.body


async def history(caller: Caller) -> list[Json]:
    """Return the caller's whole feed."""
    answer = await caller.get(f"/v1/feeds/{caller.address}/events?limit=1000")
    assert answer.status == 200
    events: list[Json] = answer.body["events"]
    return events


@dataclass
class Frames:
    """A stream of server-sent events, read frame by frame."""

    response: aiohttp.ClientResponse

    async def block(self) -> str:
        """Return the next frame or comment; empty at the end."""
        lines = []
        async with asyncio.timeout(WAIT_SECONDS):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    return "".join(lines)
                lines.append(line)
        return ""

    async def event(self) -> tuple[str, str, Json]:
        """Return id, name and data of the next event."""
        block = await self.block()
        while block.startswith(":"):
            block = await self.block()
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        return fields["id"], fields["event"], json.loads(fields["data"])

    async def at_end(self) -> bool:
        """Read to the end, or return False when an event comes before it."""
        block = await self.block()
        while block.startswith(":"):
            block = await self.block()
        return not block


@asynccontextmanager
async def following(
    caller: Caller, name: str = "one", query: str = "", **headers: str
) -> AsyncIterator[Frames]:
    """Read along with a cursor."""
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    url = caller.service.url + path(caller, name, "/stream") + query
    sent |= {"Authorization": f"Bearer {caller.token}"} if caller.token else {}
    async with caller.service.session.get(url, headers=sent) as response:
        assert response.status == 200, await response.text()
        yield Frames(response)


@dataclass
class Line:
    """A socket of a cursor."""

    socket: aiohttp.ClientWebSocketResponse

    async def frame(self) -> Json:
        """Return the next frame."""
        async with asyncio.timeout(WAIT_SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        found: Json = json.loads(message.data)
        return found

    async def events(self) -> Json:
        """Return the next hand-out."""
        found = await self.frame()
        assert found["type"] == "event", found
        return found

    async def say(self, **frame: object) -> Json:
        """Send a frame and return what is answered."""
        await self.socket.send_json(frame)
        return await self.frame()

    async def ack(self, handed: Json, through: int | None = None) -> Json:
        """Acknowledge a hand-out, or a part of it."""
        last = handed["events"][-1]["pos"] if through is None else through
        return await self.say(
            type="ack", generation=1, lease_token=handed["lease_token"], through=last
        )

    async def code(self) -> int:
        """Return the code that the service closes with."""
        async with asyncio.timeout(WAIT_SECONDS):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return int(message.data)


@asynccontextmanager
async def connected(
    caller: Caller,
    name: str = "one",
    query: str = "holder=desk",
    **options: Any,  # noqa: ANN401
) -> AsyncIterator[Line]:
    """Open a socket of a cursor, by the caller's token."""
    url = caller.service.url + path(caller, name, "/ws") + f"?{query}"
    headers = options.pop("headers", {"Authorization": f"Bearer {caller.token}"})
    session = caller.service.session
    async with session.ws_connect(url, headers=headers, **options) as socket:
        yield Line(socket)
