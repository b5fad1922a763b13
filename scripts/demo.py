"""A demonstration: a local chain with play money, the real service, and a distrustful client.

Nothing outside a temporary folder is written. In a terminal it stays up afterwards, to be looked
at; with --exit, or without a terminal, it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final

import aiohttp

from ledger.errors import LedgerError
from scripts.anvil import AnvilMissingError
from scripts.anvil_process import AnvilStartError
from scripts.demo_audit import show_audit
from scripts.demo_cheat import show_cheat
from scripts.demo_kill import show_kill
from scripts.demo_order import Played, show_order
from scripts.demo_outage import show_outage
from scripts.demo_say import DemoFailed, failed, passed, step, title
from scripts.demo_stage import Stage, stage
from scripts.demo_timeline import show_timeline
from scripts.devchain import dev_accounts
from scripts.devnode import DevChainError

PARTS: Final = ("order", "outage", "kill", "timeline", "audit", "cheat")
WITH_THE_ORDER: Final = (None, "order", "timeline", "audit", "cheat")
WATCH_SECONDS: Final = 0.5
EXIT_INTERRUPTED: Final = 130
FAILURES: Final = (
    DemoFailed,
    LedgerError,
    DevChainError,
    AnvilMissingError,
    AnvilStartError,
    aiohttp.ClientError,
    RuntimeError,
    OSError,
    TimeoutError,
)


async def play(on: Stage, only: str | None) -> Played | None:
    """Play all parts, or one with the order that it needs; return that order."""
    played = await show_order(on) if only in WITH_THE_ORDER else None
    if only in (None, "outage"):
        await show_outage(on)
    if only in (None, "kill"):
        await show_kill(on)
    if played and only not in ("audit", "cheat"):
        show_timeline(on, played)
    if only in (None, "audit"):
        show_audit(on)
    if played and only in (None, "cheat"):
        show_cheat(on, played)
    return played


def introduce(on: Stage) -> None:
    """Say what runs here."""
    title("Order ledger: every step of an order is signed, and can be checked")
    step("Play money on a local chain. Lines marked ok were checked, not only told.")
    step("data folder", f"{on.folder}, removed at the end (kept with --keep)")
    step("chain", f"anvil, chain id {on.chain.chain_id}, test USDC at {on.chain.usdc_address}")
    step("service", f"{on.service.url}, up in {on.started_in_seconds:.1f} s")


def stay(on: Stage, played: Played | None) -> None:
    """Stay up until Ctrl-C, and say where to look."""
    url, order_id = on.service.url, played.order_id if played else "ORDER_ID"
    print()
    title("Still running; play money only. Ctrl-C ends it.")
    step("catalog", f"curl -s {url}/ivxp/catalog")
    step("health", f"curl -s {url}/health")
    step("status of an order", f"curl -s {url}/ivxp/status/{order_id}")
    step("ledger", str(on.data_dir / "ledger.db"))
    step("service's log", str(on.folder / "service.log"))
    step("RPC", on.chain.rpc_url)
    step("a wallet with USDC", f"{dev_accounts()[1].address} (anvil's second account)")
    try:
        while on.service.running:
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return
    raise DemoFailed("the service has ended by itself")


def run(only: str | None, *, keep: bool, remain: bool) -> None:
    started = time.monotonic()
    with stage(keep=keep) as on:
        introduce(on)
        played = asyncio.run(play(on, only))
        print()
        passed(f"demo: ok, every promise was kept, in {time.monotonic() - started:.1f} s")
        if remain:
            stay(on, played)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the last part")
    parser.add_argument("--only", choices=PARTS, help="play one part, with what it needs")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the ledger")
    options = parser.parse_args(argv)
    # A polite request to end takes the same way out as Ctrl-C, so that everything is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(options.only, keep=options.keep, remain=sys.stdout.isatty() and not options.exit)
    except KeyboardInterrupt:
        failed("interrupted")
        return EXIT_INTERRUPTED
    except FAILURES as error:
        failed(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
