"""Disputes: the client's signed complaint, its withdrawal, and the arbiter's signed ruling."""

from __future__ import annotations

from hashlib import sha256

from aiohttp import web

from api.body import read_model
from api.ivxp.models import DisputeRequest, SignedRequest
from api.ivxp.parties import (
    client_text,
    known_order,
    require_same_order,
    signed_text,
    text_of_wallet,
)
from api.keys import LEDGER
from api.sync import record
from ledger.commands import OpenDispute, RuleDispute, WithdrawDispute
from ledger.content import commitment, salted
from ledger.errors import InvalidInput, Unauthorized
from ledger.order import Order, Status
from ledger.store_sqlite import ContentRow
from ledger.texts import DisputeText, parse_dispute, parse_ruling, parse_withdrawal
from ledger.values import UnixMs, address_of, iso_of, order_stream


async def post_dispute(request: web.Request) -> web.Response:
    """Record the client's signed complaint; a repeat gets the first answer."""
    message = await read_model(request, DisputeRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    command, rows = _dispute(message, order, ledger.clock())
    return await record(request, order.id, command, _disputed_body, rows)


async def post_withdrawal(request: web.Request) -> web.Response:
    """Record that the client's dispute is over; a repeat gets the first answer."""
    message = await read_model(request, SignedRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    said = parse_withdrawal(message.signed_message)
    _require_named(said.order_id, message.order_id)
    wallet = address_of(order.client)
    client = text_of_wallet(wallet, message.signed_message, message.signature)
    command = WithdrawDispute(client, said.stamp, ledger.clock())
    return await record(request, order.id, command, _closed_body)


async def post_ruling(request: web.Request) -> web.Response:
    """Record the ruling of the arbiter that the quote names; it moves no money."""
    message = await read_model(request, SignedRequest)
    require_same_order(request, message.order_id)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, message.order_id)
    said = parse_ruling(message.signed_message)
    _require_named(said.order_id, message.order_id)
    arbiter = signed_text(message.signed_message, message.signature, None)
    command = RuleDispute(arbiter, said.stamp, said.outcome, said.amount, ledger.clock())
    return await record(request, order.id, command, _closed_body)


def _require_named(said: str, named: str) -> None:
    if said != named:
        raise Unauthorized("the signed text names another order than the body")


def _closed_body(order: Order) -> dict[str, object]:
    """Return how the dispute ended; a ruling's amount is due back, in micro-USDC."""
    dispute = order.dispute
    assert dispute is not None  # noqa: S101 - only a dispute is withdrawn or ruled
    body: dict[str, object] = {
        "order_id": order.id,
        "status": str(order.status),
        "dispute": "ruled" if dispute.ruled else "withdrawn",
    }
    if dispute.ruled:
        body |= {"outcome": dispute.ruled, "amount_micros": str(dispute.ruled_amount)}
    return body


def _dispute(
    message: DisputeRequest, order: Order, now: UnixMs
) -> tuple[OpenDispute, tuple[ContentRow, ...]]:
    inner = message.dispute
    client = client_text(
        order,
        (inner.message, inner.signature),
        (message.signed_message, message.signature),
        inner.signer,
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
