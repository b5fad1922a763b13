"""How agents, conversations, messages and orders look to the marketplace's clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.aether.shop import json_of, words_of
from ledger.deal_events import OrderProposed
from ledger.market import Agent
from ledger.market_events import Sides
from ledger.order import Order, Status
from ledger.service import Ledger
from ledger.values import (
    UnixMs,
    address_of,
    cursor_stream,
    iso_of,
    iso_of_seconds,
    usdc_number,
)
from projections.feeds import agent_inbox, client_inbox, pays
from projections.market import word_of
from projections.market_reader import MarketReader, MessageRow, Record

Json = dict[str, Any]

MESSAGES = "compat:messages"
ORDERS = "compat:orders"
DELIVERIES = "compat:deliveries"
"""The cursors of the polling clients: one per inbox and kind of news."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a message says: its text, and any JSON beside it."""

    text: str
    attachments: Any = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Up to which positions of the ledger the polling clients of a conversation were told."""

    provider: int = 0
    consumer: int = 0
    orders: int = 0


async def marks_of(ledger: Ledger, agent: str, conversation: str) -> Marks:
    """Return how far both sides of a conversation have read."""
    inbox = agent_inbox(agent)
    return Marks(
        provider=await _mark(ledger, inbox, MESSAGES),
        consumer=await _mark(ledger, client_inbox(conversation), MESSAGES),
        orders=await _mark(ledger, inbox, ORDERS),
    )


async def _mark(ledger: Ledger, party: str, name: str) -> int:
    cursor = await ledger.cursor(cursor_stream(party, name))
    return cursor.acked.position if cursor is not None else 0


def agent_json(ledger: Ledger, agent: str, state: Agent, record: Record) -> Json:
    """Return an agent as everybody sees it."""
    profile = json_of(ledger, state.profile_id) or {}
    shown: Json = {
        "id": agent,
        "agentId": agent,
        "ownerWallet": state.owner,
        "walletAddress": state.owner,
        "name": "",
        **profile,
        "services": json_of(ledger, state.services_id) or [],
        "reviewCount": record.reviews,
        "totalOrders": record.orders,
        "listed": state.listed,
        "createdAt": iso_of(state.registered_at),
        "updatedAt": iso_of(state.updated_at),
    }
    if state.endpoint_id is not None:
        shown["endpoint"] = words_of(ledger, state.endpoint_id)
    if record.rating is not None:
        shown["rating"] = round(record.rating, 2)
    return shown


def talk_json(conversation: str, sides: Sides, started_at: UnixMs, last_at: UnixMs) -> Json:
    """Return a conversation."""
    return {
        "id": conversation,
        "conversationId": conversation,
        "agentId": sides.agent,
        "agentWallet": sides.agent_wallet,
        "clientWallet": sides.client_wallet,
        "clientType": sides.client_type,
        "status": "active",
        "lastMessageAt": iso_of(last_at),
        "createdAt": iso_of(started_at),
        "updatedAt": iso_of(last_at),
    }


def message_json(
    row: MessageRow, sides: Sides, marks: Marks, words: Words, order: Json | None
) -> Json:
    """Return a message; `order` is the offer that it is, if it is one."""
    by_agent = row.sender == "agent"
    wallet = sides.agent_wallet if by_agent else sides.client_wallet
    text, at = words.text, iso_of(UnixMs(row.at_ms))
    shown: Json = {
        "id": row.message,
        "messageId": row.message,
        "conversationId": row.conversation,
        "from": wallet,
        "fromWallet": wallet,
        "senderWallet": wallet,
        "message": text,
        "content": text,
        "messageType": "order" if row.order_id else "text",
        "hasOrder": row.order_id is not None,
        "timestamp": at,
        "createdAt": at,
        "deliveredToProvider": not by_agent and row.position <= marks.provider,
        "deliveredToConsumer": by_agent and row.position <= marks.consumer,
    }
    if words.attachments is not None:
        shown["attachments"] = words.attachments
    if order is not None:
        shown |= {"order": order, "orderId": row.order_id}
    return shown


def order_json(order: Order, terms: OrderProposed, description: str, *, told: bool) -> Json:
    """Return an order; `told` says that the agent's polling client was handed it as paid."""
    deal = order.deal
    assert deal is not None  # noqa: S101 - an order with such terms has one
    shown: Json = {
        "id": order.id,
        "orderId": order.id,
        "conversationId": terms.conversation,
        "agentId": terms.agent,
        "agentWallet": terms.agent_wallet,
        "clientWallet": address_of(order.client),
        "description": description,
        "price": usdc_number(terms.price),
        "deliveryTime": _minutes(terms.delivery_seconds),
        "status": word_of(order),
        "paymentStatus": "none",
        "createdAt": iso_of(order.created_at),
        "updatedAt": iso_of(order.updated_at),
        "deliveredToProvider": told,
        **_times(order),
    }
    if terms.offer is not None:
        shown["serviceId"] = terms.offer
    if terms.price_athr is not None:
        shown["priceAthr"] = usdc_number(terms.price_athr)
    if terms.deadline is not None:
        shown["deadline"] = iso_of_seconds(terms.deadline)
    if deal.review is not None:
        shown["rating"] = deal.review.rating
    if deal.authorization is None and deal.ended is None:
        shown["expiresAt"] = iso_of_seconds(terms.pay_by)
    return shown | payment_json(order)


def payment_json(order: Order) -> Json:
    """Return what is known of an order's payment; nothing before there is one."""
    deal = order.deal
    payment = deal.authorization if deal is not None else None
    if deal is None or payment is None:
        return {}
    return {
        "paymentStatus": "settled" if deal.settled is not None else "signed",
        "paymentMethod": payment.method,
        "amount": usdc_number(payment.amount),
        "agentAmount": usdc_number(payment.payout),
        "commissionAmount": usdc_number(payment.commission),
        "transactionSignature": payment.signature,
        "txSignature": payment.signature,
        "signature": payment.signature,
        "payerWallet": payment.payer,
    }


def _times(order: Order) -> Json:
    deal = order.deal
    assert deal is not None  # noqa: S101 - as above
    times = {
        "paidAt": deal.paid_at,
        "deliveredAt": order.status_at.get(Status.READY),
        "completedAt": deal.reviewed_at,
    }
    return {name: iso_of(at) for name, at in times.items() if at is not None}


def was_told(market: MarketReader, order: Order, mark: int) -> bool:
    """Whether the agent's polling client was handed the order as paid."""
    deal = order.deal
    payment = deal.authorization if deal is not None else None
    if deal is None or payment is None or not deal.paid:
        return False
    at = market.position_of(order.id, payment.kind if pays(payment, order) else "payment_settled")
    return at is not None and at <= mark


def _minutes(seconds: int) -> int | float:
    return seconds // 60 if seconds % 60 == 0 else seconds / 60
