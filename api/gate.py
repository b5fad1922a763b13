"""What every request passes before its route, and what every answer carries for it."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from api.auth import is_staff
from api.cors import Cors
from api.keys import LIMITS, SETTINGS
from api.limits import RateLimited, client_address
from api.window import Allowance

ALLOWANCE: Final = web.RequestKey("allowance", Allowance)
CORS: Final = web.AppKey("cors", Cors)
WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@web.middleware
async def answer_options(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS on every path that there is: browsers ask so before they send.

    It is no write, whatever the method that is asked for.
    """
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        if request.method != "OPTIONS":
            raise
        methods = sorted({*error.allowed_methods, "OPTIONS"})
        headers = {"Allow": ",".join(methods)}
        if "Access-Control-Request-Method" in request.headers:
            headers |= request.app[CORS].preflight(request.headers.get("Origin"), methods)
        return web.Response(status=204, headers=headers)


@web.middleware
async def limit_writes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count writes per address before anything else is done for them."""
    if request.method in WRITES and not is_staff(request):
        address = client_address(request, request.app[SETTINGS].proxy_networks)
        allowance = request.app[LIMITS].count_write(address)
        if allowance is not None:
            request[ALLOWANCE] = allowance
            if not allowance.granted:
                msg = "too many requests from this address"
                raise RateLimited(msg, retry_after=allowance.wait_seconds)
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the head of an answer, of whatever kind: a stream, an error, a preflight."""
    request.app[CORS].add_to(response.headers, request.headers.get("Origin"))
    allowance = request.get(ALLOWANCE)
    if allowance is not None:
        response.headers.update(allowance.headers)
