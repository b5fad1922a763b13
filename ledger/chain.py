"""Looks a payment up on an EVM chain: what was seen about one transaction, as a `Finding`.

The receipt's Transfer logs are the only evidence of a payment, and only while the receipt's block
is the canonical one at its height. An answer that is missing, late, malformed or from another
chain means "unknown", never "unpaid". Nothing is decided about orders here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from ledger.blocks import Blocks
from ledger.chain_answers import Block, ChainId, Log, Receipt, block_call, parsed, unavailable
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.event import Finality, Transfer
from ledger.finding import ChainView, Finding
from ledger.rpc import RpcEndpoint, RpcPool
from ledger.values import parse_address, parse_tx_hash

TRANSFER_TOPIC: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
TRANSFER_TOPICS: Final = 3
WRONG_CHAIN: Final = "wrong_chain"
_ADDRESS_PADDING: Final = "0x" + "0" * 24
_WORD_LENGTH: Final = 2 + 64
# An amount has at most 30 decimal digits where it is written down.
_MAX_AMOUNT: Final = 10**30


class Chain:
    """The payments to one address in one token on one chain."""

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
        self._chain = f"eip155:{chain_id}"
        self._token = parse_address(token)
        self._payment_address = parse_address(payment_address)
        self._min_confirmations = min_confirmations
        self._safe_above_micros = safe_above_micros

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
        return (await self._pool.ask(self._genesis)).hash

    async def lookup(self, tx_hash: str) -> Finding:
        """Return what the chain shows about a transaction; trouble gives `UNAVAILABLE`."""
        tx_hash = parse_tx_hash(tx_hash)
        try:
            return await self._pool.ask(
                partial(self._look, tx_hash),
                settled=lambda finding: finding.view is not ChainView.NOT_FOUND,
            )
        except ChainUnavailable as error:
            return Finding(tx_hash, ChainView.UNAVAILABLE, detail=error.message)

    async def blocks(self, heights: Iterable[int]) -> Blocks:
        """Return the canonical hashes at these heights, or raise `ChainUnavailable`.

        Heights above the node's head are left out: it may only be late.
        """
        return await self._pool.ask(partial(self._blocks, sorted(set(heights))))

    async def _blocks(self, heights: list[int], endpoint: RpcEndpoint) -> Blocks:
        calls = [block_call(hex(number)) for number in heights]
        chain_id, raw_head, raw_final, *raw_blocks = await endpoint.batch(
            [("eth_chainId", []), block_call("latest"), block_call("finalized"), *calls],
            optional=(2,),
        )
        self._require_chain(chain_id)
        head = parsed(Block, raw_head)
        final = parsed(Block, raw_final).number if raw_final is not None else -1
        blocks = [parsed(Block, raw) for raw in raw_blocks if raw is not None]
        known = {block.number: block.hash for block in blocks}
        if not known.keys() <= set(heights):
            raise unavailable("the node answered with a block of another height", "malformed")
        return Blocks(head.number, final, known)

    async def _genesis(self, endpoint: RpcEndpoint) -> Block:
        chain_id, block = await endpoint.batch([("eth_chainId", []), block_call("0x0")])
        self._require_chain(chain_id)
        return parsed(Block, block)

    async def _look(self, tx_hash: str, endpoint: RpcEndpoint) -> Finding:
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
        tips = [tip for tip in (head, safe, finalized) if tip is not None]
        if any(tip.number > head.number for tip in tips):
            raise unavailable("the node's safe block is above its head", "node_lag")
        seen = Finding(
            tx_hash,
            ChainView.NOT_FOUND,
            head_number=head.number,
            head_time=head.timestamp,
            safe_time=safe.timestamp if safe is not None else 0,
        )
        receipt = _sealed_receipt(raw_receipt, tx_hash)
        if receipt is None:
            return replace(seen, detail="the node knows no receipt in a sealed block")
        block = await self._canonical_block(endpoint, receipt, tips)
        if block is None:
            return replace(seen, detail="the receipt's block is not canonical")
        return self._judge(seen, receipt, block, _finality(block.number, safe, finalized))

    async def _canonical_block(
        self, endpoint: RpcEndpoint, receipt: Receipt, tips: list[Block]
    ) -> Block | None:
        """Return the receipt's block, or None if another block stands at its height."""
        number = receipt.block_number
        if number > tips[0].number:
            raise unavailable("the receipt's block is above the node's head", "node_lag")
        blocks = [tip for tip in tips if tip.number == number]
        if not blocks:
            [raw] = await endpoint.batch([block_call(hex(number))])
            blocks = [parsed(Block, raw)]
        if any(block.number != number for block in blocks):
            raise unavailable("the node answered with a block of another height", "malformed")
        return blocks[0] if all(tip.hash == receipt.block_hash for tip in blocks) else None

    def _require_chain(self, answer: object) -> None:
        found = parsed(ChainId, {"number": answer}).number
        if found != self._chain_id:
            raise unavailable(f"the node serves chain {found}, not {self._chain_id}", WRONG_CHAIN)

    def _judge(self, seen: Finding, receipt: Receipt, block: Block, finality: Finality) -> Finding:
        depth = seen.head_number - block.number + 1
        # A reverted transaction moved nothing, whatever its receipt lists.
        transfers = tuple(self._transfers(receipt, block)) if receipt.status else ()
        view = ChainView.MINED if receipt.status else ChainView.REVERTED
        shallow = self._why_shallow(depth, finality, sum(each.amount for each in transfers))
        return replace(
            seen,
            view=ChainView.SHALLOW if shallow else view,
            transfers=transfers,
            depth=depth,
            finality=finality,
            detail=shallow,
        )

    def _why_shallow(self, depth: int, finality: Finality, micros: int) -> str:
        if depth < self._min_confirmations:
            return f"{depth} of {self._min_confirmations} confirmations"
        limit = micros if self._safe_above_micros is None else self._safe_above_micros
        waits = micros > limit and finality == "sealed"
        return f"{micros} micro-USDC wait for a safe block" if waits else ""

    def _transfers(self, receipt: Receipt, block: Block) -> Iterator[Transfer]:
        for ordinal, log in enumerate(receipt.logs):
            # A list that lacks a log would give the logs after it ordinals of other transfers.
            if log.log_index != receipt.logs[0].log_index + ordinal:
                raise unavailable("the receipt's logs are not in a row", "malformed")
            if (payment := self._payment(log)) is None:
                continue
            sender, amount = payment
            yield Transfer(
                chain=self._chain,
                tx_hash=receipt.transaction_hash,
                ordinal=ordinal,
                log_index=log.log_index,
                block_number=block.number,
                block_hash=block.hash,
                block_time=block.timestamp,
                sender=sender,
                recipient=self._payment_address,
                amount=amount,
            )

    def _payment(self, log: Log) -> tuple[str, int] | None:
        """Return who paid how much to our address by a log, or None if it shows no such thing.

        Anybody can make the token emit a Transfer of zero between two strangers: it is nothing.
        """
        if log.removed or log.address != self._token:
            return None
        # Four topics are a transfer of a single item, which has the same first topic.
        if len(log.topics) != TRANSFER_TOPICS or log.topics[0] != TRANSFER_TOPIC:
            return None
        sender, recipient = _address(log.topics[1]), _address(log.topics[2])
        if recipient != self._payment_address:
            return None
        if len(log.data) != _WORD_LENGTH or (amount := int(log.data, 16)) >= _MAX_AMOUNT:
            raise unavailable("a Transfer log does not hold an amount", "malformed")
        return (sender, amount) if amount else None


def _sealed_receipt(raw: object, tx_hash: str) -> Receipt | None:
    """Return the receipt, or None without one or while no sealed block holds it."""
    if raw is None or (isinstance(raw, dict) and raw.get("blockHash", "") is None):
        return None
    receipt = parsed(Receipt, raw)
    hashes = {log.transaction_hash for log in receipt.logs} | {receipt.transaction_hash}
    blocks = {log.block_hash for log in receipt.logs} | {receipt.block_hash}
    if hashes != {tx_hash} or len(blocks) != 1:
        raise unavailable("the receipt or its logs are another transaction's", "malformed")
    return receipt


def _finality(number: int, safe: Block | None, finalized: Block | None) -> Finality:
    if finalized is not None and number <= finalized.number:
        return "finalized"
    return "safe" if safe is not None and number <= safe.number else "sealed"


def _address(topic: str) -> str:
    if not topic.startswith(_ADDRESS_PADDING):
        raise unavailable("a Transfer log does not name an address", "malformed")
    return "0x" + topic.removeprefix(_ADDRESS_PADDING)
