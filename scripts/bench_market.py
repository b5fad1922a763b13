"""What the marketplace takes over HTTP: `python -m scripts.bench_market`.

One service in a process of its own, open on loopback. As many writers as `--writers` post messages
at once; then the agent polls them, and polls when nothing is new. At the end the history and the
lists are read with all of them there.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.table import Table

from scripts.demo_service import ServiceProcess

EVM: Final = "0x00000000000000000000000000000000000000{}"
AGENT: Final = EVM.format("a1")
CLIENT: Final = EVM.format("c1")
BATCH: Final = 20
READS: Final = 200

Json = dict[str, Any]
Rows = list[tuple[str, str]]


class Visitor:
    """A client without proof, of a marketplace that asks for none."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, path: str, body: Json | None = None) -> Json:
        """POST a body, or GET without one; raises on any status but 200."""
        method = "GET" if body is None else "POST"
        async with self._session.request(method, self._url + path, json=body) as response:
            response.raise_for_status()
            found: Json = await response.json()
            return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=4_000)
    parser.add_argument("--offers", type=int, default=1_000)
    parser.add_argument("--writers", type=int, default=16)
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="bench-market-"))
    service = ServiceProcess(_settings(folder), folder / "log")
    try:
        service.start()
        rows = asyncio.run(_measured(service.url, options))
    finally:
        service.stop()
        shutil.rmtree(folder)
    _print(rows, options)
    return 0


def _settings(folder: Path) -> dict[str, str]:
    return {
        "LEDGER_PORT": "0",
        "LEDGER_DATA_DIR": str(folder / "data"),
        "LEDGER_PAYMENT_ADDRESS": EVM.format("aa"),
        "LEDGER_RECOVERY_ADDRESS": EVM.format("bb"),
        "LEDGER_AETHER_AUTH": "open",
        "LEDGER_COMPAT_BATCH": str(BATCH),
        "LEDGER_RATE_LIMIT": "0",
        "LEDGER_MAX_CONNECTIONS_PER_ADDRESS": "0",
    }


async def _measured(url: str, options: argparse.Namespace) -> Rows:
    connector = aiohttp.TCPConnector(limit=options.writers)
    async with aiohttp.ClientSession(connector=connector) as session:
        visitor = Visitor(session, url)
        named = {"name": "Scribe", "ownerWallet": AGENT, "basePrice": 1}
        agent = (await visitor.ask("/agents/register", named))["agentId"]
        begun = {"agentId": agent, "clientWallet": CLIENT, "initialMessage": "hello"}
        talk = (await visitor.ask("/conversations", begun))["id"]
        rows = await _writes(visitor, talk, options)
        rows += await _polls(visitor, agent, options.messages)
        return rows + await _reads(visitor, talk)


async def _writes(visitor: Visitor, talk: str, options: argparse.Namespace) -> Rows:
    said = {"from": CLIENT, "message": "x" * 200}
    offer = {
        "conversationId": talk,
        "agentWallet": AGENT,
        "description": "y" * 200,
        "price": 2.01,
        "deliveryTime": 60,
    }
    messages, writers = f"/conversations/{talk}/messages", options.writers
    posted = await _rate(lambda: visitor.ask(messages, said), options.messages, writers)
    offered = await _rate(lambda: visitor.ask("/orders", offer), options.offers, writers)
    return [("messages posted", posted), ("offers made", offered)]


async def _polls(visitor: Visitor, agent: str, messages: int) -> Rows:
    path = f"/agents/messages/new?agentId={agent}"
    full: list[float] = []
    for _ in range(math.ceil((messages + 1) / BATCH)):  # and the first one
        began = time.perf_counter()
        found = (await visitor.ask(path))["messages"]
        full.append(1000 * (time.perf_counter() - began))
        if not found:
            raise SystemExit("a message is missing")
    return [
        (f"poll that hands out {BATCH}", f"{statistics.median(full):.1f} ms"),
        ("poll, nothing new", await _median(lambda: visitor.ask(path))),
    ]


async def _reads(visitor: Visitor, talk: str) -> Rows:
    reads = {
        "history, the newest 50": f"/conversations/{talk}/messages?wallet={CLIENT}&limit=50",
        "orders of a wallet, 50": f"/orders?wallet={CLIENT}&limit=50",
        "conversations of a wallet": f"/conversations?wallet={CLIENT}",
        "search": "/agents/search?query=scribe",
    }
    return [
        (name, await _median(lambda path=path: visitor.ask(path)))  # type: ignore[misc]
        for name, path in reads.items()
    ]


async def _rate(act: Callable[[], Awaitable[object]], count: int, at_once: int) -> str:
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await act()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return f"{count / (time.perf_counter() - began):,.0f} / s"


async def _median(act: Callable[[], Awaitable[object]]) -> str:
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        await act()
        times.append(1000 * (time.perf_counter() - began))
    return f"{statistics.median(times):.1f} ms"


def _print(rows: Rows, options: argparse.Namespace) -> None:
    table = Table("over HTTP, client and service on one machine", "")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(
        f"{options.messages:,} messages and {options.offers:,} offers in one conversation,"
        f" {options.writers} writers at once; polls and reads one after the other, p50"
    )


if __name__ == "__main__":
    raise SystemExit(main())
