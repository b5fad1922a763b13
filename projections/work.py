"""What is still to do, derived from events: the only list that the service's loops work from.

Every outcome is an event, so a crash between doing and recording repeats at most an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ledger.money import Bucket
from ledger.order import Order, Status


class WorkKind(StrEnum):
    """Which loop takes it."""

    CLAIM = "claim"
    """Look again at a transaction that a client claimed; key = tx hash."""
    PAYMENT = "payment"
    """Watch a transaction that counts until its block is final; key = tx hash."""
    HANDLER = "handler"
    """Produce the deliverable; key empty."""


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do for one order, since a Unix millisecond."""

    order_id: str
    kind: WorkKind
    key: str
    since_ms: int


def work_of(order: Order) -> list[Work]:
    """Return everything that is to do for an order."""
    todo = [Work(order.id, WorkKind.CLAIM, c.tx_hash, c.since) for c in order.claims]
    orphaned = {t.key for t in order.money.of(Bucket.ORPHANED)}
    if order.status is not Status.REFUNDED:
        watched = dict.fromkeys(tx for _, tx, _ in sorted(order.watched | orphaned))
        todo += [Work(order.id, WorkKind.PAYMENT, tx, order.updated_at) for tx in watched]
    if order.status is Status.PROCESSING and not order.paused:
        since = order.status_at[Status.PROCESSING]
        todo.append(Work(order.id, WorkKind.HANDLER, "", since))
    return todo
