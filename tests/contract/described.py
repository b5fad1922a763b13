"""Compares what a service answers with what its OpenAPI document says of it."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from jsonschema import Draft202012Validator, FormatChecker

from api.app import ROUTES
from api.openapi import document
from api.routes import Route, route_of

JSON = "application/json"


@cache
def described() -> dict[str, Any]:
    """Return the document with every object closed: what it does not name must not be sent."""
    found = json.loads(json.dumps(document(ROUTES, server="/")))
    for schema in found["components"]["schemas"].values():
        _close(schema)
    return found


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the document, or what it refers to."""
    found: Any = described()
    if "$ref" not in part:
        return part
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def _close(schema: object) -> None:
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks a value against a schema of the document."""
    schemas = copy.deepcopy(described()["components"]["schemas"])
    whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def breaches(
    route: Route, status: int, media_type: str, headers: set[str], body: bytes | None
) -> list[str]:
    """Return how an answer differs from what the document says of it.

    Of one that is written in pieces the body is None: it has left already.
    """
    operation = described()["paths"][route.path][route.method.lower()]
    if str(status) not in operation["responses"]:
        return [f"{status} is not described"]
    said = resolved(operation["responses"][str(status)])
    headers_said = {name: resolved(each) for name, each in said.get("headers", {}).items()}
    always = {name for name, each in headers_said.items() if each.get("required")}
    found = [f"the header {name} is missing" for name in always if name.lower() not in headers]
    content = said.get("content", {})
    if not content:
        return found + (["a body where none is described"] if body else [])
    if media_type not in content:
        return [*found, f"{media_type} is not described"]
    if media_type == JSON and body is not None:
        name = content[JSON]["schema"]["$ref"].rpartition("/")[2]
        errors = validator(name).iter_errors(json.loads(body))
        found += [f"{error.json_path}: {error.message}"[:300] for error in errors]
    return found


class Watch:
    """Notes each answer of an application that is not as described."""

    def __init__(self) -> None:
        self.breaches: list[str] = []
        self.seen: set[tuple[str, str, int]] = set()

    def install(self, app: web.Application) -> None:
        """Look at what leaves, after everything else had its say."""
        app.middlewares.insert(0, self._look)

    def require_as_described(self) -> None:
        """Fail with every answer that was not as described."""
        assert not self.breaches, "\n".join(["not as /openapi.json says:", *self.breaches])

    @web.middleware
    async def _look(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        route = route_of(request)
        # Some tests add routes of their own.
        if route in ROUTES and request.method == route.method:
            self._compare(route, response)
        return response

    def _compare(self, route: Route, response: web.StreamResponse) -> None:
        body = (response.body or b"") if isinstance(response, web.Response) else None
        assert body is None or isinstance(body, bytes)
        names = {name.lower() for name in response.headers}
        found = breaches(route, response.status, response.content_type, names, body)
        self.seen.add((route.method, route.path, response.status))
        place = f"{route.method} {route.path} {response.status}"
        self.breaches += [f"{place}: {breach}" for breach in found]
