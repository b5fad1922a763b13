"""Server-sent events of one order: every change of its status, and the end that clients wait for.

An event is written in one piece, because some readers lose what is split. Its `id` is the ledger
position, so a reader that was away goes on after `Last-Event-ID`. `completed` and `failed` are
told only after the status answer says the same.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from api.aether.reading import require_side
from api.ivxp.parties import known_order
from api.ivxp.views import word_1_0, word_1_1
from api.keys import FOLLOWERS, LEDGER, RUNNER, SETTINGS
from api.limits import client_address
from ledger.errors import InvalidInput
from ledger.evolve import evolve
from ledger.order import Order, Status
from ledger.service import Placed
from projections.orders import order_row, view_of

KEEP_ALIVE_SECONDS: Final = 15.0
WRITE_SECONDS: Final = 30.0
LONGEST_SECONDS: Final = 1800.0
"""An order that does not move must not hold a stream for ever; a reader comes back."""
LAST_EVENT_ID: Final = "Last-Event-ID"
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    # Proxies of the nginx family would hold events back until a buffer is full.
    "X-Accel-Buffering": "no",
}
_TERMINAL: Final = {"delivered": "completed", "delivery_failed": "failed"}
_POSITION: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


async def get_stream(request: web.Request) -> web.StreamResponse:
    """Follow an order until it is delivered or has failed."""
    order = await known_order(request.app[LEDGER], request.match_info["order_id"])
    await require_side(request, order)
    story = Story(order.id, _last_seen(request), request.app[SETTINGS].path_prefix)
    address = client_address(request, request.app[SETTINGS].proxy_networks)
    with request.app[FOLLOWERS].following(order.id, address) as moved:
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await write_frame(response, b": connected\n\n")
            async with asyncio.timeout(LONGEST_SECONDS):
                await _tell(request, response, story, moved)
        except (ConnectionError, TimeoutError):
            pass  # the reader went away, or was there for long: it comes back with the last id
    return response


@dataclass(slots=True)
class Story:
    """What one reader was told of an order, and what is news to it."""

    order_id: str
    last_seen: int
    prefix: str
    order: Order | None = None
    position: int = 0

    def news(self, placed: list[Placed]) -> Iterator[bytes]:
        """Return the frames of the events that the reader has not seen."""
        for each in placed:
            if each.position <= self.position:
                continue
            before = self._words()
            self.order, self.position = evolve(self.order, each.signed), each.position
            if self._words() != before and each.position > self.last_seen:
                yield self._frame("status_update", {})

    def end(self) -> bytes | None:
        """Return the last frame, once the order is where a 1.0 client stops."""
        word, _ = self._words()
        kind = _TERMINAL.get(word)
        if kind is None or self.order is None:
            return None
        if kind == "completed":
            url = f"{self.prefix}/ivxp/download/{self.order_id}"
            return self._frame(kind, {"deliverableUrl": url, "deliverable_url": url})
        return self._frame(kind, {"reason": _reason(self.order)})

    def _words(self) -> tuple[str, str]:
        if self.order is None:
            return "", ""
        view = view_of(order_row(self.order, self.position))
        return word_1_0(view), word_1_1(view)

    def _frame(self, kind: str, more: dict[str, str]) -> bytes:
        word, rich = self._words()
        data = {
            "order_id": self.order_id,
            "orderId": self.order_id,
            "status": word,
            "ledger_status": rich,
            "position": self.position,
            **more,
        }
        head = f"event: {kind}\nid: {self.position}\ndata: ".encode()
        return head + orjson.dumps(data) + b"\n\n"


async def _tell(
    request: web.Request, response: web.StreamResponse, story: Story, moved: asyncio.Event
) -> None:
    """Write what is new, then wait to be woken; every so often say that we are there."""
    app = request.app
    ledger, runner, followers = app[LEDGER], app[RUNNER], app[FOLLOWERS]
    while not followers.closing:
        moved.clear()
        shown = runner.position
        placed = [p for p in ledger.read_order(story.order_id) if p.position <= shown]
        for frame in story.news(placed):
            await write_frame(response, frame)
        last = story.end()
        if last is not None:
            await write_frame(response, last)
            return
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await moved.wait()
        except TimeoutError:
            await write_frame(response, b": keep-alive\n\n")


async def write_frame(response: web.StreamResponse, frame: bytes) -> None:
    """Write one event; a reader that does not read is given up."""
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(frame)


def _reason(order: Order) -> str:
    if order.status is Status.REFUNDED:
        return "refunded"
    return "handler_failed" if order.deliverable is None else "push_exhausted"


def _last_seen(request: web.Request) -> int:
    text = request.headers.get(LAST_EVENT_ID) or request.query.get("last_event_id") or "0"
    if not _POSITION.fullmatch(text):
        msg = f"{LAST_EVENT_ID}: is the id of an event of this stream"
        raise InvalidInput(msg, details={"field": LAST_EVENT_ID})
    return int(text)
