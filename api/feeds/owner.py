"""What the owner of a cursor does with it: open, look, seek, and deal with what was parked."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from api.answers import json_response
from api.body import parse_json, read_body, read_model, validated
from api.feeds.desk import DESK, Desk, Feed, Key
from api.feeds.events import Json
from api.feeds.limits import MAX_CURSORS, TooManyCursors
from api.feeds.models import EmptyRequest, OpenRequest, PageQuery, SeekRequest
from api.feeds.parties import cursor_of, party_of
from api.feeds.reader import written
from api.feeds.settings import place_of, settings_of
from api.feeds.shown import cursor_json, hand_out_json, parked_json
from api.log.words import NO_STORE
from api.query import read_query
from ledger import cursor_commands as c
from ledger.cursor_events import CursorState, Place
from ledger.errors import InvalidInput, NotFound
from ledger.values import UnixMs, cursor_stream
from projections.feed_reader import NOWHERE
from projections.feeds import GENERATION

_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
POLLED: Final = "compat:"


async def put_cursor(request: web.Request) -> web.Response:
    """Open a cursor; the same body again finds it as it is."""
    key, desk = cursor_of(request), request.app[DESK]
    _require_free(key)
    said = await read_model(request, OpenRequest)
    settings, start, stream = settings_of(said), NOWHERE, cursor_stream(*key)
    if await desk.ledger.cursor(stream) is None:
        if len(desk.feeds.cursors(key[0])) >= MAX_CURSORS:
            raise TooManyCursors(f"a party has at most {MAX_CURSORS} cursors")
        start = place_of(desk.ledger, desk.feeds, key[0], said.start, "start")
    command = c.OpenCursor(settings, GENERATION, start, desk.ledger.clock())
    receipt = await desk.ledger.act_on_cursor(stream, command)
    await desk.settle(receipt)
    body = cursor_json(desk, key, await desk.state(key))
    if not receipt.events:
        return written(request, body, None)
    return written(request, body, receipt, status=201)


async def get_cursor(request: web.Request) -> web.Response:
    """Show where a cursor stands."""
    key, desk = cursor_of(request), request.app[DESK]
    return written(request, cursor_json(desk, key, await desk.state(key)), None)


async def get_cursors(request: web.Request) -> web.Response:
    """List the cursors of a party."""
    party, desk = party_of(request), request.app[DESK]
    names = [name for name, _, _ in desk.feeds.cursors(party)]
    found = [cursor_json(desk, (party, name), await desk.state((party, name))) for name in names]
    return written(request, {"cursors": found}, None)


async def post_seek(request: web.Request) -> web.Response:
    """Move the cursor; who holds a lease loses it."""
    key, desk = cursor_of(request), request.app[DESK]
    said = await read_model(request, SeekRequest)

    def make(_state: CursorState, _feed: Feed, now: UnixMs) -> c.Seek:
        return c.Seek(place_of(desk.ledger, desk.feeds, key[0], said.to, "to"), said.reason, now)

    done = await desk.act(key, make)
    body: Json = {"acked": done.state.acked.pos, "lease_token": done.state.token}
    return written(request, body, done.receipt)


async def post_replay(request: web.Request) -> web.Response:
    """Queue a parked event to be handed out once more."""
    key, desk = cursor_of(request), request.app[DESK]
    await _empty(request)
    place = _parked_place(desk, key, request.match_info["pos"])

    def make(_state: CursorState, _feed: Feed, now: UnixMs) -> c.ReplayParked:
        return c.ReplayParked(place, now)

    done = await desk.act(key, make)
    return written(request, {"replayed": place.pos}, done.receipt)


async def get_parked(request: web.Request) -> web.Response:
    """List what was put aside, oldest first."""
    key, desk, page = cursor_of(request), request.app[DESK], read_query(request, PageQuery)
    await desk.state(key)
    parked = desk.feeds.parked(*key, after=page.after, limit=page.limit)
    body: Json = {"parked": [parked_json(desk, key[0], each) for each in parked]}
    if len(parked) == page.limit:
        body["next"] = parked[-1].position
    return json_response(body, headers=NO_STORE)


async def get_log(request: web.Request) -> web.Response:
    """List what was handed out, to whom, and what came of it."""
    key, desk, page = cursor_of(request), request.app[DESK], read_query(request, PageQuery)
    await desk.state(key)
    found = desk.feeds.hand_outs(*key, page.after, page.limit)
    body: Json = {"handouts": [hand_out_json(each) for each in found]}
    if len(found) == page.limit:
        body["next"] = found[-1].token
    return json_response(body, headers=NO_STORE)


def _require_free(key: Key) -> None:
    """Refuse a name that the polling clients of an inbox use: theirs opens with the first event."""
    if ":" in key[0] and key[1].startswith(POLLED):
        msg = f"name: in an inbox, {POLLED}… belongs to the polling clients"
        raise InvalidInput(msg, details={"field": "name"})


async def _empty(request: web.Request) -> None:
    body = await read_body(request)
    if body:
        validated(parse_json(body), EmptyRequest)


def _parked_place(desk: Desk, key: Key, pos: str) -> Place:
    if _NUMBER.fullmatch(pos) and desk.is_parked(key, int(pos)):
        place = desk.feeds.place(key[0], int(pos))
        if place is not None:
            return place
    raise NotFound("no such event is parked here", code="NOT_FOUND")
