"""The order: its statuses, the one table of what may follow what, and its folded state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from ledger.deal import Deal
from ledger.deal_events import OrderProposed
from ledger.event import ClientText, Finality
from ledger.money import Money
from ledger.order_events import (
    DeliverableReady,
    DeliveryConfirmed,
    DeliveryDisputed,
    NoticeAccepted,
    OrderQuoted,
    ProcessingStarted,
)
from ledger.values import OrderId, UnixMs


class Status(StrEnum):
    """The kind of the latest status event."""

    QUOTED = "quoted"
    EXPIRED = "expired"
    PAID = "paid"
    PROCESSING = "processing"
    READY = "ready"
    POSTED = "posted"
    DELIVERED = "delivered"
    DELIVERY_FAILED = "delivery_failed"
    CONFIRMED = "confirmed"
    DISPUTED = "disputed"
    REFUNDED = "refunded"


_S = Status
NEXT: Final[Mapping[Status | None, frozenset[Status]]] = {
    None: frozenset({_S.QUOTED}),
    _S.QUOTED: frozenset({_S.PAID, _S.EXPIRED}),
    _S.EXPIRED: frozenset({_S.PAID, _S.REFUNDED}),
    _S.PAID: frozenset({_S.PROCESSING, _S.REFUNDED, _S.DISPUTED}),
    _S.PROCESSING: frozenset({_S.READY, _S.DELIVERY_FAILED, _S.REFUNDED, _S.DISPUTED}),
    _S.READY: frozenset(
        {_S.POSTED, _S.DELIVERED, _S.DELIVERY_FAILED, _S.CONFIRMED, _S.DISPUTED, _S.REFUNDED}
    ),
    _S.POSTED: frozenset({_S.DELIVERED, _S.CONFIRMED, _S.DISPUTED, _S.REFUNDED}),
    _S.DELIVERED: frozenset({_S.CONFIRMED, _S.DISPUTED, _S.REFUNDED}),
    _S.DELIVERY_FAILED: frozenset(
        {_S.PROCESSING, _S.POSTED, _S.DELIVERED, _S.CONFIRMED, _S.DISPUTED, _S.REFUNDED}
    ),
    _S.DISPUTED: frozenset({_S.CONFIRMED, _S.REFUNDED, _S.READY}),
    _S.CONFIRMED: frozenset({_S.REFUNDED}),
    _S.REFUNDED: frozenset(),
}
"""What may follow what. Further conditions (windows, content) are in the deciders."""

PAID_DEAL_NEXT: Final = frozenset({_S.PROCESSING, _S.DISPUTED})
"""What may follow `quoted`, too, once an order of the marketplace counts as paid."""


ENDLESS_SECONDS: Final = 2**40 - 1


@dataclass(frozen=True, slots=True)
class OpenClaim:
    """A signed payment notice that the chain could not prove yet."""

    tx_hash: str
    notice: ClientText
    nonce: str | None
    delivery_endpoint_id: str | None
    since: UnixMs


PushTarget = Literal["delivery_endpoint", "contact_endpoint"]


@dataclass(frozen=True, slots=True)
class Pushes:
    """What was recorded of the pushes to one target; `over` says that no more will come."""

    attempts: int
    last_at: UnixMs
    over: bool


@dataclass(frozen=True, slots=True)
class Dispute:
    """The latest dispute of an order; it stays open beside the status until it is closed."""

    opened_at: UnixMs
    open: bool
    reason: str
    answered: bool = False
    answer_lapsed: bool = False
    ruled: str | None = None
    ruled_amount: int = 0
    withdrawn: bool = False


@dataclass(frozen=True)  # no slots: `changed` copies the dictionary
class Order:
    """Everything that deciders need, folded from the order's own events alone."""

    id: OrderId
    version: int
    status: Status
    terms: OrderQuoted | OrderProposed
    client: str
    created_at: UnixMs
    updated_at: UnixMs
    status_at: Mapping[Status, UnixMs]
    money: Money = field(default_factory=Money)
    claims: tuple[OpenClaim, ...] = ()
    closed_claims: tuple[str, ...] = ()
    claimed_texts: frozenset[str] = frozenset()
    nonces: Mapping[str, str] = field(default_factory=dict)
    accepted: ProcessingStarted | NoticeAccepted | None = None
    watched: frozenset[tuple[str, str, int]] = frozenset()
    finality: Finality | None = None
    deliverable: DeliverableReady | None = None
    erased: frozenset[str] = frozenset()
    delivery_endpoint_id: str | None = None
    push_attempts: int = 0
    pushes: Mapping[PushTarget, Pushes] = field(default_factory=dict)
    collected: bool = False
    confirmation: DeliveryConfirmed | None = None
    dispute: Dispute | None = None
    disputed_by: DeliveryDisputed | None = None
    endings: frozenset[str] = frozenset()
    """The texts that withdrew or ruled on a dispute: each does so once."""
    acceptance_lapsed: bool = False
    refusals: tuple[tuple[str, str], ...] = ()
    receipts: frozenset[tuple[str, str, str]] = frozenset()
    """What was acknowledged: the event's leaf, what was said of it, and by which wallet."""
    deal: Deal | None = None
    """What an order of the marketplace has beside; None of every other order."""
    not_before: int | None = None
    """The newest block when it was quoted: what that block or an older one moved came before."""

    @property
    def accepted_unasked(self) -> bool:
        """Whether the accepted notice was kept first: its sender was told to ask again."""
        return self.accepted is not None and (
            self.accepted.notice is not None and self.accepted.notice.text in self.claimed_texts
        )

    @property
    def paused(self) -> bool:
        """Whether a paid order's transfers on the chain are below its price: work waits."""
        return Status.PAID in self.status_at and self.money.covered < self.terms.price

    @property
    def next(self) -> frozenset[Status]:
        """What may follow: by the table, and for a paid order of the marketplace a little more."""
        paid_deal = self.deal is not None and self.deal.paid
        more = PAID_DEAL_NEXT if paid_deal and self.status is Status.QUOTED else frozenset()
        return NEXT[self.status] | more

    @property
    def deliver_by(self) -> int:
        """The Unix second by which the deliverable is due; of an unpaid offer none is, yet."""
        terms = self.terms
        if isinstance(terms, OrderQuoted):
            return terms.deliver_by
        if self.deal is None or self.deal.paid_at is None:
            return ENDLESS_SECONDS
        due = self.deal.paid_at // 1000 + terms.delivery_seconds
        return due if terms.deadline is None else min(due, terms.deadline)

    @property
    def received(self) -> int:
        """What was given for the order in all, in micro-USDC."""
        return self.money.received + (self.deal.received if self.deal is not None else 0)

    @property
    def content_held(self) -> bool:
        """Whether a deliverable exists and its bytes were not erased."""
        return self.deliverable is not None and self.deliverable.content_id not in self.erased

    @property
    def dispute_open(self) -> bool:
        """Whether a dispute waits to be withdrawn, ruled, confirmed or refunded."""
        return self.dispute is not None and self.dispute.open


def changed(order: Order, **changes: object) -> Order:
    """Return a copy with some fields changed.

    What `dataclasses.replace` does, at a tenth of its cost: this runs for every event of a load.
    The names are those of the fields; a test compares both for every event kind.
    """
    held = order.__dict__.copy()
    held.update(changes)
    after = object.__new__(Order)
    object.__setattr__(after, "__dict__", held)
    return after
