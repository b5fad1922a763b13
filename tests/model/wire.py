"""HTTP without ceremony: a node for the service to ask, and a client that asks the service.

Both speak over real sockets. They are small because the model asks a hundred thousand times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from tests.model.node import Refused, ScriptedChain

Json = dict[str, Any]
END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """An answer of the service: status, JSON body and headers in lower case."""

    status: int
    body: Json
    headers: dict[str, str]

    @property
    def outcome(self) -> tuple[int, str]:
        """The status, and the code of an error or nothing."""
        return self.status, str(self.body.get("error", ""))

    @property
    def retryable(self) -> bool:
        return self.body.get("retryable") is True


@dataclass(frozen=True)
class Ask:
    """A request, as its exact bytes: sending it again sends the same."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def keyed(self, key: str) -> Ask:
        return Ask(self.method, self.path, self.body, (*self.headers, ("Idempotency-Key", key)))

    @property
    def raw(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: model"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def get(path: str, **headers: str) -> Ask:
    return Ask("GET", path, b"", tuple((k.replace("_", "-"), v) for k, v in headers.items()))


def post(path: str, body: object, token: str | None = None) -> Ask:
    headers = (("Authorization", f"Bearer {token}"),) if token else ()
    return Ask("POST", path, orjson.dumps(body), headers)


class Wire:
    """One connection to the service; several requests may be sent at once, one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, what: Ask) -> Answer:
        [answer] = await self.ask_all([what])
        return answer

    async def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send all requests at once and return their answers in order."""
        self._writer.write(b"".join(each.raw for each in asks))
        return [await self._answer(has_body=each.method != "HEAD") for each in asks]

    async def _answer(self, *, has_body: bool) -> Answer:
        head = (await self._reader.readuntil(END_OF_HEAD)).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers["content-length"]) if has_body else 0
        body = await self._reader.readexactly(length)
        return Answer(int(head[0].split()[1]), orjson.loads(body) if body else {}, headers)


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[Wire]:
    """Open a connection for the length of a block."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**22)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


class _Node(asyncio.Protocol):
    """One connection from the service to the scripted chain."""

    def __init__(self, chain: ScriptedChain) -> None:
        self._chain = chain
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(END_OF_HEAD)) >= 0:
            head, rest = self._data[:end].lower(), self._data[end + len(END_OF_HEAD) :]
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self._data = rest[length:]
            self._answer(orjson.loads(rest[:length]))

    def _answer(self, asked: Any) -> None:  # noqa: ANN401 - JSON
        one = isinstance(asked, dict)
        items = [self._item(each) for each in ([asked] if one else asked)]
        body = orjson.dumps(items[0] if one else items)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._transport.write(head.encode() + END_OF_HEAD + body)

    def _item(self, asked: Json) -> Json:
        said: Json = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            return {**said, "result": self._chain.answer(asked["method"], asked["params"])}
        except Refused as error:
            return {**said, "error": {"code": error.code, "message": error.message}}


@asynccontextmanager
async def node_of(chain: ScriptedChain) -> AsyncIterator[str]:
    """Serve a scripted chain for the length of a block; gives its URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Node(chain), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
