"""Push deliverables to where clients want them: one attempt at a time, each one an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal
from weakref import WeakValueDictionary

import structlog
from aiohttp import web
from yarl import URL

from api.background import Background
from api.egress import ANYWHERE, PUBLIC, Egress, TargetBlocked, Unreachable, parse_target
from api.keys import CATALOG, LEDGER, LISTENERS, SETTINGS, VIEWS
from api.push_body import push_body
from api.workers.loop import WorkLoop
from ledger.commands import RecordPush
from ledger.order import Order, Status
from ledger.values import UnixMs
from projections.work import Push, Work, WorkKind, push_to_come, pushes_made

Word = Literal["accepted", "refused", "unreachable", "blocked"]

_ACCEPTED: Final = range(200, 300)
_RECORDABLE: Final = range(100, 600)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended."""

    push: Push
    word: Word
    status: int | None = None


class Gates:
    """So many pushes at once to one host, and so many in all.

    The host's gate comes first: who waits for a slow host takes no place of the others.
    """

    def __init__(self, *, per_host: int, at_once: int) -> None:
        self._per_host = per_host
        self._all = asyncio.Semaphore(at_once)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def passing(self, host: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the length of a block."""
        gate = self._hosts.get(host)
        if gate is None:
            gate = self._hosts[host] = asyncio.Semaphore(self._per_host)
        async with gate, self._all:
            yield


class Pusher:
    """Makes every push that is due. What is due follows from recorded events and the clock.

    A crash between an answer and its event repeats that attempt: receivers know an order by its
    id. An outcome that could not be recorded is kept and recorded first, never posted again.
    """

    def __init__(self, app: web.Application, egress: Egress) -> None:
        settings = app[SETTINGS]
        self._app = app
        self._egress = egress
        self._delays = settings.push_delays
        self._gates = Gates(per_host=settings.push_per_host, at_once=settings.push_at_once)
        self._running: set[str] = set()
        self._unrecorded: dict[str, Outcome] = {}
        self._tasks = Background()
        self._closed = False

    async def start_due(self) -> None:
        """Start a task for every push that is due and has none here."""
        for page in self._app[VIEWS].all_work(WorkKind.PUSH):
            for work in page:
                self._start(work)
            await asyncio.sleep(0)  # a long list does not hold up requests

    def start_for(self, order_ids: Iterable[str]) -> None:
        """Start what is due for orders that have just moved: a first push waits for no round."""
        # Told by the views' thread: the last word may come when the views are closed already.
        for order_id in () if self._closed else order_ids:
            for work in self._app[VIEWS].work_for(order_id, WorkKind.PUSH):
                self._start(work)

    def _start(self, work: Work) -> None:
        due = self._is_due(pushes_made(work), work.since_ms)
        if due and work.order_id not in self._running:
            self._running.add(work.order_id)
            self._tasks.spawn(self._serve(work.order_id), "push")

    async def close(self) -> None:
        """Cancel what is under way; it is due again after the next start."""
        self._closed = True
        await self._tasks.close()

    def _is_due(self, made: int, since_ms: int) -> bool:
        delay = self._delays[min(made, len(self._delays) - 1)]
        return self._app[LEDGER].clock() >= since_ms + delay * 1000

    async def _serve(self, order_id: str) -> None:
        try:
            if order_id not in self._unrecorded:
                outcome = await self._attempt(order_id)
                if outcome is None:
                    return
                self._unrecorded[order_id] = outcome
            await self._record(order_id, self._unrecorded[order_id])
            del self._unrecorded[order_id]
        finally:
            self._running.discard(order_id)

    async def _attempt(self, order_id: str) -> Outcome | None:
        """Make the push that the ledger says is due; None if it says that none is."""
        found = await self._due(order_id)
        if found is None:
            return None
        order, push = found
        endpoint = self._app[LEDGER].store.content(push.endpoint_id)
        if endpoint is None:
            return None
        try:
            url = parse_target(endpoint.value.decode(), self._egress.rules)
            async with self._gates.passing((url.host or "").rstrip(".").lower()):
                # It may have waited for long: what was due then may be done, or paused, now.
                found = await self._due(order_id)
                if found is None or found[1] != push:
                    return None
                return await self._post(order, push, url)
        except TargetBlocked:
            return Outcome(push, "blocked")
        except Unreachable:
            return Outcome(push, "unreachable")

    async def _due(self, order_id: str) -> tuple[Order, Push] | None:
        """Ask the ledger: the views may lag behind the last outcome."""
        order = await self._app[LEDGER].order(order_id)
        push = push_to_come(order) if order is not None and not order.paused else None
        if order is None or push is None or not self._is_due(push.made, push.since_ms):
            return None
        return order, push

    async def _post(self, order: Order, push: Push, url: URL) -> Outcome | None:
        ledger = self._app[LEDGER]
        assert order.deliverable is not None  # noqa: S101 - a push is due only with one
        content = ledger.store.content(order.deliverable.content_id)
        if content is None:
            return None  # erased just now
        provider = {
            "name": self._app[CATALOG].provider,
            "wallet_address": ledger.signer.address,
        }
        body = push_body(order, content.value, provider=provider, path=url.path)
        status = await self._egress.post(url, body)
        word: Word = "accepted" if status in _ACCEPTED else "refused"
        return Outcome(push, word, status if status in _RECORDABLE else None)

    async def _record(self, order_id: str, outcome: Outcome) -> None:
        ledger, push = self._app[LEDGER], outcome.push
        order = await ledger.order(order_id)
        ready = order is not None and order.status is Status.READY
        word = self._last_word(outcome, ready=ready)
        # A crash before this append repeats the attempt after the restart; after it, the event
        # says when the next one is due.
        ended = outcome.word if outcome.status is None else f"{outcome.word} {outcome.status}"
        await ledger.execute(
            order_id,
            RecordPush(push.target, word, outcome.status, UnixMs(ledger.clock()), detail=ended),
        )
        _log.info("push", target=push.target, attempt=push.made + 1, outcome=word)

    def _last_word(
        self, outcome: Outcome, *, ready: bool
    ) -> Literal["accepted", "refused", "unreachable", "blocked", "exhausted"]:
        """Return the word to record: `exhausted` if the delivery failed with this attempt."""
        push = outcome.push
        if outcome.word == "accepted":
            return "accepted"
        if outcome.word == "blocked":
            # No later attempt would be allowed. The word `blocked` alone changes no status.
            fails = push.target == "delivery_endpoint" and ready
            return "exhausted" if fails else "blocked"
        return "exhausted" if push.made + 1 >= len(self._delays) else outcome.word


async def push_loop(app: web.Application) -> AsyncIterator[None]:
    """Run the pushes from start to end of the application."""
    settings = app[SETTINGS]
    rules = ANYWHERE if settings.push_allow_private else PUBLIC
    if settings.push_allow_private:
        _log.warning("PUSH_ALLOW_PRIVATE: clients may have this service call private addresses")
    async with Egress(rules, timeout_seconds=settings.push_timeout) as egress:
        pusher = Pusher(app, egress)
        loop = WorkLoop("push", pusher.start_due, settings.loop_interval)
        task = asyncio.create_task(loop.run(), name="loop")
        app[LISTENERS].append(pusher.start_for)
        yield
        app[LISTENERS].remove(pusher.start_for)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pusher.close()
