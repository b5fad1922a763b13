"""Our ledger under so many concurrent callers, with everything on."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger.commands import (
    Deliverable,
    HandIn,
    IssueQuote,
    NoteCollected,
    RecordTransfers,
    StartProcessing,
)
from ledger.decide import OrderCommand
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from ledger.order_events import OrderQuoted
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.values import UnixMs, new_content_id, new_order_id
from scripts.bench_making import CHAIN, config_of

SIGNER: Final = "0x" + "cc" * 20


class OurOrders:
    """A ledger on a SQLite file, driven without HTTP."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(config_of(folder))
        self._ledger.start()

    async def run(self, callers: int, seconds: float) -> float:
        """Return commands per second of so many callers, each waiting for its answers."""
        begin = time.perf_counter()
        done = await asyncio.gather(*(self._caller(begin + seconds) for _ in range(callers)))
        return sum(done) / (time.perf_counter() - begin)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    async def _caller(self, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            order_id = new_order_id()
            for command in self._lifecycle():
                _prove(await self._ledger.execute(order_id, command))
                done += 1
        return done

    def _lifecycle(self) -> Iterator[OrderCommand]:
        yield self._quote()
        clock = self._ledger.clock
        yield RecordTransfers(_finding(clock()), None, clock())
        yield StartProcessing("worker", clock())
        yield HandIn(_deliverable(), clock())
        yield NoteCollected("bearer", clock())

    def _quote(self) -> IssueQuote:
        now = self._ledger.clock()
        terms = OrderQuoted(
            service="echo",
            client=f"{CHAIN}:{SIGNER}",
            price=1_000_000,
            chain=CHAIN,
            token="0x" + "dd" * 20,
            payment_address="0x" + "ee" * 20,
            pay_by=now // 1000 + 3600,
            deliver_by=now // 1000 + 7200,
            acceptance_window=86_400,
            answer_window=86_400,
            refund_policy="ab" * 32,
            description_id=new_content_id(),
        )
        return IssueQuote(terms, {"description": "ab" * 32}, UnixMs(now))


def _finding(now: UnixMs) -> Finding:
    tx_hash = "0x" + secrets.token_hex(32)
    transfer = Transfer(
        chain=CHAIN,
        tx_hash=tx_hash,
        ordinal=0,
        log_index=0,
        block_number=1,
        block_hash="0x" + "0b" * 32,
        block_time=now // 1000,
        sender=SIGNER,
        recipient="0x" + "ee" * 20,
        amount=1_000_000,
    )
    return Finding(tx_hash, ChainView.MINED, (transfer,), depth=1)


def _deliverable() -> Deliverable:
    return Deliverable(new_content_id(), "ab" * 32, "cd" * 32, 64, "text", "text/plain")


def _prove(receipt: Receipt) -> None:
    if receipt.growth is None:
        raise RuntimeError("the command appended nothing")
    receipt.growth.inclusion_proof(receipt.first_position - 1)
