"""The server's edge: how many connections there may be, and that each of them gets on.

The server itself closes a connection that brings no complete request head in time, and a body is
timed where it is read. What it lacks is here: a cap, and an end to callers who leave their answers
untaken. Nothing here knows of routes or of the ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Final, cast

import structlog
from multidict import CIMultiDict

from api.config import Settings
from api.cors import Cors
from api.limits import is_within, parsed_address, site_of

PROGRESS_BYTES: Final = 65_536
"""What a caller has to take of a waiting answer within SEND_TIMEOUT."""
RETRY_AFTER_SECONDS: Final = 2
REFUSAL_SECONDS: Final = 1.0
REFUSALS_AT_ONCE: Final = 64
"""Above it there is no time for words: the connection is cut."""
LOG_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


class Place:
    """The place of one connection among those that are served."""

    def __init__(self, transport: asyncio.Transport, holder: str) -> None:
        self.holder: Final = holder
        self._transport = transport
        self._mark: tuple[float, int] | None = None

    def check(self, now: float, patience: float) -> None:
        """Cut the connection if its caller has long left an answer untaken.

        Closing would not do: that waits for the answer to leave.
        """
        waiting = self._transport.get_write_buffer_size()
        if not waiting:
            self._mark = None
        elif self._mark is None or waiting <= self._mark[1] - PROGRESS_BYTES:
            self._mark = now, waiting
        elif now - self._mark[0] >= patience:
            self._transport.abort()


class Edge:
    """Gives out places to connections, and watches those who have one."""

    def __init__(self, settings: Settings, cors: Cors) -> None:
        self.settings: Final = settings
        self.cors: Final = cors
        self.refusal: Final = _refusal(cors)
        self._places: set[Place] = set()
        self._of_address: Counter[str] = Counter()
        self._refusals: set[Refusal] = set()
        self._said_at = float("-inf")

    @property
    def open_connections(self) -> int:
        """How many connections are served now."""
        return len(self._places)

    def admit(self, transport: asyncio.Transport) -> Place | None:
        """Return a place for a connection, or refuse it and return None."""
        holder = self._holder(transport)
        most = self.settings.max_connections_per_address
        full = len(self._places) >= self.settings.max_connections
        if full or (holder and most and self._of_address[holder] >= most):
            self._refuse(transport)
            return None
        place = Place(transport, holder)
        self._places.add(place)
        self._of_address[holder] += 1
        return place

    def release(self, place: Place) -> None:
        """Take a place back."""
        self._places.remove(place)
        self._of_address[place.holder] -= 1
        if not self._of_address[place.holder]:
            del self._of_address[place.holder]

    async def watch(self) -> None:
        """Cut connections whose callers do not take their answers; until cancelled."""
        loop, patience = asyncio.get_running_loop(), self.settings.send_timeout
        while True:
            await asyncio.sleep(patience / 4)
            for place in list(self._places):
                place.check(loop.time(), patience)

    def close(self) -> None:
        """Cut what is still being refused."""
        for refusal in list(self._refusals):
            refusal.cut()

    def forget(self, refusal: Refusal) -> None:
        """Drop a refusal that has ended."""
        self._refusals.discard(refusal)

    def _holder(self, transport: asyncio.Transport) -> str:
        """Return the name that a connection counts under; "" for a trusted proxy.

        All callers of a proxy have its address. It is for the proxy to tell them apart.
        """
        peer = transport.get_extra_info("peername")
        address = parsed_address(str(peer[0])) if peer else None
        return "" if is_within(address, self.settings.proxy_networks) else site_of(address)

    def _refuse(self, transport: asyncio.Transport) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= LOG_SECONDS:
            self._said_at = now
            _log.warning("connections are refused", open=len(self._places))
        if len(self._refusals) >= REFUSALS_AT_ONCE:
            transport.abort()
            return
        refusal = Refusal(self, transport)
        self._refusals.add(refusal)
        transport.set_protocol(refusal)
        refusal.say()


class Refusal(asyncio.Protocol):
    """Says 503 to a connection and ends it; what comes in is not kept.

    The answer leaves before the request is read. Were the connection closed at once, what the
    caller is still sending would reset it, and the answer would be lost.
    """

    def __init__(self, edge: Edge, transport: asyncio.Transport) -> None:
        self._edge = edge
        self._transport = transport
        self._end: asyncio.TimerHandle | None = None

    def say(self) -> None:
        """Send the answer, and give the caller a moment to take it."""
        self._transport.write(self._edge.refusal)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(REFUSAL_SECONDS, self.cut)

    def cut(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._end is not None:
            self._end.cancel()
        self._edge.forget(self)


def as_stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """Return the transport as what it is; an event loop's own class need not be a subclass."""
    return cast("asyncio.Transport", transport)


def _refusal(cors: Cors) -> bytes:
    """Return the whole answer to a connection that gets no place."""
    body = json.dumps(
        {
            "error": "SERVICE_UNAVAILABLE",
            "message": "too many connections are open; nothing was read of the request",
            "retryable": True,
        }
    )
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Retry-After": str(RETRY_AFTER_SECONDS),
            "Connection": "close",
        }
    )
    cors.add_to(headers, None)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 503 Service Unavailable", *lines, "", body]).encode()
