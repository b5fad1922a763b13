"""The route registry: every path with its handler and its models, in one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from api.tokens import Role

RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ORDER_PART: Final = "{order_id}"
"""In a path that belongs to one order."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `writes` routes are counted against the rate limit.

    With `roles`, only a caller who signed in and has one of them is let through; without, anybody.
    """

    method: str
    path: str
    handler: RouteHandler
    summary: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    writes: bool = False
    roles: frozenset[Role] = frozenset()


class Registry:
    """The routes by method and path."""

    def __init__(self) -> None:
        self.routes: Final[dict[tuple[str, str], Route]] = {}


REGISTRY: Final = web.AppKey("registry", Registry)


def register(app: web.Application, routes: list[Route]) -> None:
    """Add the routes; a GET also answers HEAD."""
    if REGISTRY not in app:
        app[REGISTRY] = Registry()
    for route in routes:
        app[REGISTRY].routes[route.method, route.path] = route
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)


def route_of(request: web.Request) -> Route | None:
    """Return the route that a request matched, or None where it matched none."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return request.app[REGISTRY].routes.get((method, resource.canonical))
