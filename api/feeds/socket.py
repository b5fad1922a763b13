"""A cursor over a WebSocket: its hand-outs are pushed, the reader acknowledges on the same line."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.feeds.desk import DESK
from api.feeds.frames import SocketQuery
from api.feeds.handing import MAX_WAITING
from api.feeds.limits import UpgradeRequired
from api.feeds.parties import cursor_of
from api.feeds.talk import CLOSE_SECONDS, Conversation
from api.keys import FOLLOWERS, SETTINGS
from api.limits import client_address
from api.query import read_query
from ledger.errors import InvalidInput
from projections.runner import feed_key

PROTOCOL: Final = "ivxp.cursor.v1"
HEARTBEAT_SECONDS: Final = 15.0
MAX_FRAME_BYTES: Final = 65_536


async def get_socket(request: web.Request) -> web.StreamResponse:
    """Hand out a cursor's events as they come, and take acknowledgements, by WebSocket."""
    app, key = request.app, cursor_of(request)
    asked = read_query(request, SocketQuery)
    await app[DESK].state(key)
    socket = _socket(request)
    address = client_address(request, app[SETTINGS].proxy_networks)
    with app[FOLLOWERS].following(feed_key(key[0]), address, most=MAX_WAITING) as moved:
        await socket.prepare(request)
        await Conversation(request, socket, key, asked, address, moved).run()
    return socket


def _socket(request: web.Request) -> web.WebSocketResponse:
    """Return what the request can be upgraded to, or raise `UpgradeRequired`."""
    offered = request.headers.getall("Sec-WebSocket-Protocol", [])
    # The server's own check would write what was offered, a token included, to the log.
    if offered and PROTOCOL not in [word.strip() for word in offered[0].split(",")]:
        raise InvalidInput(f"Sec-WebSocket-Protocol: offer {PROTOCOL}")
    socket = web.WebSocketResponse(
        timeout=CLOSE_SECONDS,
        heartbeat=HEARTBEAT_SECONDS,
        protocols=(PROTOCOL,),
        compress=False,
        max_msg_size=MAX_FRAME_BYTES,
    )
    if request.method != "GET" or not socket.can_prepare(request):
        raise UpgradeRequired("this is a WebSocket; ask with Upgrade: websocket")
    return socket
