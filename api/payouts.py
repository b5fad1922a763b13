"""What is due to the marketplace's agents. The service lists it; it holds no key to pay with."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from api.answers import Time, json_response
from api.ivxp.models import Message
from api.keys import LEDGER, MARKET
from api.log.words import NO_STORE
from api.query import read_query
from api.routes import Route
from api.tokens import Role
from api.work import plain_number
from ledger.deal_events import OrderProposed
from ledger.order import Order
from ledger.values import UnixMs, iso_of
from projections.market import word_of

MAX_PAGE: Final = 1000


class PayoutsQuery(Message):
    """GET /v1/payouts; `after` is the `next` of another page."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(plain_number)] = 100
    after: (
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}\.ivxp-[0-9a-f-]{36}$")] | None
    ) = None


class Payout(BaseModel):
    """What is due for one paid order, in micro-USDC; `grade` says whether the chain took it."""

    order_id: str
    agent: str
    agent_wallet: str
    status: str
    grade: Literal["signed", "settled"]
    amount_micros: str
    commission_micros: str
    payout_micros: str
    transaction_signature: str
    paid_at: Time


class PayoutsResponse(BaseModel):
    """GET /v1/payouts, by the time of payment."""

    payouts: list[Payout]
    next: str | None = None


async def get_payouts(request: web.Request) -> web.Response:
    """List the paid orders of the marketplace with the agents' shares."""
    asked, app = read_query(request, PayoutsQuery), request.app
    since, _, order_id = (asked.after or "-1.").partition(".")
    found = app[MARKET].paid((int(since), order_id), asked.limit)
    orders = [await app[LEDGER].order(order_id) for _, order_id in found]
    body: dict[str, object] = {"payouts": [_payout(order) for order in orders if order is not None]}
    if len(found) == asked.limit:
        body["next"] = f"{found[-1][0]}.{found[-1][1]}"
    return json_response(body, headers=NO_STORE)


def _payout(order: Order) -> dict[str, object]:
    deal, terms = order.deal, order.terms
    payment = deal.authorization if deal is not None else None
    assert deal is not None and payment is not None and deal.paid_at is not None  # noqa: S101, PT018 - the views list paid ones
    assert isinstance(terms, OrderProposed)  # noqa: S101 - as every deal's
    return {
        "order_id": order.id,
        "agent": terms.agent,
        "agent_wallet": terms.agent_wallet,
        "status": word_of(order),
        "grade": "settled" if deal.settled is not None else "signed",
        "amount_micros": str(payment.amount),
        "commission_micros": str(payment.commission),
        "payout_micros": str(payment.payout),
        "transaction_signature": payment.signature,
        "paid_at": iso_of(UnixMs(deal.paid_at)),
    }


PAYOUT_ROUTES: Final = [
    Route(
        "GET",
        "/v1/payouts",
        get_payouts,
        "What is due to agents",
        response=PayoutsResponse,
        query=PayoutsQuery,
        roles=frozenset({Role.OPERATOR}),
    )
]
