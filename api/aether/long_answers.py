"""Answers that may be long: made beside the event loop, and sent as fast as they are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from api.handout import write_in_pieces
from api.log.words import NO_STORE

LONG_BYTES: Final = 256 * 1024
_JSON: Final = "application/json"


async def long_answer(
    request: web.Request, body: bytes, then: Callable[[], None] = lambda: None
) -> web.StreamResponse:
    """Return JSON that was made already; `then` is called unless the caller went away before.

    A long one is sent in pieces: of all at once, the rest would be moved for every part that goes.
    """
    if len(body) <= LONG_BYTES:
        then()
        return web.Response(body=body, content_type=_JSON, headers=NO_STORE)
    response = web.StreamResponse(headers={**NO_STORE, "Content-Type": _JSON})
    try:
        await write_in_pieces(request, response, body)
    except ConnectionError:
        return response  # the caller went away, and may ask again
    then()
    return response
