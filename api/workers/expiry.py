"""Close quotes that the chain shows to be unpaid: by the time of its blocks, never by a clock."""

from __future__ import annotations

import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, LIMITS, VIEWS
from api.workers.watcher import views_are_up
from ledger.chain_policy import Policy
from ledger.chain_transfers import Way
from ledger.commands import ExpireQuote
from ledger.errors import LedgerError
from ledger.matching import is_candidate
from ledger.order import Order, Status
from ledger.scan import Scan

_log = structlog.get_logger(__name__)


async def expire_quotes(app: web.Application, scan: Scan) -> None:
    """Expire every quote whose time to pay ended before the newest deep block that was read."""
    chain = app[CHAIN].chain
    if chain is None or scan.deep is None or not await views_are_up(app):
        return
    for page in app[VIEWS].overdue(scan.deep.timestamp):
        for order_id in page:
            order = await app[LEDGER].order(order_id)
            if order is not None and order.status is Status.QUOTED:
                await _expire(app, scan, order, chain.policy)


async def _expire(app: web.Application, scan: Scan, order: Order, policy: Policy) -> None:
    block = scan.settled if policy.waits_for_safe(order.terms.price) else scan.deep
    if block is None or scan.head is None or block.timestamp <= order.terms.pay_by:
        return
    ledger, waiting = app[LEDGER], scan.waiting[Way.IN].values()
    command = ExpireQuote(
        scanned_block=block.number,
        scanned_block_time=block.timestamp,
        candidate_transfers=any(
            is_candidate(each, order, head_time=scan.head.timestamp) for each in waiting
        ),
        now=ledger.clock(),
    )
    try:
        # A crash before this append leaves the quote overdue for the next round. A payment in time
        # that a node shows only later is counted all the same.
        await ledger.execute(order.id, command)
    except LedgerError as error:
        # A transfer that may be its payment waits, or a claim came in between: judged first.
        _log.debug("quote not expired", code=error.code)
        return
    app[LIMITS].release_quote(order.id)
