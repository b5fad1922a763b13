"""Resolve kept payment claims without the client's return."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, LIMITS, VIEWS
from api.workers.watcher import WATCHER
from ledger.chain import Chain
from ledger.chain_transfers import Way
from ledger.commands import ResolveClaim
from ledger.errors import LedgerError
from ledger.finding import ChainView
from projections.work import Work, WorkKind

AT_ONCE: Final = 8

_SILENT: Final = (ChainView.UNAVAILABLE, ChainView.SHALLOW)
_log = structlog.get_logger(__name__)


async def resolve_claims(app: web.Application) -> None:
    """Look once at every open claim. A crash here repeats at most a look."""
    link = app[CHAIN]
    if link.chain is None or not link.bound:
        return
    gate = asyncio.Semaphore(AT_ONCE)
    for page in app[VIEWS].all_work(WorkKind.CLAIM):
        await asyncio.gather(*(_resolve(app, link.chain, claim, gate) for claim in page))


async def _resolve(
    app: web.Application, chain: Chain, claim: Work, gate: asyncio.Semaphore
) -> None:
    async with gate:
        finding = await chain.lookup(claim.key)
    if finding.view in _SILENT:
        return
    if finding.view is ChainView.NOT_FOUND and _is_listed(app, claim.key):
        return  # a node that lists its log has not served its receipt yet
    ledger = app[LEDGER]
    try:
        receipt = await ledger.execute(claim.order_id, ResolveClaim(finding, ledger.clock()))
    except LedgerError as error:
        # The claim is still in the views for the next round; the others of this one go on.
        _log.warning("claim not resolved", code=error.code)
        return
    if receipt.events:
        app[LIMITS].release_quote(claim.order_id)


def _is_listed(app: web.Application, tx_hash: str) -> bool:
    watcher = app.get(WATCHER)
    scan = watcher.scan if watcher is not None else None
    return scan is not None and tx_hash in scan.waiting[Way.IN]
