"""Deciders of an order that was agreed on in a conversation: offer, payment, review. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from ledger.deal import Deal
from ledger.deal_commands import (
    AuthorizePayment,
    CancelOrder,
    CounterOffer,
    DealCommand,
    DeclineOrder,
    ProposeOrder,
    ReviewOrder,
    SettlePayment,
    VoidPayment,
)
from ledger.deal_events import (
    OrderCancelled,
    OrderCountered,
    OrderDeclined,
    OrderProposed,
    OrderReviewed,
    PaymentAuthorized,
    PaymentSettled,
    PaymentVoided,
)
from ledger.decision import Claimed, Decision, decided
from ledger.entry import Draft
from ledger.errors import Conflict, NotFound, PaymentRefused, Rejected
from ledger.event import Event
from ledger.market_events import Side
from ledger.order import Order
from ledger.values import UnixMs, address_of, order_stream

NOT_NOW = "INVALID_STATUS_TRANSITION"
"""The marketplace's word for an act that the order is not ready for, or past."""


def propose_order(command: ProposeOrder) -> Decision:
    """Offer the terms; the first event of the order."""
    return Decision((Draft(command.terms, command.commit),))


def decide_deal(order: Order, command: DealCommand, claimed: Claimed) -> Decision:
    """Return the events that the command leads to, or raise what it is refused with."""
    deal, terms = order.deal, order.terms
    if deal is None or not isinstance(terms, OrderProposed):
        msg = "the order was not made on the marketplace"
        raise NotFound(msg)
    match command:
        case CounterOffer():
            return _counter(order, deal, command)
        case DeclineOrder():
            return _decline(order, deal, command)
        case CancelOrder():
            return _cancel(order, deal, command)
        case AuthorizePayment():
            return _authorize(order, terms, deal, command, claimed)
        case SettlePayment() | VoidPayment():
            return _outcome(deal, command)
        case ReviewOrder():
            return _review(order, deal, command)
        case _:
            assert_never(command)


def side_of(order: Order, wallet: str) -> Side | None:
    """Return on which side of the order a wallet is, or None of a stranger."""
    if address_of(order.client) == wallet:
        return "client"
    terms = order.terms
    return "agent" if isinstance(terms, OrderProposed) and terms.agent_wallet == wallet else None


def _counter(order: Order, deal: Deal, command: CounterOffer) -> Decision:
    _require_side(order, command.wallet, "client")
    _require_open(deal)
    countered = OrderCountered(
        price=command.price,
        delivery_seconds=command.delivery_seconds,
        text_id=command.text_id,
        proven=command.proven,
    )
    return _with(countered, command.commit)


def _decline(order: Order, deal: Deal, command: DeclineOrder) -> Decision:
    _require_side(order, command.wallet, "client")
    if deal.ended == "declined":
        return Decision()
    _require_open(deal)
    declined = OrderDeclined(reason_id=command.reason_id, proven=command.proven)
    return _with(declined, command.commit)


def _cancel(order: Order, deal: Deal, command: CancelOrder) -> Decision:
    by = side_of(order, command.wallet)
    if by is None:
        raise _stranger()
    if deal.ended == "cancelled":
        return Decision()
    _require_open(deal)
    cancelled = OrderCancelled(by=by, reason_id=command.reason_id, proven=command.proven)
    return _with(cancelled, command.commit)


def _authorize(
    order: Order,
    terms: OrderProposed,
    deal: Deal,
    command: AuthorizePayment,
    claimed: Claimed,
) -> Decision:
    """Take the first payment that may still count; every later one gets its answer."""
    _require_side(order, command.wallet, "client")
    if deal.authorization is not None:
        return Decision()
    _require_open(deal)
    _require_in_time(terms, command.now)
    payment = command.payment
    _require_offered_place(terms, payment)
    _require_new(order, deal, payment, claimed)
    return decided(payment)


def _outcome(deal: Deal, command: SettlePayment | VoidPayment) -> Decision:
    """Record what became of the payment, once; of another one nothing is known."""
    payment = deal.authorization
    if payment is None or payment.signature != command.signature or deal.settled is not None:
        return Decision()
    if isinstance(command, SettlePayment):
        return decided(
            PaymentSettled(
                signature=command.signature,
                slot=command.slot,
                grade="settled",
                finality=command.finality,
            )
        )
    if command.signature in deal.voided:
        return Decision()
    detail = command.detail[:200] if command.detail else None
    return decided(
        PaymentVoided(
            signature=command.signature, reason=command.reason, cause=command.cause, detail=detail
        )
    )


def _review(order: Order, deal: Deal, command: ReviewOrder) -> Decision:
    _require_side(order, command.wallet, "client")
    if deal.review is not None:
        msg = "the order was reviewed already"
        raise Conflict(msg, code=NOT_NOW)
    if order.deliverable is None or order.dispute_open:
        msg = "an order is reviewed once it is delivered, and not while a dispute is open"
        raise Rejected(msg, code=NOT_NOW)
    reviewed = OrderReviewed(
        rating=command.rating, comment_id=command.comment_id, proven=command.proven
    )
    return _with(reviewed, command.commit)


def _with(event: Event, commit: Mapping[str, str]) -> Decision:
    return Decision((Draft(event, commit),))


def _require_side(order: Order, wallet: str, side: Side) -> None:
    if side_of(order, wallet) != side:
        raise _stranger()


def _stranger() -> NotFound:
    return NotFound("no order of this wallet has this id")


def _require_open(deal: Deal) -> None:
    """Refuse what belongs to an offer that nobody paid, declined or took back."""
    if deal.ended is not None:
        msg = f"the order was {deal.ended}"
        raise Rejected(msg, code=NOT_NOW)
    if deal.authorization is not None:
        msg = "the order is being paid, or paid"
        raise Rejected(msg, code=NOT_NOW)


def _require_new(order: Order, deal: Deal, payment: PaymentAuthorized, claimed: Claimed) -> None:
    """Refuse what was used before, here or for another order, under whatever signature."""
    holders = {claimed[key] for key in payment.keys if key in claimed}
    if holders - {order_stream(order.id)}:
        msg = "this signed transfer pays another order"
        raise Conflict(msg, code="INVALID_PAYMENT_HEADER", details={"reason": "already_used"})
    if holders or payment.signature in deal.voided:
        msg = "this transfer did not move anything and never will; sign another one"
        raise Rejected(msg, code="TRANSACTION_FAILED", details={"signature": payment.signature})


def _require_offered_place(terms: OrderProposed, payment: PaymentAuthorized) -> None:
    """Take what is paid where the signed offer says, whatever the settings are by now."""
    place = (payment.chain, payment.mint, f"{payment.chain}:{payment.recipient}")
    if place != (terms.chain, terms.token, terms.payment_address):
        msg = "the offer names another place to pay at; ask the agent for a new one"
        details = {"reason": "other_place"}
        raise PaymentRefused(msg, code="INVALID_PAYMENT_HEADER", details=details)


def _require_in_time(terms: OrderProposed, now: UnixMs) -> None:
    until = terms.pay_by if terms.deadline is None else min(terms.pay_by, terms.deadline)
    if now > until * 1000:
        msg = "the offer has lapsed; ask the agent for a new one"
        raise Rejected(msg, code=NOT_NOW, details={"pay_by": until})
