"""The client's signed word on what it got: a receipt in every shape, or a dispute."""

from __future__ import annotations

from hashlib import sha256

from aiohttp import web

from api.body import read_model
from api.ivxp.models import ConfirmationRequest, DisputeRequest
from api.ivxp.negotiation import PROTOCOL_1_1, is_strict
from api.ivxp.parties import known_order, require_same_order, signed_text
from api.keys import LEDGER
from api.sync import record
from ledger.commands import ConfirmDelivery, OpenDispute
from ledger.content import commitment, salted
from ledger.decision import require_fresh
from ledger.errors import Conflict, InvalidInput, Unauthorized
from ledger.event import ClientText
from ledger.order import Order, Status
from ledger.store_sqlite import ContentRow
from ledger.texts import DisputeText, ReceiptText, parse_dispute, parse_receipt
from ledger.values import UnixMs, iso_of, order_stream, parse_digest, parse_iso


async def post_confirm(request: web.Request) -> web.Response:
    """Record the client's signed receipt; a repeat gets the first answer."""
    message = await read_model(request, ConfirmationRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    command = _confirmation(message, ledger.clock())
    if message.timestamp is not None and order.confirmation is None:
        require_fresh(parse_iso(message.timestamp), command.now)
    rich = message.protocol == PROTOCOL_1_1 and not is_strict(request)
    return await record(request, order.id, command, lambda o: _confirmed_body(o, rich=rich))


async def post_dispute(request: web.Request) -> web.Response:
    """Record the client's signed complaint; a repeat gets the first answer."""
    message = await read_model(request, DisputeRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    command, rows = _dispute(message, ledger.clock())
    return await record(request, order.id, command, _disputed_body, rows)


def _confirmation(message: ConfirmationRequest, now: UnixMs) -> ConfirmDelivery:
    """Return the command of any shape: signed inside `confirmation`, or beside it."""
    inner = message.confirmation
    if inner.received is False or message.status not in (None, "received"):
        msg = "this endpoint takes receipts; something not received is a dispute"
        raise InvalidInput(msg, code="NOT_A_RECEIPT")
    client = _client(
        (inner.message, inner.signature), (message.signed_message, message.signature), inner.signer
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


def _client(
    inner: tuple[str | None, str | None],
    outer: tuple[str | None, str | None],
    signer: str | None,
) -> ClientText:
    """Return the signed text of a message: the SDK nests text and signature, the documents do not.

    A signature belongs to the text beside it, so the pairs are not mixed.
    """
    text, signature = inner if inner[1] is not None else outer
    if text is None or signature is None:
        raise Unauthorized("the message carries no signed text")
    return signed_text(text, signature, signer)


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


def _dispute(message: DisputeRequest, now: UnixMs) -> tuple[OpenDispute, tuple[ContentRow, ...]]:
    inner = message.dispute
    client = _client(
        (inner.message, inner.signature), (message.signed_message, message.signature), inner.signer
    )
    said = parse_dispute(client.text)
    if said.order_id != message.order_id:
        raise Unauthorized("the signed text names another order than the body")
    rows = _statement_rows(message, said)
    command = OpenDispute(
        client=client,
        stamp=said.stamp,
        reason=said.reason,
        content_hash=said.content_hash,
        statement_id=rows[0].content_id if rows else None,
        commit={row.field: commitment(row) for row in rows},
        now=now,
    )
    return command, rows


def _statement_rows(message: DisputeRequest, said: DisputeText) -> tuple[ContentRow, ...]:
    """Return the statement to keep. A client may name one by its hash and keep it to itself."""
    statement = message.dispute.statement
    if statement is None:
        return ()
    if sha256(statement.encode()).hexdigest() != said.statement:
        msg = "dispute.statement: the signed text names another statement"
        raise InvalidInput(msg, details={"field": "dispute.statement"})
    return (salted(order_stream(message.order_id), "statement", statement),)


def _disputed_body(order: Order) -> dict[str, object]:
    return {
        "status": "disputed",
        "order_id": order.id,
        "disputed_at": iso_of(order.status_at[Status.DISPUTED]),
    }
