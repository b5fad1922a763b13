"""How the TypeScript SDK follows an order: its reader of server-sent events, weak as it is."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from yarl import URL

from tests.clients.wallet import Pause

KINDS = frozenset({"status_update", "progress", "completed", "failed"})
TERMINAL = frozenset({"completed", "failed"})
CONNECTIONS = 3
FIRST_DELAY_SECONDS = 1.0

OnEvent = Callable[[str, str], None]


class StreamExhausted(Exception):
    """No connection brought the last event; the SDK then polls."""


def events_of(chunk: bytes) -> list[tuple[str, str]]:
    """Return the events of one piece of the stream, as it came from the network.

    Nothing is carried over to the next piece: an event in two pieces is lost. Lines end with LF
    alone, so a CR becomes part of the value. Of several data lines the last one counts.
    """
    found, kind, data = [], "", ""
    for line in chunk.decode(errors="replace").split("\n"):
        if line.startswith("event:"):
            kind = line.removeprefix("event:").removeprefix(" ")
        elif line.startswith("data:"):
            data = line.removeprefix("data:").removeprefix(" ")
        elif not line:
            if kind and data:
                found.append((kind, data))
            kind, data = "", ""
    return [(kind, data) for kind, data in found if kind in KINDS]


async def follow(session: aiohttp.ClientSession, url: str, pause: Pause, on_event: OnEvent) -> str:
    """Return the kind of the last event: `completed` or `failed`.

    Raises `StreamExhausted` after three connections without one. `Last-Event-ID` is never sent.
    """
    for attempt in range(CONNECTIONS):
        if attempt:
            await pause(FIRST_DELAY_SECONDS * 2 ** (attempt - 1))
        try:
            kind = await _connection(session, url, on_event)
        except (aiohttp.ClientError, TimeoutError):
            continue
        if kind is not None:
            return kind
    raise StreamExhausted(url)


async def _connection(session: aiohttp.ClientSession, url: str, on_event: OnEvent) -> str | None:
    """Read one connection to its end or to the last event; the media type is not looked at."""
    headers = {"Accept": "text/event-stream"}
    whole = aiohttp.ClientTimeout(total=None)
    async with session.get(URL(url, encoded=True), headers=headers, timeout=whole) as response:
        if not 200 <= response.status <= 299 or response.content.at_eof():
            return None
        async for chunk, _ in response.content.iter_chunks():
            for kind, data in events_of(chunk):
                on_event(kind, data)
                if kind in TERMINAL:
                    return kind
    return None
