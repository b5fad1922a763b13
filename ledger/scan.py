"""How far the chain was read, which transactions wait, and which order a transfer is for. Pure.

Blocks are read again and again until they are safe, so that a log which a node had not indexed
yet, or a block that was replaced, is seen by the next reading. Only then does the place move on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.chain import Inspection
from ledger.chain_answers import Block, unavailable
from ledger.chain_scan import Glimpse, Span, Swept
from ledger.chain_transfers import Way
from ledger.event import Transfer
from ledger.finding import ChainView
from ledger.money import Bucket
from ledger.order import Order, Status
from ledger.signing import keccak256
from ledger.values import ZERO_ADDRESS, address_of

SETTLE_BLOCKS: Final = 600
"""Depth that stands for `safe` where a node knows no safe block: 20 minutes on Base."""
WALK_BACK_BLOCKS: Final = 2_000
"""How far the reading goes back when a block that was safe is another one now."""
CLOCK_SKEW_S: Final = 60
"""A transfer may be mined so much before its quote by the clocks, never in fact."""
NOTICE_GRACE_S: Final = 86_400
"""How long after `pay_by` a transfer that fits several quotes keeps them from expiring."""


@dataclass(frozen=True, slots=True)
class Place:
    """Every block up to `number` was read when it was safe. The hash notices another chain."""

    number: int
    hash: str | None = None


@dataclass(slots=True)
class Waiting:
    """A transaction that is not decided yet: where it was glimpsed, and the last look at it."""

    tx_hash: str
    block_number: int
    block_hash: str
    glimpses: set[Glimpse] = field(default_factory=set)
    seen: Inspection | None = None
    seen_safe: bool = False
    """Whether that look came when the block was safe already."""

    @property
    def is_mined(self) -> bool:
        """Whether the last look showed it deep enough."""
        return self.seen is not None and self.seen.finding.view is ChainView.MINED


class Scan:
    """What is known of the blocks since a place; it holds no more than what is undecided."""

    def __init__(self, place: Place, *, first_block: int, confirmations: int) -> None:
        self.place = place
        self.covered = place.number - 1
        """Every block from the place up to this one was read at least once."""
        self.deep: Block | None = None
        """The newest block at the required depth, as of the newest answer."""
        self.settled: Block | None = None
        """The newest safe block that the place has reached."""
        self.head: Block | None = None
        self.waiting: dict[Way, dict[str, Waiting]] = {Way.IN: {}, Way.OUT: {}}
        self._first_block = first_block
        self._confirmations = confirmations
        self._done: dict[tuple[Way, str, str], int] = {}
        self._knows_safe = True

    def marks(self, span: Span | None) -> set[int]:
        """Return the heights whose blocks are asked for along with a span."""
        wanted = {self.place.number}
        if span is not None and span.last is not None:
            wanted.add(span.last)
        if self.head is not None:
            depths = {self._confirmations - 1}
            if not self._knows_safe:
                depths.add(SETTLE_BLOCKS)
            wanted |= {self.head.number - depth for depth in depths}
        return {number for number in wanted if number >= 0}

    def absorb(self, span: Span, swept: Swept) -> bool:
        """Take a sweep in; return False if the chain is another one and must be read anew.

        Raises `ChainUnavailable` if the node does not know the place: it is only late.
        """
        anchor = swept.blocks.get(self.place.number)
        if anchor is None:
            raise unavailable("the node does not know the block where reading goes on", "node_lag")
        if self.place.hash is not None and anchor.hash != self.place.hash:
            back = max(self._first_block, self.place.number - WALK_BACK_BLOCKS)
            self.place, self.covered = Place(back), back - 1
            self.deep = self.settled = None
            self._done.clear()
            return False
        self.head = swept.tips.head
        last = self.head.number if span.last is None else min(span.last, self.head.number)
        self.covered = max(self.covered, last)
        for glimpse in sorted(swept.glimpses, key=lambda g: (g.block_number, g.log_index)):
            self._add(glimpse)
        self._move(swept, last)
        return True

    def done(self, way: Way, waiting: Waiting) -> None:
        """Say that nothing of a transaction is left to decide while it stays in its block."""
        self.waiting[way].pop(waiting.tx_hash, None)
        if waiting.block_number >= self.place.number:
            self._done[way, waiting.tx_hash, waiting.block_hash] = waiting.block_number

    def is_settled(self, waiting: Waiting) -> bool:
        """Whether a transaction's block was read when it was safe."""
        return self.settled is not None and waiting.block_number <= self.settled.number

    @property
    def durable(self) -> Place:
        """The place to go on from after a restart: before everything that is undecided."""
        undecided = [w.block_number for each in self.waiting.values() for w in each.values()]
        oldest = min(undecided, default=self.place.number)
        return self.place if oldest >= self.place.number else Place(oldest)

    def _add(self, glimpse: Glimpse) -> None:
        if (glimpse.way, glimpse.tx_hash, glimpse.block_hash) in self._done:
            return
        known = self.waiting[glimpse.way].get(glimpse.tx_hash)
        if known is None or known.block_hash != glimpse.block_hash:
            known = Waiting(glimpse.tx_hash, glimpse.block_number, glimpse.block_hash)
            self.waiting[glimpse.way][glimpse.tx_hash] = known
        known.glimpses.add(glimpse)

    def _move(self, swept: Swept, last: int) -> None:
        """Let the place follow the safe block as far as the logs were read."""
        head, safe = swept.tips.head, swept.tips.safe
        self._knows_safe = safe is not None
        limit = safe.number if safe is not None else head.number - SETTLE_BLOCKS
        known = {head.number: head, **swept.blocks}
        if safe is not None:
            known[safe.number] = safe
        read = [block for number, block in known.items() if number <= min(limit, last)]
        newest = max(read, key=lambda block: block.number, default=None)
        if newest is not None and newest.number >= self.place.number:
            self.place, self.settled = Place(newest.number, newest.hash), newest
            self._done = {k: number for k, number in self._done.items() if number >= newest.number}
        depth = head.number - self._confirmations + 1
        deep = [b for n, b in known.items() if n <= min(depth, last)]
        self.deep = max(deep, key=lambda block: block.number, default=self.deep)


@dataclass(frozen=True, slots=True)
class Unpaid:
    """What is missing of an order; times in Unix seconds, `pay_by` None where it has no end.

    `open` says that its client may still send a notice and have it paid.
    """

    order_id: str
    due: int
    since: int
    pay_by: int | None
    open: bool


@dataclass(frozen=True, slots=True)
class Match:
    """The order that a transfer is for; without one, whether to wait for the client's word."""

    order_id: str | None
    waits: bool = False


def unpaid(order: Order) -> Unpaid | None:
    """Return what is missing of an order, None if nothing is."""
    since = order.created_at // 1000
    if order.paused and order.status is not Status.REFUNDED:
        due = order.terms.price - order.money.covered
        return Unpaid(order.id, due, since, None, open=True)
    if order.status not in (Status.QUOTED, Status.EXPIRED):
        return None
    due = order.terms.price - order.money.counted
    still_open = order.status is Status.QUOTED
    return Unpaid(order.id, due, since, order.terms.pay_by, open=still_open)


def match(transfer: Transfer, orders: Iterable[Unpaid]) -> Match:
    """Find the one order of the payer that lacks exactly this much; never guess between two.

    Anybody can ask for a quote in anybody's name. So of an order in time and one too late neither
    is chosen: the client's signed notice says for which it paid.
    """
    asked = [o for o in orders if o.since <= transfer.block_time + CLOCK_SKEW_S]
    exact = [o for o in asked if o.due == transfer.amount]
    if len(exact) == 1:
        return Match(exact[0].order_id)
    return Match(None, waits=any(o.open for o in asked))


def nonce_of(order_id: str) -> str:
    """Return the authorization's nonce (EIP-3009) that names an order."""
    return "0x" + keccak256(order_id.encode()).hex()


def order_named(nonce: str, order_ids: Iterable[str]) -> str | None:
    """Return the order that a nonce names, if it is one of these."""
    return next((each for each in order_ids if nonce_of(each) == nonce), None)


def is_candidate(waiting: Waiting, order: Order, *, head_time: int) -> bool:
    """Whether a waiting transaction may still turn out to pay an order in time.

    Of one that fits several quotes, only the client's notice says for which it is; that is waited
    for, but not for ever: a later notice still counts.
    """
    client = address_of(order.client)
    if waiting.seen is None or not waiting.is_mined:
        return any(client in (each.sender, ZERO_ADDRESS) for each in waiting.glimpses)
    missing = unpaid(order)
    if missing is None or head_time > order.terms.pay_by + NOTICE_GRACE_S:
        return False
    return any(
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
