"""Read your own writes: a write answers after this node's views have it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.keys import LEDGER, RUNNER
from ledger.decide import OrderCommand
from ledger.errors import LedgerError
from ledger.receipt import Receipt
from ledger.store_sqlite import ContentRow

VIEW_WAIT_SECONDS: Final = 1.0


async def execute(
    app: web.Application, order_id: str, command: OrderCommand, content: tuple[ContentRow, ...] = ()
) -> Receipt:
    """Execute a command of an order, and return or raise when the views have what it recorded.

    They get a second; then the answer goes out all the same.
    """
    try:
        receipt = await app[LEDGER].execute(order_id, command, content)
    except LedgerError as error:
        if isinstance(error.receipt, Receipt):
            await _settle(app, error.receipt)
        raise
    await _settle(app, receipt)
    return receipt


async def _settle(app: web.Application, receipt: Receipt) -> None:
    await app[RUNNER].wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)
