"""A local chain without any contracts: a running anvil, its blocks, its clock, its reorgs."""

import http.client
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from scripts.anvil import find_anvil
from scripts.anvil_process import AnvilProcess

RPC_TIMEOUT_SECONDS: Final = 30


class DevChainError(Exception):
    """The dev chain refused, or was asked for something that cannot happen."""


class DevNode:
    """A running anvil; stop it, or use it as a context manager. All methods block.

    Safe to share between threads: every request has a connection of its own.
    """

    def __init__(
        self, *, chain_id: int, slots_in_an_epoch: int = 32, block_time_seconds: int | None = None
    ) -> None:
        """Start the chain; `safe` is one epoch behind the head, `finalized` two.

        With a block time, blocks come by the clock; without one, a block comes with every
        transaction.
        """
        self.chain_id = chain_id
        self.mines_by_clock = block_time_seconds is not None
        arguments = ["--chain-id", str(chain_id), "--order", "fifo"]
        arguments += ["--slots-in-an-epoch", str(slots_in_an_epoch)]
        if block_time_seconds is not None:
            arguments += ["--block-time", str(block_time_seconds)]
        self._process = AnvilProcess(find_anvil(), arguments)
        # Blocks at or below this one carry what the chain was set up with.
        self._first_free_block = 0

    @property
    def rpc_url(self) -> str:
        return f"http://{self._process.address}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.stop()

    def wait(self) -> None:
        """Return when the chain has ended."""
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def rpc(self, method: str, params: Sequence[object] = ()) -> Any:  # noqa: ANN401 - raw JSON
        """Send one JSON-RPC request and return its result."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        connection = http.client.HTTPConnection(self._process.address, timeout=RPC_TIMEOUT_SECONDS)
        try:
            connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as error:
            raise DevChainError(f"{method}: the dev chain does not answer: {error}") from error
        finally:
            connection.close()
        if "error" in answer:
            raise DevChainError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def head(self) -> int:
        """Return the number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def head_time(self) -> int:
        """Return the newest block's time, in seconds since the epoch."""
        return int(self.rpc("eth_getBlockByNumber", ["latest", False])["timestamp"], 16)

    def mine(self, blocks: int = 1) -> None:
        self.rpc("anvil_mine", [hex(blocks)])

    def set_automine(self, enabled: bool) -> None:  # noqa: FBT001 - a setter of a single flag
        self.rpc("evm_setAutomine", [enabled])

    def reorg(self, depth: int, txs: Sequence[tuple[str, int]] = ()) -> None:
        """Replace the newest blocks by as many others, which hold only the given transactions.

        Each of `txs` is the raw signed transaction and the place of its new block, counted
        from 0 at the oldest replaced block. A transaction that is not given is gone; it does
        not go back to the pool.
        """
        if depth > self.head() - self._first_free_block:
            raise DevChainError("the reorg would undo the set-up of the chain; mine more blocks")
        self.rpc("anvil_reorg", [depth, [list(tx) for tx in txs]])

    def snapshot(self) -> str:
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to a snapshot, which is used up by it."""
        if not self.rpc("evm_revert", [snapshot]):
            raise DevChainError(f"there is no snapshot {snapshot}")

    def increase_time(self, seconds: int) -> None:
        """Move the chain's clock ahead; it shows in the next block, which is not mined here."""
        self.rpc("evm_increaseTime", [seconds])

    def set_next_block_timestamp(self, timestamp: int) -> None:
        self.rpc("evm_setNextBlockTimestamp", [timestamp])
