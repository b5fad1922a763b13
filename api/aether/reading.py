"""Reading a marketplace order by the other protocol's routes: its id alone is no key to it.

Both sides know the id, so it proves neither of them. Where claims pass unproven it opens the order,
as it does for every other order.
"""

from __future__ import annotations

from aiohttp import web

from api.aether.proof import proven
from api.keys import LEDGER, SETTINGS
from api.tokens import TokenRefused
from ledger.decide_deal import side_of
from ledger.errors import NotFound
from ledger.market_events import Side
from ledger.order import Order


async def require_side(request: web.Request, order: Order) -> Side | None:
    """Return on which side of a marketplace order the caller is; strangers are told of no order.

    None of an order that is not of the marketplace, and where nobody has to prove anything.
    """
    if order.deal is None:
        return None
    try:
        proof = await proven(request)
    except TokenRefused:
        proof = None
    side = side_of(order, proof.wallet) if proof is not None else None
    if side is None and request.app[SETTINGS].aether_auth == "strict":
        raise NotFound("no order has this id")
    return side


async def require_side_by_id(request: web.Request, order_id: str) -> Side | None:
    """Return the same for an order that the views have."""
    order = await request.app[LEDGER].order(order_id)
    return await require_side(request, order) if order is not None else None
