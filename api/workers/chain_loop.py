"""One round of reading the chain: transfers, then what their absence says, then refunds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from api.keys import CHAIN, SETTINGS
from api.workers.expiry import expire_quotes
from api.workers.loop import WorkLoop
from api.workers.refunds import find_refunds
from api.workers.watcher import WATCHER, Watcher
from ledger.errors import ChainUnavailable

_log = structlog.get_logger(__name__)


async def follow_chain(app: web.Application) -> None:
    """Read on to the newest block, and record what follows. A silent chain records nothing."""
    watcher = app[WATCHER]
    try:
        await watcher.read()
    except ChainUnavailable as error:
        _log.warning("the chain was not read", detail=error.message)
        return
    if watcher.scan is not None and watcher.scan.head is not None:
        await expire_quotes(app, watcher.scan)
        await find_refunds(app, watcher.scan)


async def scan_loop(app: web.Application) -> AsyncIterator[None]:
    """Follow the chain from start to end of the application, unless SCAN_INTERVAL is 0."""
    app[WATCHER] = Watcher(app)
    interval = app[SETTINGS].scan_interval
    if not interval or app[CHAIN].chain is None:
        yield
        return
    loop = WorkLoop("scan", lambda: follow_chain(app), interval)
    task = asyncio.create_task(loop.run(), name="loop")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
