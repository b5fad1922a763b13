"""Ledgers for benchmarks: synthetic orders with content, through the real service and writer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from ledger.commands import (
    Deliverable,
    HandIn,
    IssueQuote,
    NoteCollected,
    RecordTransfers,
    StartProcessing,
)
from ledger.content import commitment, digests_of, plain, salted
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from ledger.order_events import OrderQuoted
from ledger.service import Ledger, LedgerConfig
from ledger.values import UnixMs, new_content_id, new_order_id, order_stream

CHAIN: Final = "eip155:84532"
CLIENT: Final = "0x" + "cc" * 20
PAYMENT: Final = "0x" + "ee" * 20
AT_ONCE: Final = 256


def config_of(folder: Path) -> LedgerConfig:
    """Return what a benchmark's ledger is opened with; the same keys each time."""
    return LedgerConfig(
        data_dir=folder / "data",
        guard_file=folder / "data.guard",
        origin="bench.example/ledger",
        network="base-sepolia",
        wallet_secret=b"\x01" * 32,
        log_seed=b"\x02" * 32,
        payment_address=f"{CHAIN}:{PAYMENT}",
        recovery_address="0x" + "bb" * 20,
        dev_chain=True,
    )


def make_ledger(
    folder: Path, events: int, progress: Callable[[int], None] = lambda _: None
) -> LedgerConfig:
    """Write a ledger of at least so many events, and close it."""
    config = config_of(folder)
    ledger = Ledger(config)
    ledger.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(grow(ledger, events, progress))
    finally:
        ledger.close()
    return config


async def grow(
    ledger: Ledger, events: int, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Tell orders to a running ledger, many at once, until it holds so many events."""

    async def tell() -> None:
        while ledger.head.size + AT_ONCE < events:
            await _order(ledger)
            progress(ledger.head.size)

    await asyncio.gather(*(tell() for _ in range(AT_ONCE)))
    while ledger.head.size < events:
        await _order(ledger)


async def _order(ledger: Ledger) -> None:
    order_id, clock = new_order_id(), ledger.clock
    stream, raw = order_stream(order_id), secrets.token_hex(32).encode()
    words = salted(stream, "description", f"work for {order_id}")
    terms, commit = _terms(clock(), words.content_id), {"description": commitment(words)}
    quote = IssueQuote(terms, commit, clock())
    await ledger.execute(order_id, quote, (words,))
    await ledger.execute(order_id, RecordTransfers(_paid(clock()), None, clock()))
    await ledger.execute(order_id, StartProcessing("worker", clock()))
    made = _made(raw)
    await ledger.execute(order_id, HandIn(made, clock()), (plain(stream, made.content_id, raw),))
    await ledger.execute(order_id, NoteCollected("bearer", clock()))


def _terms(now: UnixMs, description_id: str) -> OrderQuoted:
    return OrderQuoted(
        service="echo",
        client=f"{CHAIN}:{CLIENT}",
        price=1_000_000,
        chain=CHAIN,
        token="0x" + "dd" * 20,
        payment_address=PAYMENT,
        pay_by=now // 1000 + 3600,
        deliver_by=now // 1000 + 7200,
        acceptance_window=86_400,
        answer_window=86_400,
        refund_policy="ab" * 32,
        description_id=description_id,
    )


def _paid(now: UnixMs) -> Finding:
    tx_hash = "0x" + secrets.token_hex(32)
    transfer = Transfer(
        chain=CHAIN,
        tx_hash=tx_hash,
        ordinal=0,
        log_index=0,
        block_number=1,
        block_hash="0x" + "0b" * 32,
        block_time=now // 1000,
        sender=CLIENT,
        recipient=PAYMENT,
        amount=1_000_000,
    )
    return Finding(tx_hash, ChainView.MINED, (transfer,), depth=1)


def _made(raw: bytes) -> Deliverable:
    said = digests_of(raw, "text", "echo")
    return Deliverable(
        new_content_id(),
        said.raw,
        said.json_digest,
        len(raw),
        "text",
        "text/plain",
        said.legacy_digest,
    )
