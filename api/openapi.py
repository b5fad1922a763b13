"""The OpenAPI 3.1 document: made of the route registry and the models in use, and of nothing else.

It is made once, at the first question, and is the same bytes in every process of one version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import version
from typing import Final

import orjson
from aiohttp import ETag, web
from pydantic import BaseModel

from api.config import Settings
from api.ivxp.responses import ErrorResponse
from api.keys import SETTINGS
from api.openapi_operations import operation, tag_of
from api.openapi_schemas import Components, Schema
from api.openapi_security import SCHEMES
from api.routes import REGISTRY, Route

OPENAPI: Final = "3.1.0"
PACKAGE: Final = "ivxp-ledger"
DESCRIPTION: Final = (
    "Every step of every order is an immutable, signed event that the other side can check. "
    "An error whose `retryable` is true says unknown or not now, never failed."
)


class OpenApiResponse(BaseModel):
    """The OpenAPI 3.1 document of this service."""

    openapi: str
    info: dict[str, object]
    servers: list[dict[str, str]]
    tags: list[dict[str, str]]
    paths: dict[str, object]
    components: dict[str, object]


def document(routes: Iterable[Route], *, server: str, market_open: bool = False) -> Schema:
    """Return the document of some routes; with `market_open` wallets pass unproven."""
    listed = list(routes)
    components = Components(listed, also=[ErrorResponse])
    paths: dict[str, Schema] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(
            route, components, server=server, market_open=market_open
        )
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Order ledger",
            "version": version(PACKAGE),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name} for name in dict.fromkeys(map(tag_of, listed))],
        "paths": paths,
        "components": {**components.all(), "securitySchemes": SCHEMES},
    }


def document_bytes(routes: Iterable[Route], settings: Settings) -> bytes:
    """Return the document as it is sent."""
    server = settings.public_url or settings.path_prefix or "/"
    market_open = settings.aether_auth == "open"
    return orjson.dumps(document(routes, server=server, market_open=market_open))


async def get_openapi(request: web.Request) -> web.Response:
    """Return this document; unchanged as long as the service runs."""
    registry, settings = request.app[REGISTRY], request.app[SETTINGS]
    if registry.document is None:
        # A tenth of a second. Who asks meanwhile makes the same bytes once more.
        made = await asyncio.to_thread(document_bytes, registry.routes.values(), settings)
        registry.document = made
    tag = ETag(sha256(registry.document).hexdigest()[:32])
    known = request.if_none_match or ()
    if any(each.value in (tag.value, "*") for each in known):
        return _answer(304, b"", tag)
    return _answer(200, registry.document, tag)


def _answer(status: int, body: bytes, tag: ETag) -> web.Response:
    response = web.Response(status=status, body=body, content_type="application/json")
    response.etag = tag
    response.headers["Cache-Control"] = "no-cache"
    return response


OPENAPI_ROUTES: Final = [
    Route(
        "GET",
        "/openapi.json",
        get_openapi,
        "This description",
        response=OpenApiResponse,
        has_etag=True,
    )
]
