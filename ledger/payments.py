"""From what the chain shows to which transfers pay which order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ledger.decision import Claimed
from ledger.event import MAX_TRANSFERS, Event, Transfer
from ledger.finding import Finding
from ledger.money import Bucket, Placed
from ledger.order import NEXT, Order, Status
from ledger.payment_events import (
    PaymentLate,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
)
from ledger.values import ZERO_ADDRESS, address_of

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a mined transaction does to an order; `events` is empty if it does nothing.

    `reached` says that the price is now covered by transfers on the chain, `due` what is missing.
    """

    events: tuple[Event, ...]
    reached: bool
    reason: str = ""
    due: int = 0


def settle(order: Order, payer: str, finding: Finding, claimed: Claimed) -> Settlement:
    """Match the transfers of `payer` (an address) in a mined transaction to the order.

    It takes those that no order holds, and those that a reorganisation took from this one and
    that were mined again.
    """
    placed = order.money.placed
    mine = _of_payer(order, payer, finding)
    back = tuple(t for t in mine if (p := placed.get(t.key)) and _is_back(p, t))
    free = tuple(t for t in mine if t.key not in placed and t.key not in claimed)
    if not back and not free:
        return Settlement((), reached=False, reason=_why_none(order, mine, finding))
    if Status.PAID not in order.status_at:
        # What one event cannot hold stays as it is, unclaimed or orphaned.
        return _pay(order, (*back, *free)[:MAX_TRANSFERS], finding)
    if back or order.paused:
        return _restore(order, back, free, finding)
    free = free[:MAX_TRANSFERS]
    overpaid = order.money.covered + _sum(free) - order.terms.price
    return Settlement((PaymentOverpaid(transfers=free, overpaid=overpaid),), reached=True)


def choose(transfers: tuple[Transfer, ...], due: int) -> tuple[Transfer, ...]:
    """Return one transfer equal to what is due, else transfers in ordinal order until it is met."""
    for transfer in transfers:
        if transfer.amount == due:
            return (transfer,)
    chosen: list[Transfer] = []
    met = 0
    for transfer in sorted(transfers, key=lambda t: t.ordinal):
        if met >= due:
            break
        chosen.append(transfer)
        met += transfer.amount
    return tuple(chosen)


def is_same_again(before: Transfer, now: Transfer) -> bool:
    """Whether a transfer that left the chain is the same one in another block, or in its own.

    What a transaction moves may depend on the blocks before it: in another block it may be another
    amount, and that is what arrived. From another sender it is no payment of this client.
    """
    moved = now.block_hash != before.block_hash
    return now.sender == before.sender and (moved or now.amount == before.amount)


def in_parts(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    """Return transfers in parts that one event can hold."""
    for start in range(0, len(items), MAX_TRANSFERS):
        yield tuple(items[start : start + MAX_TRANSFERS])


def _of_payer(order: Order, payer: str, finding: Finding) -> tuple[Transfer, ...]:
    """Return the payer's transfers; once the client is known, nobody else pays the order."""
    if payer == ZERO_ADDRESS or address_of(order.client) not in (payer, ZERO_ADDRESS):
        return ()
    return tuple(t for t in finding.transfers if t.sender == payer)


def _is_back(before: Placed, now: Transfer) -> bool:
    return before.bucket is Bucket.ORPHANED and is_same_again(before.transfer, now)


def _pay(order: Order, transfers: tuple[Transfer, ...], finding: Finding) -> Settlement:
    in_time = tuple(t for t in transfers if t.block_time <= order.terms.pay_by)
    if not in_time or Status.PAID not in NEXT[order.status]:
        late = PaymentLate(transfers=transfers, refund_due=_sum(transfers))
        return Settlement((late,), reached=False, reason="late")
    price, counted = order.terms.price, order.money.counted
    chosen = choose(in_time, max(1, price - counted))
    total = counted + _sum(chosen)
    if total < price:
        part = PaymentPartial(transfers=chosen, amount_due=price - total)
        return Settlement((part,), reached=False, reason="partial", due=price - total)
    paid = PaymentVerified(
        transfers=chosen,
        payer=f"{order.terms.chain}:{chosen[0].sender}",
        price=price,
        total=total,
        overpaid=total - price,
        finality=finding.finality,
    )
    return Settlement((paid,), reached=True)


def _restore(
    order: Order, back: tuple[Transfer, ...], free: tuple[Transfer, ...], finding: Finding
) -> Settlement:
    """Count orphaned transfers again, and let new ones stand in for what is still missing.

    `pay_by` no longer applies. Orphaned ones that one event cannot hold come with the next look.
    """
    price = order.terms.price
    due = price - order.money.restore(back, paid=True).covered
    chosen = (*back, *(choose(free, due) if due > 0 else ()))[:MAX_TRANSFERS]
    due = price - order.money.restore(chosen, paid=True).covered
    event = PaymentRestored(transfers=chosen, finality=finding.finality)
    return Settlement((event,), reached=due <= 0, reason="partial", due=max(0, due))


def _why_none(order: Order, mine: tuple[Transfer, ...], finding: Finding) -> str:
    if any(t.key in order.money.placed for t in mine):
        return "already_counted"
    if mine:
        return "already_claimed"
    return "other_sender" if finding.transfers else "no_transfer"


def _sum(transfers: tuple[Transfer, ...]) -> int:
    return sum(t.amount for t in transfers)
