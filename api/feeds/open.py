"""What streams and sockets ask every round: may they go on."""

from __future__ import annotations

from aiohttp import web

from api.auth import CALLER
from api.keys import LEDGER, TOKENS


def token_holds(request: web.Request) -> bool:
    """Whether the token that opened a connection is still good: it may end, or be revoked."""
    caller, app = request[CALLER], request.app
    return app[LEDGER].clock() < caller.expires_ms and not app[TOKENS].revoked.holds(caller)
