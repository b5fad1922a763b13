"""A chain that a test writes block by block, and that answers the calls a node answers.

It knows only what the service asks for. `test_node.py` shows that its answers are those of a real
node for every case that is used here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from ledger.chain_bloom import bloom_of
from ledger.chain_transfers import AUTHORIZATION_TOPIC, TRANSFER_TOPIC

Json = dict[str, Any]
METHOD_NOT_FOUND: Final = -32601
OUT_OF_RANGE: Final = -32602
OUT_OF_ORDER: Final = -32000


class Refused(Exception):
    """The node answers a call with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Log:
    """One log as its transaction makes it, wherever that is mined."""

    address: str
    topics: tuple[str, ...]
    data: str


@dataclass(frozen=True)
class Tx:
    """A transaction with its outcome; a reverted one has no logs."""

    hash: str
    sender: str
    to: str
    logs: tuple[Log, ...] = ()
    reverted: bool = False


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent: str
    time: int
    txs: tuple[Tx, ...] = ()


@dataclass(frozen=True)
class Mined:
    """Where a transaction lies, and the place of its first log in its block."""

    block: Block
    index: int
    first_log: int
    tx: Tx


def word(number: int) -> str:
    return f"0x{number:064x}"


def padded(address: str) -> str:
    return "0x" + "0" * 24 + address[2:].lower()


def transfer_log(token: str, sender: str, recipient: str, micros: int) -> Log:
    return Log(token, (TRANSFER_TOPIC, padded(sender), padded(recipient)), word(micros))


def authorization_log(token: str, payer: str, nonce: str) -> Log:
    """Return what the token writes before the transfer that a payer's signature allowed."""
    return Log(token, (AUTHORIZATION_TOPIC, padded(payer), nonce), "0x")


@dataclass
class ScriptedChain:
    """Blocks in a list; `safe` is one epoch behind the newest, `finalized` two."""

    chain_id: int
    epoch: int
    start_time: int
    blocks: list[Block] = field(default_factory=list)
    silent: bool = False
    """Every call is answered with an error, until it is not."""

    _mined: dict[str, Mined] = field(default_factory=dict)
    _made: int = 0

    def __post_init__(self) -> None:
        self._append(self.start_time, ())

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    @property
    def safe(self) -> Block:
        return self.blocks[max(0, self.head.number - self.epoch)]

    @property
    def finalized(self) -> Block:
        return self.blocks[max(0, self.head.number - 2 * self.epoch)]

    def mined(self, tx_hash: str) -> Mined | None:
        """Return where a transaction is in the canonical chain."""
        return self._mined.get(tx_hash)

    def depth(self, tx_hash: str) -> int:
        """Return how many blocks deep a transaction lies; 0 if it is in none."""
        mined = self.mined(tx_hash)
        return self.head.number - mined.block.number + 1 if mined else 0

    def mine(self, time: int, txs: Sequence[Tx] = ()) -> Block:
        """Add a block; its time is later than that of the block before."""
        return self._append(max(time, self.head.time + 1), tuple(txs))

    def reorg(self, depth: int, txs: Sequence[tuple[Tx, int]] = ()) -> list[Tx]:
        """Replace the newest blocks by as many others, with these transactions at these places.

        Returns the transactions that are in no block any more.
        """
        replaced = self.blocks[-depth:]
        del self.blocks[-depth:]
        for block in replaced:
            for tx in block.txs:
                del self._mined[tx.hash]
        for place, block in enumerate(replaced):
            self._append(block.time, tuple(tx for tx, at in txs if at == place))
        return [tx for block in replaced for tx in block.txs if tx.hash not in self._mined]

    def new_hash(self, what: str) -> str:
        """Return a hash that was never there."""
        self._made += 1
        return "0x" + sha256(f"{what} {self._made}".encode()).hexdigest()

    def _append(self, time: int, txs: tuple[Tx, ...]) -> Block:
        number = len(self.blocks)
        parent = self.blocks[-1].hash if self.blocks else "0x" + "0" * 64
        block = Block(number, self.new_hash(f"block {number}"), parent, time, txs)
        self.blocks.append(block)
        logs = 0
        for index, tx in enumerate(txs):
            self._mined[tx.hash] = Mined(block, index, logs, tx)
            logs += len(tx.logs)
        return block

    # What a node answers.

    def answer(self, method: str, params: Sequence[Any]) -> object:
        """Return the result of a call, or raise `Refused`."""
        if self.silent:
            raise Refused(OUT_OF_ORDER, "out of order")
        match method:
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_getBlockByNumber":
                return self._block(str(params[0]))
            case "eth_getTransactionReceipt":
                mined = self.mined(str(params[0]))
                return _receipt(mined) if mined else None
            case "eth_getLogs":
                return self._logs(params[0])
            case _:
                raise Refused(METHOD_NOT_FOUND, "Method not found")

    def _block(self, tag: str) -> Json | None:
        number = self._number(tag)
        return _shown(self.blocks[number]) if number <= self.head.number else None

    def _number(self, tag: str) -> int:
        tags = {"latest": self.head, "safe": self.safe, "finalized": self.finalized}
        return tags[tag].number if tag in tags else int(tag, 16)

    def _logs(self, query: Mapping[str, Any]) -> list[Json]:
        if "blockHash" in query:
            numbers = [block.number for block in self.blocks if block.hash == query["blockHash"]]
            first, last = (*numbers, *numbers) or (self.head.number + 1, 0)
        else:
            first, last = self._number(query["fromBlock"]), self._number(query["toBlock"])
        if first > self.head.number:
            raise Refused(OUT_OF_RANGE, "BlockOutOfRangeError")
        return [
            _log(self._mined[tx.hash], ordinal)
            for block in self.blocks[first : last + 1]
            for tx in block.txs
            for ordinal, log in enumerate(tx.logs)
            if log.address == query["address"].lower() and _fits(log.topics, query["topics"])
        ]


def _fits(topics: Sequence[str], wanted: Sequence[str | None]) -> bool:
    pairs = zip(topics, wanted, strict=False)
    return len(topics) >= len(wanted) and all(want in (None, topic) for topic, want in pairs)


def _shown(block: Block) -> Json:
    return {
        "number": hex(block.number),
        "hash": block.hash,
        "parentHash": block.parent,
        "timestamp": hex(block.time),
        "transactions": [tx.hash for tx in block.txs],
    }


def _receipt(mined: Mined) -> Json:
    return {
        "transactionHash": mined.tx.hash,
        "transactionIndex": hex(mined.index),
        "blockHash": mined.block.hash,
        "blockNumber": hex(mined.block.number),
        "status": "0x0" if mined.tx.reverted else "0x1",
        "from": mined.tx.sender,
        "to": mined.tx.to,
        "logs": [_log(mined, ordinal) for ordinal in range(len(mined.tx.logs))],
        "logsBloom": bloom_of(v for log in mined.tx.logs for v in (log.address, *log.topics)),
    }


def _log(mined: Mined, ordinal: int) -> Json:
    log = mined.tx.logs[ordinal]
    return {
        "address": log.address,
        "topics": list(log.topics),
        "data": log.data,
        "blockHash": mined.block.hash,
        "blockNumber": hex(mined.block.number),
        "transactionHash": mined.tx.hash,
        "transactionIndex": hex(mined.index),
        "logIndex": hex(mined.first_log + ordinal),
        "removed": False,
    }
