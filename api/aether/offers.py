"""Orders before they are paid, and after they are delivered: offer, haggle, decline, review."""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256
from typing import Final

from aiohttp import web

from api.aether.orders_shown import orders_json, shown_order
from api.aether.proof import acting_wallet
from api.aether.queries import OrdersQuery, WalletQuery
from api.aether.requests import (
    CancelRequest,
    CounterRequest,
    DeclineRequest,
    OfferRequest,
    ReviewRequest,
    micros,
    seconds,
)
from api.aether.shop import OwnOrder, OwnTalk, kept, own_order, own_talk_named
from api.aether.shown import Json, order_json
from api.answers import json_response
from api.body import read_model
from api.keys import LEDGER, MARKET, SETTINGS
from api.log.words import NO_STORE
from api.query import read_query
from api.sync import OrderBody, record
from ledger.deal_commands import (
    CancelOrder,
    CounterOffer,
    DealCommand,
    DeclineOrder,
    ProposeOrder,
    ReviewOrder,
)
from ledger.deal_events import OrderProposed
from ledger.errors import InvalidInput, NotFound
from ledger.market_events import Proven
from ledger.order import Order
from ledger.store_sqlite import ContentRow
from ledger.values import new_order_id, order_stream, parse_iso
from ledger.wallets import account_of

YEAR_10000: Final = 253_402_300_800
"""In Unix seconds."""


async def post_order(request: web.Request) -> web.Response:
    """Offer terms in a conversation. The client sees the offer as a message."""
    said = await read_model(request, OfferRequest)
    own = await own_talk_named(request, said.conversation_id, said.agent_wallet)
    if own.side != "agent":
        raise NotFound("no conversation of this agent has this id", code="CONVERSATION_NOT_FOUND")
    order_id = new_order_id()
    ids, commit, rows = kept(order_stream(order_id), description=said.description)
    terms = _terms(request, own, said, ids["description_id"])
    command = ProposeOrder(terms, commit, request.app[LEDGER].clock())
    body = _body(said.description, told=False)
    return await record(request, order_id, command, body, tuple(rows))


async def get_order(request: web.Request) -> web.Response:
    """Show an order to its sides."""
    own = await own_order(request, read_query(request, WalletQuery).wallet)
    return json_response(await shown_order(request.app, own.order, own.terms), headers=NO_STORE)


async def get_orders(request: web.Request) -> web.Response:
    """List the orders of a wallet, newest first."""
    asked = read_query(request, OrdersQuery)
    named = {
        side: wallet
        for side, wallet in (
            ("agent_wallet", asked.agent_wallet or asked.wallet),
            ("client_wallet", asked.client_wallet or asked.wallet),
        )
        if wallet is not None
    }
    sides = {side: (await acting_wallet(request, w)).wallet for side, w in named.items()}
    if not sides:
        wallet = (await acting_wallet(request, None)).wallet
        sides = {"agent_wallet": wallet, "client_wallet": wallet}
    word = asked.status.upper().replace("-", "_") if asked.status else None
    found = request.app[MARKET].deals_of(sides, word, asked.limit, asked.offset or 0)
    return json_response({"orders": await orders_json(request.app, found)}, headers=NO_STORE)


async def post_counter(request: web.Request) -> web.Response:
    """Ask for other terms. The SDK posts the same text as a message itself, so none is added."""
    said = await read_model(request, CounterRequest)
    own = await own_order(request, said.client_wallet, only="client")
    ids, commit, rows = kept(order_stream(own.order.id), text=said.message)
    wallet, how = _who(own)
    command = CounterOffer(
        wallet=wallet,
        proven=how,
        price=_micros(said.price) if said.price is not None else None,
        delivery_seconds=seconds(said.delivery_time) if said.delivery_time is not None else None,
        text_id=ids["text_id"],
        commit=commit,
        now=request.app[LEDGER].clock(),
    )
    return await _recorded(request, own, command, rows)


async def post_decline(request: web.Request) -> web.Response:
    """Decline an unpaid offer; a repeat gets the same answer."""
    said = await read_model(request, DeclineRequest)
    own = await own_order(request, said.client_wallet, only="client")
    ids, commit, rows = kept(order_stream(own.order.id), reason=said.reason or None)
    wallet, how = _who(own)
    now = request.app[LEDGER].clock()
    command = DeclineOrder(wallet, how, now, ids.get("reason_id"), commit)
    return await _recorded(request, own, command, rows)


async def post_cancel(request: web.Request) -> web.Response:
    """Take an unpaid offer back, by either side; a repeat gets the same answer."""
    said = await read_model(request, CancelRequest)
    own = await own_order(request, said.wallet)
    ids, commit, rows = kept(order_stream(own.order.id), reason=said.reason or None)
    wallet, how = _who(own)
    now = request.app[LEDGER].clock()
    command = CancelOrder(wallet, how, now, ids.get("reason_id"), commit)
    return await _recorded(request, own, command, rows)


async def post_review(request: web.Request) -> web.Response:
    """Review what was delivered, once."""
    said = await read_model(request, ReviewRequest)
    own = await own_order(request, said.client_wallet, only="client")
    ids, commit, rows = kept(order_stream(own.order.id), comment=said.comment or None)
    wallet, how = _who(own)
    now = request.app[LEDGER].clock()
    command = ReviewOrder(wallet, how, said.rating, now, ids.get("comment_id"), commit)
    return await _recorded(request, own, command, rows)


def _terms(
    request: web.Request, own: OwnTalk, said: OfferRequest, description_id: str
) -> OrderProposed:
    settings, started = request.app[SETTINGS], own.talk.started
    now = request.app[LEDGER].clock() // 1000
    pays_to = settings.solana_payment_address
    chain = settings.solana_chain
    assert own.proof is not None  # noqa: S101 - the wallet is named, so it is proven or believed
    return OrderProposed(
        service="aether",
        conversation=own.id,
        agent=started.agent,
        agent_wallet=started.agent_wallet,
        client=account_of(started.client_wallet, settings.chain_id, chain),
        price=_micros(said.price),
        price_athr=micros(said.price_athr) if said.price_athr is not None else None,
        chain=chain,
        token=settings.solana_usdc,
        payment_address=f"{chain}:{pays_to}" if pays_to else None,
        commission_bps=settings.commission_bps,
        pay_by=now + settings.proposal_timeout,
        delivery_seconds=seconds(said.delivery_time),
        deadline=_deadline(said.deadline, now),
        acceptance_window=settings.acceptance_window,
        answer_window=settings.answer_window,
        refund_policy=sha256(settings.refund_policy.encode()).hexdigest(),
        arbiter=settings.arbiter or None,
        description_id=description_id,
        offer=said.service_id[:200] if said.service_id else None,
        proven=own.proof.how,
    )


def _micros(price: Decimal) -> int:
    found = micros(price)
    if found == 0:
        raise InvalidInput("price: is below one millionth", details={"field": "price"})
    return found


def _deadline(text: str | None, now: int) -> int | None:
    if not text:
        return None
    found = parse_iso(text) // 1000
    if found <= now:
        raise InvalidInput("deadline: is over already", details={"field": "deadline"})
    if found >= YEAR_10000:  # with its offset; it could be recorded, and never be shown
        raise InvalidInput("deadline: is after the year 9999", details={"field": "deadline"})
    return found


def _who(own: OwnOrder) -> tuple[str, Proven]:
    assert own.proof is not None  # noqa: S101 - the wallet is named, so it is proven or believed
    return own.proof.wallet, own.proof.how


async def _recorded(
    request: web.Request, own: OwnOrder, command: DealCommand, rows: list[ContentRow]
) -> web.Response:
    before = await shown_order(request.app, own.order, own.terms)
    body = _body(before["description"], told=before["deliveredToProvider"])
    return await record(request, own.order.id, command, body, tuple(rows))


def _body(description: str, *, told: bool) -> OrderBody:
    """Return what makes the answer of the order alone: it may be stored with the events."""

    def body(order: Order) -> Json:
        assert isinstance(order.terms, OrderProposed)  # noqa: S101 - only such orders come here
        shown = order_json(order, order.terms, description, told=told)
        return {**shown, "order": shown}

    return body
