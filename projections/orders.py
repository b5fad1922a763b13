"""The order view: one row per order, made from the folded order alone, and its history rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from ledger.money import Bucket
from ledger.order import Order, Status
from ledger.service import Placed
from ledger.values import order_of_stream
from projections.work import push_to_come

Row = dict[str, object]

_FLAGS: Final = (
    "paused",
    "dispute_open",
    "push_pending",
    "content_held",
    "acceptance_lapsed",
    "market",
)


@dataclass(frozen=True, slots=True)
class OrderView:
    """A row of the view, typed. Amounts in micro-USDC, times in Unix milliseconds.

    `push_pending` says that a push to an endpoint which the client asked for is still to come,
    `market` that the order was agreed on in a conversation and is paid on another chain.
    """

    order_id: str
    status: Status
    service: str
    client: str
    price_micros: int
    created_ms: int
    updated_ms: int
    pay_by: int
    version: int
    position: int
    paused: bool
    claims_open: int
    dispute_open: bool
    push_pending: bool
    rating: int | None
    content_id: str | None
    content_hash: str | None
    json_digest: str | None
    format: str | None
    content_type: str | None
    content_held: bool
    received_micros: int
    applied_micros: int
    pending_micros: int
    late_micros: int
    orphaned_micros: int
    refunded_micros: int
    held_micros: int
    acceptance_lapsed: bool
    dispute: Mapping[str, object] | None
    status_at: Mapping[str, int]
    market: bool


def order_row(order: Order, position: int) -> Row:
    """Return the row of an order whose newest event stands at `position`."""
    money, ready, push = order.money, order.deliverable, push_to_come(order)
    return {
        "order_id": order.id,
        "status": str(order.status),
        "service": order.terms.service,
        "client": order.client,
        "price_micros": order.terms.price,
        "created_ms": order.created_at,
        "updated_ms": order.updated_at,
        "pay_by": order.terms.pay_by,
        "version": order.version,
        "position": position,
        "paused": int(order.paused),
        "claims_open": len(order.claims),
        "dispute_open": int(order.dispute_open),
        "push_pending": int(push is not None and push.target == "delivery_endpoint"),
        "rating": order.confirmation.rating if order.confirmation else None,
        "content_id": ready.content_id if ready else None,
        "content_hash": ready.raw if ready else None,
        "json_digest": ready.json_digest if ready else None,
        "format": ready.format if ready else None,
        "content_type": ready.content_type if ready else None,
        "content_held": int(order.content_held),
        "received_micros": money.received,
        "applied_micros": money.total(Bucket.APPLIED),
        "pending_micros": money.total(Bucket.PENDING),
        "late_micros": money.total(Bucket.LATE),
        "orphaned_micros": money.total(Bucket.ORPHANED),
        "refunded_micros": money.refunded,
        "held_micros": money.held,
        "acceptance_lapsed": int(order.acceptance_lapsed),
        "dispute": orjson.dumps(_dispute(order)).decode() if order.dispute else None,
        "status_at": orjson.dumps(
            {str(status): at for status, at in order.status_at.items()}
        ).decode(),
        "market": int(order.deal is not None),
    }


def _dispute(order: Order) -> dict[str, object]:
    """Return how the latest dispute stands; a ruling is fulfilled once its amount went back."""
    dispute = order.dispute
    assert dispute is not None  # noqa: S101 - asked of orders with one only
    shown: dict[str, object] = {
        "open": dispute.open,
        "reason": dispute.reason,
        "answered": dispute.answered,
        "answer_lapsed": dispute.answer_lapsed,
    }
    if dispute.ruled:
        shown |= {
            "ended": "ruled",
            "outcome": dispute.ruled,
            "amount_micros": str(dispute.ruled_amount),
            "fulfilled": order.money.refunded >= dispute.ruled_amount,
        }
    elif not dispute.open:
        shown["ended"] = "withdrawn" if dispute.withdrawn else str(order.status)
    return shown


def view_of(row: Mapping[str, object]) -> OrderView:
    """Return the typed view of a row."""
    values = dict(row)
    for flag in _FLAGS:
        values[flag] = bool(values[flag])
    values["status"] = Status(str(values["status"]))
    values["dispute"] = orjson.loads(str(row["dispute"])) if row["dispute"] else None
    values["status_at"] = orjson.loads(str(values["status_at"]))
    return OrderView(**values)  # type: ignore[arg-type]  # the table is STRICT


def history_row(placed: Placed) -> Row:
    """Return the history row of an order's event."""
    signed = placed.signed
    return {
        "position": placed.position,
        "order_id": order_of_stream(signed.stream),
        "seq": signed.seq,
        "kind": signed.event.kind,
        "at_ms": signed.at,
        "actor": signed.event.actor,
        "signer": signed.signer,
        "leaf": signed.leaf.hex(),
    }
