"""The shape of every loop: do what is to do, then wait for news or for the interval."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ledger.errors import LedgerError

_log = structlog.get_logger(__name__)


class WorkLoop:
    """Runs `once` when woken and at least every `interval` seconds, until cancelled.

    Whatever one round could not do is still in the views for the next; a failing round is logged.
    """

    def __init__(
        self, name: str, once: Callable[[], Awaitable[None]], interval_seconds: float
    ) -> None:
        self._name = name
        self._once = once
        self._interval = interval_seconds
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be something to do; from the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._once()
            except LedgerError as error:
                _log.warning("loop round refused", loop=self._name, code=error.code)
            except Exception:  # noqa: BLE001 - one bad order must not stop the loop for all others
                _log.exception("loop round failed", loop=self._name)
            # Not `wait_for`: on Python 3.11 it loses a cancellation that comes with the wake-up.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
