"""What IVXP/1.0 clients see of an order: five words only, whatever the ledger knows."""

from __future__ import annotations

from typing import Final

from ledger.order import Status
from ledger.values import UnixMs, iso_of, iso_of_seconds, usdc_number
from projections.orders import OrderView

_WORDS: Final = {
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


def word_1_0(order: OrderView) -> str:
    """Return the status word that every 1.0 client accepts.

    `ready` waits as processing while a push that the client asked for is pending. A dispute shows
    delivered if content exists, else the word of the status before it.
    """
    if order.status is Status.READY and order.push_pending:
        return "processing"
    if order.status is not Status.DISPUTED:
        return _WORDS[order.status]
    if order.content_hash is not None:
        return "delivered"
    before = [s for s in order.status_at if s != Status.DISPUTED]
    latest = max(before, key=lambda s: order.status_at[s], default=Status.PAID)
    return _WORDS[Status(latest)]


def status_1_0(order: OrderView, now: UnixMs) -> dict[str, object]:
    """Return the superset status answer: what each 1.0 client needs, in one body."""
    body: dict[str, object] = {
        "order_id": order.order_id,
        "status": word_1_0(order),
        "created_at": iso_of(UnixMs(order.created_ms)),
        "service_type": order.service,
        "service": order.service,
        "price_usdc": usdc_number(order.price_micros),
    }
    if order.content_hash is not None:
        body["content_hash"] = order.content_hash
    if order.status in (Status.QUOTED, Status.EXPIRED):
        body["expires_at"] = iso_of_seconds(order.pay_by)
        if order.status is Status.EXPIRED or order.pay_by * 1000 < now:
            body["expired"] = True
    body |= _payment(order)
    return body


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
