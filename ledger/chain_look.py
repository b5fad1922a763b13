"""Questions to one node, each in as few requests as it takes, and what its answers say.

One request reaches one node behind a load balancer, so the parts of one answer fit each other.
What several nodes say together is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.chain_answers import (
    Block,
    ChainId,
    FullBlock,
    Receipt,
    block_call,
    parsed,
    sealed_receipt,
    unavailable,
)
from ledger.chain_quorum import SETTLE_BLOCKS, Fact, Sight, Tips
from ledger.chain_scan import Glimpse, glimpses_in
from ledger.chain_transfers import TransferLogs, Way
from ledger.errors import ChainUnavailable
from ledger.rpc import RpcEndpoint

WRONG_CHAIN: Final = "wrong_chain"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node shows of one transaction in one block: the transaction there, and its log."""

    in_block: bool
    listed: bool


@dataclass(frozen=True, slots=True)
class Looker:
    """What is asked of a node: the transfers of one token to and from one address."""

    chain_id: int
    logs: TransferLogs

    def require_chain(self, answer: object) -> None:
        found = parsed(ChainId, {"number": answer}).number
        if found != self.chain_id:
            raise unavailable(f"the node serves chain {found}, not {self.chain_id}", WRONG_CHAIN)

    async def newest(self, endpoint: RpcEndpoint) -> Block:
        """Return the node's newest block."""
        chain_id, raw_head = await endpoint.batch([("eth_chainId", []), block_call("latest")])
        self.require_chain(chain_id)
        return parsed(Block, raw_head)

    async def blocks(
        self, heights: Sequence[int], endpoint: RpcEndpoint
    ) -> tuple[Tips, dict[int, Block]]:
        """Return the node's blocks at these heights, as far as it has them."""
        calls = [block_call(number) for number in heights]
        chain_id, raw_head, raw_final, *raw_blocks = await endpoint.batch(
            [("eth_chainId", []), block_call("latest"), block_call("finalized"), *calls],
            optional=(2,),
        )
        self.require_chain(chain_id)
        final = parsed(Block, raw_final) if raw_final is not None else None
        blocks = [parsed(Block, raw) for raw in raw_blocks if raw is not None]
        known = {block.number: block for block in blocks}
        if not known.keys() <= set(heights):
            raise unavailable("the node answered with a block of another height", "malformed")
        return Tips(parsed(Block, raw_head), None, final), known

    async def look(self, tx_hash: str, way: Way, endpoint: RpcEndpoint) -> Sight:
        """Return what the node shows of a transaction in a canonical block."""
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
        self.require_chain(chain_id)
        head = parsed(Block, raw_head)
        safe, finalized = (parsed(Block, raw) if raw is not None else None for raw in raw_final)
        tips = Tips(head, safe, finalized)
        if any(tip.number > head.number for tip in (safe, finalized) if tip is not None):
            raise unavailable("the node's safe block is above its head", "node_lag")
        receipt = sealed_receipt(raw_receipt, tx_hash)
        block = await self._canonical_block(endpoint, receipt, tips) if receipt else None
        if receipt is not None and block is not None:
            return Sight(tips, self._fact(receipt, block, way))
        why = "the receipt's block is not canonical" if receipt else "the node knows no receipt"
        return Sight(await self._settled_tips(endpoint, tips), why=why)

    async def standing(self, glimpse: Glimpse, endpoint: RpcEndpoint) -> Standing:
        """Return whether the node's block at a log's height holds the transaction and the log."""
        query = {"blockHash": glimpse.block_hash, **self.logs.filter(glimpse.way)}
        chain_id, raw_block, raw_logs = await endpoint.batch(
            [
                ("eth_chainId", []),
                block_call(glimpse.block_number),
                ("eth_getLogs", [query]),
            ],
            # A node without that block refuses to list its logs.
            optional=(2,),
        )
        self.require_chain(chain_id)
        if raw_block is None:
            raise unavailable("the node does not know a block that was read before", "node_lag")
        block = parsed(FullBlock, raw_block)
        if block.number != glimpse.block_number:
            raise unavailable("the node answered with a block of another height", "malformed")
        same = block.hash == glimpse.block_hash
        return Standing(
            in_block=same and glimpse.tx_hash in block.transactions,
            listed=same and glimpse in glimpses_in(raw_logs, self.logs, glimpse.way),
        )

    async def contradicts(self, block: Block, endpoint: RpcEndpoint) -> bool:
        """Return whether the node has another block in this one's place; silence is no answer."""
        try:
            [raw] = await endpoint.batch([block_call(block.number)])
            return raw is not None and parsed(Block, raw).hash != block.hash
        except ChainUnavailable:
            return False

    async def _settled_tips(self, endpoint: RpcEndpoint, tips: Tips) -> Tips:
        """Add the block whose depth stands for `safe`, where the node knows no safe block."""
        number = tips.head.number - SETTLE_BLOCKS
        if tips.safe is not None or number < 0:
            return tips
        [raw] = await endpoint.batch([block_call(number)])
        block = parsed(Block, raw)
        if block.number != number:
            raise unavailable("the node answered with a block of another height", "malformed")
        return Tips(tips.head, None, tips.finalized, block)

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
        transfers = tuple(self.logs.of_receipt(receipt, block, way)) if receipt.status else ()
        nonces = [(t.ordinal, self.logs.nonce_of(receipt, t)) for t in transfers]
        named = tuple((ordinal, nonce) for ordinal, nonce in nonces if nonce is not None)
        return Fact(block, bool(receipt.status), transfers, named)
