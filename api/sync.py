"""Read your own writes: a write answers after this node's views have it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.keys import RUNNER
from ledger.receipt import Receipt

VIEW_WAIT_SECONDS: Final = 1.0


async def settle_views(app: web.Application, receipt: Receipt) -> None:
    """Wait until the views have the write, at most a second; then answer anyway."""
    await app[RUNNER].wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)
