"""From what the chain shows to which transfers pay which order. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.decision import Claimed
from ledger.event import MAX_TRANSFERS, Event, Transfer
from ledger.finding import Finding
from ledger.money import Bucket
from ledger.order import Order, Status
from ledger.payment_events import (
    PaymentLate,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
)
from ledger.values import order_stream


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a mined transaction does to an order; `events` is empty if it does nothing.

    `reached` says that the price is now covered by transfers on the chain.
    """

    events: tuple[Event, ...]
    reached: bool
    reason: str = ""


def settle(order: Order, payer: str, finding: Finding, claimed: Claimed) -> Settlement:
    """Match the unclaimed transfers of `payer` (an address) in a mined transaction to the order."""
    free = tuple(t for t in finding.transfers if t.sender == payer and t.key not in claimed)
    free = free[:MAX_TRANSFERS]  # what one event cannot hold stays unclaimed
    if not free:
        return Settlement((), reached=False, reason=_why_none(order, payer, finding, claimed))
    if order.paused:
        return _restore(order, free, finding)
    if Status.PAID in order.status_at:
        total = order.money.total(Bucket.APPLIED) + _sum(free)
        event = PaymentOverpaid(transfers=free, overpaid=total - order.terms.price)
        return Settlement((event,), reached=True)
    in_time = tuple(t for t in free if t.block_time <= order.terms.pay_by)
    if not in_time:
        return Settlement(
            (PaymentLate(transfers=free, refund_due=_sum(free)),), reached=False, reason="late"
        )
    return _pay(order, in_time, finding)


def choose(transfers: tuple[Transfer, ...], due: int) -> tuple[Transfer, ...]:
    """Return one transfer equal to what is due, else transfers in ordinal order until it is met."""
    for transfer in transfers:
        if transfer.amount == due:
            return (transfer,)
    chosen: list[Transfer] = []
    for transfer in sorted(transfers, key=lambda t: t.ordinal):
        if _sum(tuple(chosen)) >= due:
            break
        chosen.append(transfer)
    return tuple(chosen)


def _pay(order: Order, transfers: tuple[Transfer, ...], finding: Finding) -> Settlement:
    pending = order.money.total(Bucket.PENDING)
    price = order.terms.price
    chosen = choose(transfers, price - pending)
    total = pending + _sum(chosen)
    if total < price:
        event = PaymentPartial(transfers=chosen, amount_due=price - total)
        return Settlement((event,), reached=False, reason="partial")
    paid = PaymentVerified(
        transfers=chosen,
        payer=f"{order.terms.chain}:{chosen[0].sender}",
        price=price,
        total=total,
        overpaid=total - price,
        finality=finding.finality,
    )
    return Settlement((paid,), reached=True)


def _restore(order: Order, transfers: tuple[Transfer, ...], finding: Finding) -> Settlement:
    """Let new transfers stand in for orphaned ones; `pay_by` no longer applies."""
    due = order.terms.price - order.money.total(Bucket.APPLIED)
    chosen = choose(transfers, due)
    event = PaymentRestored(transfers=chosen, finality=finding.finality)
    return Settlement((event,), reached=_sum(chosen) >= due, reason="restored")


def _why_none(order: Order, payer: str, finding: Finding, claimed: Claimed) -> str:
    own = order_stream(order.id)
    mine = [t for t in finding.transfers if t.sender == payer]
    if any(claimed.get(t.key) == own for t in mine):
        return "already_counted"
    if mine:
        return "already_claimed"
    return "other_sender" if finding.transfers else "no_transfer"


def _sum(transfers: tuple[Transfer, ...]) -> int:
    return sum(t.amount for t in transfers)
