"""Looks transfers up on an EVM chain: what was seen about one transaction, as a `Finding`.

The receipt's Transfer logs are the only evidence of a payment, and only while the receipt's block
is the canonical one at its height. An answer that is missing, late, malformed, contradicted or
from another chain means "unknown", never "unpaid". Nothing is decided about orders here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from ledger.blocks import Blocks
from ledger.chain_answers import Block, unavailable
from ledger.chain_head import NewestBlock
from ledger.chain_look import WRONG_CHAIN, Looker
from ledger.chain_policy import Policy
from ledger.chain_quorum import (
    DISAGREEMENT,
    Sight,
    Tips,
    agreed,
    agreed_blocks,
    agreed_word,
    lowest,
    reached,
    settled_fact,
)
from ledger.chain_scan import Glimpse, Span, Swept, ask_sweep, merged_sweep, whole_sweep
from ledger.chain_transfers import TRANSFER_TOPIC, TransferLogs, Way
from ledger.entry import Beacon
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.finding import ChainView, Finding
from ledger.rpc import RpcEndpoint, RpcPool
from ledger.values import parse_address, parse_tx_hash

__all__ = ["TRANSFER_TOPIC", "Chain", "Inspection"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A finding, the receipt's block, and how its transfers were made.

    `nonces` has by the ordinal of a transfer the nonce of its authorization (EIP-3009).
    """

    finding: Finding
    nonces: Mapping[int, str] = field(default_factory=dict)
    block_hash: str | None = None


class Chain:
    """The transfers to and from one address in one token on one chain."""

    def __init__(
        self,
        pool: RpcPool,
        *,
        chain_id: int,
        token: str,
        payment_address: str,
        min_confirmations: int,
        safe_above_micros: int | None,
    ) -> None:
        self._pool = pool
        self._name = f"eip155:{chain_id}"
        logs = TransferLogs(
            chain=self._name,
            token=parse_address(token),
            payment_address=parse_address(payment_address),
        )
        self._looker = Looker(chain_id, logs)
        self._newest = NewestBlock(self._ask_newest)
        self.policy: Final = Policy(min_confirmations, safe_above_micros)

    async def check_identity(self) -> None:
        """Raise `Misconfigured` if any endpoint serves another chain.

        An endpoint that is silent is no contradiction while another one confirms the chain.
        """
        failures: list[ChainUnavailable] = []
        for endpoint in self._pool.endpoints:
            try:
                [answer] = await endpoint.batch([("eth_chainId", [])])
                self._looker.require_chain(answer)
            except ChainUnavailable as error:
                if error.details.get("reason") == WRONG_CHAIN:
                    raise Misconfigured(f"{endpoint.name}: {error.message}") from error
                failures.append(error)
        if len(failures) == len(self._pool.endpoints):
            raise failures[0]

    async def genesis_hash(self) -> str:
        """Return the hash of block 0, which tells a fresh dev chain from the one before."""
        return (await self.first_contact())[0]

    async def first_contact(self) -> tuple[str, int]:
        """Return the hash of block 0 and the number of the newest block."""
        blocks = await self.blocks([0])
        if 0 not in blocks.hashes:
            raise unavailable("the endpoints know no common block 0", DISAGREEMENT)
        return blocks.hashes[0], blocks.head_number

    async def lookup(self, tx_hash: str) -> Finding:
        """Return what the chain shows about a payment; trouble gives `UNAVAILABLE`."""
        return (await self.inspect(tx_hash)).finding

    async def refund_lookup(self, tx_hash: str) -> Finding:
        """Return the transfers from the payment address, judged as payments are."""
        return (await self.inspect(tx_hash, Way.OUT)).finding

    async def inspect(self, tx_hash: str, way: Way = Way.IN) -> Inspection:
        """Return what the chain shows about a transaction, and how its transfers were made."""
        tx_hash = parse_tx_hash(tx_hash)
        try:
            sight = await self._agreed_sight(tx_hash, way)
        except ChainUnavailable as error:
            return Inspection(Finding(tx_hash, ChainView.UNAVAILABLE, detail=_detail(error)))
        finding = self.policy.judged(tx_hash, sight)
        if sight.fact is None:
            return Inspection(finding)
        return Inspection(finding, dict(sight.fact.nonces), sight.fact.block.hash)

    async def beacon(self) -> Beacon | None:
        """Return a block that exists now, or None if the chain does not say in time."""
        block = await self._newest.get()
        if block is None:
            return None
        return Beacon(chain=self._name, number=block.number, hash=block.hash)

    async def is_gone(self, glimpse: Glimpse, *, has_receipt: bool) -> bool:
        """Whether it is a fact that a log which was listed is not on the chain.

        Without a receipt, it is one once the block at its height does not hold the transaction: a
        node may list a log and not serve the receipt yet. Where the receipt is there and lacks
        the log, the log must not be listed any more either.
        """
        answers, failures = await self._pool.poll(
            partial(self._looker.standing, glimpse),
            enough=lambda said: len(said) >= self._pool.needed and len({s for _, s in said}) == 1,
        )
        words = [each.listed if has_receipt else each.in_block for _, each in answers]
        if len(set(words)) > 1:
            self._alarm(glimpse.tx_hash, answers)
        there = agreed_word(words, self._pool.needed, some_silent=bool(failures))
        return there is False

    async def blocks(self, heights: Iterable[int]) -> Blocks:
        """Return the canonical hashes at these heights, or raise `ChainUnavailable`.

        Heights above a node's head, and those that the endpoints disagree on, are left out.
        """
        wanted, needed = sorted(set(heights)), self._pool.needed
        answers, failures = await self._pool.poll(
            partial(self._looker.blocks, wanted),
            enough=lambda said: len(said) >= needed and not agreed_blocks(_known(said), needed)[1],
        )
        if len(answers) < needed:
            raise failures[0]
        known, differ = agreed_blocks(_known(answers), needed)
        if differ:
            self._alarm("blocks", answers)
        tips = lowest(tips for _, (tips, _) in answers)
        final = tips.finalized.number if tips.finalized is not None else -1
        return Blocks(tips.head.number, final, {number: b.hash for number, b in known.items()})

    async def sweep(self, span: Span | None, marks: Iterable[int]) -> Swept:
        """Return the logs of a range and the blocks at these heights, or raise `ChainUnavailable`.

        Without a range, only the blocks. Every log that any endpoint lists is returned: it is a
        hint where to look, not a fact.
        """
        wanted, needed = sorted(set(marks)), self._pool.needed
        answers, failures = await self._pool.poll(
            partial(ask_sweep, span, wanted, self._looker.logs, self._looker.require_chain),
            enough=lambda said: whole_sweep([swept for _, swept in said], needed),
        )
        if len(answers) < needed:
            raise failures[0]
        swept, differ = merged_sweep([swept for _, swept in answers], needed)
        if differ:
            self._alarm("sweep", answers)
        return swept

    async def _ask_newest(self) -> Block:
        needed = self._pool.needed
        answers, failures = await self._pool.poll(
            self._looker.newest, enough=lambda said: len(said) >= needed
        )
        if len(answers) < needed:
            raise failures[0]
        return reached((block for _, block in answers), needed)

    async def _agreed_sight(self, tx_hash: str, way: Way) -> Sight:
        needed = self._pool.needed
        answers, failures = await self._pool.poll(
            partial(self._looker.look, tx_hash, way),
            enough=lambda said: settled_fact([sight for _, sight in said], needed),
        )
        # "I know no such thing" counts only when every endpoint has said so: the one that failed
        # may be the one that knows.
        if failures and all(sight.fact is None for _, sight in answers):
            raise failures[0]
        try:
            verdict = agreed([sight for _, sight in answers], needed)
        except ChainUnavailable as error:
            if error.details.get("reason") == DISAGREEMENT:
                self._alarm(tx_hash, answers)
            raise
        if verdict.contradicted:
            self._alarm(tx_hash, answers)
        fact = verdict.sight.fact
        if fact is not None and needed == 1:
            await self._require_uncontradicted(fact.block, answers)
        return verdict.sight

    async def _require_uncontradicted(
        self, block: Block, answers: list[tuple[RpcEndpoint, Sight]]
    ) -> None:
        """Ask the endpoints that know no receipt whether they have another block in its place."""
        for endpoint, sight in answers:
            if sight.fact is not None or sight.tips.head.number < block.number:
                continue
            if await self._looker.contradicts(block, endpoint):
                self._alarm(block.hash, answers)
                raise unavailable("the endpoints show different blocks", DISAGREEMENT)

    def _alarm(self, about: str, answers: Iterable[tuple[RpcEndpoint, object]]) -> None:
        names = [endpoint.name for endpoint, _ in answers]
        _log.error("RPC endpoints disagree", about=about, endpoints=names)


def _known(
    said: Iterable[tuple[RpcEndpoint, tuple[Tips, dict[int, Block]]]],
) -> list[dict[int, Block]]:
    return [known for _, (_, known) in said]


def _detail(error: ChainUnavailable) -> str:
    disagree = error.details.get("reason") == DISAGREEMENT
    return f"{DISAGREEMENT}: {error.message}" if disagree else error.message
