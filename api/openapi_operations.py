"""One operation of the OpenAPI document: what a route takes, gives and refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

from api.answers import LEDGER_HEAD, REPLAYED
from api.feeds.limits import UpgradeRequired
from api.ivxp.responses import ErrorResponse
from api.log.held import CONSISTENCY
from api.openapi_errors import code_of, errors_by_status, is_proven
from api.openapi_parameters import has_key, own_parameters, shared_parameters
from api.openapi_schemas import Components, Schema
from api.openapi_security import mounts_text, security, servers
from api.routes import Route
from api.tokens import TokenRefused
from ledger.errors import LedgerError

JSON: Final = "application/json"
SWITCHED: Final = "101"
OK: Final = "200"
CREATED: Final = "201"
UNCHANGED: Final = "304"
FAULT: Final = "500"
FAULT_TEXT: Final = "`INTERNAL_ERROR`: The service failed; the fault is ours."

_ALLOWANCE: Final = {True: ("RateLimit-Policy", "RateLimit"), False: ()}
_ALWAYS: Final = ".always"
_OF_WRITES: Final = "-write"
_SEPARATORS: Final = re.compile(r"\W+", re.ASCII)
_HEADERS: Final = {
    LEDGER_HEAD: "The newest signed tree head: its size and base64 root.",
    CONSISTENCY: "The proof that this head continues the one that was sent along.",
    "Retry-After": "Seconds after which the same request may succeed.",
    "WWW-Authenticate": "How to prove who asks.",
    "ETag": "The version of this answer.",
    "Upgrade": "`websocket`: what the request has to ask for.",
    REPLAYED: "`true`: this is the first answer to a request with this key.",
    "RateLimit-Policy": "How many writes an address has per window of seconds.",
    "RateLimit": "How many of them are left, and after how many seconds more come back.",
}
_PROVE: Final = ("WWW-Authenticate",)
_HELD: Final = (LEDGER_HEAD, CONSISTENCY)
"""What any answer has for a caller that sends a head along."""


def operation_id(route: Route) -> str:
    """Return the operation's name: its method and path, so it is unique and stays."""
    words = _SEPARATORS.sub("_", route.path).strip("_").replace("-", "_")
    return f"{route.method.lower()}_{words}"


def tag_of(route: Route) -> str:
    """Return the group a route stands in: the first word of its path that says something."""
    words = [word for word in route.path.split("/") if word]
    return words[1] if words[0] == "v1" else words[0].removeprefix(".")


def operation(route: Route, components: Components, *, server: str, market_open: bool) -> Schema:
    """Return what the document says of a route."""
    found: Schema = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": (inspect.getdoc(route.handler) or route.summary) + mounts_text(route),
        "tags": [tag_of(route)],
        "parameters": _parameters(route, components),
        "responses": _responses(route, components),
    }
    if route.request is not None:
        found["requestBody"] = _body(route, route.request, components)
    if ways := security(route, market_open=market_open):
        found["security"] = ways
    if len(route.mounts) > 1:
        found["servers"] = servers(route, server)
    return found


def _body(route: Route, model: type[BaseModel], components: Components) -> Schema:
    content: Schema = {JSON: {"schema": components.taken(model)}}
    content |= {media_type: {} for media_type in route.body_types}
    return {"required": not route.body_optional, "content": content}


def _parameters(route: Route, components: Components) -> list[Schema]:
    shared = shared_parameters(route)
    named = [components.part("parameters", f"{p['in']}.{p['name']}", p) for p in shared]
    return [*own_parameters(route), *named]


def _responses(route: Route, components: Components) -> Schema:
    found = {OK: _success(route, components)} if not route.upgrades else _switched(components)
    if route.creates:
        found[CREATED] = _success(route, components)
    if route.has_etag:
        found[UNCHANGED] = _answer(components, "The caller has this version.", always=["ETag"])
    for status, errors in errors_by_status(route).items():
        own = [code for e in errors if (code := code_of(e, route)) != e.code]
        name = "-".join([str(status), *(error.__name__ for error in errors), *own])
        name += _OF_WRITES if route.writes else ""
        value = _refusal(errors, route, components)
        found[str(status)] = components.part("responses", name, value)
    return {**dict(sorted(found.items())), FAULT: _fault(components)}


def _switched(components: Components) -> Schema:
    """Return the only answer of a WebSocket that is none of an error: frames follow it."""
    return {SWITCHED: _answer(components, "The connection is a WebSocket now; frames follow.")}


def _success(route: Route, components: Components) -> Schema:
    proven = route.shows_head or is_proven(route)
    always = [*([LEDGER_HEAD] if proven else []), *(["ETag"] if route.has_etag else [])]
    at_times = [*([REPLAYED] if has_key(route) else []), *_ALLOWANCE[route.writes]]
    text = _summary(route.response) if route.response else route.summary
    schema = {"schema": components.given(route.response)} if route.response else {}
    return _answer(components, text, always, at_times) | {"content": {route.media_type: schema}}


def _refusal(errors: list[type[LedgerError]], route: Route, components: Components) -> Schema:
    texts = [f"`{code_of(error, route)}`: {_summary(error)}" for error in errors]
    refused = [issubclass(error, TokenRefused) for error in errors]
    upgrades = all(issubclass(error, UpgradeRequired) for error in errors)
    later = any(error.retryable for error in errors)
    answer = _answer(
        components,
        "\n\n".join(texts),
        always=_PROVE if all(refused) else ["Upgrade"] if upgrades else (),
        at_times=[
            *(["Retry-After"] if later else ()),
            *(_PROVE if any(refused) else ()),
            *_ALLOWANCE[route.writes],
        ],
    )
    return answer | {"content": {JSON: {"schema": components.given(ErrorResponse)}}}


def _fault(components: Components) -> Schema:
    content = {JSON: {"schema": components.given(ErrorResponse)}}
    return components.part("responses", FAULT, {"description": FAULT_TEXT, "content": content})


def _answer(
    components: Components, text: str, always: Iterable[str] = (), at_times: Iterable[str] = ()
) -> Schema:
    """Return an answer with the headers that it always has and those that it may have."""
    shown = {name: _header(name) for name in (*at_times, *_HELD)}
    shown |= {name: _header(name) | {"required": True} for name in always}
    named = {
        name: components.part("headers", name + _ALWAYS * ("required" in header), header)
        for name, header in shown.items()
    }
    return {"description": text, "headers": named}


def _header(name: str) -> Schema:
    return {"description": _HEADERS[name], "schema": {"type": "string"}}


def _summary(documented: type) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("\n", " ")
