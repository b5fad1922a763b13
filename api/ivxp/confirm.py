"""The client's signed receipt, in every shape that clients send."""

from __future__ import annotations

from aiohttp import web

from api.body import read_model
from api.ivxp.models import ConfirmationRequest
from api.ivxp.negotiation import PROTOCOL_1_1, is_strict
from api.ivxp.parties import client_text, known_order, require_same_order
from api.keys import LEDGER
from api.log.held import require_same_history
from api.sync import record
from ledger.commands import ConfirmDelivery
from ledger.decision import require_fresh
from ledger.errors import Conflict, InvalidInput, Unauthorized
from ledger.order import Order, Status
from ledger.texts import ReceiptText, parse_receipt
from ledger.values import UnixMs, iso_of, parse_digest, parse_iso


async def post_confirm(request: web.Request) -> web.Response:
    """Record the client's signed receipt; a repeat gets the first answer."""
    message = await read_model(request, ConfirmationRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    command = _confirmation(message, order, ledger.clock())
    if command.head is not None and order.confirmation is None:
        require_same_history(ledger, command.head)
    if message.timestamp is not None and order.confirmation is None:
        require_fresh(parse_iso(message.timestamp), command.now)
    rich = message.protocol == PROTOCOL_1_1 and not is_strict(request)
    return await record(request, order.id, command, lambda o: _confirmed_body(o, rich=rich))


def _confirmation(message: ConfirmationRequest, order: Order, now: UnixMs) -> ConfirmDelivery:
    """Return the command of any shape: signed inside `confirmation`, or beside it."""
    inner = message.confirmation
    if inner.received is False or message.status not in (None, "received"):
        msg = "this endpoint takes receipts; something not received is a dispute"
        raise InvalidInput(msg, code="NOT_A_RECEIPT")
    client = client_text(
        order,
        (inner.message, inner.signature),
        (message.signed_message, message.signature),
        inner.signer,
    )
    said = parse_receipt(client.text)
    if said.order_id != message.order_id:
        raise Unauthorized("the signed text names another order than the body")
    return ConfirmDelivery(
        client=client,
        stamp=said.stamp,
        text_digest=said.content_hash,
        body_digest=_body_digest(inner.content_hash or message.content_hash, said),
        head=said.head,
        rating=inner.satisfaction_rating or message.satisfaction_rating,
        now=now,
    )


def _body_digest(named: str | None, said: ReceiptText) -> str | None:
    if named is None:
        return None
    digest = parse_digest(named)
    if said.content_hash not in (None, digest):
        msg = "the signed text and the body name different content"
        raise Conflict(msg, code="CONTENT_HASH_MISMATCH")
    return digest


def _confirmed_body(order: Order, *, rich: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "status": "confirmed",
        "order_id": order.id,
        "confirmed_at": iso_of(order.status_at[Status.CONFIRMED]),
    }
    return {**body, "order_status": "client_confirmed"} if rich else body
