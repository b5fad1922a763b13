"""Reading along with a cursor: its feed's events as they come, by server-sent events.

It hands out nothing, takes no lease and acknowledges nothing. The `id` of an event is its place,
so a reader that was away goes on after `Last-Event-ID`; what it did with the events is not known.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
from aiohttp import web

from api.body import validated
from api.feeds.desk import DESK, Key
from api.feeds.events import Json, event_json
from api.feeds.handing import MAX_WAITING
from api.feeds.models import SeenHeaders, SeenQuery
from api.feeds.open import token_holds
from api.feeds.parties import cursor_of
from api.ivxp.stream import (
    HEADERS,
    KEEP_ALIVE_SECONDS,
    LAST_EVENT_ID,
    LONGEST_SECONDS,
    write_frame,
)
from api.keys import FOLLOWERS, SETTINGS
from api.limits import client_address
from api.query import read_query
from ledger.cursor_events import CursorState
from projections.runner import feed_key

PAGE: Final = 100
"""Events that are read at once; each is written by itself."""


async def get_cursor_stream(request: web.Request) -> web.StreamResponse:
    """Follow what comes after a cursor's place, or after the event that was seen last."""
    app, key = request.app, cursor_of(request)
    seen = _last_seen(request)
    state = await app[DESK].state(key)
    address = client_address(request, app[SETTINGS].proxy_networks)
    with app[FOLLOWERS].following(feed_key(key[0]), address, most=MAX_WAITING) as moved:
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await write_frame(response, b": connected\n\n")
            async with asyncio.timeout(LONGEST_SECONDS):
                await _tell(request, response, key, state, seen, moved)
        except (ConnectionError, TimeoutError):
            pass  # the reader went away, or was there for long: it comes back with the last id
    return response


async def _tell(
    request: web.Request,
    response: web.StreamResponse,
    key: Key,
    state: CursorState,
    seen: tuple[int, int] | None,
    moved: asyncio.Event,
) -> None:
    """Write what comes, then wait to be woken; every so often say that we are there."""
    desk, followers = request.app[DESK], request.app[FOLLOWERS]
    after = _start(state, seen, desk.feeds.head(key[0]))
    while not followers.closing and token_holds(request):
        moved.clear()
        rows = desk.feeds.rows(key[0], after, PAGE, state.settings.types)
        for row in rows:
            await write_frame(response, _frame(state.generation, event_json(desk.ledger, row)))
            after = row.pos
        if len(rows) == PAGE:
            continue
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await moved.wait()
        except TimeoutError:
            await write_frame(response, b": keep-alive\n\n")


def _start(state: CursorState, seen: tuple[int, int] | None, head: int) -> int:
    """Return the place to go on after. What was seen of another numbering says nothing here."""
    if seen is None or seen[0] != state.generation:
        return state.acked.pos
    # Nobody has seen what is not there yet; it is told when it comes.
    return max(state.acked.pos, min(seen[1], head))


def _frame(generation: int, event: Json) -> bytes:
    """Return an event in one piece: some readers lose what is split."""
    head = f"id: {generation}-{event['pos']}\nevent: {event['type']}\ndata: ".encode()
    return head + orjson.dumps(event) + b"\n\n"


def _last_seen(request: web.Request) -> tuple[int, int] | None:
    """Return generation and position of the last event that was seen, if one is named."""
    named = {LAST_EVENT_ID: request.headers.get(LAST_EVENT_ID, "")}
    text = validated(named, SeenHeaders).seen or read_query(request, SeenQuery).last_event_id
    if not text:
        return None
    generation, _, pos = text.partition("-")
    return int(generation), int(pos)
