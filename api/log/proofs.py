"""Proofs on demand: of one event, between two sizes of the log, and of an order's end."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from pydantic import BaseModel

from api.aether.reading import require_side
from api.answers import LEDGER_HEAD, json_response, ledger_head
from api.ivxp.parties import known_order
from api.keys import LEDGER
from api.log.held import Ahead
from api.log.notes import note_at
from api.log.words import CHECKPOINT_CACHE, FOR_A_DAY, NO_STORE, PRIVATE_FOR_A_DAY
from ledger.errors import InvalidInput, NotFound
from ledger.proof_text import consistency_text, inclusion_text
from ledger.values import order_stream

_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


class OrderEntry(BaseModel):
    """One event of an order: its place, its leaf, and its exact signed text."""

    position: int
    leaf: str
    entry: str


class OrderEventsResponse(BaseModel):
    """Every event of an order as of one checkpoint, and our signed word that there is no other."""

    order_id: str
    events: list[OrderEntry]
    order_head: dict[str, str]
    checkpoint: str


class OrderHeadResponse(BaseModel):
    """Our signed word where an order ends as of a tree of `size` events."""

    order_id: str
    seq: int
    leaf: str
    size: int
    order_head: dict[str, str]
    checkpoint: str


async def get_order_events(request: web.Request) -> web.Response:
    """Return the exact entries of an order, for its parties and for auditors."""
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    head = ledger.head
    placed = [p for p in ledger.read_order(order.id) if p.position <= head.size]
    last = placed[-1].signed
    body = {
        "order_id": order.id,
        "events": [
            {"position": p.position, "leaf": p.signed.leaf.hex(), "entry": p.signed.entry.decode()}
            for p in placed
        ],
        "order_head": ledger.proofs.order_head(last.stream, last.seq, last.leaf.hex(), head.size),
        "checkpoint": head.note,
    }
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head), **NO_STORE})


async def get_order_head(request: web.Request) -> web.Response:
    """Return the signed head of an order."""
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    await require_side(request, order)
    head = ledger.head
    last = [p for p in ledger.read_order(order.id) if p.position <= head.size][-1].signed
    body = {
        "order_id": order.id,
        "seq": last.seq,
        "leaf": last.leaf.hex(),
        "size": head.size,
        "order_head": ledger.proofs.order_head(last.stream, last.seq, last.leaf.hex(), head.size),
        "checkpoint": head.note,
    }
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head), **NO_STORE})


async def get_event_proof(request: web.Request) -> web.Response:
    """Return the `tlog-proof` of one event of an order, against `?size=` or the newest head."""
    ledger = request.app[LEDGER]
    order = await known_order(ledger, request.match_info["order_id"])
    await require_side(request, order)
    text = request.match_info["seq"]
    rows = ledger.store.read_stream(order_stream(order.id))
    seq = int(text) if _NUMBER.fullmatch(text) else 0
    if not 1 <= seq <= len(rows):
        raise NotFound("the order has no such event", code="NOT_FOUND")
    position = rows[seq - 1][0]
    size = _number(request, "size", ledger.head.size)
    if not position <= size <= ledger.head.size:
        msg = f"size: the event stands at {position} and the log ends at {ledger.head.size}"
        raise InvalidInput(msg, details={"field": "size"})
    proof = ledger.proofs.inclusion(position, size)
    text = inclusion_text(position - 1, proof, note_at(request.app, size))
    headers = PRIVATE_FOR_A_DAY if "size" in request.query else NO_STORE
    return web.Response(text=text, headers=headers)


async def get_consistency(request: web.Request) -> web.Response:
    """Return the proof that the log of `from` events is a prefix of that of `to`."""
    ledger = request.app[LEDGER]
    size = ledger.head.size
    new = _number(request, "to", size)
    old = _number(request, "from", None)
    if max(old, new) > size:
        raise Ahead(f"the log ends at {size}", details={"checkpoint": ledger.head.note})
    if old > new:
        raise InvalidInput("from: is not above to", details={"field": "from"})
    proof = ledger.proofs.consistency(old, new)
    text = consistency_text(proof, note_at(request.app, new))
    headers = FOR_A_DAY if "to" in request.query else CHECKPOINT_CACHE
    return web.Response(text=text, headers=headers)


def _number(request: web.Request, name: str, default: int | None) -> int:
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not _NUMBER.fullmatch(text):
        raise InvalidInput(f"{name}: is a number of events", details={"field": name})
    return int(text)
