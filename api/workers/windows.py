"""Windows that lapse: a client that stays silent, a provider that does not answer."""

from __future__ import annotations

import structlog
from aiohttp import web

from api.keys import LEDGER, VIEWS
from ledger.commands import LapseAcceptance, LapseAnswer
from ledger.errors import LedgerError
from projections.work import ACCEPTANCE, Work, WorkKind

_log = structlog.get_logger(__name__)


async def close_lapsed(app: web.Application) -> None:
    """Record every window that ended before now; the work list is ordered by that moment."""
    for page in app[VIEWS].all_work(WorkKind.WINDOW):
        for work in page:
            if work.since_ms >= app[LEDGER].clock():
                return
            await _close(app, work)


async def _close(app: web.Application, work: Work) -> None:
    now = app[LEDGER].clock()
    command = LapseAcceptance(now) if work.key == ACCEPTANCE else LapseAnswer(now)
    try:
        # A crash before this append leaves the window in the work list; after it, nothing to do.
        await app[LEDGER].execute(work.order_id, command)
    except LedgerError as error:
        # The client or the provider was quicker than the views.
        _log.info("window not closed", window=work.key, code=error.code)
