"""One operation of the OpenAPI document: what a route takes, gives and refuses."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

from api.answers import LEDGER_HEAD, REPLAYED
from api.ivxp.responses import ErrorResponse
from api.log.held import CONSISTENCY
from api.openapi_errors import errors_by_status, is_proven, names_order
from api.openapi_parameters import has_key, parameters
from api.openapi_schemas import Schema, Schemas
from api.routes import Route
from api.tokens import TokenRefused
from ledger.errors import LedgerError, NotFound

BEARER: Final = "bearer"
JSON: Final = "application/json"
OK: Final = "200"
UNCHANGED: Final = "304"
FAULT: Final = "500"
FAULT_TEXT: Final = "`INTERNAL_ERROR`: The service failed; the fault is ours."

_ALLOWANCE: Final = {True: ("RateLimit-Policy", "RateLimit"), False: ()}
_SEPARATORS: Final = re.compile(r"\W+", re.ASCII)
_HEADERS: Final = {
    LEDGER_HEAD: "The newest signed tree head: its size and base64 root.",
    CONSISTENCY: "The proof that this head continues the one that was sent along.",
    "Retry-After": "Seconds after which the same request may succeed.",
    "WWW-Authenticate": "How to prove who asks.",
    "ETag": "The version of this answer.",
    REPLAYED: "`true`: this is the first answer to a request with this key.",
    "RateLimit-Policy": "How many writes an address has per window of seconds.",
    "RateLimit": "How many of them are left, and after how many seconds more come back.",
}
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


def operation(route: Route, schemas: Schemas) -> Schema:
    """Return what the document says of a route."""
    found: Schema = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": inspect.getdoc(route.handler) or route.summary,
        "tags": [tag_of(route)],
        "parameters": parameters(route),
        "responses": _responses(route, schemas),
    }
    if route.request is not None:
        found["requestBody"] = _body(route, route.request, schemas)
    if route.roles:
        found["security"] = [{BEARER: [str(role)]} for role in sorted(route.roles)]
    return found


def _body(route: Route, model: type[BaseModel], schemas: Schemas) -> Schema:
    content: Schema = {JSON: {"schema": schemas.taken(model)}}
    content |= {media_type: {} for media_type in route.body_types}
    return {"required": not route.body_optional, "content": content}


def _responses(route: Route, schemas: Schemas) -> Schema:
    found = {OK: _success(route, schemas), FAULT: _error([FAULT_TEXT], schemas)}
    if route.has_etag:
        found[UNCHANGED] = _answer("The caller has this version.", always=["ETag"])
    for status, errors in errors_by_status(route).items():
        texts = [f"`{_code(error, route)}`: {_summary(error)}" for error in errors]
        refused = all(issubclass(error, TokenRefused) for error in errors)
        later = any(error.retryable for error in errors)
        found[str(status)] = _error(
            texts,
            schemas,
            always=["WWW-Authenticate"] if refused else [],
            at_times=[*(["Retry-After"] if later else []), *_ALLOWANCE[route.writes]],
        )
    return dict(sorted(found.items()))


def _success(route: Route, schemas: Schemas) -> Schema:
    proven = route.shows_head or is_proven(route)
    always = [*([LEDGER_HEAD] if proven else []), *(["ETag"] if route.has_etag else [])]
    at_times = [*([REPLAYED] if has_key(route) else []), *_ALLOWANCE[route.writes]]
    text = _summary(route.response) if route.response else route.summary
    schema = {"schema": schemas.given(route.response)} if route.response else {}
    return _answer(text, always, at_times) | {"content": {route.media_type: schema}}


def _error(
    texts: Iterable[str],
    schemas: Schemas,
    always: Iterable[str] = (),
    at_times: Iterable[str] = (),
) -> Schema:
    content = {JSON: {"schema": schemas.given(ErrorResponse)}}
    return _answer("\n\n".join(texts), always, at_times) | {"content": content}


def _answer(text: str, always: Iterable[str] = (), at_times: Iterable[str] = ()) -> Schema:
    """Return an answer with the headers that it always has and those that it may have."""
    shown = {name: _header(name) for name in (*at_times, *_HELD)}
    shown |= {name: _header(name) | {"required": True} for name in always}
    return {"description": text, "headers": shown}


def _header(name: str) -> Schema:
    return {"description": _HEADERS[name], "schema": {"type": "string"}}


def _code(error: type[LedgerError], route: Route) -> str:
    """Return an error's code; what is not found is an order only where one was named."""
    return error.code if error is not NotFound or names_order(route) else "NOT_FOUND"


def _summary(documented: type) -> str:
    return (inspect.getdoc(documented) or "").partition("\n\n")[0].replace("\n", " ")
