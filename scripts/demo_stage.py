"""Where the demo plays: its own folder, its own chain behind a proxy, its own service."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from ledger.entry import SignedEvent, read_entry
from ledger.log_events import LogOpened
from ledger.store_sqlite import connect
from scripts.buyer import Answer, Buyer
from scripts.demo_proof import Pinned
from scripts.demo_say import DemoFailed, step
from scripts.demo_service import ServiceProcess
from scripts.devchain import DevChain, dev_accounts
from scripts.rpc_proxy import RpcProxy

NETWORK: Final = "base-sepolia"
PAYMENT_ADDRESS: Final = "0x00000000000000000000000000000000000000aa"
RECOVERY_ADDRESS: Final = "0x00000000000000000000000000000000000000bb"
BUYER_USDC_MICROS: Final = 1000 * 10**6
CATALOG: Final = Path(__file__).resolve().parent.parent / "catalog.toml"
POLL_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 15


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the parts of the demo play with."""

    folder: Path
    chain: DevChain
    proxy: RpcProxy
    service: ServiceProcess
    started_in_seconds: float

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def guard_file(self) -> Path:
        return self.folder / "data.guard"

    def entries(self) -> list[tuple[int, SignedEvent]]:
        """Return every event with its position, read from the ledger's own file."""
        ledger = connect(str(self.data_dir / "ledger.db"), read_only=True)
        try:
            rows = ledger.execute("SELECT rowid, state FROM stored_events ORDER BY rowid")
            return [(row[0], read_entry(row[1])) for row in rows]
        finally:
            ledger.close()

    def entries_of(self, order_id: str) -> list[tuple[int, SignedEvent]]:
        """Return the events of one order."""
        return [e for e in self.entries() if e[1].stream == f"order/{order_id}"]

    def pinned(self) -> Pinned:
        """Return what the operator publishes of this log, as its first event says."""
        opened = self.entries()[0][1].event
        if not isinstance(opened, LogOpened):
            raise DemoFailed("the ledger does not begin with its genesis")
        return Pinned(opened.origin, opened.wallet, opened.log_key)

    @asynccontextmanager
    async def buyer(self) -> AsyncIterator[Buyer]:
        """Give a client with a funded wallet. All parts share one wallet."""
        account = dev_accounts()[1]
        key = "0x" + bytes(account.key).hex()
        async with aiohttp.ClientSession() as session:
            yield Buyer(session, self.service.url, key)

    def pay(self, buyer: Buyer, usdc: float) -> str:
        """Transfer test USDC to the provider and return the transaction's hash."""
        return self.chain.transfer(buyer.private_key, PAYMENT_ADDRESS, round(usdc * 10**6))


@contextmanager
def stage(*, keep: bool) -> Iterator[Stage]:
    """Build it all, and take it down in the reverse order, whatever happened in between.

    The folder is removed unless it is to be kept or something failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="ivxp-ledger-demo-"))
    try:
        with ExitStack() as stack:
            # With every transaction comes a block, and 8 blocks later a block is final.
            chain = stack.enter_context(DevChain(slots_in_an_epoch=4))
            chain.fund(dev_accounts()[1].address, BUYER_USDC_MICROS)
            proxy = stack.enter_context(RpcProxy(chain.rpc_url))
            service = ServiceProcess(_settings(folder, proxy.url), folder / "service.log")
            stack.callback(service.stop)
            yield Stage(folder, chain, proxy, service, service.start())
    except Exception:
        keep = True
        raise
    finally:
        if keep:
            step("kept", str(folder))
        else:
            shutil.rmtree(folder)


def _settings(folder: Path, rpc_url: str) -> dict[str, str]:
    """Return the settings of a real run, but for play money and without limits on one client."""
    return {
        "LEDGER_PORT": "0",
        "LEDGER_DATA_DIR": str(folder / "data"),
        "LEDGER_GUARD_FILE": str(folder / "data.guard"),
        "LEDGER_CATALOG": str(CATALOG),
        "LEDGER_NETWORK": NETWORK,
        "LEDGER_RPC_URLS": rpc_url,
        "LEDGER_DEV_CHAIN": "true",
        "LEDGER_PAYMENT_ADDRESS": PAYMENT_ADDRESS,
        "LEDGER_RECOVERY_ADDRESS": RECOVERY_ADDRESS,
        "LEDGER_RATE_LIMIT": "0",
        "LEDGER_MAX_OPEN_QUOTES": "0",
        "LEDGER_LOOP_INTERVAL": "0.1",
    }


async def poll(
    ask: Callable[[], Awaitable[Answer]], done: Callable[[Answer], bool], what: str
) -> Answer:
    """Ask until the answer is the awaited one, or raise `DemoFailed`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done(answer := await ask()):
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what}: not within {PATIENCE_SECONDS} s; last answer {answer.body}")
        await asyncio.sleep(POLL_SECONDS)
    return answer
