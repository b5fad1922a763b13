"""What an order that was agreed on in a conversation has beside an order's own state. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from ledger.deal_events import (
    DealEvent,
    OrderCancelled,
    OrderCountered,
    OrderDeclined,
    OrderProposed,
    OrderReviewed,
    PaymentAuthorized,
    PaymentSettled,
    PaymentVoided,
)
from ledger.values import UnixMs


@dataclass(frozen=True, slots=True)
class Deal:
    """How far the two sides came: talk, an authorised payment, its settlement, a review.

    `authorization` is the one that may still count; `voided` are signatures that never will.
    `paid_at` is when the order came to count as paid, for good.
    """

    countered: bool = False
    ended: str | None = None
    authorization: PaymentAuthorized | None = None
    authorized_at: UnixMs | None = None
    settled: PaymentSettled | None = None
    paid_at: UnixMs | None = None
    voided: frozenset[str] = frozenset()
    review: OrderReviewed | None = None
    reviewed_at: UnixMs | None = None

    @property
    def paid(self) -> bool:
        """Whether the order counts as paid, by a signature or by the chain as it was agreed."""
        return self.paid_at is not None

    @property
    def received(self) -> int:
        """What the payer gave, in micro-USDC, once it counts; of a void transfer nothing came."""
        payment = self.authorization
        if payment is None or not self.paid:
            return 0
        void = self.settled is None and payment.signature in self.voided
        return 0 if void else payment.amount


def apply_deal(deal: Deal, event: DealEvent, at: UnixMs) -> Deal:
    """Return the deal after one more of its events; `at` is the event's time."""
    match event:
        case OrderProposed():
            return deal
        case OrderCountered():
            return replace(deal, countered=True)
        case OrderDeclined():
            return replace(deal, ended="declined")
        case OrderCancelled():
            return replace(deal, ended="cancelled")
        case PaymentAuthorized():
            paid_at = at if event.awaits == "nothing" else None
            return replace(deal, authorization=event, authorized_at=at, paid_at=paid_at)
        case PaymentSettled():
            return replace(deal, settled=event, paid_at=deal.paid_at or at)
        case PaymentVoided():
            return _voided(deal, event)
        case OrderReviewed():
            return replace(deal, review=event, reviewed_at=at)
        case _:
            assert_never(event)


def _voided(deal: Deal, event: PaymentVoided) -> Deal:
    """Forget a payment that never moved; what was begun on the payer's word alone stays begun."""
    voided = deal.voided | {event.signature}
    if deal.paid:
        return replace(deal, voided=voided)
    return replace(deal, voided=voided, authorization=None, authorized_at=None)
