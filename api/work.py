"""What workers do: look for paid orders, take one, hand in what they made, or give up.

A worker sees the orders of `external` services, the operator all that wait and no handler takes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from api.answers import Time, json_response, proven_response
from api.auth import CALLER
from api.body import parse_json, read_body, read_model, validated
from api.ivxp.models import Message
from api.ivxp.responses import LedgerBlock
from api.keys import CATALOG, HANDLERS, LEASES, LEDGER, VIEWS
from api.log.words import NO_STORE
from api.query import read_query
from api.routes import Route, RouteHandler
from api.sync import execute, order_of, standing
from api.tokens import Role
from api.work_content import DeliverableQuery, DeliverableRequest, read_deliverable
from ledger.commands import FailHandler, HandIn, StartProcessing
from ledger.content import plain
from ledger.decide_delivery import require_paid
from ledger.errors import Conflict, NotFound
from ledger.order import Order, Status
from ledger.receipt import Receipt
from ledger.values import UnixMs, is_order_id, iso_of, iso_of_seconds, order_stream, usdc_number

WORKERS: Final = frozenset({Role.WORKER, Role.OPERATOR})
DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100

_PLACE: Final = r"^[0-9]{1,15}\.ivxp-[0-9a-f-]{36}$"
_WAITING: Final = (Status.PAID, Status.PROCESSING)


def plain_number(text: object) -> object:
    """Return the number that a query holds as text; other forms of numbers are left to fail."""
    plain = isinstance(text, str) and re.fullmatch(r"[0-9]{1,15}", text, re.ASCII)
    return int(str(text)) if plain else text


WorkerName = Annotated[str, StringConstraints(max_length=64)]


class WorkQuery(Message):
    """GET /v1/work; `after` is the `next` of another page."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(plain_number)] = DEFAULT_LIMIT
    after: Annotated[str, StringConstraints(pattern=_PLACE)] | None = None


class StartRequest(Message):
    """POST …/start and …/retry; `worker` tells several workers of one wallet apart."""

    worker: WorkerName = ""


class FailRequest(Message):
    """POST …/fail. The reason stands in the order's log for ever: no client's words in it."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    worker: WorkerName = ""


class WorkItem(BaseModel):
    """One order that waits. `taken_until` is there while a worker is at it."""

    order_id: str
    status: Literal["paid", "processing"]
    service: str
    description: str
    delivery_format: str | None = None
    price_usdc: float
    waiting_since: Time
    deliver_by: Time
    taken_until: Time | None = None


class WorkResponse(BaseModel):
    """GET /v1/work; `next` is the `after` of the next page, if there may be one."""

    orders: list[WorkItem]
    next: str | None = None


class StartedResponse(WorkItem):
    """The order, with the proof of where it stands."""

    ledger: LedgerBlock | None = None


class HandedInResponse(BaseModel):
    """The deliverable as it was recorded, the first time and every time."""

    order_id: str
    status: Literal["ready"]
    content_hash: str
    size_bytes: int
    format: str
    content_type: str
    ready_at: Time
    ledger: LedgerBlock | None = None


class FailedResponse(BaseModel):
    """The order without content."""

    order_id: str
    status: Literal["delivery_failed"]
    ledger: LedgerBlock | None = None


async def get_work(request: web.Request) -> web.Response:
    """List orders that wait for a worker, oldest first."""
    app, asked = request.app, read_query(request, WorkQuery)
    now = app[LEDGER].clock()
    services = app[CATALOG].external
    if Role.OPERATOR in request[CALLER].roles:
        services = [name for name in app[VIEWS].waited_for() if name not in app[HANDLERS]]
    found = app[VIEWS].waiting(services, asked.limit, _place(asked.after))
    orders = [await app[LEDGER].order(work.order_id) for work in found]
    # The views may lag behind an order's end.
    waiting = [o for o in orders if o is not None and o.status in _WAITING and not o.paused]
    body: dict[str, object] = {"orders": [_item(app, order, now) for order in waiting]}
    if len(found) == asked.limit:
        body["next"] = f"{found[-1].since_ms}.{found[-1].order_id}"
    return json_response(body, headers=NO_STORE)


async def post_start(request: web.Request) -> web.Response:
    """Take an order for a while; a repeat prolongs it."""
    return await _take(request, "worker")


async def post_retry(request: web.Request) -> web.Response:
    """Begin again what ended without content."""
    return await _take(request, "retry")


async def post_deliverable(request: web.Request) -> web.Response:
    """Take the deliverable: the act is the key, so the same bytes get the first answer."""
    app, order = request.app, await _order(request)
    produced = await read_deliverable(request)
    deliverable = await asyncio.to_thread(produced.deliverable, order.terms.service)
    row = plain(order_stream(order.id), deliverable.content_id, produced.raw)
    # A crash before this append leaves the order waiting, and the worker hands in again; after
    # it, content and event are both there, and handing in again gets the answer that was lost.
    command = HandIn(deliverable, app[LEDGER].clock())
    try:
        receipt = await execute(app, order.id, command, (row,))
    except Conflict as error:
        if error.details.get("content_hash") != deliverable.raw:
            raise
        receipt = await standing(app, order.id)
    app[LEASES].drop(order.id)
    return proven_response(request, _handed_in(receipt), receipt)


async def post_fail(request: web.Request) -> web.Response:
    """Record that the work ended without content; a repeat gets the same answer."""
    app, order = request.app, await _order(request)
    said = await read_model(request, FailRequest)
    now = app[LEDGER].clock()
    app[LEASES].require_free(order.id, _holder(request, said.worker), now)
    if order.status is Status.DELIVERY_FAILED and order.deliverable is None:
        receipt = await standing(app, order.id)
    else:
        failed = FailHandler(attempts=1, detail=said.reason, now=now)
        receipt = await execute(app, order.id, failed)
    app[LEASES].drop(order.id)
    body: dict[str, object] = {"order_id": order.id, "status": str(Status.DELIVERY_FAILED)}
    return proven_response(request, body, receipt)


async def _take(request: web.Request, reason: Literal["worker", "retry"]) -> web.Response:
    """Begin an order, or find it begun: only the lease says which worker is at it."""
    app, order = request.app, await _order(request)
    body = await read_body(request)
    said = validated(parse_json(body) if body else {}, StartRequest)
    now, holder = app[LEDGER].clock(), _holder(request, said.worker)
    app[LEASES].require_free(order.id, holder, now)
    if order.status is Status.PROCESSING:
        require_paid(order)
        receipt = await standing(app, order.id)
    else:
        receipt = await execute(app, order.id, StartProcessing(reason, now))
    # Another worker may have come while the order was begun.
    app[LEASES].take(order.id, holder, now)
    item = _item(app, order_of(receipt), now)
    return proven_response(request, item, receipt)


async def _order(request: web.Request) -> Order:
    """Return the order that the path names, if it is one for this caller."""
    app, order_id = request.app, request.match_info["order_id"]
    order = await app[LEDGER].order(order_id) if is_order_id(order_id) else None
    # On the marketplace the agent does the work, and its own route says in which form.
    own = (
        order is not None
        and order.deal is None
        and (Role.OPERATOR in request[CALLER].roles or order.terms.service in app[CATALOG].external)
    )
    if order is None or not own:
        raise NotFound("no order has this id")
    return order


def _holder(request: web.Request, worker: str) -> tuple[str, str]:
    return request[CALLER].wallet, worker


def _item(app: web.Application, order: Order, now: UnixMs) -> dict[str, object]:
    terms = order.terms
    row = app[LEDGER].store.content(terms.description_id)
    lease = app[LEASES].of(order.id, now)
    item: dict[str, object] = {
        "order_id": order.id,
        "status": str(order.status),
        "service": terms.service,
        "description": row.value.decode() if row else "",
        "price_usdc": usdc_number(terms.price),
        "waiting_since": iso_of(order.status_at.get(Status.PAID, order.updated_at)),
        "deliver_by": iso_of_seconds(order.deliver_by),
    }
    if terms.delivery_format is not None:
        item["delivery_format"] = terms.delivery_format
    if lease is not None:
        item["taken_until"] = iso_of(UnixMs(lease.until_ms))
    return item


def _handed_in(receipt: Receipt) -> dict[str, object]:
    order = order_of(receipt)
    ready = order.deliverable
    assert ready is not None  # noqa: S101 - handing in leaves one
    return {
        "order_id": order.id,
        "status": str(Status.READY),
        "content_hash": ready.raw,
        "size_bytes": ready.size_bytes,
        "format": ready.format,
        "content_type": ready.content_type,
        "ready_at": iso_of(order.status_at[Status.READY]),
    }


def _place(after: str | None) -> tuple[int, str]:
    since, _, order_id = (after or "-1.").partition(".")
    return int(since), order_id


def _route(
    act: str,
    handler: RouteHandler,
    summary: str,
    request: type[BaseModel],
    response: type[BaseModel],
) -> Route:
    path = f"/v1/work/{{order_id}}/{act}"
    keyed = request is DeliverableRequest
    return Route(
        "POST",
        path,
        handler,
        summary,
        request,
        response,
        writes=True,
        roles=WORKERS,
        query=DeliverableQuery if keyed else None,
        body_types=("*/*",) if keyed else (),
        body_optional=request is StartRequest,
        bytes_are_the_key=keyed,
    )


WORK_ROUTES: Final = [
    Route(
        "GET",
        "/v1/work",
        get_work,
        "Orders that wait",
        response=WorkResponse,
        roles=WORKERS,
        query=WorkQuery,
    ),
    _route("start", post_start, "Take an order", StartRequest, StartedResponse),
    _route("deliverable", post_deliverable, "Hand in", DeliverableRequest, HandedInResponse),
    _route("fail", post_fail, "Give up an order", FailRequest, FailedResponse),
    _route("retry", post_retry, "Begin a failed order again", StartRequest, StartedResponse),
]
