"""Catalog and quotes: what is sold, and the signed terms of one order."""

from __future__ import annotations

from decimal import Decimal
from hashlib import sha256

from aiohttp import web

from api.answers import json_response
from api.body import read_model
from api.catalog import Catalog, Offering
from api.config import Settings
from api.ivxp.models import QuoteRequest, ServiceDetails
from api.ivxp.negotiation import PROTOCOL_1_0, VARY, view_asked
from api.keys import CATALOG, CHAIN, LEDGER, LIMITS, SETTINGS, VIEWS, ChainLink
from api.limits import client_address
from api.quoter import QUOTERS, SCREEN, QuoteFacts
from api.sync import record
from ledger.commands import IssueQuote
from ledger.content import commitment, salted
from ledger.decision import require_fresh
from ledger.entry import Beacon
from ledger.errors import InvalidInput
from ledger.order import Order
from ledger.order_events import OrderQuoted
from ledger.store_sqlite import ContentRow
from ledger.values import (
    UnixMs,
    address_of,
    evm_account,
    iso_of,
    iso_of_seconds,
    new_order_id,
    order_stream,
    parse_iso,
    usdc_number,
)


async def get_catalog(request: web.Request) -> web.Response:
    """Return what is sold."""
    catalog, ledger = request.app[CATALOG], request.app[LEDGER]
    strict = view_asked(request).strict
    body: dict[str, object] = {
        "protocol": PROTOCOL_1_0,
        "message_type": "service_catalog",
        "timestamp": iso_of(ledger.clock()),
        "provider": catalog.provider,
        "wallet_address": ledger.signer.address,
        "services": [_entry(offering, strict=strict) for offering in catalog.services],
    }
    if not strict:
        body["capabilities"] = ["sse"]
        if request.app[SETTINGS].dev_chain:
            body["dev_chain"] = True
    return json_response(body, headers=VARY)


async def post_request(request: web.Request) -> web.Response:
    """Issue a quote: the order's first event, durable before the answer."""
    settings, ledger = request.app[SETTINGS], request.app[LEDGER]
    message = await read_model(request, QuoteRequest)
    now = ledger.clock()
    if message.timestamp is not None:
        require_fresh(parse_iso(message.timestamp), now)
    offering = _offering(request.app[CATALOG], message)
    order_id = new_order_id()
    client = evm_account(settings.chain_id, message.client_agent.wallet_address)
    _hold(request, order_id, client)
    try:
        price = await _price(request.app, offering, client, message)
        beacon = await _beacon(request.app[CHAIN])
        now, rows = ledger.clock(), _content(order_id, message)
        command = IssueQuote(
            terms=_terms(settings, offering, price, client, message, rows, now),
            commit={row.field: commitment(row) for row in rows},
            now=now,
            beacon=beacon,
        )
        return await record(
            request, order_id, command, lambda order: _quote_body(request, order, message), rows
        )
    except BaseException:
        request.app[LIMITS].release_quote(order_id)
        raise


def _entry(offering: Offering, *, strict: bool) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": offering.type,
        "base_price_usdc": usdc_number(offering.price_micros),
        "estimated_delivery_hours": offering.estimated_delivery_hours,
    }
    if offering.description and not strict:
        entry["description"] = offering.description
    return entry


def _offering(catalog: Catalog, message: QuoteRequest) -> Offering:
    wanted = message.service_request
    offering = catalog.find(wanted.type)
    if offering is None:
        raise InvalidInput(
            f"this provider does not offer {wanted.type!r}",
            code="SERVICE_TYPE_NOT_SUPPORTED",
            details={"service_types": [s.type for s in catalog.services]},
        )
    if wanted.budget_usdc <= 0:
        raise InvalidInput("budget_usdc: must be above 0", details={"field": "budget_usdc"})
    if offering.has_fixed_price:
        _require_budget(wanted, offering.price_micros)
    return offering


def _require_budget(wanted: ServiceDetails, price_micros: int) -> None:
    if Decimal(wanted.budget_usdc) * 1_000_000 < price_micros:
        raise InvalidInput(
            "the budget is below the price",
            code="BUDGET_TOO_LOW",
            details={"price_usdc": usdc_number(price_micros)},
        )


async def _price(
    app: web.Application, offering: Offering, client: str, message: QuoteRequest
) -> int:
    """Return what this order costs this client, if it is served at all."""
    await app[SCREEN].require(client, "quote")
    wanted = message.service_request
    facts = QuoteFacts(
        service=offering.type,
        description=wanted.description,
        budget_usdc=Decimal(wanted.budget_usdc),
        client=client,
        client_name=message.client_agent.name,
        delivery_format=wanted.delivery_format,
        deadline=wanted.deadline,
        base_price_usdc=Decimal(offering.price_micros) / 1_000_000,
    )
    price = await app[QUOTERS].price_micros(offering, facts)
    _require_budget(wanted, price)
    return price


async def _beacon(link: ChainLink) -> Beacon | None:
    """Return the newest block: what was paid up to it was not paid for this quote."""
    return await link.chain.beacon() if link.chain is not None and link.bound else None


def _hold(request: web.Request, order_id: str, client: str) -> None:
    settings = request.app[SETTINGS]
    if not settings.max_open_quotes:
        return
    address = client_address(request, settings.proxy_networks)
    now = request.app[LEDGER].clock() // 1000
    holders = {f"address {address}": 0}
    if address_of(client) != "0x" + "0" * 40:
        holders[client] = request.app[VIEWS].open_quotes(client, now)
    request.app[LIMITS].hold_quote(order_id, holders, settings.payment_timeout)


def _content(order_id: str, message: QuoteRequest) -> tuple[ContentRow, ...]:
    stream = order_stream(order_id)
    agent = message.client_agent
    fields = {
        "description": message.service_request.description,
        "client_name": agent.name,
        "contact_endpoint": agent.contact_endpoint,
    }
    return tuple(salted(stream, name, value) for name, value in fields.items() if value)


def _terms(
    settings: Settings,
    offering: Offering,
    price: int,
    client: str,
    message: QuoteRequest,
    rows: tuple[ContentRow, ...],
    now: UnixMs,
) -> OrderQuoted:
    ids = {f"{row.field}_id": row.content_id for row in rows}
    pay_by = now // 1000 + settings.payment_timeout
    return OrderQuoted(
        service=offering.type,
        client=client,
        price=price,
        chain=settings.chain,
        token=settings.token,
        payment_address=settings.payment_address.lower(),
        pay_by=pay_by,
        deliver_by=pay_by + max(1, round(offering.estimated_delivery_hours * 3600)),
        acceptance_window=settings.acceptance_window,
        answer_window=settings.answer_window,
        arbiter=settings.arbiter or None,
        refund_policy=sha256(settings.refund_policy.encode()).hexdigest(),
        delivery_format=message.service_request.delivery_format or None,
        **ids,
    )


def _quote_body(request: web.Request, order: Order, message: QuoteRequest) -> dict[str, object]:
    settings, ledger, terms = request.app[SETTINGS], request.app[LEDGER], order.terms
    return {
        "protocol": message.protocol,
        "message_type": "service_quote",
        "timestamp": iso_of(order.created_at),
        "order_id": order.id,
        "provider_agent": {
            "name": request.app[CATALOG].provider,
            "wallet_address": ledger.signer.address,
        },
        "quote": {
            "price_usdc": usdc_number(terms.price),
            "estimated_delivery": iso_of_seconds(order.deliver_by),
            "payment_address": terms.payment_address,
            "network": settings.network,
            "token_contract": terms.token,
        },
        "terms": {
            "payment_timeout": settings.payment_timeout,
            "revision_policy": "A failed delivery may be retried before a deliverable exists.",
            "refund_policy": settings.refund_policy,
        },
    }
