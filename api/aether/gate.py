"""The middleware that lets nobody pass to the marketplace unproven, unless it is open."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from api.aether.errors import WORDS
from api.aether.proof import ProofRefused, proven
from api.keys import SETTINGS
from api.routes import route_of


@web.middleware
async def require_proof(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Find out who asks before anything else is done, and in strict mode refuse everybody else.

    Before a repeat with an `Idempotency-Key` is answered: the first answer is its caller's alone.
    """
    route = route_of(request)
    if route is None or route.words is not WORDS:
        return await handler(request)
    proof = await proven(request)
    if proof is None and request.app[SETTINGS].aether_auth == "strict":
        raise ProofRefused("prove the wallet: a token of POST /v1/auth/token, or signed headers")
    return await handler(request)
