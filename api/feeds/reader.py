"""What a reader asks of its cursor: fetch, acknowledge, refuse, prolong or release."""

from __future__ import annotations

from aiohttp import web

from api.answers import LEDGER_HEAD, json_response, ledger_head, proven_response
from api.body import read_model
from api.feeds.acts import (
    acked_json,
    acknowledge,
    change_lease,
    handed_json,
    lease_json,
    nacked_json,
    refuse,
)
from api.feeds.desk import DESK
from api.feeds.events import Json
from api.feeds.handing import Wish, hand_out_when_there
from api.feeds.models import AckRequest, FetchRequest, LeaseRequest, NackRequest
from api.feeds.open import token_holds
from api.feeds.parties import cursor_of
from api.feeds.settings import millis
from api.keys import FOLLOWERS, LEDGER, SETTINGS
from api.limits import client_address
from api.log.words import NO_STORE
from api.tokens import TokenRefused
from ledger.cursor_errors import CursorRefused
from ledger.receipt import Receipt


async def post_fetch(request: web.Request) -> web.Response:
    """Hand out events under a lease, waiting for some if asked to."""
    key = cursor_of(request)
    said = await read_model(request, FetchRequest)
    app = request.app
    wish = Wish(
        holder=said.holder,
        limit=said.limit,
        token=said.lease_token,
        lease_ms=millis(said.lease_seconds) if said.lease_seconds is not None else None,
        pipeline=said.pipeline,
    )
    address = client_address(request, app[SETTINGS].proxy_networks)
    wait = float(said.wait_seconds)

    def still_there() -> None:
        if not token_holds(request):
            raise TokenRefused("the token has ended; sign in again")
        if request.transport is None or request.transport.is_closing():
            raise CursorRefused("the reader has left")

    found = await hand_out_when_there(
        app[DESK], app[FOLLOWERS], key, address, wish, wait, still_there
    )
    return written(request, handed_json(found), found.receipt)


async def post_ack(request: web.Request) -> web.Response:
    """Acknowledge everything up to a position."""
    key = cursor_of(request)
    said = await read_model(request, AckRequest)
    done = await acknowledge(request.app[DESK], key, said)
    return written(request, acked_json(done), done.receipt)


async def post_nack(request: web.Request) -> web.Response:
    """Say that an event could not be dealt with: again later, or aside."""
    key = cursor_of(request)
    said = await read_model(request, NackRequest)
    done = await refuse(request.app[DESK], key, said)
    return written(request, nacked_json(done, said), done.receipt)


async def post_lease(request: web.Request) -> web.Response:
    """Make a lease last longer, or give it back."""
    key = cursor_of(request)
    said = await read_model(request, LeaseRequest)
    done = await change_lease(request.app[DESK], key, said)
    return written(request, lease_json(done, said), done.receipt)


def written(
    request: web.Request, body: Json, receipt: Receipt | None, *, status: int = 200
) -> web.Response:
    """Return an answer with the proof of what was recorded, if anything was."""
    if receipt is None:
        headers = {LEDGER_HEAD: ledger_head(request.app[LEDGER].head), **NO_STORE}
        return json_response(body, status=status, headers=headers)
    response = proven_response(request, body, receipt)
    response.set_status(status)
    response.headers.update(NO_STORE)
    return response
