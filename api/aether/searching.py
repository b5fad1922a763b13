"""Finding agents by what they say of themselves, and by what came of their orders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from api.aether.profiles import minutes_of
from api.aether.queries import SearchQuery
from api.aether.shop import json_of
from api.aether.shown import Json, agent_json
from ledger.market import Agent
from ledger.service import Ledger
from ledger.values import UnixMs
from projections.market_reader import AgentRow, MarketReader, Record

SEARCHING: Final = web.AppKey("searching", asyncio.Semaphore)
"""One search at a time: it reads what every agent says, and others need processor and memory."""


def found_agents(ledger: Ledger, views: Path, asked: SearchQuery) -> bytes:
    """Return the page of the agents that fit, the best reviewed first, as JSON. For a thread.

    What an agent says is held while it is looked at, and until the answer if it is on the page.
    Nothing is read beyond the page.
    """
    with closing(MarketReader(views)) as market:
        rows = market.listed()
    rows.sort(key=lambda found: -_stars(found[1]))
    first = asked.offset or 0
    page = islice(_fitting(ledger, rows, asked), first, first + asked.limit)
    # Agent by agent: one long call would keep all other threads from running.
    shown = [orjson.Fragment(orjson.dumps(_shown(ledger, *each))) for each in page]
    return orjson.dumps({"agents": shown})


def _stars(record: Record) -> float:
    """Return the rating as it is shown."""
    return round(record.rating or 0, 2)


def _fitting(
    ledger: Ledger, rows: list[tuple[AgentRow, Record]], asked: SearchQuery
) -> Iterator[tuple[AgentRow, Record]]:
    for row, record in rows:
        if asked.min_rating is not None and (record.rating or 0) < asked.min_rating:
            continue
        profile = json_of(ledger, row.profile_id)
        if profile is not None and _fits(profile, json_of(ledger, row.services_id) or [], asked):
            yield row, record


def _shown(ledger: Ledger, row: AgentRow, record: Record) -> Json:
    shown = agent_json(ledger, row.agent, _state(row), record)
    if record.answered_after_ms is not None:
        shown["responseTime"] = minutes_of(record.answered_after_ms)
    return shown


def _state(row: AgentRow) -> Agent:
    return Agent(
        version=0,
        owner=row.owner,
        registered_at=UnixMs(row.registered_ms),
        updated_at=UnixMs(row.updated_ms),
        profile_id=row.profile_id,
        services_id=row.services_id,
        endpoint_id=None,
        contents=frozenset(),
        listed=bool(row.listed),
    )


def _fits(profile: Json, services: list[Json], asked: SearchQuery) -> bool:
    prices = [p for p in (profile.get("basePrice"), *_each(services, "price")) if p is not None]
    times = [t for t in _each(services, "deliveryTime") if t is not None]
    return (
        _has_category(profile, services, asked.category)
        and (asked.max_price is None or any(price <= asked.max_price for price in prices))
        and (asked.delivery_time is None or any(time <= asked.delivery_time for time in times))
        and _says(profile, services, asked.query)
    )


def _has_category(profile: Json, services: list[Json], category: str | None) -> bool:
    if not category:
        return True
    named = [*(profile.get("categories") or ()), *_each(services, "category")]
    return category.casefold() in {str(each).casefold() for each in named}


def _says(profile: Json, services: list[Json], query: str | None) -> bool:
    """Whether every word of a query stands in some text."""
    words = (query or "").casefold().split()
    if not words:
        return True
    texts = " ".join(str(value) for part in (profile, *services) for value in part.values())
    folded = texts.casefold()
    return all(word in folded for word in words)


def _each(services: list[Json], name: str) -> list[Any]:
    return [service.get(name) for service in services]
