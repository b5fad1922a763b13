"""The Solana node, if one is configured, and whether it was recognised yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import web

from api.config import Settings
from api.keys import SETTINGS
from api.market_setting import is_loopback
from ledger.errors import ChainUnavailable, Misconfigured
from ledger.solana_rpc import SolanaRpc
from ledger.wallets import SOLANA_CHAINS

RESEND_SECONDS: Final = 5.0
"""How long a node that took a transfer passes it on by itself before it is sent again."""

ASK_SECONDS: Final = 60.0
"""How long a node that did not tell its network is not asked again."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SolanaLink:
    """The node, and what is known of it. Moments are those of the event loop's clock."""

    rpc: SolanaRpc | None
    proves: bool = False
    """Whether it is of our network, so that it may be believed what failed or can never land."""
    ask_after: float = 0.0
    """The moment from which it is asked again."""
    rests: dict[str, float] = field(default_factory=dict)
    """Until when a transfer is not looked at again."""
    sent: dict[str, float] = field(default_factory=dict)
    """Until when a transfer that the node took is not sent again."""
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
    """Return the node once it was asked of which network it is; see `network_of`.

    Raises `ChainUnavailable` while it does not answer, `Misconfigured` if it is of another one.
    """
    link = app[SOLANA]
    if link.rpc is None:
        raise ChainUnavailable("no Solana node is configured")
    if not link.proves and link.ask_after <= asyncio.get_running_loop().time():
        told = await link.rpc.chain()
        _remember(link, told, network_of(told, app[SETTINGS]))
    return link.rpc


def network_of(told: str | None, settings: Settings) -> str | None:
    """Return the network that a node stands for, or None if that cannot be known.

    On a dev chain a validator on this machine, with a genesis of its own, stands for devnet. On
    devnet a node may serve so few methods that it does not tell. Raises `Misconfigured` otherwise:
    what another network calls settled is not paid.
    """
    wanted, is_play = settings.solana_chain, settings.solana_network == "devnet"
    if told == wanted or (told is None and is_play):
        return told
    near = is_loopback(urlsplit(settings.solana_rpc_url).hostname or "")
    public = told is None or told in SOLANA_CHAINS.values()
    if is_play and settings.dev_chain and near and not public:
        return wanted
    known = told or "a network that it does not tell"
    raise Misconfigured(f"LEDGER_SOLANA_RPC_URL is a node of {known}, not of {wanted}")


def _remember(link: SolanaLink, told: str | None, network: str | None) -> None:
    if network is None:
        if not link.ask_after:
            _log.warning("the Solana node does not tell its network, and proves no transfer void")
        link.ask_after = asyncio.get_running_loop().time() + ASK_SECONDS
        return
    if told != network:
        _log.warning("a validator of its own stands for the Solana network", genesis=told)
    link.proves = True
