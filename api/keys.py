"""The typed keys under which the application holds its parts. Nothing is global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from api.background import Background
from api.catalog import Catalog
from api.config import Settings
from api.followers import Followers
from api.handler import Handler
from api.handout import HandOuts
from api.leases import Leases
from api.limits import Limits
from api.signin import Challenges
from api.tokens import Tokens
from ledger.chain import Chain
from ledger.service import Ledger
from projections.market_reader import MarketReader
from projections.reader import ViewReader
from projections.runner import Runner


@dataclass(slots=True)
class ChainLink:
    """The chain, if one is configured, and whether it was recognised yet."""

    chain: Chain | None
    bound: bool = False


SETTINGS: Final = web.AppKey("settings", Settings)
CATALOG: Final = web.AppKey("catalog", Catalog)
HANDLERS: Final = web.AppKey("handlers", dict[str, Handler])
LEDGER: Final = web.AppKey("ledger", Ledger)
RUNNER: Final = web.AppKey("runner", Runner)
VIEWS: Final = web.AppKey("views", ViewReader)
MARKET: Final = web.AppKey("market", MarketReader)
CHAIN: Final = web.AppKey("chain", ChainLink)
LIMITS: Final = web.AppKey("limits", Limits)
TOKENS: Final = web.AppKey("tokens", Tokens)
CHALLENGES: Final = web.AppKey("challenges", Challenges)
LEASES: Final = web.AppKey("leases", Leases)
FOLLOWERS: Final = web.AppKey("followers", Followers)
LISTENERS: Final = web.AppKey("listeners", list[Callable[[frozenset[str]], None]])
"""Called on the event loop with the orders that the views have just moved."""
HAND_OUTS: Final = web.AppKey("hand_outs", HandOuts)
BACKGROUND: Final = web.AppKey("background", Background)
