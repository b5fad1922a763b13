"""Content whose time is over: erased, and the erasure recorded in the same transaction."""

from __future__ import annotations

import structlog
from aiohttp import web

from api.idempotency import ONCE
from api.keys import LEDGER, SETTINGS, VIEWS
from ledger.commands import EraseContent
from ledger.errors import LedgerError
from ledger.order import Order
from ledger.values import UnixMs
from projections.work import ACCEPTANCE, Work, WorkKind, windows_of

_log = structlog.get_logger(__name__)


async def erase_overdue(app: web.Application) -> None:
    """Erase the deliverables of orders in which nothing happened for the retention time."""
    retention_ms = app[SETTINGS].content_retention * 1000
    if not retention_ms:
        return
    for page in app[VIEWS].all_work(WorkKind.RETENTION):
        for work in page:
            if work.since_ms + retention_ms > app[LEDGER].clock():
                return
            await _erase(app, work)


async def _erase(app: web.Application, work: Work) -> None:
    ledger = app[LEDGER]
    order = await ledger.order(work.order_id)
    if order is None or not _is_over(order, app[SETTINGS].content_retention, ledger.clock()):
        return  # something happened that the views do not show yet
    command = EraseContent((work.key,), "retention", ledger.clock())
    try:
        # A crash before this append leaves the content and the work; after it, both are gone.
        await ledger.execute(order.id, command)
        app[ONCE].forget()
    except LedgerError as error:
        _log.info("content not erased", code=error.code)


def _is_over(order: Order, retention_seconds: int, now: UnixMs) -> bool:
    """Whether the content may go: not before the client's time to complain is over, too."""
    complaining = any(name == ACCEPTANCE and now <= at for name, at in windows_of(order))
    return now >= order.updated_at + retention_seconds * 1000 and not complaining
