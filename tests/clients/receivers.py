"""Where clients have deliverables posted: the SDK's callback server and the older receiver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.test_utils import RawTestServer

from tests.clients.wallet import Clock, iso_naive_z, utc_clock
from tests.clients.wire import encode, parse

MAX_BYTES = 1024 * 1024

Answer = tuple[int, dict[str, str]]


class Receiver:
    """Listens on a port of its own. `taken` are the bodies that it accepted."""

    path = ""

    def __init__(self, now: Clock = utc_clock) -> None:
        self.now = now
        self.url = ""
        self.answers: list[Answer] = []
        self.taken: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def answer(self, method: str, target: str, raw: bytes) -> Answer:
        """Return what the receiver says to a request; `target` is the path with its query."""
        raise NotImplementedError

    async def handle(self, request: web.BaseRequest) -> web.Response:
        raw = await request.content.read()
        status, body = self.answer(request.method, request.raw_path, raw)
        self.answers.append((status, body))
        if status == 200 and request.method == "POST":
            self.taken.put_nowait(parse(raw))
        return web.Response(status=status, body=encode(body), content_type="application/json")


class CallbackServer(Receiver):
    """The SDK's: exact path, POST alone, and a hash that fits the string beside it."""

    path = "/ivxp/callback"

    def answer(self, method: str, target: str, raw: bytes) -> Answer:
        if target != self.path:
            return 404, {"error": "Not found"}
        if method != "POST":
            return 405, {"error": "Method not allowed"}
        if len(raw) > MAX_BYTES:
            return 413, {"error": "Payload too large"}
        try:
            said, content = _callback_payload(parse(raw))
        except (ValueError, TypeError, KeyError) as error:
            return 400, {"error": f"Invalid payload: {error!r}"}
        if said.removeprefix("sha256:") != sha256(content.encode()).hexdigest():
            return 400, {"error": "content_hash mismatch"}
        return 200, {"status": "received"}


def _callback_payload(body: Any) -> tuple[str, str]:  # noqa: ANN401 - unchecked JSON
    deliverable = body["deliverable"]
    texts = [body["order_id"], *(deliverable[n] for n in ("content", "content_hash", "format"))]
    if not all(isinstance(each, str) for each in texts):
        raise TypeError("not text")
    return deliverable["content_hash"], deliverable["content"]


class OldReceiver(Receiver):
    """The one beside the older Python client: Markdown is read from `content.body`."""

    path = "/ivxp/receive"

    def answer(self, method: str, target: str, raw: bytes) -> Answer:
        if (method, target) == ("GET", "/ivxp/health"):
            return 200, {"status": "healthy"}
        if (method, target) != ("POST", self.path):
            return 404, {"error": "Not found"}
        try:
            body = parse(raw)
            if (body["protocol"], body["message_type"]) != ("IVXP/1.0", "service_delivery"):
                return 400, {"error": "Invalid message"}
            return 200, self._stored(body)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return 500, {"error": repr(error)}

    def _stored(self, body: dict[str, Any]) -> dict[str, str]:
        order_id, deliverable = body["order_id"], body["deliverable"]
        kind, content = deliverable["type"], deliverable["content"]
        if not isinstance(kind, str):
            raise TypeError("deliverable.type")
        if deliverable["format"] == "markdown":
            content["body"].encode()
        return {"status": "received", "order_id": order_id, "timestamp": iso_naive_z(self.now())}


R = TypeVar("R", bound=Receiver)


@asynccontextmanager
async def listening(make: Callable[[], R]) -> AsyncIterator[R]:
    """Run a receiver for the length of a block."""
    receiver = make()
    server = RawTestServer(receiver.handle)
    await server.start_server()
    receiver.url = str(server.make_url(receiver.path))
    try:
        yield receiver
    finally:
        await server.close()
