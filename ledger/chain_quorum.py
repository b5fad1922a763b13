"""What the answers of several endpoints say together. Pure.

Only what cannot change is put to the vote: a receipt's fields and the block hash at a height. How
long the chain is differs from node to node by right, so there the smallest number counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ledger.chain_answers import Block, unavailable
from ledger.event import Finality, Transfer

DISAGREEMENT: Final = "disagreement"
SETTLE_BLOCKS: Final = 600
"""Depth that stands for `safe` where a node knows no safe block: 20 minutes on Base."""

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Tips:
    """The newest block of a node, and its newest safe and final ones where it knows them.

    `deep` is the block whose depth stands for `safe` where it knows none, if it was asked for.
    """

    head: Block
    safe: Block | None
    finalized: Block | None
    deep: Block | None = None

    @property
    def settled(self) -> Block | None:
        """The newest block known that nothing replaces in practice."""
        return self.safe or self.deep

    def finality(self, number: int) -> Finality:
        """Return how final a block of the node's chain is."""
        if self.finalized is not None and number <= self.finalized.number:
            return "finalized"
        settled = self.head.number - SETTLE_BLOCKS if self.safe is None else self.safe.number
        return "safe" if number <= settled else "sealed"


@dataclass(frozen=True, slots=True)
class Fact:
    """What a canonical receipt shows for ever: block, status, transfers, and their nonces."""

    block: Block
    succeeded: bool
    transfers: tuple[Transfer, ...]
    nonces: tuple[tuple[int, str], ...] = ()
    """The authorization's nonce by the transfer's ordinal, where there is one."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One endpoint's look at one transaction; without a fact, `why` says what is missing."""

    tips: Tips
    fact: Fact | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sight that stands, and whether another one contradicts it."""

    sight: Sight
    contradicted: bool = False


def agreed(sights: Sequence[Sight], needed: int) -> Verdict:
    """Return what the endpoints show together, or raise `ChainUnavailable`.

    That an endpoint knows no receipt is no fact while another one knows it. Where one voice is
    enough, two different ones are a disagreement.
    """
    facts = [sight.fact for sight in sights if sight.fact is not None]
    if not facts:
        return Verdict(Sight(lowest(s.tips for s in sights), why=sights[0].why))
    [(fact, votes), *others] = Counter(facts).most_common()
    if others and not _outvotes(votes, others, needed):
        raise unavailable("the endpoints show different receipts", DISAGREEMENT)
    if votes < needed:
        raise unavailable(f"{votes} of {needed} endpoints knows the receipt", "too_few")
    tips = lowest(sight.tips for sight in sights if sight.fact == fact)
    return Verdict(Sight(tips, fact), contradicted=bool(others))


def settled_fact(sights: Sequence[Sight], needed: int) -> bool:
    """Whether no further endpoint need be asked about a transaction."""
    votes = Counter(sight.fact for sight in sights if sight.fact is not None)
    return any(count >= max(2, needed) for count in votes.values())


def agreed_blocks(
    known: Sequence[Mapping[int, Block]], needed: int
) -> tuple[dict[int, Block], bool]:
    """Return the blocks at the heights that endpoints agree on, and whether any two differ."""
    heights = {number for blocks in known for number in blocks}
    agreed_on: dict[int, Block] = {}
    differ = False
    for number in heights:
        seen = Counter(blocks[number] for blocks in known if number in blocks)
        [(block, votes), *others] = seen.most_common()
        differ = differ or bool(others)
        if _outvotes(votes, others, needed) if others else votes >= needed:
            agreed_on[number] = block
    return agreed_on, differ


def agreed_word(words: Sequence[W], needed: int, *, some_silent: bool) -> W | None:
    """Return what the endpoints say together about something that one of them may not know yet.

    None while it is unknown: where one voice is enough, the silent one may know better.
    """
    if not words:
        return None
    [(word, votes), *others] = Counter(words).most_common()
    if others:
        return word if _outvotes(votes, others, needed) else None
    return None if votes < needed or (some_silent and needed == 1) else word


def reached(heads: Iterable[Block], needed: int) -> Block:
    """Return the newest block that as many endpoints have reached as a fact needs."""
    return sorted(heads, key=_number, reverse=True)[needed - 1]


def _outvotes(votes: int, others: Sequence[tuple[object, int]], needed: int) -> bool:
    return votes >= max(2, needed) and votes > others[0][1]


def lowest(tips: Iterable[Tips]) -> Tips:
    """Return the lowest of each: what all of the nodes have reached."""
    every = list(tips)
    return Tips(
        min((t.head for t in every), key=_number),
        _lowest_known([t.safe for t in every]),
        _lowest_known([t.finalized for t in every]),
        _lowest_known([t.settled for t in every]),
    )


def _lowest_known(blocks: Sequence[Block | None]) -> Block | None:
    known = [block for block in blocks if block is not None]
    return min(known, key=_number) if len(known) == len(blocks) else None


def _number(block: Block) -> int:
    return block.number
