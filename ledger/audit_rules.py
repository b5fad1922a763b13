"""Which rule judges which kinds of an order's events; of every other kind it has nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from ledger import audit_deals as deals
from ledger import audit_money as money
from ledger import audit_orders as orders
from ledger import order_events as e
from ledger import payment_events as p
from ledger.deal_events import PaymentAuthorized
from ledger.entry import SignedEvent
from ledger.event import Event
from ledger.order import Order

Rule = Callable[[Order, SignedEvent], Iterator[str]]

_INCOMING: Final = (
    p.PaymentVerified,
    p.PaymentPartial,
    p.PaymentOverpaid,
    p.PaymentLate,
    p.PaymentRestored,
)

RULES: Final[tuple[tuple[str, Rule, tuple[type[Event], ...]], ...]] = (
    (
        "C08",
        orders.c08_work,
        (e.ProcessingStarted, e.NoticeAccepted, e.DeliverableReady, e.DeliveryFailed),
    ),
    (
        "C08",
        orders.c08_delivery,
        (
            e.DeliverablePosted,
            e.DeliverableCollected,
            e.DownloadNoted,
            e.PushAttempted,
            e.DeliveryConfirmed,
        ),
    ),
    (
        "C08",
        orders.c08_dispute,
        (
            e.DeliveryDisputed,
            e.DisputeAnswered,
            e.DisputeWithdrawn,
            e.DisputeRuled,
            e.AnswerLapsed,
        ),
    ),
    ("C08", orders.c08_acceptance, (e.AcceptanceLapsed,)),
    ("C08", orders.c08_refund, (e.OrderRefunded,)),
    ("C08", orders.c08_claims, (p.PaymentClaimed, p.PaymentClaimClosed, e.CommandRefused)),
    ("C13", money.c13_transfers, _INCOMING),
    (
        "C13",
        money.c13_amounts,
        (p.PaymentVerified, p.PaymentPartial, p.PaymentOverpaid, p.PaymentLate),
    ),
    (
        "C13",
        money.c13_reorganisations,
        (p.PaymentOrphaned, p.PaymentFinalized, p.PaymentRestored),
    ),
    ("C14", orders.c14_expiry, (e.QuoteExpired,)),
    ("C29", money.c29_refund, (p.RefundRecorded,)),
    (
        "C08",
        deals.c08_family,
        (*deals.DEAL_KINDS, *deals.NEVER_IN_DEALS, e.ProcessingStarted),
    ),
    ("C08", deals.c08_deal, deals.DEAL_KINDS),
    ("C13", deals.c13_deal, (PaymentAuthorized,)),
    ("C16", deals.c16_deal, (PaymentAuthorized,)),
)
"""Besides these, every event is judged by `c08_next_status`, and an erasure by `c08_erasure`."""


@cache
def rules_of(kind: type[Event]) -> tuple[tuple[str, Rule], ...]:
    """Return the rules that judge a kind, each with its check."""
    return tuple((check, rule) for check, rule, kinds in RULES if kind in kinds)
