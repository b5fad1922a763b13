"""What clients see of an order: five words in 1.0, all words in 1.1, whatever the ledger knows."""

from __future__ import annotations

from typing import Final

from api.ivxp.negotiation import PROTOCOL_1_1, View
from ledger.order import Status
from ledger.values import UnixMs, iso_of, iso_of_seconds, usdc_number
from projections.orders import OrderView

_WORDS_1_0: Final = {
    Status.QUOTED: "quoted",
    Status.EXPIRED: "quoted",
    Status.PAID: "paid",
    Status.PROCESSING: "processing",
    Status.READY: "delivered",
    Status.POSTED: "delivered",
    Status.DELIVERED: "delivered",
    Status.DELIVERY_FAILED: "delivery_failed",
    Status.CONFIRMED: "delivered",
    Status.REFUNDED: "delivery_failed",
}
_DOCUMENTED: Final = frozenset({Status.PAID, Status.POSTED, Status.CONFIRMED})
"""The statuses whose times the documents of 1.1 name."""


def word_1_0(order: OrderView) -> str:
    """Return the status word that every 1.0 client accepts.

    `ready` waits as processing while a push that the client asked for is pending. A dispute shows
    delivered if content exists, else the word of the status before it.
    """
    if order.status is Status.READY and order.push_pending:
        return "processing"
    if order.status is not Status.DISPUTED:
        return _WORDS_1_0[order.status]
    if order.content_hash is not None:
        return "delivered"
    *_, latest = (s for s in order.status_at if s != Status.DISPUTED)
    return _WORDS_1_0[Status(latest)]


def word_1_1(order: OrderView) -> str:
    """Return the status word of 1.1: the ledger's own, but for the receipt's."""
    return "client_confirmed" if order.status is Status.CONFIRMED else str(order.status)


def status_body(order: OrderView, view: View, now: UnixMs) -> dict[str, object]:
    """Return the status answer of a view."""
    if view.rich:
        return _rich(order, now, strict=view.strict)
    body = _schema_1_0(order)
    return body if view.strict else body | _beyond(order, now)


def _schema_1_0(order: OrderView) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "status": word_1_0(order),
        "created_at": iso_of(UnixMs(order.created_ms)),
        "service_type": order.service,
        "price_usdc": usdc_number(order.price_micros),
    }


def _rich(order: OrderView, now: UnixMs, *, strict: bool) -> dict[str, object]:
    """Return the 1.1 status; beyond the documents it gives the time of every status it had."""
    shown = _DOCUMENTED if strict else frozenset(Status) - {Status.QUOTED}
    times = {f"{s}_at": iso_of(UnixMs(at)) for s, at in order.status_at.items() if s in shown}
    body: dict[str, object] = {
        "order_id": order.order_id,
        "status": word_1_1(order),
        "status_details": {"created_at": iso_of(UnixMs(order.created_ms)), **times},
        "service_type": order.service,
        "price_usdc": usdc_number(order.price_micros),
    }
    if order.rating is not None:
        body["client_satisfaction"] = order.rating
    if strict:
        return body
    known: dict[str, object] = {
        "protocol": PROTOCOL_1_1,
        "created_at": iso_of(UnixMs(order.created_ms)),
    }
    if order.acceptance_lapsed:
        known["closed_without_objection"] = True
    if order.dispute is not None:
        known["dispute"] = dict(order.dispute)
    return body | known | _beyond(order, now)


def _beyond(order: OrderView, now: UnixMs) -> dict[str, object]:
    """Return what single clients need, or want to know, beyond the schemas."""
    body: dict[str, object] = {"service": order.service}
    if order.content_hash is not None:
        body["content_hash"] = order.content_hash
    if order.status in (Status.QUOTED, Status.EXPIRED):
        body["expires_at"] = iso_of_seconds(order.pay_by)
        if order.status is Status.EXPIRED or order.pay_by * 1000 < now:
            body["expired"] = True
    return body | _payment(order)


def _payment(order: OrderView) -> dict[str, object]:
    """Return the payment axis where it says more than the status word; amounts are micro-USDC."""
    payment: dict[str, object] = {}
    if order.claims_open:
        payment["outcome"] = "pending"
        payment["claims_open"] = order.claims_open
    if order.paused:
        payment["outcome"] = "orphaned"
    for name in ("pending", "late", "orphaned", "refunded"):
        amount: int = getattr(order, f"{name}_micros")
        if amount:
            payment[f"{name}_micros"] = str(amount)
    return {"payment": payment} if payment else {}
