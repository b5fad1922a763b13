"""What clients have to see of an order in each view, made of its shadow alone."""

from __future__ import annotations

from typing import Any, Final

from ledger.order import Order
from ledger.values import UnixMs, address_of, iso_of
from tests.model.shadow import LATE, ORPHANED, PENDING, Shadow

Json = dict[str, Any]

WORDS_1_0: Final = {
    "quoted": "quoted",
    "expired": "quoted",
    "paid": "paid",
    "processing": "processing",
    "ready": "delivered",
    "posted": "delivered",
    "delivered": "delivered",
    "delivery_failed": "delivery_failed",
    "confirmed": "delivered",
    "refunded": "delivery_failed",
}
DOCUMENTED_TIMES: Final = ("paid", "posted", "confirmed")


def words(order: Shadow) -> tuple[str, str]:
    """Return the words of 1.0 and of 1.1."""
    rich = "client_confirmed" if order.status == "confirmed" else order.status
    if order.status == "disputed":
        content = order.digest is not None
        return "delivered" if content else WORDS_1_0[order.word_before_dispute], rich
    waits = order.push_to_come and order.target == "delivery_endpoint"
    if order.status == "ready" and waits:
        return "processing", rich
    return WORDS_1_0[order.status], rich


def strict(order: Shadow) -> Json:
    return {
        "order_id": order.order_id,
        "status": words(order)[0],
        "created_at": _iso(order.created_ms),
        "service_type": order.service,
        "price_usdc": order.price / 1_000_000,
    }


def default(order: Shadow, now_ms: int) -> Json:
    return strict(order) | _more(order, now_ms)


def rich(order: Shadow, now_ms: int) -> Json:
    """Return the 1.1 view, but for what it tells of a dispute."""
    times = {f"{s}_at": _iso(at) for s, at in order.at.items() if s != "quoted"}
    body: Json = {
        "order_id": order.order_id,
        "status": words(order)[1],
        "status_details": {"created_at": _iso(order.created_ms), **times},
        "service_type": order.service,
        "price_usdc": order.price / 1_000_000,
        "protocol": "IVXP/1.1",
        "created_at": _iso(order.created_ms),
        "client_satisfaction": order.rating,
        "closed_without_objection": order.acceptance_lapsed or None,
    }
    return body | _more(order, now_ms)


def require_dispute(body: Json, order: Shadow) -> None:
    """Fail unless the 1.1 view tells of the dispute."""
    told = body.get("dispute")
    assert (told is not None) is (order.complaint is not None)
    if told is not None:
        flags = (order.dispute_open, order.dispute_answered, order.answer_lapsed)
        assert (told["open"], told["answered"], told["answer_lapsed"]) == flags


def rich_strict(order: Shadow) -> Json:
    times = {f"{s}_at": _iso(order.at[s]) for s in DOCUMENTED_TIMES if s in order.at}
    body: Json = {
        "order_id": order.order_id,
        "status": words(order)[1],
        "status_details": {"created_at": _iso(order.created_ms), **times},
        "service_type": order.service,
        "price_usdc": order.price / 1_000_000,
    }
    return body if order.rating is None else {**body, "client_satisfaction": order.rating}


def _more(order: Shadow, now_ms: int) -> Json:
    """Return what the documents do not name; None where the member has to be absent."""
    unpaid = order.status in ("quoted", "expired")
    over = order.status == "expired" or order.pay_by * 1000 < now_ms
    return {
        "service": order.service,
        "content_hash": order.digest,
        "expires_at": _iso(order.pay_by * 1000) if unpaid else None,
        "expired": True if unpaid and over else None,
        "payment": _payment(order) or None,
    }


def _payment(order: Shadow) -> Json:
    body: Json = {}
    if order.claims:
        body |= {"outcome": "pending", "claims_open": len(order.claims)}
    if order.paused:
        body["outcome"] = "orphaned"
    amounts = {
        "pending": order.total(PENDING),
        "late": order.total(LATE),
        "orphaned": order.total(ORPHANED),
        "refunded": order.refunded,
    }
    return body | {f"{name}_micros": str(n) for name, n in amounts.items() if n}


def _iso(ms: int) -> str:
    return iso_of(UnixMs(ms))


def require_shown(seen: Json, expected: Json) -> None:
    """Fail unless an answer has every expected member as expected, and none that is None."""
    assert {name: seen.get(name) for name in expected} == expected, (seen, expected)


def require_same(order: Order, shadow: Shadow) -> None:
    """Fail unless the folded order says what its shadow says."""
    folded = {
        "version": order.version,
        "status": str(order.status),
        "client": address_of(order.client),
        "times": {str(status): at for status, at in order.status_at.items()},
        "coins": {k[1:]: (p.transfer.amount, p.bucket) for k, p in order.money.placed.items()},
        "received": order.money.received,
        "refunded": order.money.refunded,
        "held": order.money.held,
        "covered": order.money.covered,
        "paused": order.paused,
        "claims": [claim.tx_hash for claim in order.claims],
        "accepted": order.accepted is not None,
        "content": order.deliverable.raw if order.deliverable else None,
        "collected": order.collected,
        "dispute": order.dispute_open,
        "lapsed": order.acceptance_lapsed,
        "erased": order.erased,
    }
    expected = {
        "version": len(shadow.kinds),
        "status": shadow.status,
        "client": shadow.client,
        "times": shadow.at,
        "coins": {key: (coin.amount, coin.bucket) for key, coin in shadow.coins.items()},
        "received": shadow.received,
        "refunded": shadow.refunded,
        "held": shadow.held,
        "covered": shadow.covered,
        "paused": shadow.paused,
        "claims": [claim.tx for claim in shadow.claims],
        "accepted": shadow.accepted,
        "content": shadow.digest,
        "collected": shadow.first_download,
        "dispute": shadow.dispute_open,
        "lapsed": shadow.acceptance_lapsed,
        "erased": shadow.erased,
    }
    assert folded == expected
