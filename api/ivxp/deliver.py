"""The payment notice: prove the party, ask the chain, then let the ledger decide."""

from __future__ import annotations

import asyncio

from aiohttp import web

from api.answers import write_response
from api.body import read_model
from api.config import Settings
from api.ivxp.models import DeliveryRequest
from api.keys import CHAIN, LEDGER, LIMITS, SETTINGS, ChainLink
from api.sync import execute
from ledger.commands import AcceptNotice, Notice
from ledger.content import commitment, salted
from ledger.decide_payment import check_notice
from ledger.decision import require_fresh
from ledger.errors import ChainUnavailable, Conflict, InvalidInput, NotFound, Unauthorized
from ledger.event import ClientText
from ledger.finding import ChainView, Finding
from ledger.order import Order
from ledger.service import Ledger
from ledger.signing import normalise_signature, recover
from ledger.store_sqlite import ContentRow
from ledger.texts import parse_notice
from ledger.values import UnixMs, is_order_id, order_stream, parse_iso, parse_tx_hash

ACCEPTED_TEXT = "Payment verified. The order is being processed."


async def post_deliver(request: web.Request) -> web.Response:
    """Accept a signed payment notice: 200 when paid, 402 or 503 while it cannot be proven."""
    ledger, settings = request.app[LEDGER], request.app[SETTINGS]
    message = await read_model(request, DeliveryRequest)
    order = await known_order(ledger, message.order_id)
    notice, rows = _notice(message, settings)
    _refuse_early(order, notice, message, ledger.clock())
    finding = await _look(request.app[CHAIN], notice.tx_hash, settings.rpc_timeout)
    command = AcceptNotice(notice, finding, ledger.clock())
    try:
        receipt = await execute(request.app, order.id, command, rows)
    except Conflict as error:
        raise _with_first_answer(error, order) from error
    request.app[LIMITS].release_quote(order.id)
    return write_response(ledger, receipt, accepted_body(order.id))


def accepted_body(order_id: str) -> dict[str, object]:
    """Return what a client gets for an accepted notice, the first time and every time."""
    return {"status": "accepted", "order_id": order_id, "message": ACCEPTED_TEXT}


async def known_order(ledger: Ledger, order_id: str) -> Order:
    """Return an order as committed, or raise `NotFound`; a malformed id is not found either."""
    order = await ledger.order(order_id) if is_order_id(order_id) else None
    if order is None:
        raise NotFound("no order has this id")
    return order


def signed_text(text: str, signature: str, claimed_signer: str | None) -> ClientText:
    """Return a client's text with its normal-form signature and the recovered signer.

    Raises `Unauthorized` for every other signature form, or if the body names another signer.
    """
    normal = normalise_signature(signature)
    signer = recover(text.encode(), normal)
    if claimed_signer is not None and claimed_signer.lower() != signer:
        raise Unauthorized("the signature is not that of the named signer")
    return ClientText(text=text, signature=normal, signer=signer)


def _notice(message: DeliveryRequest, settings: Settings) -> tuple[Notice, tuple[ContentRow, ...]]:
    """Return the parsed notice, with the text and the body in agreement on every shared field."""
    proof = message.payment_proof
    said = parse_notice(message.signed_message)
    network = "base-mainnet" if proof.network == "base" else proof.network
    if network != settings.network:
        raise InvalidInput(f"this provider is paid on {settings.network}", code="INVALID_NETWORK")
    tx_hash = parse_tx_hash(proof.tx_hash)
    if said.order_id != message.order_id or said.tx_hash not in (None, tx_hash):
        raise Unauthorized("the signed text names another order or transaction than the body")
    if message.nonce is not None and said.nonce is not None and message.nonce != said.nonce:
        raise Unauthorized("the signed text names another nonce than the body")
    client = signed_text(message.signed_message, message.signature, proof.from_address)
    if said.address not in (None, client.signer):
        raise Unauthorized("the signed text names another address than its signer")
    rows = _endpoint_rows(message)
    notice = Notice(
        client=client,
        tx_hash=tx_hash,
        nonce=said.nonce,
        stamp=said.stamp,
        delivery_endpoint_id=rows[0].content_id if rows else None,
        commit={row.field: commitment(row) for row in rows},
    )
    return notice, rows


def _endpoint_rows(message: DeliveryRequest) -> tuple[ContentRow, ...]:
    if message.delivery_endpoint is None:
        return ()
    stream = order_stream(message.order_id)
    return (salted(stream, "delivery_endpoint", message.delivery_endpoint),)


def _refuse_early(order: Order, notice: Notice, message: DeliveryRequest, now: UnixMs) -> None:
    """Refuse what needs no look at the chain, so that strangers cost no RPC call."""
    try:
        check_notice(order, notice, now)
    except Conflict as error:
        raise _with_first_answer(error, order) from error
    kept = any(claim.notice.text == notice.client.text for claim in order.claims)
    if message.timestamp is not None and not kept:
        require_fresh(parse_iso(message.timestamp), now)


def _with_first_answer(error: Conflict, order: Order) -> Conflict:
    if error.code != "DUPLICATE_DELIVERY_REQUEST":
        return error
    details = {"first_answer": accepted_body(order.id)}
    return Conflict(error.message, code=error.code, details=details)


async def _look(link: ChainLink, tx_hash: str, timeout_seconds: float) -> Finding:
    """Ask the chain once, in bounded time. No chain configured is an error of its own."""
    if link.chain is None:
        raise ChainUnavailable("payments are disabled: no chain is configured")
    if not link.bound:
        return Finding(tx_hash, ChainView.UNAVAILABLE, detail="the chain was not recognised yet")
    try:
        async with asyncio.timeout(2 * timeout_seconds):
            return await link.chain.lookup(tx_hash)
    except TimeoutError:
        return Finding(tx_hash, ChainView.UNAVAILABLE, detail="the chain did not answer in time")
