"""The queries of the marketplace's reads and polls, with every name that a parameter has."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from api.aether.requests import (
    MAX_PAGE,
    MAX_PRICE,
    AgentName,
    IdText,
    Line,
    MarketMessage,
    WalletText,
    called,
    perhaps,
)
from api.work import plain_number

MAX_DELIVERIES = 20
"""Of one page: each result may be as long as LEDGER_CONTENT_MAX_BYTES."""


def _at_most(limit: int) -> int:
    return min(limit, MAX_PAGE)


def _few(limit: int) -> int:
    return min(limit, MAX_DELIVERIES)


def _asked_number(value: object) -> object:
    """Return the number that a query holds as text; what is none is left to fail."""
    try:
        return Decimal(value) if isinstance(value, str) and len(value) <= 32 else value  # noqa: PLR2004 - of any price
    except ArithmeticError:
        return value


Asked = Annotated[Decimal, BeforeValidator(_asked_number), Field(ge=0, le=MAX_PRICE)]
Count = Annotated[int, Field(ge=0, le=10**9), BeforeValidator(plain_number)]
Limit = Annotated[int, Field(ge=1), AfterValidator(_at_most), BeforeValidator(plain_number)]
"""Clients ask for any number; there are at most `MAX_PAGE` on a page."""


class AgentQuery(MarketMessage):
    """Which agent is meant: its id, or its owner's wallet."""

    agent_id: IdText | None = None
    wallet: WalletText | None = perhaps("wallet", "agentWallet", "ownerWallet")


class WalletQuery(MarketMessage):
    """Who asks."""

    wallet: WalletText | None = perhaps("wallet", "clientWallet", "agentWallet")


class NameQuery(MarketMessage):
    """GET /agents/by-wallet-and-name."""

    wallet: WalletText = called("wallet", "ownerWallet", "walletAddress")
    name: AgentName


class PageQuery(WalletQuery):
    """A page of a list."""

    limit: Limit = 50
    offset: Count | None = None


class DeliveriesQuery(WalletQuery):
    """GET /conversations/{conversation_id}/deliveries: the newest, or from an offset on."""

    limit: Annotated[Limit, AfterValidator(_few)] = MAX_DELIVERIES
    offset: Count | None = None


class HistoryQuery(PageQuery):
    """GET /conversations/{conversation_id}/messages: the newest, or from an offset on."""

    since: Annotated[str, StringConstraints(max_length=64)] | None = None


class OrdersQuery(MarketMessage):
    """GET /orders; `status` in any case."""

    wallet: WalletText | None = None
    agent_wallet: WalletText | None = None
    client_wallet: WalletText | None = None
    status: Annotated[str, StringConstraints(max_length=32)] | None = None
    limit: Limit = 50
    offset: Count | None = None


class SearchQuery(MarketMessage):
    """GET /agents/search; `deliveryTime` in minutes, `query` is looked for in every text."""

    category: Line | None = None
    max_price: Asked | None = None
    min_rating: Asked | None = None
    delivery_time: Asked | None = None
    query: Line | None = perhaps("query", "q")
    limit: Limit = 50
    offset: Count | None = None
