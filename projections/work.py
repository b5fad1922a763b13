"""What is still to do, derived from events: the only list that the service's loops work from.

Every outcome is an event, so a crash between doing and recording repeats at most an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ledger.decide_dispute import AWAITING_ACCEPTANCE
from ledger.money import Bucket
from ledger.order import Order, PushTarget, Status
from ledger.values import UnixMs

ACCEPTANCE: Final = "acceptance"
ANSWER: Final = "answer"


class WorkKind(StrEnum):
    """Which loop takes it."""

    CLAIM = "claim"
    """Look again at a transaction that a client claimed; key = tx hash."""
    PAYMENT = "payment"
    """Watch a transaction that counts until its block is final; key = tx hash."""
    HANDLER = "handler"
    """Produce the deliverable of a paid order; key = service, since the payment."""
    PUSH = "push"
    """Send the deliverable; key = target and number of the coming attempt, since the last one."""
    WINDOW = "window"
    """Close a window that lapsed; key = `acceptance` or `answer`, since the moment it ends."""
    RETENTION = "retention"
    """Erase the deliverable once its time is over; key = content id, since it can be fetched."""
    SETTLEMENT = "settlement"
    """Send a signed transfer to its chain and see what becomes of it; key = its signature."""


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do for one order, since a Unix millisecond."""

    order_id: str
    kind: WorkKind
    key: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Push:
    """A push that is still to come: how many were made, and when the last of them ended.

    Before the first, `since_ms` is when the deliverable was ready.
    """

    target: PushTarget
    endpoint_id: str
    made: int
    since_ms: UnixMs


def push_to_come(order: Order) -> Push | None:
    """Return the push that an order still waits for, also while its payment holds it back.

    The endpoint that the client named with its payment is the only target if there is one; else
    the contact endpoint of the quote is tried. A client that signed for the content needs no more
    attempts; but one that named its contact endpoint only waits there for a first one, however
    quickly it signs.
    """
    if not order.content_held or order.status is Status.REFUNDED:
        return None
    target: PushTarget = "delivery_endpoint"
    endpoint_id = order.delivery_endpoint_id
    if endpoint_id is None:
        target, endpoint_id = "contact_endpoint", order.terms.contact_endpoint_id
    recorded = order.pushes.get(target)
    if endpoint_id is None or endpoint_id in order.erased or (recorded and recorded.over):
        return None
    if order.status is Status.CONFIRMED and (recorded or target == "delivery_endpoint"):
        return None
    if recorded is None:
        return Push(target, endpoint_id, 0, order.status_at[Status.READY])
    return Push(target, endpoint_id, recorded.attempts, recorded.last_at)


def pushes_made(work: Work) -> int:
    """Return how many pushes came before the one that a `PUSH` entry stands for."""
    return int(work.key.rpartition(":")[2]) - 1


def work_of(order: Order) -> list[Work]:
    """Return everything that is to do for an order."""
    todo = [Work(order.id, WorkKind.CLAIM, c.tx_hash, c.since) for c in order.claims]
    orphaned = {t.key for t in order.money.of(Bucket.ORPHANED)}
    # Money that went back ends the order, not the chain: what left it may be mined again. Only a
    # payment that was proven impossible is never looked for again.
    if order.status is not Status.REFUNDED or order.money.refunded:
        watched = dict.fromkeys(tx for _, tx, _ in sorted(order.watched | orphaned))
        todo += [Work(order.id, WorkKind.PAYMENT, tx, order.updated_at) for tx in watched]
    todo += _settlement(order)
    own = order.deal is None  # on the marketplace the agent does the work
    if own and order.status in (Status.PAID, Status.PROCESSING) and not order.paused:
        since = order.status_at.get(Status.PAID, order.status_at[order.status])
        todo.append(Work(order.id, WorkKind.HANDLER, order.terms.service, since))
    push = push_to_come(order)
    if push is not None and not order.paused:
        key = f"{push.target}:{push.made + 1}"
        todo.append(Work(order.id, WorkKind.PUSH, key, push.since_ms))
    todo += [Work(order.id, WorkKind.WINDOW, name, at) for name, at in windows_of(order)]
    if order.deliverable is not None and order.content_held and not order.dispute_open:
        since = max(order.updated_at, order.status_at[Status.READY])
        todo.append(Work(order.id, WorkKind.RETENTION, order.deliverable.content_id, since))
    return todo


def _settlement(order: Order) -> list[Work]:
    deal = order.deal
    if deal is None or deal.authorization is None or deal.settled is not None:
        return []
    payment = deal.authorization
    if payment.awaits == "nothing" or payment.signature in deal.voided:
        return []
    return [Work(order.id, WorkKind.SETTLEMENT, payment.signature, deal.authorized_at or 0)]


def windows_of(order: Order) -> list[tuple[str, UnixMs]]:
    """Return the windows that are open, and when each ends."""
    ends: list[tuple[str, UnixMs]] = []
    ready = order.status_at.get(Status.READY)
    accepting = order.status in AWAITING_ACCEPTANCE and not order.dispute_open
    if ready is not None and accepting and not order.acceptance_lapsed:
        ends.append((ACCEPTANCE, UnixMs(ready + order.terms.acceptance_window * 1000)))
    dispute = order.dispute
    if dispute is not None and dispute.open and not (dispute.answered or dispute.answer_lapsed):
        ends.append((ANSWER, UnixMs(dispute.opened_at + order.terms.answer_window * 1000)))
    return ends
