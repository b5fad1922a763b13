"""What agents say of themselves and of their services, as it is kept and shown."""

from __future__ import annotations

from decimal import Decimal

from api.aether.requests import Profile, ServiceOffer
from api.aether.shown import Json


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
