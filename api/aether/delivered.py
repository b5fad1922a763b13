"""Deliveries: taking them from the agent, and showing them to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import orjson
from aiohttp import web

from api.aether.long_answers import long_answer
from api.aether.orders_shown import shown_order
from api.aether.proof import SIGNED_BODY
from api.aether.requests import DeliverRequest
from api.aether.shop import OwnTalk, own_order
from api.aether.shown import Json
from api.answers import proven_response
from api.body import BodyTooLarge, parse_json, validated
from api.handler import Produced
from api.keys import BACKGROUND, LEDGER, SETTINGS
from api.sync import execute, order_of, standing
from api.work_content import read_long_body, room_in_json
from ledger.commands import HandIn, NoteCollected
from ledger.content import plain
from ledger.deal_events import OrderProposed
from ledger.errors import Conflict
from ledger.order import Order, Status
from ledger.order_events import DeliverableReady
from ledger.service import Ledger
from ledger.values import iso_of, order_stream

FORMAT: Final = "json"
MEDIA_TYPE: Final = "application/json"


async def post_deliver(request: web.Request) -> web.Response:
    """Take the result; the same one again gets the first answer, another one is 409."""
    body = await _body(request)
    # A long result takes a while to read; others are served meanwhile.
    said = await asyncio.to_thread(_said, body)
    own = await own_order(request, said.agent_wallet, only="agent")
    produced = _produced(said)
    if len(produced.raw) > request.app[SETTINGS].content_max_bytes:
        limit = request.app[SETTINGS].content_max_bytes
        raise BodyTooLarge(f"a result has at most {limit} bytes as JSON")
    app, order = request.app, own.order
    deliverable = await asyncio.to_thread(produced.deliverable, own.terms.service)
    row = plain(order_stream(order.id), deliverable.content_id, produced.raw)
    # A crash before this append leaves the order as it was, and the agent delivers again; after
    # it, content and event are both there, and delivering again gets the answer that was lost.
    try:
        receipt = await execute(app, order.id, HandIn(deliverable, app[LEDGER].clock()), (row,))
    except Conflict as error:
        if error.details.get("content_hash") != deliverable.raw:
            raise
        receipt = await standing(app, order.id)
    shown = await shown_order(app, order_of(receipt), own.terms)
    return proven_response(request, {**shown, "order": shown}, receipt)


async def hand_over(request: web.Request, own: OwnTalk, order_ids: list[str]) -> web.StreamResponse:
    """Answer with what was delivered of these orders, in their order, and record the hand-out.

    Results are long: they are loaded, read and written beside the event loop.
    """
    app = request.app
    orders = [await app[LEDGER].order(order_id) for order_id in order_ids]
    body = await asyncio.to_thread(_deliveries, app[LEDGER], orders)
    seen = order_ids if request.method == "GET" else []
    return await long_answer(request, body, lambda: _note_handed_out(app, own, seen))


def _note_handed_out(app: web.Application, own: OwnTalk, order_ids: Iterable[str]) -> None:
    """Record the first hand-out of each, by the party if it is proven who asked."""
    how = own.proof.how if own.proof is not None else "open"
    by: Any = "bearer" if how == "open" else "party"
    for order_id in order_ids:
        note = _noted(app, order_id, by)
        app[BACKGROUND].spawn(note, "collected")


async def _noted(app: web.Application, order_id: str, by: Any) -> None:  # noqa: ANN401 - one of two words
    order = await app[LEDGER].order(order_id)
    if order is not None and order.content_held and not order.collected:
        await app[LEDGER].execute(order_id, NoteCollected(by, app[LEDGER].clock()))


def _deliveries(ledger: Ledger, orders: Iterable[Order | None]) -> bytes:
    """Return deliveries as JSON. One by one: one long call would keep all threads from running."""
    shown = [
        orjson.Fragment(orjson.dumps(_delivery(ledger, order, order.deliverable, order.terms)))
        for order in orders
        if order is not None and order.deliverable is not None
        if isinstance(order.terms, OrderProposed)
    ]
    return orjson.dumps({"deliveries": shown})


def _delivery(ledger: Ledger, order: Order, ready: DeliverableReady, terms: OrderProposed) -> Json:
    row = ledger.store.content(ready.content_id) if order.content_held else None
    content: Json = orjson.loads(row.value) if row is not None else {}
    return {
        "id": order.id,
        "orderId": order.id,
        "conversationId": terms.conversation,
        **content,
        "deliveredAt": iso_of(order.status_at[Status.READY]),
        "contentHash": ready.raw,
        "erased": row is None,
    }


async def _body(request: web.Request) -> bytes:
    """Return the body; a result may be longer than other requests."""
    signed: bytes | None = request.get(SIGNED_BODY)
    if signed is not None:
        return signed
    return await read_long_body(request, room_in_json(request.app[SETTINGS]))


def _said(body: bytes) -> DeliverRequest:
    return validated(parse_json(body), DeliverRequest)


def _produced(said: DeliverRequest) -> Produced:
    """Return the deliverable: the three members that are the agent's, as JSON."""
    content: Json = {"result": said.result}
    beside = {"message": said.message, "attachments": said.attachments}
    content |= {name: value for name, value in beside.items() if value is not None}
    return Produced(orjson.dumps(content).decode(), format=FORMAT, content_type=MEDIA_TYPE)
