"""How far the chain was read, and which transactions wait to be decided. Pure.

Blocks are read again and again until they are safe, so that a log which a node had not indexed
yet, or a block that was replaced, is seen by the next reading. Only then does the place move on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ledger.chain import Inspection
from ledger.chain_answers import Block, unavailable
from ledger.chain_quorum import SETTLE_BLOCKS
from ledger.chain_scan import Glimpse, Span, Swept
from ledger.chain_transfers import Way
from ledger.finding import ChainView

WALK_BACK_BLOCKS: Final = 2_000
"""How far the reading goes back when a block that was safe is another one now."""


@dataclass(frozen=True, slots=True)
class Place:
    """Every block up to `number` was read when it was safe. The hash notices another chain."""

    number: int
    hash: str | None = None


@dataclass(slots=True)
class Waiting:
    """A transaction that is not decided yet: where it was glimpsed, and the last look at it.

    `first_block` is the oldest block that it was ever glimpsed in: a reorganisation may move it.
    """

    tx_hash: str
    block_number: int
    block_hash: str
    first_block: int
    glimpses: set[Glimpse] = field(default_factory=set)
    seen: Inspection | None = None
    seen_safe: bool = False
    """Whether that look came when the block was safe already."""

    @property
    def is_mined(self) -> bool:
        """Whether the last look showed it deep enough."""
        return self.seen is not None and self.seen.finding.view is ChainView.MINED

    @property
    def unshown(self) -> list[Glimpse]:
        """The listed logs that the last look did not show where they were listed."""
        shown = self.seen.finding.transfers if self.seen is not None else ()
        known = {(t.block_hash, t.log_index, t.sender, t.recipient, t.amount) for t in shown}
        return [
            g
            for g in self.glimpses
            if (g.block_hash, g.log_index, g.sender, g.recipient, g.amount) not in known
        ]


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
            first = glimpse.block_number if known is None else known.first_block
            known = Waiting(
                glimpse.tx_hash,
                glimpse.block_number,
                glimpse.block_hash,
                min(first, glimpse.block_number),
            )
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
