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
from ledger.chain_answers import (
    Block,
    ChainId,
    Receipt,
    block_call,
    parsed,
    sealed_receipt,
    unavailable,
)
from ledger.chain_policy import Policy
from ledger.chain_quorum import (
    DISAGREEMENT,
    Fact,
    Sight,
    Tips,
    agreed,
    agreed_blocks,
    lowest,
    settled_fact,
)
from ledger.chain_scan import Span, Swept, ask_sweep, merged_sweep, whole_sweep
from ledger.chain_transfers import TRANSFER_TOPIC, TransferLogs, Way
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.finding import ChainView, Finding
from ledger.rpc import RpcEndpoint, RpcPool
from ledger.values import parse_address, parse_tx_hash

__all__ = ["TRANSFER_TOPIC", "Chain", "Inspection"]

WRONG_CHAIN: Final = "wrong_chain"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A finding, and by the ordinal of a transfer the nonce of its authorization (EIP-3009)."""

    finding: Finding
    nonces: Mapping[int, str] = field(default_factory=dict)


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
        self._chain_id = chain_id
        self._logs = TransferLogs(
            chain=f"eip155:{chain_id}",
            token=parse_address(token),
            payment_address=parse_address(payment_address),
        )
        self.policy: Final = Policy(min_confirmations, safe_above_micros)

    async def check_identity(self) -> None:
        """Raise `Misconfigured` if any endpoint serves another chain.

        An endpoint that is silent is no contradiction while another one confirms the chain.
        """
        failures: list[ChainUnavailable] = []
        for endpoint in self._pool.endpoints:
            try:
                [answer] = await endpoint.batch([("eth_chainId", [])])
                self._require_chain(answer)
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
        nonces = dict(sight.fact.nonces) if sight.fact else {}
        return Inspection(self.policy.judged(tx_hash, sight), nonces)

    async def blocks(self, heights: Iterable[int]) -> Blocks:
        """Return the canonical hashes at these heights, or raise `ChainUnavailable`.

        Heights above a node's head, and those that the endpoints disagree on, are left out.
        """
        wanted, needed = sorted(set(heights)), self._pool.needed
        answers, failures = await self._pool.poll(
            partial(self._blocks, wanted),
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
            partial(ask_sweep, span, wanted, self._logs, self._require_chain),
            enough=lambda said: whole_sweep([swept for _, swept in said], needed),
        )
        if len(answers) < needed:
            raise failures[0]
        swept, differ = merged_sweep([swept for _, swept in answers], needed)
        if differ:
            self._alarm("sweep", answers)
        return swept

    async def _blocks(
        self, heights: list[int], endpoint: RpcEndpoint
    ) -> tuple[Tips, dict[int, Block]]:
        calls = [block_call(number) for number in heights]
        chain_id, raw_head, raw_final, *raw_blocks = await endpoint.batch(
            [("eth_chainId", []), block_call("latest"), block_call("finalized"), *calls],
            optional=(2,),
        )
        self._require_chain(chain_id)
        final = parsed(Block, raw_final) if raw_final is not None else None
        blocks = [parsed(Block, raw) for raw in raw_blocks if raw is not None]
        known = {block.number: block for block in blocks}
        if not known.keys() <= set(heights):
            raise unavailable("the node answered with a block of another height", "malformed")
        return Tips(parsed(Block, raw_head), None, final), known

    async def _agreed_sight(self, tx_hash: str, way: Way) -> Sight:
        needed = self._pool.needed
        answers, failures = await self._pool.poll(
            partial(self._look, tx_hash, way),
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
            try:
                [raw] = await endpoint.batch([block_call(block.number)])
                other = raw is not None and parsed(Block, raw).hash != block.hash
            except ChainUnavailable:
                continue  # silence contradicts nothing
            if other:
                self._alarm(block.hash, answers)
                raise unavailable("the endpoints show different blocks", DISAGREEMENT)

    async def _look(self, tx_hash: str, way: Way, endpoint: RpcEndpoint) -> Sight:
        # One request reaches one node behind a load balancer: its parts fit each other.
        chain_id, raw_receipt, raw_head, *raw_final = await endpoint.batch(
            [
                ("eth_chainId", []),
                ("eth_getTransactionReceipt", [tx_hash]),
                block_call("latest"),
                block_call("safe"),
                block_call("finalized"),
            ],
            optional=(3, 4),
        )
        self._require_chain(chain_id)
        head = parsed(Block, raw_head)
        safe, finalized = (parsed(Block, raw) if raw is not None else None for raw in raw_final)
        tips = Tips(head, safe, finalized)
        if any(tip.number > head.number for tip in (safe, finalized) if tip is not None):
            raise unavailable("the node's safe block is above its head", "node_lag")
        receipt = sealed_receipt(raw_receipt, tx_hash)
        if receipt is None:
            return Sight(tips, why="the node knows no receipt in a sealed block")
        block = await self._canonical_block(endpoint, receipt, tips)
        if block is None:
            return Sight(tips, why="the receipt's block is not canonical")
        return Sight(tips, self._fact(receipt, block, way))

    async def _canonical_block(
        self, endpoint: RpcEndpoint, receipt: Receipt, tips: Tips
    ) -> Block | None:
        """Return the receipt's block, or None if another block stands at its height."""
        number = receipt.block_number
        if number > tips.head.number:
            raise unavailable("the receipt's block is above the node's head", "node_lag")
        known = (tips.head, tips.safe, tips.finalized)
        blocks = [tip for tip in known if tip is not None and tip.number == number]
        if not blocks:
            [raw] = await endpoint.batch([block_call(number)])
            blocks = [parsed(Block, raw)]
        if any(block.number != number for block in blocks):
            raise unavailable("the node answered with a block of another height", "malformed")
        return blocks[0] if all(tip.hash == receipt.block_hash for tip in blocks) else None

    def _fact(self, receipt: Receipt, block: Block, way: Way) -> Fact:
        # A reverted transaction moved nothing, whatever its receipt lists.
        transfers = tuple(self._logs.of_receipt(receipt, block, way)) if receipt.status else ()
        nonces = [(t.ordinal, self._logs.nonce_of(receipt, t)) for t in transfers]
        named = tuple((ordinal, nonce) for ordinal, nonce in nonces if nonce is not None)
        return Fact(block, bool(receipt.status), transfers, named)

    def _require_chain(self, answer: object) -> None:
        found = parsed(ChainId, {"number": answer}).number
        if found != self._chain_id:
            raise unavailable(f"the node serves chain {found}, not {self._chain_id}", WRONG_CHAIN)

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
