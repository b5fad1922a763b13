"""Looks a payment up on an EVM chain: what was seen about one transaction, as a `Finding`.

The receipt's Transfer logs are the only evidence of a payment, and only while the receipt's block
is the canonical one at its height. An answer that is missing, late, malformed or from another
chain means "unknown", never "unpaid". Nothing is decided about orders here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as Malformed
from pydantic.alias_generators import to_camel

from ledger.errors import ChainUnavailable, Misconfigured
from ledger.event import Finality, Transfer
from ledger.finding import ChainView, Finding
from ledger.rpc import Call, RpcEndpoint, RpcPool
from ledger.values import parse_address, parse_tx_hash

TRANSFER_TOPIC: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
TRANSFER_TOPICS: Final = 3
WRONG_CHAIN: Final = "wrong_chain"

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
_ADDRESS_PADDING: Final = "0x" + "0" * 24
_WORD_LENGTH: Final = 2 + 64
A = TypeVar("A", bound="_Answer")
# An amount has at most 30 decimal digits where it is written down.
_MAX_AMOUNT: Final = 10**30


def _integer(raw: object) -> int:
    if not isinstance(raw, str) or not _QUANTITY.fullmatch(raw):
        raise ValueError("is not a quantity in hexadecimal digits")
    return int(raw, 16)


# The bounds are those of the fields of `Transfer`.
_Number = Annotated[int, BeforeValidator(_integer), Field(lt=2**53)]
_Time = Annotated[int, BeforeValidator(_integer), Field(lt=2**40)]
_Index = Annotated[int, BeforeValidator(_integer), Field(lt=2**31)]
_Word = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{64}$", to_lower=True)]
_Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", to_lower=True)]
_Data = Annotated[str, StringConstraints(pattern=r"^0x([0-9a-fA-F]{2})*$")]


class _Answer(BaseModel):
    """What we read of a node's answer; the rest of it is not looked at."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", alias_generator=to_camel)


class _Block(_Answer):
    number: _Number
    hash: _Word
    timestamp: _Time


class _Log(_Answer):
    address: _Address
    topics: list[_Word]
    data: _Data
    log_index: _Index
    transaction_hash: _Word
    block_hash: _Word
    removed: bool = False


class _Receipt(_Answer):
    transaction_hash: _Word
    block_hash: _Word
    block_number: _Number
    status: Annotated[_Number, Field(lt=2)]
    logs: list[_Log]


class _ChainId(_Answer):
    number: _Number


class Chain:
    """The payments to one address in one token on one chain."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
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

    async def _genesis(self, endpoint: RpcEndpoint) -> _Block:
        chain_id, block = await endpoint.batch([("eth_chainId", []), _block_call("0x0")])
        self._require_chain(chain_id)
        return _parsed(_Block, block)

    async def _look(self, tx_hash: str, endpoint: RpcEndpoint) -> Finding:
        # One request reaches one node behind a load balancer: its parts fit each other.
        chain_id, raw_receipt, raw_head, *raw_final = await endpoint.batch(
            [
                ("eth_chainId", []),
                ("eth_getTransactionReceipt", [tx_hash]),
                _block_call("latest"),
                _block_call("safe"),
                _block_call("finalized"),
            ],
            optional=(3, 4),
        )
        self._require_chain(chain_id)
        head = _parsed(_Block, raw_head)
        safe, finalized = (_parsed(_Block, raw) if raw is not None else None for raw in raw_final)
        tips = [tip for tip in (head, safe, finalized) if tip is not None]
        if any(tip.number > head.number for tip in tips):
            raise _unavailable("the node's safe block is above its head", "node_lag")
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
        self, endpoint: RpcEndpoint, receipt: _Receipt, tips: list[_Block]
    ) -> _Block | None:
        """Return the receipt's block, or None if another block stands at its height."""
        number = receipt.block_number
        if number > tips[0].number:
            raise _unavailable("the receipt's block is above the node's head", "node_lag")
        blocks = [tip for tip in tips if tip.number == number]
        if not blocks:
            [raw] = await endpoint.batch([_block_call(hex(number))])
            blocks = [_parsed(_Block, raw)]
        if any(block.number != number for block in blocks):
            raise _unavailable("the node answered with a block of another height", "malformed")
        return blocks[0] if all(tip.hash == receipt.block_hash for tip in blocks) else None

    def _require_chain(self, answer: object) -> None:
        found = _parsed(_ChainId, {"number": answer}).number
        if found != self._chain_id:
            raise _unavailable(f"the node serves chain {found}, not {self._chain_id}", WRONG_CHAIN)

    def _judge(
        self, seen: Finding, receipt: _Receipt, block: _Block, finality: Finality
    ) -> Finding:
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

    def _transfers(self, receipt: _Receipt, block: _Block) -> Iterator[Transfer]:
        for ordinal, log in enumerate(receipt.logs):
            # A list that lacks a log would give the logs after it ordinals of other transfers.
            if log.log_index != receipt.logs[0].log_index + ordinal:
                raise _unavailable("the receipt's logs are not in a row", "malformed")
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

    def _payment(self, log: _Log) -> tuple[str, int] | None:
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
            raise _unavailable("a Transfer log does not hold an amount", "malformed")
        return (sender, amount) if amount else None


def _sealed_receipt(raw: object, tx_hash: str) -> _Receipt | None:
    """Return the receipt, or None without one or while no sealed block holds it."""
    if raw is None or (isinstance(raw, dict) and raw.get("blockHash", "") is None):
        return None
    receipt = _parsed(_Receipt, raw)
    hashes = {log.transaction_hash for log in receipt.logs} | {receipt.transaction_hash}
    blocks = {log.block_hash for log in receipt.logs} | {receipt.block_hash}
    if hashes != {tx_hash} or len(blocks) != 1:
        raise _unavailable("the receipt or its logs are another transaction's", "malformed")
    return receipt


def _finality(number: int, safe: _Block | None, finalized: _Block | None) -> Finality:
    if finalized is not None and number <= finalized.number:
        return "finalized"
    return "safe" if safe is not None and number <= safe.number else "sealed"


def _block_call(tag: str) -> Call:
    return ("eth_getBlockByNumber", [tag, False])


def _address(topic: str) -> str:
    if not topic.startswith(_ADDRESS_PADDING):
        raise _unavailable("a Transfer log does not name an address", "malformed")
    return "0x" + topic.removeprefix(_ADDRESS_PADDING)


def _parsed(kind: type[A], raw: object) -> A:
    try:
        return kind.model_validate(raw)
    except Malformed as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
    raise _unavailable(f"the node's answer is malformed at {place!r}: {first['msg']}", "malformed")


def _unavailable(message: str, reason: str) -> ChainUnavailable:
    return ChainUnavailable(message, details={"reason": reason})
