"""Accepting an order: the signed transfer is checked, recorded, and where it can be, settled."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.aether.errors import PaymentsDisabled
from api.aether.orders_shown import shown_order
from api.aether.requests import AcceptRequest
from api.aether.shop import OwnOrder, own_order
from api.aether.shown import payment_json
from api.answers import proven_response
from api.body import read_model
from api.keys import LEDGER, SETTINGS
from api.solana_link import SOLANA, recognised
from api.sync import execute, order_of, standing
from api.workers.settlement import settle_now
from ledger.deal import Deal
from ledger.deal_commands import AuthorizePayment
from ledger.deal_events import OrderProposed, PaymentAuthorized, PaymentVoided
from ledger.errors import InvalidInput, PaymentPending, PaymentRefused
from ledger.market_money import due_micros, split
from ledger.order import Order
from ledger.receipt import Receipt
from ledger.solana_rpc import NotSubmitted
from ledger.spl import X402Header, read_header, verify_transfer
from ledger.values import UnixMs, address_of

SKEW_SECONDS: Final = 60
"""By which a client's clock may differ from ours."""


async def post_accept(request: web.Request) -> web.Response:
    """Accept an offer with a signed transfer of its price.

    A repeat gets the first answer, whatever transfer comes with it, and submits nothing.
    """
    said = await read_model(request, AcceptRequest)
    own = await own_order(request, said.client_wallet, only="client")
    receipt = await _begun(request, own) or await _accepted(request, own, said)
    order = order_of(receipt)
    assert isinstance(order.terms, OrderProposed)  # noqa: S101 - as the order that was asked for
    shown = await shown_order(request.app, order, order.terms)
    return proven_response(request, {**shown, "order": shown, **payment_json(order)}, receipt)


async def _begun(request: web.Request, own: OwnOrder) -> Receipt | None:
    """Return where an order stands that is being paid already."""
    deal = own.order.deal
    if deal is None or deal.authorization is None:
        return None
    return await standing(request.app, own.order.id)


async def _accepted(request: web.Request, own: OwnOrder, said: AcceptRequest) -> Receipt:
    app, order_id = request.app, own.order.id
    payment = await _payment(request, own, said)
    assert own.proof is not None  # noqa: S101 - the wallet is named, so it is proven or believed
    # A crash before this append leaves an unpaid order and a transfer that nobody sent: the client
    # signs another one. After it, the transfer is sent and watched without the client.
    command = AuthorizePayment(own.proof.wallet, payment, app[LEDGER].clock())
    receipt = await execute(app, order_id, command)
    if payment.awaits == "nothing" or not receipt.events:
        return receipt
    refused = await settle_now(app, order_id)
    after = await standing(app, order_id)
    _require_not_void(app, order_of(after), payment)
    if refused is not None:
        raise _not_yet(payment, refused)
    return after


async def _payment(request: web.Request, own: OwnOrder, said: AcceptRequest) -> PaymentAuthorized:
    """Return the event of a transfer that pays the order; raises what is wrong with it."""
    settings, terms, method = request.app[SETTINGS], own.terms, said.payment_method
    if not settings.solana_payment_address:
        raise PaymentsDisabled("no Solana address is configured to be paid at")
    recipient = _recipient(terms, settings.solana_chain)
    header = read_header(said.payment_header)
    _require_in_time(header, request.app[LEDGER].clock())
    due = due_micros(terms.price, method)
    signed = verify_transfer(
        header.transaction,
        mint=terms.token,
        recipient_wallet=recipient,
        due_micros=due,
    )
    link = request.app[SOLANA]
    # Asked before anything is recorded: a node that does not answer costs the client nothing.
    slot = await _newest_slot(request.app) if link.rpc is not None else None
    assert own.proof is not None  # noqa: S101 - the wallet is named, so it is proven or believed
    commission, payout = split(signed.amount, terms.commission_bps)
    return PaymentAuthorized(
        chain=terms.chain,
        mint=terms.token,
        recipient=recipient,
        source=signed.source,
        destination=signed.destination,
        payer=signed.payer,
        signature=signed.signature,
        transaction=signed.transaction,
        amount=signed.amount,
        named_payer=header.sender,
        method=method,
        due=due,
        commission=commission,
        payout=payout,
        grade="signed",
        awaits="settlement" if link.rpc is not None else "nothing",
        seen_slot=slot,
        proven=own.proof.how,
    )


async def _newest_slot(app: web.Application) -> int | None:
    """Return the newest slot, or None of a node that can prove nothing by it later."""
    rpc = await recognised(app)
    return await rpc.slot() if app[SOLANA].proves else None


def _recipient(terms: OrderProposed, chain: str) -> str:
    """Return the wallet that the signed offer names, on the chain that is taken now."""
    if terms.payment_address is None or terms.chain != chain:
        msg = "the offer names another place to pay at; ask the agent for a new one"
        details = {"reason": "other_place"}
        raise PaymentRefused(msg, code="INVALID_PAYMENT_HEADER", details=details)
    return address_of(terms.payment_address)


def _require_in_time(header: X402Header, now: UnixMs) -> None:
    if now > (header.valid_before + SKEW_SECONDS) * 1000:
        msg = "payload.authorization.validBefore: is over; sign again"
        details = {"field": "payload.authorization.validBefore"}
        raise InvalidInput(msg, code="INVALID_PAYMENT_HEADER", details=details)


def _not_yet(payment: PaymentAuthorized, refused: NotSubmitted) -> PaymentPending:
    """Return the answer to a payer without funds: the same transfer is tried again by itself."""
    msg = (
        f"the chain does not take the transfer now: {refused.reason}; it is tried again until its "
        "blockhash is over, so put funds on the account and sign no other one before"
    )
    details = {"signature": payment.signature, "outcome": "pending"}
    return PaymentPending(msg, code="INSUFFICIENT_FUNDS", details=details)


def _require_not_void(app: web.Application, order: Order, payment: PaymentAuthorized) -> None:
    """Raise if the chain refused the transfer: then nothing moved, and another one may follow."""
    deal: Deal | None = order.deal
    if deal is None or payment.signature not in deal.voided:
        return
    events = [placed.signed.event for placed in app[LEDGER].read_order(order.id)]
    voided = [e for e in events if isinstance(e, PaymentVoided)][-1]
    detail = voided.detail or voided.reason
    msg = f"the chain did not take the transfer, and nothing moved: {detail}"
    raise PaymentRefused(msg, code="TRANSACTION_FAILED", details={"signature": payment.signature})
