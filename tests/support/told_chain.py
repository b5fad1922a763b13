"""A chain that shows exactly the transfers it is told of, as a JSON-RPC node would.

For ledgers whose payments were never on a real chain; the audit's own client is tested on one.
"""

from collections.abc import Iterable, Mapping, Sequence

from ledger.chain_bloom import bloom_of
from ledger.chain_transfers import TRANSFER_TOPIC
from ledger.event import Transfer
from ledger.rpc import Call

HEAD = 1000
OTHER = "0x" + "33" * 20


def topic(address: str) -> str:
    return "0x" + "0" * 24 + address.removeprefix("0x")


class ToldChain:
    """Answers batches of calls; `times` are blocks without a transfer."""

    def __init__(
        self, chain_id: int, token: str, transfers: Iterable[Transfer], times: Mapping[int, int]
    ) -> None:
        self._chain_id = chain_id
        self._token = token
        self._by_tx: dict[str, list[Transfer]] = {}
        self._blocks: dict[int, tuple[str, int]] = {
            number: (f"0x{number:064x}", time) for number, time in times.items()
        }
        for transfer in transfers:
            self._by_tx.setdefault(transfer.tx_hash, []).append(transfer)
            self._blocks[transfer.block_number] = (transfer.block_hash, transfer.block_time)

    def __call__(self, calls: Sequence[Call]) -> list[object]:
        return [self._answer(method, params) for method, params in calls]

    def _answer(self, method: str, params: Sequence[object]) -> object:
        match method, *params:
            case ["eth_chainId"]:
                return hex(self._chain_id)
            case ["eth_blockNumber"]:
                return hex(HEAD)
            case ["eth_getTransactionReceipt", str(tx_hash)]:
                return self._receipt(tx_hash)
            case ["eth_getBlockByNumber", str(number), False]:
                return self._block(int(number, 16))
            case ["eth_getLogs", dict(query)]:
                return self._logs(query)
        raise AssertionError(method)

    def _receipt(self, tx_hash: str) -> object:
        if tx_hash not in self._by_tx:
            return None
        moved = {t.ordinal: t for t in self._by_tx[tx_hash]}
        first = self._by_tx[tx_hash][0]
        start = first.log_index - first.ordinal
        logs = [self._log(first, start + n, moved.get(n)) for n in range(max(moved) + 1)]
        marks = (value for log in logs for value in (log["address"], *log["topics"]))  # type: ignore[misc]
        return {
            "transactionHash": tx_hash,
            "blockHash": first.block_hash,
            "blockNumber": hex(first.block_number),
            "status": "0x1",
            "logs": logs,
            "logsBloom": bloom_of(marks),
        }

    def _log(self, of: Transfer, index: int, moved: Transfer | None) -> dict[str, object]:
        ends = [] if moved is None else [topic(moved.sender), topic(moved.recipient)]
        return {
            "address": OTHER if moved is None else self._token,
            "topics": [TRANSFER_TOPIC, *ends],
            "data": f"0x{0 if moved is None else moved.amount:064x}",
            "logIndex": hex(index),
            "transactionHash": of.tx_hash,
            "blockHash": of.block_hash,
            "blockNumber": hex(of.block_number),
        }

    def _block(self, number: int) -> object:
        if number not in self._blocks:
            return None
        found, time = self._blocks[number]
        hashes = [tx for tx, moved in self._by_tx.items() if moved[0].block_number == number]
        return {
            "number": hex(number),
            "hash": found,
            "timestamp": hex(time),
            "transactions": hashes,
        }

    def _logs(self, query: Mapping[str, object]) -> object:
        first, last = int(str(query["fromBlock"]), 16), int(str(query["toBlock"]), 16)
        return [
            log
            for moved in self._by_tx.values()
            for t in moved
            if first <= t.block_number <= last
            for log in [self._log(t, t.log_index, t)]
            if (log["address"], log["topics"]) == (query["address"], query["topics"])
        ]
