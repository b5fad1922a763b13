"""Which order a transfer is for, where nobody says so. Pure: nothing is guessed between two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.event import Transfer
from ledger.money import Bucket, TransferId
from ledger.order import Order, Status
from ledger.scan import Waiting
from ledger.signing import keccak256
from ledger.values import ZERO_ADDRESS, address_of

CLOCK_SKEW_S: Final = 60
"""A transfer may be mined so much before its quote by the clocks, never by the blocks."""
NOTICE_GRACE_S: Final = 86_400
"""How long after `pay_by` a transfer that is not decided keeps quotes from expiring."""


@dataclass(frozen=True, slots=True)
class Unpaid:
    """What is missing of an order; times in Unix seconds, `pay_by` None where it has no end.

    `open` says that its client may still send a notice and have it paid. `not_before` is the
    newest block when it was quoted, where that is known. `lost` are its transfers that left the
    chain.
    """

    order_id: str
    due: int
    since: int
    pay_by: int | None
    open: bool
    not_before: int | None = None
    lost: frozenset[TransferId] = frozenset()

    def was_quoted_before(self, block_number: int, block_time: int) -> bool:
        """Whether the quote was there when a block was made.

        Its client paid after it had the quote, so in a block after the newest one at that time.
        The clocks alone cannot say so to the second: by them it is refused if in doubt.
        """
        if self.not_before is None:
            return self.since <= block_time
        return self.not_before < block_number and self.since <= block_time + CLOCK_SKEW_S


@dataclass(frozen=True, slots=True)
class Match:
    """The order that a transfer is for; without one, whether to wait for the client's word."""

    order_id: str | None
    waits: bool = False


def unpaid(order: Order) -> Unpaid | None:
    """Return what is missing of an order, None if nothing is."""
    paused = order.paused and order.status is not Status.REFUNDED
    if not paused and order.status not in (Status.QUOTED, Status.EXPIRED):
        return None
    money = order.money
    return Unpaid(
        order.id,
        due=order.terms.price - (money.covered if paused else money.counted),
        since=order.created_at // 1000,
        pay_by=None if paused else order.terms.pay_by,
        open=paused or order.status is Status.QUOTED,
        not_before=order.not_before,
        lost=frozenset(t.key for t in money.of(Bucket.ORPHANED)),
    )


def match(transfer: Transfer, orders: Iterable[Unpaid], *, first_block: int) -> Match:
    """Find the one order of the payer that lacks exactly this much; never guess between two.

    Anybody can ask for a quote in anybody's name, also after seeing a transfer: what was there
    before a quote is not for it. And of an order in time and one too late neither is chosen: the
    client's signed notice says for which it paid.
    """
    asked = [o for o in orders if o.was_quoted_before(first_block, transfer.block_time)]
    exact = [o for o in asked if o.due == transfer.amount]
    if len(exact) == 1:
        return Match(exact[0].order_id)
    return Match(None, waits=any(o.open for o in asked))


def heir(
    transfer: Transfer,
    shown: Iterable[Transfer],
    left: Iterable[Transfer],
    orders: Iterable[Unpaid],
) -> str | None:
    """Return the order that this transaction paid before it was mined again as something else.

    `shown` are the transfers that it makes now, `left` those of them that no order holds. Of
    several, only the notice can say which stands in for which.
    """
    payers = [t for t in left if t.sender == transfer.sender]
    there = {t.key for t in shown if t.sender == transfer.sender}
    heirs = [
        o.order_id
        for o in orders
        if any(k[1] == transfer.tx_hash for k in o.lost if k not in there)
    ]
    return heirs[0] if len(payers) == len(heirs) == 1 else None


def nonce_of(order_id: str) -> str:
    """Return the authorization's nonce (EIP-3009) that names an order."""
    return "0x" + keccak256(order_id.encode()).hex()


def order_named(nonce: str, order_ids: Iterable[str]) -> str | None:
    """Return the order that a nonce names, if it is one of these."""
    return next((each for each in order_ids if nonce_of(each) == nonce), None)


def is_candidate(waiting: Waiting, order: Order, *, head_time: int) -> bool:
    """Whether a waiting transaction may still turn out to pay an order in time.

    Of one that fits several quotes, only the client's notice says for which it is, and of one
    without a receipt only the node. That is waited for, but not for ever: a payment in time
    counts whenever it is shown.
    """
    if head_time > order.terms.pay_by + NOTICE_GRACE_S:
        return False
    client = address_of(order.client)
    if waiting.seen is None or not waiting.is_mined:
        return any(client in (each.sender, ZERO_ADDRESS) for each in waiting.glimpses)
    missing = unpaid(order)
    return missing is not None and any(
        t.sender == client and t.amount == missing.due and t.block_time <= order.terms.pay_by
        for t in waiting.seen.finding.transfers
    )


_RETURNABLE: Final = frozenset(
    {Status.QUOTED, Status.EXPIRED, Status.DELIVERY_FAILED, Status.DISPUTED}
)


def match_refund(transfer: Transfer, orders: Sequence[Order]) -> str | None:
    """Return the one order that money back to its client can be for; never guess between two.

    An exact sum names it. A part of what is held does only if the client has no other order with
    money in it, and only where money is due back.
    """
    held = [o for o in orders if o.created_at // 1000 <= transfer.block_time + CLOCK_SKEW_S]
    held = [o for o in held if o.money.held > 0]
    exact = [o for o in held if transfer.amount in _sums_due_back(o)]
    if len(exact) == 1:
        return exact[0].id
    if exact or len(held) != 1:
        return None
    [order] = held
    fits = transfer.amount < order.money.held and order.status in _RETURNABLE
    return order.id if fits else None


def _sums_due_back(order: Order) -> set[int]:
    """Return the sums whose return is no guess: all that is held, or what is held too much."""
    money = order.money
    sums = {money.held, money.total(Bucket.LATE), money.counted}
    if Status.PAID in order.status_at:
        sums.add(money.covered - order.terms.price)
    return {micros for micros in sums if 0 < micros <= money.held}
