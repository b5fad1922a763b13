"""Record money that went back to a client: found on the chain, or named by the operator.

The service refunds nothing by itself and holds no key that could.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, VIEWS
from api.sync import execute
from api.workers.gone import is_over
from api.workers.watcher import views_are_up
from ledger.chain import Chain
from ledger.chain_transfers import Way
from ledger.commands import RecordRefund
from ledger.errors import ChainUnavailable, LedgerError, PaymentPending, PaymentRefused
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from ledger.matching import match_refund
from ledger.order import Order
from ledger.receipt import Receipt
from ledger.scan import Scan, Waiting

_log = structlog.get_logger(__name__)


async def find_refunds(app: web.Application, scan: Scan) -> None:
    """Look at every transfer from the payment address that lies in a safe block now.

    No event takes a refund back, so a block that may still be replaced is not enough.
    """
    chain = app[CHAIN].chain
    waiting = [each for each in scan.waiting[Way.OUT].values() if scan.is_settled(each)]
    if chain is None or not waiting or not await views_are_up(app):
        return
    for each in waiting:
        await _judge(app, chain, scan, each)


async def record_named_refund(app: web.Application, order_id: str, tx_hash: str) -> Receipt:
    """Record a refund that the operator names, once a safe block shows it.

    Raises `ChainUnavailable` or `PaymentPending` while that is not known, and `PaymentRefused` if
    the transaction moves nothing new from the payment address to the order's client.
    """
    chain = app[CHAIN].chain
    if chain is None or not app[CHAIN].bound:
        raise ChainUnavailable("the chain is not known")
    finding = await chain.refund_lookup(tx_hash)
    if finding.view is ChainView.UNAVAILABLE:
        raise ChainUnavailable("the chain cannot be asked now", details={"tx_hash": tx_hash})
    if finding.view is not ChainView.REVERTED and not _is_safe(finding):
        raise PaymentPending("the refund is not in a safe block yet", details={"tx_hash": tx_hash})
    receipt = await execute(app, order_id, RecordRefund(finding, app[LEDGER].clock()))
    if not receipt.events:
        raise PaymentRefused(
            "the transaction moves nothing to the client that is not recorded already",
            details={"tx_hash": tx_hash, "reason": "no_refund"},
        )
    return receipt


def _is_safe(finding: Finding) -> bool:
    return finding.view is ChainView.MINED and finding.finality != "sealed"


async def _judge(app: web.Application, chain: Chain, scan: Scan, each: Waiting) -> None:
    each.seen = await chain.inspect(each.tx_hash, Way.OUT)
    finding = each.seen.finding
    if finding.view in (ChainView.UNAVAILABLE, ChainView.SHALLOW):
        return
    claimed = app[LEDGER].store.claimed([t.key for t in finding.transfers])
    for transfer in finding.transfers:
        if transfer.key not in claimed and not await _record(app, finding, transfer):
            return
    if await is_over(chain, scan, each):
        scan.done(Way.OUT, each)


async def _record(app: web.Application, finding: Finding, transfer: Transfer) -> bool:
    """Record a transfer with the one order it can be for; return False to try again later."""
    order_id = match_refund(transfer, await _holding(app, transfer))
    if order_id is None:
        # Nobody guesses: the operator can name the order.
        _log.warning("outgoing transfer fits no single order", tx_hash=transfer.tx_hash)
        return True
    command = RecordRefund(replace(finding, transfers=(transfer,)), app[LEDGER].clock())
    try:
        # A crash before this append leaves the place before the transfer: it is found again.
        # After it, the transfer is claimed, and nothing is left to do for it.
        await execute(app, order_id, command)
    except LedgerError as error:
        _log.warning("refund not recorded", code=error.code)
        return False
    return True


async def _holding(app: web.Application, transfer: Transfer) -> list[Order]:
    client = f"{transfer.chain}:{transfer.recipient}"
    orders = [await app[LEDGER].order(order_id) for order_id in app[VIEWS].holding(client)]
    return [order for order in orders if order is not None]
