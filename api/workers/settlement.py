"""Settling signed transfers: send them, and see what became of them. Silence decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary

import structlog
from aiohttp import web

from api.keys import LEDGER, SETTINGS, VIEWS
from api.solana_link import SOLANA, recognised
from api.sync import execute
from ledger.deal_commands import SettlePayment, VoidPayment
from ledger.deal_events import PaymentAuthorized
from ledger.errors import ChainUnavailable, LedgerError, Misconfigured
from ledger.solana_node import is_silence
from ledger.solana_rpc import (
    Chance,
    Failed,
    Landed,
    NotSubmitted,
    SolanaRpc,
    Submitted,
    TransactionStatus,
)
from ledger.solana_wire import base58_of, read_transaction, transaction_bytes
from projections.work import WorkKind

ANSWER_SECONDS: Final = 15.0
"""How long an accepting client is kept waiting for the chain."""
LOOK_SECONDS: Final = 0.5
REST_SHARE: Final = 10
MOST_REST_SECONDS: Final = 60.0
"""Between two looks at a transfer lies a tenth of its age, up to a minute."""

_warned: Final[WeakKeyDictionary[SolanaRpc, set[str]]] = WeakKeyDictionary()
"""The payments of which the log has said that this node cannot settle them."""

_log = structlog.get_logger(__name__)


async def settle_payments(app: web.Application) -> None:
    """Look at the transfers that are still to settle, unless the node is silent.

    The older one is, the longer it rests: what can never be told must not delay what is new.
    """
    link, now = app[SOLANA], asyncio.get_running_loop().time()
    if link.rpc is None:
        return
    link.rests = {signature: until for signature, until in link.rests.items() if until > now}
    link.sent = {signature: until for signature, until in link.sent.items() if until > now}
    for page in app[VIEWS].all_work(WorkKind.SETTLEMENT):
        for work in page:
            if work.key in link.rests:
                continue
            age = max(0, app[LEDGER].clock() - work.since_ms) / 1000
            # Before the look: also what the node does not answer on rests.
            link.rests[work.key] = now + min(MOST_REST_SECONDS, age / REST_SHARE)
            if not await _looked(app, work.order_id):
                return


async def _looked(app: web.Application, order_id: str) -> bool:
    """Look at one transfer; returns whether the node is there to be asked for the next one."""
    try:
        await _look(app, order_id)
    except ChainUnavailable as error:
        _log.info("settlement waits", detail=error.message)
        return not is_silence(error)
    except Misconfigured:
        raise
    except LedgerError as error:
        _log.warning("settlement not recorded", code=error.code)
    except Exception:  # noqa: BLE001 - one bad order must not keep all others from being settled
        _log.exception("settlement failed")
    return True


async def settle_now(app: web.Application, order_id: str) -> NotSubmitted | None:
    """Send a transfer that was just recorded, and follow it for a while.

    Returns why the node does not take it now, if it says so. That proves nothing: whoever holds the
    transfer could send it elsewhere, so it stays open until it landed or never can. Whatever is
    open then, or if the chain falls silent, the loop goes on with.
    """
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            refused = await _begin(app, order_id)
            if refused is not None and refused.cause == "funds":
                return refused
            while await _look(app, order_id):  # noqa: ASYNC110 - nothing tells of a new block
                await asyncio.sleep(LOOK_SECONDS)
    except (TimeoutError, ChainUnavailable):
        _log.info("a transfer is left to the loop")
    return None


async def _begin(app: web.Application, order_id: str) -> NotSubmitted | None:
    payment = await _open_payment(app, order_id)
    if payment is None:
        return None
    return await _sent(app, await recognised(app), payment)


def _is_resting(rests: Mapping[str, float], signature: str) -> bool:
    return rests.get(signature, 0.0) > asyncio.get_running_loop().time()


async def _sent(
    app: web.Application, rpc: SolanaRpc, payment: PaymentAuthorized
) -> NotSubmitted | None:
    """Send a transfer; returns why the node does not take it.

    While it is on its way, and for a while after the node took it, it is not sent again. A lost
    reply leaves no such rest: the node may not have taken it.
    """
    link, signature, taken = app[SOLANA], payment.signature, False
    rest = asyncio.get_running_loop().time() + link.resend_seconds
    link.sent[signature] = rest
    try:
        sent = await rpc.send(payment.transaction)
        taken = isinstance(sent, Submitted)
    finally:
        # An accept and the loop may send at once; the rest of the other one stays.
        if not taken and link.sent.get(signature) == rest:
            del link.sent[signature]
    return sent if isinstance(sent, NotSubmitted) else None


async def _look(app: web.Application, order_id: str) -> bool:
    """Ask for a transfer once, and send it (again) where the chain has not seen it.

    Returns whether it is still open. A crash anywhere here leaves it to be asked for again: the
    chain takes the same signed transfer at most once.
    """
    payment = await _open_payment(app, order_id)
    if payment is None:
        return False
    rpc = await recognised(app)
    if payment.chain != app[SETTINGS].solana_chain:
        # A node of one network knows nothing of what landed in another.
        _warn_once(rpc, payment.signature, "a payment in another Solana network is left alone")
        return True
    found = await rpc.status(payment.signature)
    command = _outcome(app, payment, found)
    waits = isinstance(found, Landed) or _is_resting(app[SOLANA].sent, payment.signature)
    if command is None and not waits:
        command = await _send(app, rpc, payment)
    if command is None:
        return True
    await execute(app, order_id, command)
    return False


async def _open_payment(app: web.Application, order_id: str) -> PaymentAuthorized | None:
    order = await app[LEDGER].order(order_id)
    deal = order.deal if order is not None else None
    if deal is None or deal.authorization is None or deal.settled is not None:
        return None
    return deal.authorization


def _outcome(
    app: web.Application, payment: PaymentAuthorized, found: TransactionStatus
) -> SettlePayment | VoidPayment | None:
    now = app[LEDGER].clock()
    match found:
        case Landed(finality="confirmed", slot=slot):
            return SettlePayment(payment.signature, slot, "confirmed", now)
        case Landed(finality="finalized", slot=slot):
            return SettlePayment(payment.signature, slot, "finalized", now)
        case Failed() if app[SOLANA].proves:
            return VoidPayment(payment.signature, "failed", "other", found.reason, now)
        case _:
            return None


async def _send(
    app: web.Application, rpc: SolanaRpc, payment: PaymentAuthorized
) -> VoidPayment | None:
    """Send a transfer; void it only where it is proven that it moved nothing and never will."""
    now, signature = app[LEDGER].clock(), payment.signature
    refused = await _sent(app, rpc, payment)
    if refused is None:
        return None
    match await _chance(app, rpc, payment):
        case "none":
            return VoidPayment(signature, "expired", refused.cause, refused.reason, now)
        case "no_history":
            _warn_once(rpc, signature, "the Solana node lacks the blocks to settle a payment")
        case "open":
            pass
    return None


async def _chance(app: web.Application, rpc: SolanaRpc, payment: PaymentAuthorized) -> Chance:
    """Return whether a transfer can still land; a node that proves nothing has no history of it."""
    if payment.seen_slot is None or not app[SOLANA].proves:
        return "no_history"
    blockhash = base58_of(read_transaction(transaction_bytes(payment.transaction)).blockhash)
    return await rpc.chance_to_land(payment.signature, blockhash, seen_at_slot=payment.seen_slot)


def _warn_once(rpc: SolanaRpc, signature: str, text: str) -> None:
    warned = _warned.setdefault(rpc, set())
    if signature not in warned:
        warned.add(signature)
        _log.warning(text, signature=signature)
