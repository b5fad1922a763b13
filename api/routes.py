"""The route registry: every path with its handler and its models, in one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from api.tokens import Role
from ledger.errors import LedgerError

RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ORDER_PART: Final = "{order_id}"
"""In a path that belongs to one order."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `writes` routes are counted against the rate limit.

    With `roles`, only a caller who signed in and has one of them is let through; without, anybody.

    The rest describes the route to its callers, and the OpenAPI document is made of nothing else.
    `query` and `headers` are the models that the handler reads them with, `body_types` the media
    types of a body that is not JSON, `media_type` that of the answer; `shows_head` says that the
    answer has the header `Ledger-Head`, which every answer with a `ledger` has anyway. `errors` are
    those that do not follow from what the route takes and gives: see `api.openapi_errors`.
    """

    method: str
    path: str
    handler: RouteHandler
    summary: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    writes: bool = False
    roles: frozenset[Role] = frozenset()
    query: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    body_types: tuple[str, ...] = ()
    body_optional: bool = False
    media_type: str = "application/json"
    shows_head: bool = False
    has_etag: bool = False
    errors: frozenset[type[LedgerError]] = frozenset()
    pattern: str = ""
    """The path with the server's own patterns, where a placeholder may hold a slash."""
    creates: bool = False
    """What was not there before is answered with 201, the same again with 200."""
    upgrades: bool = False
    """A WebSocket: what is answered with 101 goes on in frames."""
    mounts: tuple[str, ...] = ("",)
    """Before which the path stands; the document names the path alone."""
    words: Mapping[str, str] = field(default_factory=dict)
    """The codes that are called otherwise here."""
    bytes_are_the_key: bool = False
    """The same bytes always get the first answer here, so an `Idempotency-Key` adds nothing."""
    long_body: bool = False
    """The body may hold a deliverable, and its handler reads it by `read_long_body`."""


class Registry:
    """The routes by method and path, prefix and mounts left out; once asked for, their document."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix: Final = prefix
        self.routes: Final[dict[tuple[str, str], Route]] = {}
        self.mounted: Final[dict[tuple[str, str], Route]] = {}
        self.document: bytes | None = None


REGISTRY: Final = web.AppKey("registry", Registry)


def register(app: web.Application, routes: list[Route], *, prefix: str = "") -> None:
    """Add the routes below a prefix that no route knows of; a GET also answers HEAD."""
    if REGISTRY not in app:
        app[REGISTRY] = Registry(prefix)
    for route in routes:
        app[REGISTRY].routes[route.method, route.path] = route
        for mount in route.mounts:
            app[REGISTRY].mounted[route.method, mount + route.path] = route
            path = prefix + mount + (route.pattern or route.path)
            if route.method == "GET":
                app.router.add_get(path, route.handler)
            else:
                app.router.add_route(route.method, path, route.handler)


def route_path(request: web.Request) -> str:
    """Return the path of the route that a request matched, with its placeholders."""
    route = route_of(request)
    return route.path if route is not None else ""


def route_of(request: web.Request) -> Route | None:
    """Return the route that a request matched, or None where it matched none."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    registry = request.app[REGISTRY]
    return registry.mounted.get((method, resource.canonical.removeprefix(registry.prefix)))
