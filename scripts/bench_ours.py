"""Our ledger under so many concurrent callers, with everything on."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final

from ledger.commands import AcceptNotice, IssueQuote, Notice
from ledger.errors import ChainUnavailable
from ledger.event import ClientText
from ledger.finding import ChainView, Finding
from ledger.order_events import OrderQuoted
from ledger.receipt import Receipt
from ledger.service import Ledger, LedgerConfig
from ledger.values import UnixMs, new_content_id, new_order_id

CLAIMS: Final = 3
CHAIN: Final = "eip155:84532"
SIGNER: Final = "0x" + "cc" * 20


class OurOrders:
    """A ledger on a SQLite file, driven without HTTP."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(
            LedgerConfig(
                data_dir=folder / "data",
                guard_file=folder / "data.guard",
                origin="bench.example/ledger",
                network="base-sepolia",
                wallet_secret=secrets.token_bytes(32),
                log_seed=secrets.token_bytes(32),
                payment_address=f"{CHAIN}:0x{'ee' * 20}",
                recovery_address="0x" + "bb" * 20,
                dev_chain=True,
            )
        )
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
            _prove(await self._ledger.execute(order_id, self._quote()))
            for _ in range(CLAIMS):
                await self._claim(order_id)
            done += 1 + CLAIMS
        return done

    async def _claim(self, order_id: str) -> None:
        now = self._ledger.clock()
        tx_hash = "0x" + secrets.token_hex(32)
        text = ClientText(
            text=f"Order: {order_id} | Payment: {tx_hash} | Timestamp: 2026-01-01T00:00:00Z",
            signature="0x" + "ab" * 65,
            signer=SIGNER,
        )
        notice = Notice(client=text, tx_hash=tx_hash, nonce=None, stamp=now)
        finding = Finding(tx_hash, ChainView.UNAVAILABLE)
        try:
            await self._ledger.execute(order_id, AcceptNotice(notice, finding, now))
        except ChainUnavailable as kept:
            if isinstance(kept.receipt, Receipt):
                _prove(kept.receipt)

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


def _prove(receipt: Receipt) -> None:
    if receipt.growth is None:
        raise RuntimeError("the command appended nothing")
    receipt.growth.inclusion_proof(receipt.first_position - 1)
