"""Calling code that the operator names: found once, then bounded in time and in number."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, TypeVar

import structlog

from ledger.errors import LedgerError, Misconfigured

T = TypeVar("T")

HOOKS_AT_ONCE: Final = 32
"""Calls of one hook at a time. A thread that hangs keeps its place until it ends."""

_log = structlog.get_logger(__name__)


class HookUnavailable(LedgerError):
    """The operator's code failed or was slow. It means unknown: nothing was recorded."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


def load_callable(target: str, what: str) -> Callable[..., Any]:
    """Return the callable that `module:name` names, or raise `Misconfigured`."""
    module, _, name = target.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Misconfigured(f"{what} {target}: {error}") from error
    if not callable(found):
        raise Misconfigured(f"{what} {target} is not callable")
    return found  # type: ignore[no-any-return]  # what it takes and returns is checked at use


class Hook:
    """One sync or async callable. `passing` is the error by which it says no; others are faults."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        timeout_seconds: float,
        passing: type[Exception] | None = None,
    ) -> None:
        self._name = name
        self._function = function
        self._timeout = timeout_seconds
        self._passing: tuple[type[Exception], ...] = (passing,) if passing else ()
        self._free = threading.BoundedSemaphore(HOOKS_AT_ONCE)

    async def call(self, *arguments: object) -> object:
        """Return what it returns, or raise `HookUnavailable`, or what passes."""
        if not self._free.acquire(blocking=False):
            raise HookUnavailable(f"the {self._name} is busy; ask again")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._run(arguments)
        except self._passing:
            raise
        except (Exception, SystemExit) as error:
            _log.warning("hook failed", hook=self._name, error=type(error).__name__)
            raise HookUnavailable(f"the {self._name} does not answer; ask again") from error

    async def _run(self, arguments: tuple[object, ...]) -> object:
        if not inspect.iscoroutinefunction(self._function):
            return await in_thread(self._in_its_place, *arguments)
        try:
            return await self._function(*arguments)
        finally:
            self._free.release()

    def _in_its_place(self, *arguments: object) -> object:
        try:
            return self._function(*arguments)
        finally:
            self._free.release()


async def in_thread(function: Callable[..., object], *arguments: object) -> object:
    """Call a function in a thread of its own.

    One that hangs cannot be ended: it holds up neither other work nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()

    def call() -> None:
        outcome: tuple[object, BaseException | None]
        try:
            outcome = function(*arguments), None
        except BaseException as error:  # noqa: BLE001 - raised where the function is awaited
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_end, ended, outcome)

    threading.Thread(target=call, name="hook", daemon=True).start()
    produced, failure = await ended
    if failure is not None:
        raise failure
    return produced


def _end(ended: asyncio.Future[T], outcome: T) -> None:
    if not ended.done():
        ended.set_result(outcome)
