"""The route registry: every path with its handler and its models, in one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path. `writes` routes are counted against the rate limit."""

    method: str
    path: str
    handler: RouteHandler
    summary: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    writes: bool = False


def register(app: web.Application, routes: list[Route]) -> None:
    """Add the routes; a GET also answers HEAD."""
    for route in routes:
        if route.method == "GET":
            app.router.add_get(route.path, route.handler)
        else:
            app.router.add_route(route.method, route.path, route.handler)
