"""Checks of an order of the marketplace: its steps, its sums, and the transfer that was signed.

Whether the chain took the transfer is not asked here: these checks need no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.audit_texts import QUEUED_MS
from ledger.deal import Deal
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
from ledger.entry import SignedEvent
from ledger.event import Event
from ledger.market_money import due_micros, split
from ledger.order import Order
from ledger.order_events import (
    CommandRefused,
    NoticeAccepted,
    OrderQuoted,
    OrderRefunded,
    ProcessingStarted,
    QuoteExpired,
)
from ledger.payment_events import MoneyEvent
from ledger.solana_rules import MAX_SHORTFALL, require_signatures, transfer_of
from ledger.solana_wire import NoPayment, read_transaction, transaction_bytes

DEAL_KINDS: Final[tuple[type[Event], ...]] = get_args(DealEvent)
NEVER_IN_DEALS: Final[tuple[type[Event], ...]] = (
    *get_args(MoneyEvent),
    OrderQuoted,
    QuoteExpired,
    OrderRefunded,
    NoticeAccepted,
    CommandRefused,
)
"""What is paid on the marketplace has no quote, no notice and no money of the other chain."""

_OF_AN_OFFER: Final = (OrderCountered, OrderDeclined, OrderCancelled, PaymentAuthorized)


def c08_family(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: what belongs to one of the two kinds of orders stands in no other."""
    event = signed.event
    if order.deal is None:
        if isinstance(event, DEAL_KINDS):
            yield f"{event.kind} in an order that was quoted"
    elif isinstance(event, NEVER_IN_DEALS):
        yield f"{event.kind} in an order of the marketplace"
    elif isinstance(event, ProcessingStarted) and event.reason == "notice":
        yield "a notice pays no order of the marketplace"


def c08_deal(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: an offer is open until it is paid, declined or cancelled; a payment until it is over."""
    event, deal = signed.event, order.deal
    if deal is None:
        return
    if isinstance(event, OrderProposed):
        yield "the order was offered before"
    elif isinstance(event, _OF_AN_OFFER):
        yield from _open(deal, event)
        if isinstance(event, PaymentAuthorized):
            yield from _payable(order, deal, event, signed.at)
    elif isinstance(event, PaymentSettled | PaymentVoided):
        yield from _outcome(deal, event)
    elif isinstance(event, OrderReviewed):
        if deal.review is not None:
            yield "the order was reviewed before"
        if order.deliverable is None:
            yield "reviewed before anything was delivered"
        if order.dispute_open:
            yield "reviewed while a dispute was open"


def c13_deal(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C13: a signed payment goes the way of the offer, pays its price, and is divided as agreed."""
    event, terms = signed.event, order.terms
    if not isinstance(event, PaymentAuthorized) or not isinstance(terms, OrderProposed):
        return
    way = (event.chain, event.mint, f"{event.chain}:{event.recipient}")
    if way != (terms.chain, terms.token, terms.payment_address):
        yield f"{event.mint} for {event.recipient} on {event.chain} is not what the offer names"
    due, amount = due_micros(terms.price, event.method), event.amount
    if event.due != due:
        yield f"{due} is due, not {event.due}"
    if amount < 1 or not due - MAX_SHORTFALL <= amount <= due:
        yield f"{amount} does not pay the {due} that are due"
    parts = split(amount, terms.commission_bps)
    if (event.commission, event.payout) != (parts.commission, parts.agent):
        yield f"{amount} divides into {parts.commission} and {parts.agent}, not as recorded"


def c16_deal(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C16: the transaction is signed by its payer, and is the transfer that the event describes."""
    event = signed.event
    if not isinstance(event, PaymentAuthorized) or order.deal is None:
        return
    try:
        transaction = read_transaction(transaction_bytes(event.transaction))
        require_signatures(transaction, _is_signed)
        found = transfer_of(transaction, mint=event.mint, recipient=event.recipient)
    except (NoPayment, ValueError) as error:
        yield f"the signed transaction is not this payment: {error}"
        return
    for name in ("signature", "payer", "source", "destination", "amount"):
        said, recorded = getattr(found, name), getattr(event, name)
        if said != recorded:
            yield f"the signed transaction names the {name} {said}, not {recorded}"


def _open(deal: Deal, event: Event) -> Iterator[str]:
    if deal.ended is not None:
        yield f"{event.kind} after the offer was {deal.ended}"
    if deal.authorization is not None:
        yield f"{event.kind} of an order that is being paid, or paid"


def _payable(order: Order, deal: Deal, event: PaymentAuthorized, at: int) -> Iterator[str]:
    if at > order.terms.pay_by * 1000 + QUEUED_MS:
        yield f"paid after {order.terms.pay_by}, when the offer had lapsed"
    if event.signature in deal.voided:
        yield f"{event.signature} was void before"


def _outcome(deal: Deal, event: PaymentSettled | PaymentVoided) -> Iterator[str]:
    payment = deal.authorization
    if payment is None or payment.signature != event.signature:
        yield f"{event.kind} names {event.signature}, which is not the order's payment"
    elif deal.settled is not None:
        yield f"{event.kind} of a payment that was settled before"
    elif isinstance(event, PaymentVoided) and event.signature in deal.voided:
        yield f"{event.signature} was void before"


def _is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
