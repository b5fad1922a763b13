"""Produce deliverables: run the catalog's handlers, also for orders that a crash interrupted."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress

import structlog
from aiohttp import web

from api.handler import Produced, ServiceRequest
from api.hooks import in_thread
from api.keys import BACKGROUND, HANDLERS, LEDGER, SETTINGS, VIEWS
from ledger.commands import FailHandler, HandIn, StartProcessing
from ledger.content import plain
from ledger.errors import LedgerError, Rejected
from ledger.order import Order, Status
from ledger.store_sqlite import STORE_ERRORS
from ledger.values import order_stream

_log = structlog.get_logger(__name__)


class HandlerRunner:
    """Starts each waiting order once per process; what a crash interrupts starts again."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._running: set[str] = set()
        self._gate = asyncio.Semaphore(app[SETTINGS].handlers_at_once)

    async def start_waiting(self) -> None:
        """Start a task for every order that waits for its handler and has none here."""
        # An order of a service that is no longer sold keeps waiting: the operator sees it.
        handlers = self._app[HANDLERS]
        for work in self._app[VIEWS].waiting(handlers):
            if work.order_id not in self._running:
                self._running.add(work.order_id)
                self._app[BACKGROUND].spawn(self._serve(work.order_id), "handler")

    async def _serve(self, order_id: str) -> None:
        try:
            async with self._gate:
                order = await self._begun(order_id)
                if order is not None:
                    await self._produce(order)
        finally:
            self._running.discard(order_id)

    async def _begun(self, order_id: str) -> Order | None:
        """Return an order that is in processing; one whose payment came without a notice is begun.

        The views may lag behind the outcome of the last run: then there is nothing to do.
        """
        ledger = self._app[LEDGER]
        order = await ledger.order(order_id)
        if order is None or order.paused or order.deliverable is not None:
            return None
        if order.status is Status.PAID:
            # A notice that comes in between begins it as well; either way the handler runs once.
            with suppress(Rejected):
                await ledger.execute(order_id, StartProcessing("worker", ledger.clock()))
            order = await ledger.order(order_id)
        return order if order is not None and order.status is Status.PROCESSING else None

    async def _produce(self, order: Order) -> None:
        ledger = self._app[LEDGER]
        try:
            produced = await self._run(order, self._request(order))
        except STORE_ERRORS:
            raise  # our fault, not the handler's: the next round tries again
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a seller's handler may raise anything
            # Its text may quote the order id or the client's words, so only its type is logged.
            _log.warning("handler failed", service=order.terms.service, error=type(error).__name__)
            failed = FailHandler(attempts=1, detail=type(error).__name__, now=ledger.clock())
            await ledger.execute(order.id, failed)
            return
        deliverable = produced.deliverable(order.terms.service)
        row = plain(order_stream(order.id), deliverable.content_id, produced.raw)
        # A crash before this append leaves the order in processing, and the handler runs again
        # after the restart; after it, content and event are both there. A store that fails for
        # now costs no second run: the result is kept until it is recorded or refused.
        while True:
            try:
                await ledger.execute(order.id, HandIn(deliverable, ledger.clock()), (row,))
            except LedgerError as error:
                _log.info("deliverable not recorded", code=error.code)
                if error.retryable:
                    await asyncio.sleep(self._app[SETTINGS].loop_interval)
                    continue
            return

    async def _run(self, order: Order, request: ServiceRequest) -> Produced:
        handler, settings = self._app[HANDLERS][order.terms.service], self._app[SETTINGS]
        async with asyncio.timeout(settings.handler_timeout):
            if inspect.iscoroutinefunction(handler):
                produced = await handler(request)
            else:
                produced = await in_thread(handler, request)
        if not isinstance(produced, Produced):
            raise TypeError("a handler returns Produced")
        if len(produced.raw) > settings.content_max_bytes:
            raise ValueError("the deliverable is larger than CONTENT_MAX_BYTES")
        return produced

    def _request(self, order: Order) -> ServiceRequest:
        row = self._app[LEDGER].store.content(order.terms.description_id)
        if row is None:
            raise LookupError("the client's words were erased")
        return ServiceRequest(
            order_id=order.id,
            service=order.terms.service,
            description=row.value.decode(),
            delivery_format=order.terms.delivery_format,
        )
