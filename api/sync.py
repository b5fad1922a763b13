"""Writes and reads that agree: a write answers when the views have it, a read waits if asked to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeVar

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from api.answers import proven_response
from api.idempotency import ASKED
from api.keys import LEDGER, RUNNER
from ledger.batch import Remember
from ledger.decide import OrderCommand
from ledger.errors import InvalidInput, LedgerError, OutcomeUnknown
from ledger.order import Order
from ledger.receipt import Receipt
from ledger.store_sqlite import ContentRow
from ledger.values import order_stream

VIEW_WAIT_SECONDS: Final = 1.0
READ_WAIT_SECONDS: Final = 5.0
AFTER_POSITION: Final = "after_position"
_POSITION: Final = re.compile(r"[0-9]{1,15}", re.ASCII)

S = TypeVar("S")
OrderBody = Callable[[Order], dict[str, object]]
"""Makes an answer's body from the order as the command left it. Pure: it runs in the writer."""


class ViewsBehind(LedgerError):
    """The views did not reach the position that the read asked for in time."""

    code = "VIEWS_BEHIND"
    retryable = True


@web.middleware
async def read_after(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a read wait for `?after_position=`, so that a client reads what it wrote elsewhere."""
    text = request.query.get(AFTER_POSITION) if request.method in ("GET", "HEAD") else None
    if text is not None:
        await _reach(request.app, text)
    return await handler(request)


async def record(
    request: web.Request,
    order_id: str,
    command: OrderCommand,
    body: OrderBody,
    content: tuple[ContentRow, ...] = (),
) -> web.Response:
    """Execute a request's command and return its proven answer.

    An answer to a request with a key of its own is stored in the transaction of its events.
    """
    remember = remembered(request, body)
    receipt = await execute(request.app, order_id, command, content, remember)
    return proven_response(request, body(order_of(receipt)), receipt)


def remembered(request: web.Request, body: Callable[[S], dict[str, object]]) -> Remember | None:
    """Return what stores the answer with the events, for a request that has a key of its own."""
    asked = request.get(ASKED)
    if asked is None:
        return None
    asked.stored = True
    return Remember(asked.request_id, asked.fingerprint, lambda state: orjson.dumps(body(state)))


async def execute(
    app: web.Application,
    order_id: str,
    command: OrderCommand,
    content: tuple[ContentRow, ...] = (),
    remember: Remember | None = None,
) -> Receipt:
    """Execute a command of an order, and return or raise when the views have what it recorded.

    They get a second; then the answer goes out all the same.
    """
    try:
        receipt = await app[LEDGER].execute(order_id, command, content, remember)
    except LedgerError as error:
        if isinstance(error.receipt, Receipt):
            await settle(app, error.receipt)
        raise
    await settle(app, receipt)
    return receipt


async def standing(app: web.Application, order_id: str) -> Receipt:
    """Return where an order stands as the answer to an act that was done before."""
    stream = await asyncio.to_thread(app[LEDGER].store.load, order_stream(order_id))
    head = app[LEDGER].head
    if head.size < stream.position:
        # The event is stored and its head not signed yet: the views are told after that.
        await app[RUNNER].wait_for(stream.position, VIEW_WAIT_SECONDS)
        head = app[LEDGER].head
    if head.size < stream.position:
        raise OutcomeUnknown("the ledger's newest head is not signed yet; ask again")
    return Receipt((), 0, stream, head)


def order_of(receipt: Receipt) -> Order:
    """Return the order that a receipt is of."""
    order = receipt.stream.state
    assert isinstance(order, Order)  # noqa: S101 - the stream is an order's
    return order


async def settle(app: web.Application, receipt: Receipt) -> None:
    """Wait until the views have what was recorded; after a second the answer goes out anyway."""
    await app[RUNNER].wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)


async def _reach(app: web.Application, text: str) -> None:
    size = app[LEDGER].head.size
    if not _POSITION.fullmatch(text) or int(text) > size:
        msg = f"{AFTER_POSITION}: is a position of the ledger, up to {size}"
        raise InvalidInput(msg, details={"field": AFTER_POSITION})
    if not await app[RUNNER].wait_for(int(text), READ_WAIT_SECONDS):
        raise ViewsBehind("the views are not there yet", details={AFTER_POSITION: int(text)})
