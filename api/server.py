"""The HTTP server: aiohttp's own, behind our edge, with our form of errors.

What never becomes a request (no HTTP, heads above the limits, an unknown expectation) is refused
by the server, before any middleware. Here these refusals get the documented form too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_exceptions, web

from api.edge import Edge, Place, as_stream
from api.errors import http_error

MAX_LINE_BYTES: Final = 8190
"""Of a request's target. Not the next number: the parser names the limit, not what broke it."""
MAX_FIELD_BYTES: Final = 8192
"""Of one header's value."""
MAX_HEADERS: Final = 128

RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Connection(web.RequestHandler):
    """A connection that was given a place."""

    def __init__(self, edge: Edge, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        options: dict[str, Any] = {
            # An access log would hold order ids, which are bearer secrets.
            "access_log": None,
            "keepalive_timeout": edge.settings.idle_timeout,
            "lingering_time": edge.settings.body_timeout,
            "max_line_size": MAX_LINE_BYTES,
            "max_field_size": MAX_FIELD_BYTES,
            "max_headers": MAX_HEADERS,
        }
        super().__init__(manager, loop=loop, **options)
        self._edge = edge
        self._place: Place | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._place = self._edge.admit(as_stream(transport))
        if self._place is not None:
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._place is not None:
            self._edge.release(self._place)
            self._place = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request. The parser's own words quote it, and with it order ids."""
        plain = super().handle_error(request, status, exc, message)
        unreadable = plain.status == HTTPStatus.BAD_REQUEST
        response = _unreadable(exc) if unreadable else http_error(500, "the service failed")
        self._edge.cors.add_to(response.headers, None)
        response.force_close()
        return response


class EdgeServer(web.Server):
    """Makes a `Connection` of everything that connects."""

    def __init__(self, edge: Edge, made: web.Server) -> None:
        handler = _with_expectations(made.request_handler)
        super().__init__(handler, request_factory=made.request_factory)
        self._edge = edge

    def __call__(self) -> web.RequestHandler:
        return Connection(self._edge, self, asyncio.get_running_loop())


class EdgeRunner(web.AppRunner):
    """Runs an application behind an edge."""

    def __init__(self, app: web.Application, edge: Edge, *, grace_seconds: float) -> None:
        super().__init__(app, shutdown_timeout=grace_seconds)
        self._edge = edge

    async def _make_server(self) -> web.Server:
        return EdgeServer(self._edge, await super()._make_server())


def _with_expectations(handler: RequestHandler) -> RequestHandler:
    """Return the application's handler, for the one error that it leaves to the server."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPExpectationFailed as error:
            return http_error(error.status, "the only expectation that is met is 100-continue")

    return handle


def _unreadable(exc: BaseException | None) -> web.Response:
    """Return the answer to what the parser refused."""
    if isinstance(exc, http_exceptions.LineTooLong):
        if exc.args[1] == MAX_LINE_BYTES:
            return http_error(414, f"a request's target has at most {MAX_LINE_BYTES} bytes")
        return http_error(431, f"a header's value has at most {MAX_FIELD_BYTES} bytes")
    if "Too many headers" in str(getattr(exc, "message", "")):
        return http_error(431, f"a request has at most {MAX_HEADERS} headers")
    return http_error(400, "this is no HTTP/1.1 request")
