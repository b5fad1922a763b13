"""Showing many at once: messages with the offers that they are, and lists of orders."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from api.aether.shop import json_of, words_of
from api.aether.shown import Json, Marks, Words, marks_of, message_json, order_json, was_told
from api.keys import LEDGER, MARKET
from ledger.deal_events import OrderProposed
from ledger.market_events import Sides
from ledger.order import Order
from projections.market_reader import MessageRow


async def shown_order(app: web.Application, order: Order, terms: OrderProposed) -> Json:
    """Return one order."""
    marks = await marks_of(app[LEDGER], terms.agent, terms.conversation)
    return _order(app, order, terms, marks)


def _order(app: web.Application, order: Order, terms: OrderProposed, marks: Marks) -> Json:
    description = words_of(app[LEDGER], terms.description_id)
    told = was_told(app[MARKET], order, marks.orders)
    return order_json(order, terms, description, told=told)


async def orders_json(app: web.Application, order_ids: Iterable[str]) -> list[Json]:
    """Return orders as they are now, in the order of their ids."""
    found = []
    for order_id in order_ids:
        order = await app[LEDGER].order(order_id)
        if order is not None and isinstance(order.terms, OrderProposed):
            found.append(await shown_order(app, order, order.terms))
    return found


async def messages_json(
    app: web.Application,
    sides: Sides,
    conversation: str,
    rows: Iterable[MessageRow],
) -> list[Json]:
    """Return messages of a conversation, each offer with its order."""
    marks = await marks_of(app[LEDGER], sides.agent, conversation)
    return [await shown_message(app, sides, marks, row) for row in rows]


async def shown_message(app: web.Application, sides: Sides, marks: Marks, row: MessageRow) -> Json:
    """Return a message."""
    order = await app[LEDGER].order(row.order_id) if row.order_id is not None else None
    offer = None
    if order is not None and isinstance(order.terms, OrderProposed):
        offer = _order(app, order, order.terms, marks)
    ledger = app[LEDGER]
    words = Words(words_of(ledger, row.text_id), json_of(ledger, row.attachments_id))
    return message_json(row, sides, marks, words, offer)
