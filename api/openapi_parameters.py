"""What stands beside the body of a request: in its path, its query and its headers.

Some of it every route of a kind takes, because it is read before the route or while it answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from api.answers import LEDGER_HEAD
from api.idempotency import KEY
from api.ivxp.negotiation import PROTOCOL_1_0, PROTOCOL_1_1, VERSION_HEADER, VIEW_HEADER
from api.ivxp.stream import LAST_EVENT_ID
from api.openapi_schemas import Schema, properties_of
from api.routes import ORDER_PART, Route
from api.sync import AFTER_POSITION

EVENTS: Final = "text/event-stream"
"""The media type of an answer that goes on as long as there is something to come."""

_PART: Final = re.compile(r"\{(\w+)\}", re.ASCII)
_PARTS: Final = {
    "order_id": "The id from the quote, where it is the order's secret, or from the offer.",
    "agent_id": "The agent: the id that its registration gave.",
    "conversation_id": "The conversation: the id that its start gave.",
    "seq": "The place of an event in its order, from 1.",
    "level": "The level of the tile, from 0.",
    "tile": "The index of the tile as C2SP writes it; it may hold slashes.",
    "party": "The caller's own wallet, or `provider` or `workers` for who has that role.",
    "name": "The cursor: 1 to 64 letters, digits and `. _ : -`.",
    "pos": "The position of an event in the feed.",
    "event_id": "The event: its position in the ledger, a hyphen, its leaf.",
}
_POSITION: Final[Schema] = {"type": "string", "pattern": "^[0-9]{1,15}$"}
_HEAD: Final[Schema] = {"type": "string", "pattern": "^(0|[1-9][0-9]{0,15}) [A-Za-z0-9+/]{43}=$"}
_VIEW: Final[Schema] = {"type": "string", "enum": ["default", "strict"]}
_VERSION: Final[Schema] = {"type": "string", "enum": ["1.0", "1.1", PROTOCOL_1_0, PROTOCOL_1_1]}
_VIEW_TEXT: Final = "`strict`: only the members that the protocol's schemas name."
_VERSION_TEXT: Final = "The words and members of this version of the protocol."


def own_parameters(route: Route) -> list[Schema]:
    """Return the parameters that are a route's alone, as its models have them."""
    found: list[Schema] = []
    for model, place in ((route.query, "query"), (route.headers, "header")):
        if model is not None:
            found += _of_model(model, place)
    return found


def shared_parameters(route: Route) -> list[Schema]:
    """Return the parameters that a route has like others: each name has one meaning."""
    return [
        *_in_path(route),
        *_of_reads(route),
        *_of_views(route),
        *_of_acts(route),
        _parameter(LEDGER_HEAD, "header", _HEAD, "The newest head that the caller holds."),
    ]


def has_key(route: Route) -> bool:
    """Whether a repeat with the same `Idempotency-Key` gets the first answer."""
    return route.method == "POST" and not route.bytes_are_the_key


def _in_path(route: Route) -> Iterator[Schema]:
    for name in _PART.findall(route.path):
        text = _PARTS.get(name, "")
        yield _parameter(name, "path", {"type": "string"}, text) | {"required": True}


def _of_model(model: type[BaseModel], place: str) -> Iterator[Schema]:
    properties, required = properties_of(model)
    for name, schema in properties.items():
        described = dict(schema)
        found = _parameter(name, place, described, described.pop("description", ""))
        yield found | ({"required": True} if name in required else {})


def _of_reads(route: Route) -> Iterator[Schema]:
    if route.method != "GET":
        return
    text = "Answer once the views have this position of the ledger."
    yield _parameter(AFTER_POSITION, "query", _POSITION, text)
    if route.has_etag:
        text = "The `ETag` of the version that the caller has."
        yield _parameter("If-None-Match", "header", {"type": "string"}, text)
    if route.media_type == EVENTS and ORDER_PART in route.path:
        text = "The last event that was seen: the stream goes on after it."
        yield _parameter(LAST_EVENT_ID, "header", _POSITION, text)
        yield _parameter(LAST_EVENT_ID.lower().replace("-", "_"), "query", _POSITION, text)


def _of_views(route: Route) -> Iterator[Schema]:
    if not route.path.startswith("/ivxp/") or route.media_type == EVENTS:
        return
    yield _parameter("view", "query", _VIEW, _VIEW_TEXT)
    yield _parameter(VIEW_HEADER, "header", _VIEW, _VIEW_TEXT)
    if route.method == "GET":
        yield _parameter("protocol", "query", _VERSION, _VERSION_TEXT)
        yield _parameter(VERSION_HEADER, "header", _VERSION, _VERSION_TEXT)


def _of_acts(route: Route) -> Iterator[Schema]:
    if has_key(route):
        schema = {"type": "string", "pattern": "^[!#-~]{1,255}$"}
        text = "A repeat with the same key and request gets the first answer and does nothing."
        yield _parameter(KEY, "header", schema, text)


def _parameter(name: str, place: str, schema: Schema, text: str) -> Schema:
    found = {"name": name, "in": place, "schema": schema}
    return found | ({"description": text} if text else {})
