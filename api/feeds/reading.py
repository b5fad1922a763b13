"""Reading a feed without a cursor: the whole history, for ever, with no effect."""

from __future__ import annotations

from aiohttp import web

from api.answers import json_response
from api.feeds.desk import DESK
from api.feeds.events import Json, event_json
from api.feeds.models import EventsQuery
from api.feeds.parties import party_of
from api.feeds.settings import KNOWN_TYPES
from api.log.words import NO_STORE
from api.query import read_query
from ledger.errors import InvalidInput
from projections.feeds import GENERATION


async def get_events(request: web.Request) -> web.Response:
    """Return a page of a feed."""
    party, desk = party_of(request), request.app[DESK]
    asked = read_query(request, EventsQuery)
    types = asked.types.split(",") if asked.types is not None else None
    if types is not None and not set(types) <= KNOWN_TYPES:
        msg = "types: names of types with commas between"
        raise InvalidInput(msg, details={"field": "types"})
    head = desk.feeds.head(party)
    rows = desk.feeds.rows(party, asked.after, asked.limit, types)
    body: Json = {
        "generation": GENERATION,
        "head": max(head, rows[-1].pos) if rows else head,
        "events": [event_json(desk.ledger, row) for row in rows],
    }
    if len(rows) == asked.limit:
        body["next"] = rows[-1].pos
    return json_response(body, headers=NO_STORE)
