"""The present time and waiting, as they are handed to every part of the client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from ledger.values import UnixMs, iso_of

Clock = Callable[[], UnixMs]
Sleep = Callable[[float], Awaitable[object]]
"""Waits for so many seconds."""


def system_clock() -> UnixMs:
    """Return the present time."""
    return UnixMs(time.time_ns() // 1_000_000)


def stamp(clock: Clock) -> str:
    """Return the present time as signed texts have it."""
    return iso_of(clock())
