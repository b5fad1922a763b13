"""How a dispute's events change the state of its order. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from ledger.order import Dispute, Order, changed
from ledger.order_events import (
    AnswerLapsed,
    DeliveryDisputed,
    DisputeAnswered,
    DisputeRuled,
    DisputeWithdrawn,
)
from ledger.values import UnixMs

DisputeEvent = DeliveryDisputed | DisputeAnswered | DisputeWithdrawn | DisputeRuled | AnswerLapsed


def apply_dispute(order: Order, event: DisputeEvent, at: UnixMs) -> Order:
    """Return the order after one more event of its dispute."""
    if isinstance(event, DeliveryDisputed):
        return changed(
            order, dispute=Dispute(at, open=True, reason=event.reason), disputed_by=event
        )
    if order.dispute is None:
        return order
    dispute = order.dispute
    match event:
        case DisputeAnswered():
            return changed(order, dispute=replace(dispute, answered=True))
        case AnswerLapsed():
            return changed(order, dispute=replace(dispute, answer_lapsed=True))
        case DisputeWithdrawn():
            return changed(
                order,
                dispute=replace(dispute, open=False, withdrawn=True),
                endings=order.endings | {event.client.text},
            )
        case DisputeRuled():
            ruled = replace(dispute, open=False, ruled=event.outcome, ruled_amount=event.amount)
            return changed(order, dispute=ruled, endings=order.endings | {event.arbiter.text})
        case _:
            assert_never(event)


def close_dispute(order: Order) -> Order:
    """Return the order without an open dispute."""
    if order.dispute is None:
        return order
    return changed(order, dispute=replace(order.dispute, open=False))
