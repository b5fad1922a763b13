"""What the marketplace's handlers need: its views, erasable content, and whose things they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web

from api.aether.proof import Proof, acting_wallet
from api.keys import LEDGER, SETTINGS
from ledger.content import commitment, salted
from ledger.deal_events import OrderProposed
from ledger.decide_deal import side_of
from ledger.errors import NotFound
from ledger.market import Agent, Conversation, side_in
from ledger.market_events import Side
from ledger.order import Order
from ledger.service import Ledger
from ledger.store_sqlite import ContentRow
from ledger.values import is_order_id

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Own:
    """An order or a conversation with who asks, and on which side that is.

    `side` is None only where claims pass unproven and nobody was named.
    """

    proof: Proof | None
    side: Side | None


@dataclass(frozen=True, slots=True)
class OwnTalk(Own):
    """A conversation."""

    id: str
    talk: Conversation


@dataclass(frozen=True, slots=True)
class OwnOrder(Own):
    """An order with its terms."""

    order: Order
    terms: OrderProposed


async def asker(request: web.Request, claimed: str | None) -> Proof | None:
    """Return who asks; nobody at all may ask only where claims pass unproven."""
    nobody = claimed is None and request.app[SETTINGS].aether_auth == "open"
    if nobody and not _has_proof(request):
        return None
    return await acting_wallet(request, claimed)


async def own_agent(request: web.Request, agent: str, claimed: str | None) -> tuple[str, Agent]:
    """Return an agent of the caller, or raise `NotFound`."""
    proof, found = await asker(request, claimed), await known_agent(request.app[LEDGER], agent)
    if proof is not None and proof.wallet != found.owner:
        raise _no_agent()
    return agent, found


async def known_agent(ledger: Ledger, agent: str) -> Agent:
    """Return an agent, or raise `NotFound`; a malformed id is not found either."""
    found = await ledger.agent(agent) if _UUID.fullmatch(agent) else None
    if found is None:
        raise _no_agent()
    return found


async def own_talk(request: web.Request, claimed: str | None) -> OwnTalk:
    """Return the conversation of the path, if the caller takes part in it."""
    name = request.match_info["conversation_id"]
    return await own_talk_named(request, name, claimed)


async def own_talk_named(request: web.Request, name: str, claimed: str | None) -> OwnTalk:
    """Return a conversation, if the caller takes part in it; a stranger's does not exist."""
    proof = await asker(request, claimed)
    talk = await request.app[LEDGER].conversation(name) if _UUID.fullmatch(name) else None
    side = side_in(talk.started, proof.wallet) if talk is not None and proof is not None else None
    if talk is None or (proof is not None and side is None):
        raise NotFound("no conversation of this wallet has this id", code="CONVERSATION_NOT_FOUND")
    return OwnTalk(proof, side, name, talk)


async def own_order(
    request: web.Request, claimed: str | None, only: Side | None = None
) -> OwnOrder:
    """Return the order of the path, if the caller is one of its sides, or that one."""
    proof, order_id = await asker(request, claimed), request.match_info["order_id"]
    order = await request.app[LEDGER].order(order_id) if is_order_id(order_id) else None
    terms = order.terms if order is not None else None
    if order is None or not isinstance(terms, OrderProposed):
        raise _no_order()
    side = side_of(order, proof.wallet) if proof is not None else None
    if proof is not None and (side is None or only not in (None, side)):
        raise _no_order()
    return OwnOrder(proof, side, order, terms)


def words_of(ledger: Ledger, content_id: str) -> str:
    """Return text that may have been erased: then it is empty."""
    row = ledger.store.content(content_id)
    return row.value.decode() if row is not None else ""


def json_of(ledger: Ledger, content_id: str | None) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON that may have been erased, or that never was there: then it is None."""
    row = ledger.store.content(content_id) if content_id is not None else None
    return orjson.loads(row.value) if row is not None else None


def kept(stream: str, **values: object) -> tuple[dict[str, str], dict[str, str], list[ContentRow]]:
    """Return content ids by field, commitments by field, and rows, for the values that there are.

    A value that is no text is kept as JSON.
    """
    rows = [
        salted(stream, name, value if isinstance(value, str) else _json(value))
        for name, value in values.items()
        if value is not None
    ]
    ids = {f"{row.field}_id": row.content_id for row in rows}
    return ids, {row.field: commitment(row) for row in rows}, rows


def _json(value: object) -> str:
    """Return JSON text; a fraction was read as a decimal, and is written as its reader reads it."""
    return orjson.dumps(value, default=float).decode()


def _has_proof(request: web.Request) -> bool:
    sent = {"Authorization", "X-Wallet-Address", "X-Signature"} & set(request.headers)
    return bool(sent) or "token" in request.match_info


def _no_agent() -> NotFound:
    return NotFound("no such agent, or none of this wallet", code="AGENT_NOT_FOUND")


def _no_order() -> NotFound:
    return NotFound("no order of this wallet has this id")
