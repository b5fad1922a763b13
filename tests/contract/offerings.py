"""Handlers that go wrong in the ways that sellers' code does."""

from __future__ import annotations

import asyncio
import sys
import threading

from api.handler import Produced, ServiceRequest

LET_GO = threading.Event()
"""Set when the tests are over, so that no thread stays behind."""

PICTURE = bytes(range(256))


def raises(request: ServiceRequest) -> Produced:
    raise ValueError("the secret of " + request.description)


def exits(request: ServiceRequest) -> Produced:
    sys.exit(3)


def stops(request: ServiceRequest) -> Produced:
    raise StopIteration


def returns_text(request: ServiceRequest) -> Produced:
    return "text"  # type: ignore[return-value]


def returns_nothing(request: ServiceRequest) -> None:
    return None


def hangs(request: ServiceRequest) -> Produced:
    LET_GO.wait(60)
    return Produced("late", format="text", content_type="text/plain")


async def waits(request: ServiceRequest) -> Produced:
    await asyncio.Event().wait()
    return Produced("never", format="text", content_type="text/plain")


def too_large(request: ServiceRequest) -> Produced:
    return Produced("x" * 5000, format="text", content_type="text/plain")


def exactly_at_the_limit(request: ServiceRequest) -> Produced:
    return Produced("x" * 4096, format="text", content_type="text/plain")


def half_a_pair(request: ServiceRequest) -> Produced:
    return Produced("\ud800", format="text", content_type="text/plain")


def no_format(request: ServiceRequest) -> Produced:
    return Produced("text", format="", content_type="text/plain")


def number(request: ServiceRequest) -> Produced:
    return Produced(5, format="json", content_type="application/json")  # type: ignore[arg-type]


def picture(request: ServiceRequest) -> Produced:
    return Produced(PICTURE, format="image", content_type="image/x-test")


def empty(request: ServiceRequest) -> Produced:
    return Produced("", format="text", content_type="text/plain")


async def later(request: ServiceRequest) -> Produced:
    await asyncio.sleep(0)
    return Produced("later", format="text", content_type="text/plain")


COUNTED: list[str] = []
"""The orders that `counted` was run for."""


def counted(request: ServiceRequest) -> Produced:
    COUNTED.append(request.order_id)
    return Produced("made once", format="text", content_type="text/plain")
