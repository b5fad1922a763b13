"""The EVM chain that payments come in on: connected, and recognised before it is believed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, SETTINGS, ChainLink
from ledger.chain import Chain
from ledger.errors import ChainUnavailable
from ledger.log_events import ChainBound
from ledger.rpc import RpcEndpoint, RpcPool

_log = structlog.get_logger(__name__)


async def connect_chain(app: web.Application) -> AsyncIterator[None]:
    """Connect the chain, if one is configured, and recognise it."""
    settings = app[SETTINGS]
    if not settings.rpc_urls:
        _log.warning("no RPC_URLS: payments are disabled")
        app[CHAIN] = ChainLink(None)
        yield
        return
    async with aiohttp.ClientSession(trust_env=False) as session:
        endpoints = [
            RpcEndpoint(url, session, timeout_s=settings.rpc_timeout) for url in settings.rpc_urls
        ]
        chain = Chain(
            RpcPool(endpoints),
            chain_id=settings.chain_id,
            token=settings.token,
            payment_address=settings.payment_address,
            min_confirmations=settings.min_confirmations,
            safe_above_micros=settings.safe_above_micros,
        )
        app[CHAIN] = ChainLink(chain)
        await bind_chain(app)
        yield


async def bind_chain(app: web.Application) -> None:
    """Record or compare the chain, or raise `Misconfigured`: at the start that ends the service.

    A silent chain is tried again by the loop. If it turns out to be a wrong one, no payment is
    looked up there: notices stay pending.
    """
    link, settings = app[CHAIN], app[SETTINGS]
    if link.chain is None or link.bound:
        return
    try:
        await link.chain.check_identity()
        genesis, head = await link.chain.first_contact()
    except ChainUnavailable as error:
        _log.warning("the chain does not answer", detail=error.message)
        return
    bound = ChainBound(
        chain=settings.chain, genesis_hash=genesis, token=settings.token, block_number=head
    )
    await app[LEDGER].bind_chain(bound)
    link.bound = True
