"""Tasks that outlive a request: kept, awaited at shutdown, and never silent when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import structlog

from ledger.errors import LedgerError

_log = structlog.get_logger(__name__)


class Background:
    """Holds running tasks, so that none is lost to the garbage collector."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        """Run a coroutine; its failure is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, LedgerError):
            _log.info("background refused", task=task.get_name(), code=error.code)
        else:
            _log.error("background failed", task=task.get_name(), exc_info=error)
