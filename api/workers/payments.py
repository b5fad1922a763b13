"""Watch counted payments until they are final: reorganisations pause work and resume it."""

from __future__ import annotations

from typing import Final

import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, VIEWS
from ledger.blocks import Blocks
from ledger.chain import Chain
from ledger.commands import RecheckPayment
from ledger.errors import ChainUnavailable, LedgerError
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from ledger.money import Bucket
from projections.work import Work, WorkKind

HEIGHTS_AT_ONCE: Final = 50
"""Blocks asked for in one request: nodes limit the size of a batch."""

_log = structlog.get_logger(__name__)


async def watch_payments(app: web.Application) -> None:
    """Compare every watched payment with the canonical chain, once."""
    link = app[CHAIN]
    if link.chain is None or not link.bound:
        return
    for page in app[VIEWS].all_work(WorkKind.PAYMENT):
        watched = await _watched(app, page)
        heights = {t.block_number for _, transfers, _ in watched for t in transfers}
        try:
            blocks = await _blocks(link.chain, sorted(heights))
        except ChainUnavailable:
            return  # silence says nothing about a payment
        for work, transfers, orphaned in watched:
            if orphaned or _changed(transfers, blocks):
                await _recheck(app, link.chain, work, blocks)


async def _blocks(chain: Chain, heights: list[int]) -> Blocks:
    parts = [
        await chain.blocks(heights[start : start + HEIGHTS_AT_ONCE])
        for start in range(0, max(1, len(heights)), HEIGHTS_AT_ONCE)
    ]
    # Between two requests the chain may move; what was final in the first is final in the last.
    return Blocks(
        parts[0].head_number,
        parts[0].finalized_number,
        {number: known for part in parts for number, known in part.hashes.items()},
    )


async def _watched(
    app: web.Application, todo: list[Work]
) -> list[tuple[Work, tuple[Transfer, ...], bool]]:
    found = []
    for work in todo:
        order = await app[LEDGER].order(work.order_id)
        if order is None:
            continue
        placed = [p for p in order.money.placed.values() if p.transfer.tx_hash == work.key]
        orphaned = any(p.bucket is Bucket.ORPHANED for p in placed)
        found.append((work, tuple(p.transfer for p in placed), orphaned))
    return found


def _changed(transfers: tuple[Transfer, ...], blocks: Blocks) -> bool:
    """Whether a transfer's block left the chain, or all of them are final."""
    left = any(blocks.hashes.get(t.block_number, t.block_hash) != t.block_hash for t in transfers)
    return left or all(t.block_number <= blocks.finalized_number for t in transfers)


async def _recheck(app: web.Application, chain: Chain, work: Work, blocks: Blocks) -> None:
    ledger = app[LEDGER]
    finding = await chain.lookup(work.key)
    if finding.view is ChainView.UNAVAILABLE:
        # The hashes at the known heights are facts of their own.
        finding = Finding(work.key, ChainView.NOT_FOUND, head_number=blocks.head_number)
    command = RecheckPayment(finding, blocks.hashes, ledger.clock())
    try:
        await ledger.execute(work.order_id, command)
    except LedgerError as error:
        # The payment is still watched in the next round; the others of this one go on.
        _log.warning("payment not rechecked", code=error.code)
