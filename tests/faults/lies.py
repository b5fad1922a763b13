"""Nodes that lie, each in its own way, about transactions that a test names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.chain_bloom import bloom_of
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs

Json = dict[str, Any]
Lie = Callable[[Json], None]
"""Changes a receipt in place."""

NO_LOGS = "0x" + "00" * 256


def with_filter(receipt: Json) -> None:
    """Give a receipt the filter of the logs that it has now: a liar knows how it is made."""
    receipt["logsBloom"] = bloom_of(
        value for log in receipt["logs"] for value in (log["address"], *log["topics"])
    )


def more_money(receipt: Json) -> None:
    for log in receipt["logs"]:
        log["data"] = f"0x{int(log['data'], 16) + 10**6:064x}"


def less_money(receipt: Json) -> None:
    for log in receipt["logs"]:
        log["data"] = f"0x{max(1, int(log['data'], 16) - 1):064x}"


def another_sender(receipt: Json) -> None:
    for log in receipt["logs"]:
        log["topics"][1] = "0x" + "0" * 24 + "77" * 20
    with_filter(receipt)


def reverted(receipt: Json) -> None:
    receipt |= {"status": "0x0", "logs": [], "logsBloom": NO_LOGS}


def bare(receipt: Json) -> None:
    """Say that the transaction moved nothing."""
    receipt |= {"logs": [], "logsBloom": NO_LOGS}


def without_its_logs(receipt: Json) -> None:
    """Serve the receipt before its logs: the filter is that of the true ones."""
    receipt["logs"] = []


def without_its_last_log(receipt: Json) -> None:
    receipt["logs"].pop()


def another_block(receipt: Json) -> None:
    receipt["blockHash"] = "0x" + "cd" * 32
    for log in receipt["logs"]:
        log["blockHash"] = "0x" + "cd" * 32


class Liar:
    """Tells lies about receipts by their transaction, and hides some of them."""

    def __init__(self) -> None:
        self.lies: dict[str, Lie] = {}
        self.hidden: set[str] = set()
        self.told = 0

    def __call__(self, pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] != "eth_getTransactionReceipt" or not answer.get("result"):
                continue
            tx_hash = answer["result"]["transactionHash"]
            if tx_hash in self.hidden:
                answer["result"] = None
                self.told += 1
            elif (lie := self.lies.get(tx_hash)) is not None:
                lie(answer["result"])
                self.told += 1


class Laggard:
    """A node that has not come further than some block, and knows so itself."""

    def __init__(self, chain: DevChain, *, blocks: int = 0) -> None:
        self._chain = chain
        self._blocks: dict[int, Json] = {}
        self.head = chain.head() - blocks

    def __call__(self, pairs: Pairs) -> None:
        for asked, answer in pairs:
            match asked["method"]:
                case "eth_getBlockByNumber":
                    answer["result"] = self._block(asked["params"][0], answer["result"])
                case "eth_getTransactionReceipt" if answer["result"]:
                    if int(answer["result"]["blockNumber"], 16) > self.head:
                        answer["result"] = None
                case "eth_getLogs" if isinstance(answer.get("result"), list):
                    answer["result"] = [
                        log for log in answer["result"] if int(log["blockNumber"], 16) <= self.head
                    ]

    def _block(self, tag: str, block: Json | None) -> Json | None:
        if block is None or int(block["number"], 16) <= self.head:
            return block
        if tag not in ("latest", "safe", "finalized"):
            return None
        if self.head not in self._blocks:
            newest = self._chain.rpc("eth_getBlockByNumber", [hex(self.head), False])
            self._blocks[self.head] = newest
        return self._blocks[self.head]
