"""Produce deliverables: run the catalog's handlers, also for orders that a crash interrupted."""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import suppress
from typing import TypeVar

import structlog
from aiohttp import web

from api.handler import Handler, Produced, ServiceRequest
from api.keys import BACKGROUND, HANDLERS, LEDGER, SETTINGS, VIEWS
from ledger.commands import FailHandler, HandIn
from ledger.content import plain
from ledger.errors import LedgerError
from ledger.order import Order, Status
from ledger.values import order_stream
from projections.work import WorkKind

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class HandlerRunner:
    """Starts each waiting order once per process; what a crash interrupts starts again."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._running: set[str] = set()
        self._gate = asyncio.Semaphore(app[SETTINGS].handlers_at_once)

    async def start_waiting(self) -> None:
        """Start a task for every order that waits for its handler and has none here."""
        for work in self._app[VIEWS].work(WorkKind.HANDLER):
            if work.order_id not in self._running:
                self._running.add(work.order_id)
                self._app[BACKGROUND].spawn(self._serve(work.order_id), "handler")

    async def _serve(self, order_id: str) -> None:
        try:
            async with self._gate:
                order = await self._app[LEDGER].order(order_id)
                # The views may lag behind the outcome of the last run.
                if order is not None and order.status is Status.PROCESSING and not order.paused:
                    await self._produce(order)
        finally:
            self._running.discard(order_id)

    async def _produce(self, order: Order) -> None:
        ledger = self._app[LEDGER]
        try:
            produced = await self._run(order)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a seller's handler may raise anything
            _log.warning("handler failed", service=order.terms.service, exc_info=error)
            failed = FailHandler(attempts=1, detail=type(error).__name__, now=ledger.clock())
            await ledger.execute(order.id, failed)
            return
        deliverable = produced.deliverable()
        row = plain(order_stream(order.id), deliverable.content_id, produced.raw)
        # A crash before this append leaves the order in processing, and the handler runs again
        # after the restart; after it, content and event are both there.
        try:
            await ledger.execute(order.id, HandIn(deliverable, ledger.clock()), (row,))
        except LedgerError as error:
            _log.info("deliverable refused", code=error.code)

    async def _run(self, order: Order) -> Produced:
        handler = self._app[HANDLERS][order.terms.service]
        settings, request = self._app[SETTINGS], self._request(order)
        async with asyncio.timeout(settings.handler_timeout):
            if inspect.iscoroutinefunction(handler):
                produced = await handler(request)
            else:
                produced = await _in_thread(handler, request)
        if not isinstance(produced, Produced):
            raise TypeError("a handler returns Produced")
        if len(produced.raw) > settings.content_max_bytes:
            raise ValueError("the deliverable is larger than CONTENT_MAX_BYTES")
        return produced

    def _request(self, order: Order) -> ServiceRequest:
        row = self._app[LEDGER].store.content(order.terms.description_id)
        return ServiceRequest(
            order_id=order.id,
            service=order.terms.service,
            description=row.value.decode() if row else "",
            delivery_format=order.terms.delivery_format,
        )


async def _in_thread(handler: Handler, request: ServiceRequest) -> object:
    """Call a handler in a thread of its own.

    One that hangs cannot be ended: it holds up neither other work nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[object, BaseException | None]] = loop.create_future()

    def call() -> None:
        outcome: tuple[object, BaseException | None]
        try:
            outcome = handler(request), None
        except BaseException as error:  # noqa: BLE001 - raised where the handler is awaited
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_end, ended, outcome)

    threading.Thread(target=call, name="handler", daemon=True).start()
    produced, failure = await ended
    if failure is not None:
        raise failure
    return produced


def _end(ended: asyncio.Future[T], outcome: T) -> None:
    if not ended.done():
        ended.set_result(outcome)
