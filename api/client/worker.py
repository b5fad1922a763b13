"""A worker: takes paid orders from the `workers` feed, runs your function, hands in what it makes.

An order is acknowledged only after its outcome is recorded, so a worker that dies begins again at
the order it was at. What was handed in counts once, whoever hands it in and however often.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from pydantic import BaseModel, ConfigDict

from api.client.cursor import CursorCalls, CursorOptions, signed_in
from api.client.errors import ClientError, ServiceError
from api.client.event import Event, Pins
from api.client.http import Answer, HttpClient
from api.client.patience import patiently
from api.client.reader import CursorReader, StopReading
from api.client.shapes import parsed
from api.client.signin import SignIn
from api.client.times import Clock, Sleep, system_clock
from api.client.wallet import LocalWallet, Wallet
from ledger.values import parse_iso

FEED: Final = "workers"
TYPES: Final = ("order.in_progress", "order.paid", "payment.restored")
"""What may leave an order waiting for a worker."""
LEASE_SECONDS: Final = 60.0
SHORTEST_RENEWAL_SECONDS: Final = 1.0
MAX_REASON: Final = 200

_WAITING: Final = frozenset({"paid", "processing"})
_LEFT_ALONE: Final = frozenset(
    {
        "ORDER_NOT_FOUND",  # of a service that is not for workers
        "ORDER_TAKEN",  # by another worker, whose cursor answers for it
        "INVALID_ORDER_STATE",  # done or refunded meanwhile
        "DELIVERABLE_EXISTS",  # another worker was faster
        "PAYMENT_ORPHANED",  # payment.restored brings it back
    }
)

_NO_DELIVERABLE: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
"""What was made is none that can be handed in: too long, or of a form that nobody takes."""


class PaidOrder(BaseModel):
    """An order to work on, as its client described it."""

    model_config = ConfigDict(frozen=True)
    order_id: str
    service: str
    description: str
    delivery_format: str | None = None
    price_usdc: float
    waiting_since: str
    deliver_by: str
    taken_until: str | None = None


class _Status(BaseModel):
    model_config = ConfigDict(frozen=True)
    status: str
    service_type: str
    payment: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class Work:
    """A deliverable. Text or bytes alone will do where the format says nothing more."""

    content: str | bytes
    format: str = "text"
    content_type: str | None = None

    def body(self) -> dict[str, object]:
        """Return the request that hands it in."""
        body: dict[str, object] = {"format": self.format}
        if isinstance(self.content, str):
            body["content"] = self.content
        else:
            body["content_base64"] = b64encode(self.content).decode()
        if self.content_type is not None:
            body["content_type"] = self.content_type
        return body


class GiveUp(Exception):
    """Raised by the worker's function: its text is recorded for ever, so no client's words."""


Make = Callable[[PaidOrder], Awaitable[Work | str | bytes]]


@dataclass(slots=True)
class Tally:
    """What a worker did so far; `passed` were done, paused, taken, or not for it."""

    handed_in: int = 0
    given_up: int = 0
    passed: int = 0


class Worker:
    """Serves some services. Workers that run at once need a cursor each, and share by taking."""

    def __init__(
        self,
        http: HttpClient,
        wallet: Wallet,
        cursor: str,
        services: Collection[str],
        make: Make,
        *,
        pins: Pins | None = None,
        holder: str | None = None,
        lease_seconds: float = LEASE_SECONDS,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = system_clock,
    ) -> None:
        """`cursor` is this worker's name: under it a restarted worker has its order again."""
        self.tally: Final = Tally()
        self._http = http
        self._signin = SignIn(http, wallet, clock=clock)
        self._name = cursor
        self._services = frozenset(services)
        self._make = make
        self._sleep = sleep
        self._clock = clock
        options = CursorOptions(types=TYPES, lease_seconds=lease_seconds, on_poison="park")
        # One at a time: each order is acknowledged as soon as its own outcome is recorded.
        self.reader: Final = CursorReader(
            CursorCalls(http, self._signin, FEED, cursor),
            options,
            holder=holder,
            pins=pins,
            limit=1,
            sleep=sleep,
            clock=clock,
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        private_key: str | bytes,
        cursor: str,
        services: Collection[str],
        make: Make,
        *,
        pins: Pins | None = None,
    ) -> AsyncIterator[Worker]:
        """Run a worker with a local key for the length of a block."""
        async with aiohttp.ClientSession() as session:
            wallet = LocalWallet(private_key)
            yield cls(HttpClient(url, session), wallet, cursor, services, make, pins=pins)

    async def run(self, *, until_idle: bool = False) -> None:
        """Work for ever, or until nothing is left to look at."""
        try:
            await self.reader.each(self._deal, until_idle=until_idle)
        except StopReading as stop:
            # What the service refuses a worker is no fault of the order.
            raise (stop.__cause__ or stop) from None

    async def _deal(self, event: Event) -> None:
        try:
            done = event.order_id is not None and await self._serve(event.order_id)
        except ClientError as error:
            raise StopReading("the service refuses this worker") from error
        self.tally.passed += not done

    async def _serve(self, order_id: str) -> bool:
        """Bring an order to an outcome; False if it is none for this worker, or not now."""
        if not await self._is_waiting(order_id):
            return False
        try:
            order = await self._start(order_id)
            await self._work_on(order)
        except ServiceError as error:
            if error.code not in _LEFT_ALONE:
                raise
            return False
        return True

    async def _is_waiting(self, order_id: str) -> bool:
        """Ask before taking: `start` would take orders of every service that workers serve."""
        path = f"/ivxp/orders/{order_id}?protocol=IVXP/1.1"
        try:
            answer = await patiently(lambda: self._http.get(path), self._sleep)
        except ServiceError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        said = parsed(_Status, answer.json())
        paused = said.payment.get("outcome") == "orphaned"
        return said.service_type in self._services and said.status in _WAITING and not paused

    async def _work_on(self, order: PaidOrder) -> None:
        renewing = asyncio.create_task(self._renew(order), name="work lease")
        try:
            made = await self._make(order)
            work = made if isinstance(made, Work) else _plain(made)
        except GiveUp as error:
            await self._fail(order, str(error) or "GiveUp")
        except Exception as error:  # noqa: BLE001 - whatever it is, the client learns that it ended
            await self._fail(order, type(error).__name__)
        else:
            await self._hand_in(order, work)
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _hand_in(self, order: PaidOrder, work: Work) -> None:
        """Hand in. A crash before the answer makes it anew; the same bytes get the same answer."""
        try:
            await self._post(order.order_id, "deliverable", work.body())
        except ServiceError as error:
            if error.status not in _NO_DELIVERABLE:
                raise
            await self._fail(order, error.code)
        else:
            self.tally.handed_in += 1

    async def _fail(self, order: PaidOrder, reason: str) -> None:
        said = {"reason": reason[:MAX_REASON], "worker": self._name}
        await self._post(order.order_id, "fail", said)
        self.tally.given_up += 1

    async def _renew(self, order: PaidOrder) -> None:
        """Hold other workers off while this one is at it; that only spares double work."""
        while True:
            left = parse_iso(order.taken_until) - self._clock() if order.taken_until else 0
            await self._sleep(max(left / 2000, SHORTEST_RENEWAL_SECONDS))
            with suppress(ClientError):
                order = await self._start(order.order_id)

    async def _start(self, order_id: str) -> PaidOrder:
        answer = await self._post(order_id, "start", {"worker": self._name})
        return parsed(PaidOrder, answer.json())

    async def _post(self, order_id: str, act: str, body: Mapping[str, object]) -> Answer:
        """Act. The outcome of each act is its own key, so a lost answer is asked for again."""

        def send(headers: Mapping[str, str]) -> Awaitable[Answer]:
            path = f"/v1/work/{order_id}/{act}"
            return self._http.post(path, body, headers=headers, repeatable=True)

        return await patiently(lambda: signed_in(self._signin, send), self._sleep)


def _plain(made: str | bytes) -> Work:
    return Work(made) if isinstance(made, str) else Work(made, format="binary")
