"""The Solana node, if one is configured, and whether it was recognised yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web

from api.keys import SETTINGS
from api.market_setting import is_loopback
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.solana_rpc import SolanaRpc

RESEND_SECONDS: Final = 5.0
"""How long a node that took a transfer passes it on by itself before it is sent again."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SolanaLink:
    """The node, and what is known of it."""

    rpc: SolanaRpc | None
    asked: bool = False
    """Whether it was asked of which network it is, and may be used."""
    proves: bool = False
    """Whether it is of our network: of another one, it knows nothing of what can land in ours."""
    rests: dict[str, float] = field(default_factory=dict)
    """Until when, by the clock of the event loop, a transfer is not looked at again."""
    sent: dict[str, float] = field(default_factory=dict)
    """Until when, by the same clock, a transfer that the node took is not sent again."""
    resend_seconds: float = RESEND_SECONDS


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
    """Return the node once it was asked of which network it is.

    Raises `ChainUnavailable` while it does not answer, `Misconfigured` if it is of another one. One
    that does not tell, or that may be a developer's own validator, is taken: a transfer for one
    network gets into no block of another. It proves no transfer void.
    """
    link, wanted = app[SOLANA], app[SETTINGS].solana_chain
    if link.rpc is None:
        raise ChainUnavailable("no Solana node is configured")
    if not link.asked:
        found = await link.rpc.chain()
        if found != wanted:
            _require_harmless(app, found, wanted)
        link.asked, link.proves = True, found == wanted
    return link.rpc


def _require_harmless(app: web.Application, found: str | None, wanted: str) -> None:
    near = is_loopback(urlsplit(app[SETTINGS].solana_rpc_url).hostname or "")
    if found is not None and not near:
        raise Misconfigured(f"LEDGER_SOLANA_RPC_URL is a node of {found}, not of {wanted}")
    _log.warning("the Solana node may be of another network", found=found, wanted=wanted)
