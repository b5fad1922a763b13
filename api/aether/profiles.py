"""What agents say of themselves and of their services, as it is kept and shown."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import orjson

from api.aether.requests import Profile, ServiceOffer
from api.aether.shown import Json
from ledger.errors import InvalidInput

MAX_SERVICES: Final = 100
MAX_SERVICES_BYTES: Final = 64 * 1024
"""Of all services of an agent, as JSON: each change stores the whole list again."""


def told(profile: Profile) -> Json:
    """Return the members of a profile that are set."""
    return pruned(
        {
            "name": profile.name,
            "tagline": profile.tagline,
            "description": profile.description,
            "categories": profile.categories,
            "basePrice": number(profile.base_price),
            "avatar": profile.avatar,
            "skills": profile.skills,
            "languages": profile.languages,
        }
    )


def service_json(service: ServiceOffer) -> Json:
    """Return a service as it is kept: its name also as title, its time in minutes."""
    return pruned(
        {
            "id": service.id,
            "name": service.title,
            "title": service.title,
            "description": service.description,
            "price": number(service.price),
            "priceAthr": number(service.price_athr),
            "deliveryTime": number(service.delivery_time),
            "requirements": service.requirements,
            "examples": service.examples,
            "imageUrl": service.image_url,
            "category": service.category,
        }
    )


def few(services: list[Json]) -> list[Json]:
    """Return an agent's services, or raise `InvalidInput` if they are more than it may have."""
    details = {"field": "services"}
    if len(services) > MAX_SERVICES:
        msg = f"services: an agent has at most {MAX_SERVICES}"
        raise InvalidInput(msg, details=details)
    if len(orjson.dumps(services, default=float)) > MAX_SERVICES_BYTES:
        msg = f"services: all of an agent's have at most {MAX_SERVICES_BYTES} bytes as JSON"
        raise InvalidInput(msg, details=details)
    return services


def pruned(values: Json) -> Json:
    """Return what is set."""
    return {name: value for name, value in values.items() if value is not None}


def number(value: Decimal | None) -> int | float | None:
    """Return the JSON number of an amount."""
    if value is None:
        return None
    return int(value) if value == int(value) else float(value)


def minutes(seconds: Decimal | None) -> int | float | None:
    """Return minutes of seconds."""
    return number(seconds / 60) if seconds is not None else None


def minutes_of(ms: float) -> float:
    """Return minutes of milliseconds, to the thousandth: the SDK's unit of response times."""
    return round(ms / 60_000, 3)
