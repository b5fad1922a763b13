"""The payment notice: prove the party, ask the chain, then let the ledger decide."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from api.answers import proven_response
from api.body import read_model
from api.ivxp.models import DeliveryRequest, HubDeliveryRequest, PaymentRequest
from api.ivxp.negotiation import is_strict
from api.ivxp.notice import NoticeMessage, notice_of, of_delivery, of_payment
from api.ivxp.parties import known_order, require_same_order
from api.keys import CHAIN, LEDGER, LIMITS, SETTINGS, ChainLink
from api.sync import record, standing
from api.urls import public_url
from ledger.commands import AcceptNotice, Notice
from ledger.decide_payment import check_notice
from ledger.decision import require_fresh
from ledger.errors import ChainUnavailable, Conflict
from ledger.finding import ChainView, Finding
from ledger.money import Bucket
from ledger.order import Order
from ledger.values import UnixMs, parse_iso

ACCEPTED_TEXT: Final = "Payment verified. The order is being processed."
_DUPLICATE: Final = "DUPLICATE_DELIVERY_REQUEST"


async def post_deliver(request: web.Request) -> web.Response:
    """Accept a signed payment notice: 200 when paid, 402 or 503 while it cannot be proven."""
    said = of_delivery(await read_model(request, DeliveryRequest))
    try:
        return await _notify(request, said)
    except Conflict as error:
        raise _with_first_answer(request, error, said.order_id) from error


async def post_payment(request: web.Request) -> web.Response:
    """Take the SDK's body; a repeat for the same transaction gets the first answer."""
    return await _notify_again(request, of_payment(await read_model(request, PaymentRequest)))


async def post_delivery(request: web.Request) -> web.Response:
    """Take the hub's body; a repeat for the same transaction gets the first answer."""
    return await _notify_again(request, of_payment(await read_model(request, HubDeliveryRequest)))


def accepted_body(request: web.Request, order_id: str) -> dict[str, object]:
    """Return what a client gets for an accepted notice, the first time and every time."""
    body: dict[str, object] = {
        "status": "accepted",
        "order_id": order_id,
        "message": ACCEPTED_TEXT,
    }
    strict = is_strict(request)
    stream_url = None if strict else public_url(request, f"/ivxp/stream/{order_id}")
    return body if stream_url is None else {**body, "stream_url": stream_url}


async def _notify_again(request: web.Request, said: NoticeMessage) -> web.Response:
    require_same_order(request, said.order_id)
    try:
        return await _notify(request, said)
    except Conflict as error:
        if error.code != _DUPLICATE:
            raise
        # A client whose money is gone and whose answer was lost sends its notice again.
        order = await known_order(request.app[LEDGER], said.order_id)
        notice, _ = notice_of(said, request.app[SETTINGS])
        if not _paid_by(order, notice.tx_hash):
            raise _with_first_answer(request, error, order.id) from error
        receipt = await standing(request.app, order.id)
        return proven_response(request, accepted_body(request, order.id), receipt)


async def _notify(request: web.Request, said: NoticeMessage) -> web.Response:
    ledger, settings = request.app[LEDGER], request.app[SETTINGS]
    order = await known_order(ledger, said.order_id)
    notice, rows = notice_of(said, settings)
    _refuse_early(order, notice, said.timestamp, ledger.clock())
    finding = await _look(request.app[CHAIN], notice.tx_hash, settings.rpc_timeout)
    command = AcceptNotice(notice, finding, ledger.clock())
    body = accepted_body(request, order.id)
    response = await record(request, order.id, command, lambda _: body, rows)
    request.app[LIMITS].release_quote(order.id)
    return response


def _refuse_early(order: Order, notice: Notice, timestamp: str | None, now: UnixMs) -> None:
    """Refuse what needs no look at the chain, so that strangers cost no RPC call."""
    check_notice(order, notice, now)
    kept = any(claim.notice.text == notice.client.text for claim in order.claims)
    if timestamp is not None and not kept:
        require_fresh(parse_iso(timestamp), now)


def _paid_by(order: Order, tx_hash: str) -> bool:
    named = order.accepted is not None and order.accepted.tx_hash == tx_hash
    return named or any(t.tx_hash == tx_hash for t in order.money.of(Bucket.APPLIED))


def _with_first_answer(request: web.Request, error: Conflict, order_id: str) -> Conflict:
    if error.code != _DUPLICATE:
        return error
    details = {"first_answer": accepted_body(request, order_id)}
    return Conflict(error.message, code=error.code, details=details)


async def _look(link: ChainLink, tx_hash: str, timeout_seconds: float) -> Finding:
    """Ask the chain once, in bounded time. No chain configured is an error of its own."""
    if link.chain is None:
        raise ChainUnavailable("payments are disabled: no chain is configured")
    if not link.bound:
        return Finding(tx_hash, ChainView.UNAVAILABLE, detail="the chain was not recognised yet")
    try:
        async with asyncio.timeout(2 * timeout_seconds):
            return await link.chain.lookup(tx_hash)
    except TimeoutError:
        return Finding(tx_hash, ChainView.UNAVAILABLE, detail="the chain did not answer in time")
