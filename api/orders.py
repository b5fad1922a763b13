"""The native API of orders: what the operator records beside the protocol."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints

from api.answers import json_response, proven_response
from api.auth import CALLER
from api.body import parse_json, read_body, read_model, validated
from api.idempotency import ONCE
from api.ivxp.models import Hex32, Message, Statement
from api.ivxp.parties import known_order
from api.ivxp.responses import LedgerBlock
from api.keys import LEDGER, TOKENS
from api.routes import Route
from api.sync import order_of, record, standing
from api.tokens import MAX_ARBITER_DAYS, Role
from api.workers.refunds import record_named_refund
from ledger.batch import content_of
from ledger.commands import AnswerDispute, EraseContent
from ledger.content import commitment, salted
from ledger.errors import ChainUnavailable, InvalidInput, PaymentPending, PaymentRefused
from ledger.order import Order
from ledger.payment_events import RefundRecorded
from ledger.service import Ledger
from ledger.values import ZERO_ADDRESS, UnixMs, iso_of, order_stream

OPERATOR: Final = frozenset({Role.OPERATOR})


class AnswerRequest(Message):
    """POST /v1/orders/{order_id}/dispute/answer."""

    position: Literal["accepts", "rejects"]
    statement: Statement | None = None


class AnsweredResponse(BaseModel):
    """The provider's answer as it was recorded. To accept a dispute is not yet to refund."""

    order_id: str
    position: Literal["accepts", "rejects"]
    status: str
    ledger: LedgerBlock | None = None


class EraseRequest(Message):
    """POST /v1/orders/{order_id}/erase. Without `fields`, everything that may be erased."""

    reason: Literal["request", "operator"]
    fields: list[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]] | None = None


class ErasedResponse(BaseModel):
    """The content ids that are gone. Their hashes and commitments stay in the log."""

    order_id: str
    status: str
    erased: list[str]
    ledger: LedgerBlock | None = None


class ArbiterRequest(Message):
    """POST /v1/orders/{order_id}/arbiter-token."""

    days: Annotated[int, Field(ge=1, le=MAX_ARBITER_DAYS)] = 14


class ArbiterResponse(BaseModel):
    """A token that reads this order and nothing else, to be handed to who is to judge it."""

    token: str
    token_id: str
    order_id: str
    expires_at: str


class RefundRequest(Message):
    """POST /v1/orders/{order_id}/refund: a transfer that was sent from the payment address."""

    tx_hash: Annotated[Hex32, StringConstraints(to_lower=True)]


class RefundResponse(BaseModel):
    """What went back so far, in micro-USDC."""

    order_id: str
    status: str
    received_micros: str
    refunded_micros: str
    ledger: LedgerBlock | None = None


async def post_answer(request: web.Request) -> web.Response:
    """Record the provider's answer to an open dispute, once."""
    said = await read_model(request, AnswerRequest)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    texts = [said.statement] if said.statement is not None else []
    rows = tuple(salted(order_stream(order.id), "statement", text) for text in texts)
    command = AnswerDispute(
        position=said.position,
        statement_id=rows[0].content_id if rows else None,
        commit={row.field: commitment(row) for row in rows},
        now=ledger.clock(),
    )
    position = said.position
    return await record(
        request,
        order.id,
        command,
        lambda o: {"order_id": o.id, "position": position, "status": str(o.status)},
        rows,
    )


async def post_erase(request: web.Request) -> web.Response:
    """Erase what the order's events refer to: all of it, or some fields."""
    said = await read_model(request, EraseRequest)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    held = contents_of(ledger, order.id)
    wanted = held if said.fields is None else {i: f for i, f in held.items() if f in said.fields}
    if said.fields is not None and not set(said.fields) <= set(held.values()):
        raise InvalidInput("fields: the order has no such content", details={"field": "fields"})
    command = EraseContent(tuple(wanted), said.reason, ledger.clock())
    answer = await record(
        request,
        order.id,
        command,
        lambda o: {"order_id": o.id, "status": str(o.status), "erased": sorted(o.erased)},
    )
    request.app[ONCE].forget()
    return answer


def contents_of(ledger: Ledger, order_id: str) -> dict[str, str]:
    """Return the content that an order's events refer to: id to field name, in order."""
    return {
        content_id: name
        for placed in ledger.read_order(order_id)
        for name, content_id in content_of(placed.signed.event).items()
    }


async def post_arbiter_token(request: web.Request) -> web.Response:
    """Give the order's client, or the operator, a token to hand to an arbiter."""
    body = await read_body(request)
    said = validated(parse_json(body) if body else {}, ArbiterRequest)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    arbiter = order.terms.arbiter or ZERO_ADDRESS
    tokens = request.app[TOKENS]
    issuer = request[CALLER].wallet
    token, caller = tokens.issue_for_order(
        arbiter, order.id, said.days, ledger.clock(), issuer=issuer
    )
    found = {
        "token": token,
        "token_id": caller.token_id,
        "order_id": order.id,
        "expires_at": iso_of(UnixMs(caller.expires_ms)),
    }
    return json_response(found, headers={"Cache-Control": "no-store"})


async def post_refund(request: web.Request) -> web.Response:
    """Record a refund that the operator names, once a safe block shows it."""
    said = await read_model(request, RefundRequest)
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    recorded = any(
        isinstance(placed.signed.event, RefundRecorded)
        and any(t.tx_hash == said.tx_hash for t in placed.signed.event.transfers)
        for placed in ledger.read_order(order.id)
    )
    if recorded:
        receipt = await standing(request.app, order.id)
    else:
        receipt = await record_named_refund(request.app, order.id, said.tx_hash)
    return proven_response(request, _refunded_body(order_of(receipt)), receipt)


def _refunded_body(order: Order) -> dict[str, object]:
    return {
        "order_id": order.id,
        "status": str(order.status),
        "received_micros": str(order.money.received),
        "refunded_micros": str(order.money.refunded),
    }


ORDER_ROUTES: Final = [
    Route(
        "POST",
        "/v1/orders/{order_id}/dispute/answer",
        post_answer,
        "Answer a dispute",
        request=AnswerRequest,
        response=AnsweredResponse,
        writes=True,
        roles=OPERATOR,
    ),
    Route(
        "POST",
        "/v1/orders/{order_id}/arbiter-token",
        post_arbiter_token,
        "Let an arbiter read the order",
        request=ArbiterRequest,
        response=ArbiterResponse,
        writes=True,
        roles=frozenset({Role.PARTY, Role.OPERATOR}),
        body_optional=True,
    ),
    Route(
        "POST",
        "/v1/orders/{order_id}/erase",
        post_erase,
        "Erase content",
        request=EraseRequest,
        response=ErasedResponse,
        writes=True,
        roles=OPERATOR,
    ),
    Route(
        "POST",
        "/v1/orders/{order_id}/refund",
        post_refund,
        "Record a refund",
        request=RefundRequest,
        response=RefundResponse,
        writes=True,
        roles=OPERATOR,
        errors=frozenset({PaymentRefused, PaymentPending, ChainUnavailable}),
    ),
]
