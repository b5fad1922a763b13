"""Finding agents by what they say of themselves, and by what came of their orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from api.aether.profiles import minutes_of
from api.aether.queries import SearchQuery
from api.aether.shop import json_of
from api.aether.shown import Json, agent_json
from ledger.market import Agent
from ledger.service import Ledger
from ledger.values import UnixMs
from projections.market_reader import AgentRow, Record

NO_RECORD: Final = Record(0, 0, 0, 0, 0, None)


def found_agents(
    ledger: Ledger,
    rows: Iterable[AgentRow],
    records: Mapping[str, Record],
    waits: Mapping[str, float],
    asked: SearchQuery,
) -> list[Json]:
    """Return the agents that fit, the best reviewed first. Not for the event loop."""
    found = []
    for row in rows:
        record = records.get(row.agent, NO_RECORD)
        profile = json_of(ledger, row.profile_id)
        services = json_of(ledger, row.services_id) or []
        if profile is not None and _fits(profile, services, record, asked):
            shown = agent_json(ledger, row.agent, _state(row), record)
            if row.agent in waits:
                shown["responseTime"] = minutes_of(waits[row.agent])
            found.append(shown)
    return sorted(found, key=lambda agent: -agent.get("rating", 0))


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


def _fits(profile: Json, services: list[Json], record: Record, asked: SearchQuery) -> bool:
    prices = [p for p in (profile.get("basePrice"), *_each(services, "price")) if p is not None]
    times = [t for t in _each(services, "deliveryTime") if t is not None]
    return (
        _has_category(profile, services, asked.category)
        and (asked.max_price is None or any(price <= asked.max_price for price in prices))
        and (asked.delivery_time is None or any(time <= asked.delivery_time for time in times))
        and (asked.min_rating is None or (record.rating or 0) >= asked.min_rating)
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
    texts = " ".join(str(value) for part in (profile, *services) for value in part.values())
    return all(word in texts.casefold() for word in words)


def _each(services: list[Json], name: str) -> list[Any]:
    return [service.get(name) for service in services]
