"""One frozen class per intent in an order that was agreed on in a conversation.

`wallet` is who asks, as the marketplace knows it, and `proven` how it knows; `commit` holds the
commitments of the content that the events will name. Each carries `now`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ledger.deal_events import OrderProposed, PaymentAuthorized
from ledger.market_events import Proven
from ledger.values import UnixMs


@dataclass(frozen=True, slots=True)
class ProposeOrder:
    """Offer these terms in a conversation."""

    terms: OrderProposed
    commit: Mapping[str, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class CounterOffer:
    """The client asks for other terms. `price` in micro-USDC; None leaves a term as it is."""

    wallet: str
    proven: Proven
    price: int | None
    delivery_seconds: int | None
    text_id: str
    commit: Mapping[str, str]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class DeclineOrder:
    """The client does not want the offer."""

    wallet: str
    proven: Proven
    now: UnixMs
    reason_id: str | None = None
    commit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """One side takes an unpaid offer back."""

    wallet: str
    proven: Proven
    now: UnixMs
    reason_id: str | None = None
    commit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuthorizePayment:
    """The client hands over the transfer that its payer signed; it was checked before."""

    wallet: str
    payment: PaymentAuthorized
    now: UnixMs


@dataclass(frozen=True, slots=True)
class SettlePayment:
    """The chain took the transfer with this signature."""

    signature: str
    slot: int
    finality: Literal["confirmed", "finalized"]
    now: UnixMs


@dataclass(frozen=True, slots=True)
class VoidPayment:
    """The transfer with this signature did not move anything, and never will."""

    signature: str
    reason: Literal["failed", "expired"]
    cause: Literal["funds", "blockhash", "other"]
    detail: str | None
    now: UnixMs


@dataclass(frozen=True, slots=True)
class ReviewOrder:
    """The client reviews what it got; `rating` 1 to 5."""

    wallet: str
    proven: Proven
    rating: int
    now: UnixMs
    comment_id: str | None = None
    commit: Mapping[str, str] = field(default_factory=dict)


DealCommand = (
    CounterOffer
    | DeclineOrder
    | CancelOrder
    | AuthorizePayment
    | SettlePayment
    | VoidPayment
    | ReviewOrder
)
