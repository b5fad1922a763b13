"""Status and download of one order. The order id is the protocol's bearer secret."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final, Literal

import orjson
from aiohttp import web

from api.aether.reading import require_side_by_id
from api.answers import json_response
from api.handout import write_in_pieces
from api.ivxp.negotiation import PROTOCOL_1_0, VARY, view_asked
from api.ivxp.parties import known_order
from api.ivxp.views import status_body
from api.keys import BACKGROUND, CATALOG, HAND_OUTS, LEDGER, VIEWS
from api.log.words import NO_STORE
from api.routes import route_path
from ledger.commands import NoteCollected
from ledger.content import wire_content, wire_text
from ledger.errors import Gone, NotFound
from ledger.market_events import Side
from ledger.order import Status
from ledger.store_sqlite import ContentRow
from ledger.values import UnixMs, is_order_id, iso_of
from projections.orders import OrderView, order_row, view_of

STRUCTURED_PATH: Final = "/ivxp/download/"
"""Older clients, which read Markdown from an object, use this path and no other."""

_TEXT_TYPES: Final = ("text/", "application/json", "application/xml")
_LIKE_BASE64: Final = re.compile(r"data:.*|[A-Za-z0-9+/=\s]+", re.ASCII | re.DOTALL)


async def get_status(request: web.Request) -> web.Response:
    """Return the status in the view that was asked for."""
    view = view_asked(request)
    order = await order_view(request)
    body = status_body(order, view, request.app[LEDGER].clock())
    return json_response(body, headers={**VARY, **NO_STORE})


async def get_download(request: web.Request) -> web.StreamResponse:
    """Hand out the deliverable; the first whole hand-out is recorded after the last byte."""
    asked, view = view_asked(request), await order_view(request)
    side = await require_side_by_id(request, view.order_id) if view.market else None
    row = _content(request, view)

    def make() -> bytes:
        text, is_base64 = wire_text(row.value)
        body = _envelope(request, view, text)
        if not asked.strict:
            content = _flat(view, row, text, is_base64=is_base64)
            body |= _superset(request, view, text, content)
        return orjson.dumps(body)

    response = web.StreamResponse(headers={**VARY, **NO_STORE, "Content-Type": "application/json"})
    key = (view.order_id, route_path(request), asked.strict)
    try:
        async with request.app[HAND_OUTS].body(key, make) as body:
            await write_in_pieces(request, response, body)
    except ConnectionError:
        return response  # the client went away: nothing was handed out whole
    # The agent that looks at its own work has not collected it.
    if request.method == "GET" and Status.DELIVERED not in view.status_at and side != "agent":
        ledger, by = request.app[LEDGER], _by(side)
        note = ledger.execute(view.order_id, NoteCollected(by, ledger.clock()))
        request.app[BACKGROUND].spawn(note, "collected")
    return response


async def order_view(request: web.Request) -> OrderView:
    """Return the order's view; what the views do not have yet is made from the ledger.

    Some clients give up at the first failed status answer, so a known order never gets one.
    """
    order_id = request.match_info["order_id"]
    if not is_order_id(order_id):
        raise NotFound("no order has this id")
    view = request.app[VIEWS].order(order_id)
    if view is None:
        order = await known_order(request.app[LEDGER], order_id)
        view = view_of(order_row(order, position=0))
    if view.market:
        await require_side_by_id(request, order_id)
    return view


def _by(side: Side | None) -> Literal["bearer", "party"]:
    return "party" if side == "client" else "bearer"


def _content(request: web.Request, view: OrderView) -> ContentRow:
    if view.content_id is None:
        msg = "the deliverable is not ready"
        raise NotFound(msg, code="DELIVERABLE_NOT_READY", details={"status": view.status})
    row = request.app[LEDGER].store.content(view.content_id) if view.content_held else None
    if row is None:
        raise Gone("the content was erased", details={"reason": "delivery_retention_elapsed"})
    return row


def _envelope(request: web.Request, view: OrderView, text: str) -> dict[str, object]:
    """Return the members of the schema: the content is text, hashed as the documents say."""
    ready_at = iso_of(UnixMs(view.status_at[Status.READY]))
    return {
        "protocol": PROTOCOL_1_0,
        "message_type": "service_delivery",
        "timestamp": ready_at,
        "order_id": view.order_id,
        "status": "completed",
        "provider_agent": {
            "name": request.app[CATALOG].provider,
            "wallet_address": request.app[LEDGER].signer.address,
        },
        "deliverable": {
            "type": view.service,
            "format": view.format,
            "content": text,
        },
        "content_hash": f"sha256:{view.json_digest}",
        "delivered_at": ready_at,
    }


def _superset(
    request: web.Request, view: OrderView, text: str, flat: tuple[str, bool]
) -> dict[str, object]:
    """Return what single clients need instead, or beside it: the flat content and its hash."""
    inner: object = text
    if route_path(request).startswith(STRUCTURED_PATH):
        inner = wire_content(text, view.format or "", view.service)
    content, is_base64 = flat
    return {
        "deliverable": {"type": view.service, "format": view.format, "content": inner},
        "content": content,
        "content_type": view.content_type,
        "content_hash": view.content_hash,
        **({"content_encoding": "base64"} if is_base64 else {}),
    }


def _flat(view: OrderView, row: ContentRow, content: str, *, is_base64: bool) -> tuple[str, bool]:
    """Return the flat content and whether it is base64.

    The hub's page decodes whatever looks encoded, unless its media type is a text's, and hashes
    what comes out. Such content is encoded here, so that it comes out as it is.
    """
    is_text = (view.content_type or "").lower().startswith(_TEXT_TYPES)
    if is_base64 or is_text or not _LIKE_BASE64.fullmatch(content):
        return content, is_base64
    return b64encode(row.value).decode(), True
