"""The Solana node, if one is configured, and whether it was recognised yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from api.keys import SETTINGS
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.solana_rpc import SolanaRpc

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SolanaLink:
    """The node, and whether it is known to be of the network that is configured."""

    rpc: SolanaRpc | None
    known: bool = False
    rests: dict[str, float] = field(default_factory=dict)
    """Until when, by the clock of the event loop, a transfer is not looked at again."""


SOLANA: Final = web.AppKey("solana", SolanaLink)


async def connect_solana(app: web.Application) -> AsyncIterator[None]:
    """Connect the node; one of another network ends the start, a silent one is asked again."""
    settings = app[SETTINGS]
    if not settings.solana_rpc_url:
        app[SOLANA] = SolanaLink(None)
        yield
        return
    async with aiohttp.ClientSession(trust_env=False) as session:
        app[SOLANA] = SolanaLink(SolanaRpc(settings.solana_rpc_url, session))
        try:
            await recognised(app)
        except ChainUnavailable as error:
            _log.warning("the Solana node does not answer", detail=error.message)
        yield


async def recognised(app: web.Application) -> SolanaRpc:
    """Return the node once it is known to be of our network.

    Raises `ChainUnavailable` while it does not answer, `Misconfigured` if it is of another one.
    """
    link, wanted = app[SOLANA], app[SETTINGS].solana_chain
    if link.rpc is None:
        raise ChainUnavailable("no Solana node is configured")
    if not link.known:
        found = await link.rpc.chain()
        if found != wanted:
            raise Misconfigured(f"LEDGER_SOLANA_RPC_URL is a node of {found}, not of {wanted}")
        link.known = True
    return link.rpc
