"""Status, download and receipt of one order. The order id is the protocol's bearer secret."""

from __future__ import annotations

import orjson
from aiohttp import web

from api.answers import json_response, write_response
from api.body import read_model
from api.handler import wire_text
from api.ivxp.deliver import known_order, signed_text
from api.ivxp.models import ConfirmationRequest
from api.ivxp.quote import PROTOCOL_1_0
from api.ivxp.views import status_1_0
from api.keys import BACKGROUND, CATALOG, LEDGER, VIEWS
from api.sync import execute
from ledger.commands import ConfirmDelivery, NoteCollected
from ledger.decision import require_fresh
from ledger.errors import Conflict, Gone, InvalidInput, NotFound, Unauthorized
from ledger.order import Order, Status
from ledger.receipt import Receipt
from ledger.store_sqlite import ContentRow
from ledger.texts import ReceiptText, parse_receipt
from ledger.values import UnixMs, is_order_id, iso_of, parse_digest, parse_iso
from projections.orders import OrderView, order_row, view_of


async def get_status(request: web.Request) -> web.Response:
    """Return the 1.0 status."""
    view = await _view(request)
    return json_response(status_1_0(view, request.app[LEDGER].clock()))


async def get_download(request: web.Request) -> web.StreamResponse:
    """Hand out the deliverable; the first whole hand-out is recorded after the last byte."""
    view = await _view(request)
    row = _content(request, view)
    structured = request.path.startswith("/ivxp/download/")
    body = orjson.dumps(_deliverable_body(request, view, row, structured=structured))
    response = web.Response(body=body, content_type="application/json")
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return response  # the client went away: nothing was handed out whole
    if request.method == "GET" and Status.DELIVERED not in view.status_at:
        ledger = request.app[LEDGER]
        note = ledger.execute(view.order_id, NoteCollected("bearer", ledger.clock()))
        request.app[BACKGROUND].spawn(note, "collected")
    return response


async def post_confirm(request: web.Request) -> web.Response:
    """Record the client's signed receipt; a repeat gets the first answer."""
    ledger = request.app[LEDGER]
    message = await read_model(request, ConfirmationRequest)
    path_id = request.match_info.get("order_id", message.order_id)
    if path_id != message.order_id:
        raise InvalidInput("order_id: the path names another order", details={"field": "order_id"})
    order = await known_order(ledger, message.order_id)
    command = _confirmation(message, ledger.clock())
    if message.timestamp is not None and order.confirmation is None:
        require_fresh(parse_iso(message.timestamp), command.now)
    receipt = await execute(request.app, order.id, command)
    return write_response(ledger, receipt, _confirmed_body(receipt))


async def _view(request: web.Request) -> OrderView:
    """Return the order's view; what the views do not have yet is made from the ledger.

    Some clients give up at the first failed status answer, so a known order never gets one.
    """
    order_id = request.match_info["order_id"]
    if not is_order_id(order_id):
        raise NotFound("no order has this id")
    view = request.app[VIEWS].order(order_id)
    if view is not None:
        return view
    order = await known_order(request.app[LEDGER], order_id)
    return view_of(order_row(order, position=0))


def _content(request: web.Request, view: OrderView) -> ContentRow:
    if view.content_id is None:
        msg = "the deliverable is not ready"
        raise NotFound(msg, code="DELIVERABLE_NOT_READY", details={"status": view.status})
    row = request.app[LEDGER].store.content(view.content_id) if view.content_held else None
    if row is None:
        raise Gone("the content was erased", details={"reason": "delivery_retention_elapsed"})
    return row


def _deliverable_body(
    request: web.Request, view: OrderView, row: ContentRow, *, structured: bool
) -> dict[str, object]:
    content, is_base64 = wire_text(row.value)
    ready_at = iso_of(UnixMs(view.status_at[Status.READY]))
    inner: object = content
    if structured and view.format == "markdown":
        # Older Python clients read `body` of a Markdown deliverable; newer ones the flat content.
        inner = {"title": view.service, "body": content, "sources": []}
    return {
        "protocol": PROTOCOL_1_0,
        "message_type": "service_delivery",
        "timestamp": ready_at,
        "order_id": view.order_id,
        "status": "completed",
        "provider_agent": {
            "name": request.app[CATALOG].provider,
            "wallet_address": request.app[LEDGER].signer.address,
        },
        "deliverable": {"type": view.service, "format": view.format, "content": inner},
        "content": content,
        "content_type": view.content_type,
        "content_hash": view.content_hash,
        "delivered_at": ready_at,
        **({"content_encoding": "base64"} if is_base64 else {}),
    }


def _confirmation(message: ConfirmationRequest, now: UnixMs) -> ConfirmDelivery:
    """Return the command of either shape: signed inside `confirmation`, or beside it."""
    inner = message.confirmation
    text, signature = inner.message, inner.signature
    if signature is None:
        text, signature = message.signed_message, message.signature
    if text is None or signature is None:
        raise Unauthorized("the confirmation carries no signed text")
    if inner.received is False:
        msg = "this endpoint takes receipts; something not received is a dispute"
        raise InvalidInput(msg, code="NOT_A_RECEIPT")
    said = parse_receipt(text)
    if said.order_id != message.order_id:
        raise Unauthorized("the signed text names another order than the body")
    return ConfirmDelivery(
        client=signed_text(text, signature, inner.signer),
        stamp=said.stamp,
        text_digest=said.content_hash,
        body_digest=_body_digest(message, said),
        head=said.head,
        rating=inner.satisfaction_rating,
        now=now,
    )


def _body_digest(message: ConfirmationRequest, said: ReceiptText) -> str | None:
    named = message.confirmation.content_hash
    if named is None:
        return None
    digest = parse_digest(named)
    if said.content_hash not in (None, digest):
        msg = "the signed text and the body name different content"
        raise Conflict(msg, code="CONTENT_HASH_MISMATCH")
    return digest


def _confirmed_body(receipt: Receipt) -> dict[str, object]:
    order = receipt.stream.state
    assert isinstance(order, Order)  # noqa: S101 - the stream is an order's
    return {
        "status": "confirmed",
        "order_id": order.id,
        "confirmed_at": iso_of(order.status_at[Status.CONFIRMED]),
    }
