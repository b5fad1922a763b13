"""A party's signed word that it has an event, read it, or made something of it."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from api.answers import proven_response
from api.auth import CALLER
from api.body import read_model
from api.feeds.events import Json, entry_of, event_id
from api.feeds.models import ReceiptRequest
from api.ivxp.parties import text_of_wallet
from api.keys import LEDGER
from api.log.words import NO_STORE
from api.sync import execute, order_of, standing
from api.tokens import Caller, Role
from ledger.commands import RecordReceipt
from ledger.decide_deal import side_of
from ledger.entry import SignedEvent, read_entry
from ledger.errors import Conflict, InvalidInput, NotFound, Unauthorized
from ledger.event import ClientText
from ledger.order import Order
from ledger.order_events import ReceiptRecorded
from ledger.service import Ledger
from ledger.texts import EventReceiptText, parse_event_receipt
from ledger.values import is_order, iso_of, order_of_stream, parse_digest, parse_iso

Side = Literal["provider", "client"]


async def post_receipt(request: web.Request) -> web.Response:
    """Record what the caller signed of an event that the other side caused; a repeat finds it."""
    app, caller = request.app, request[CALLER]
    position, entry = entry_of(app[LEDGER], request.match_info["event_id"])
    event = read_entry(entry)
    order, sides = await _order_of(app[LEDGER], event, caller)
    said = await read_model(request, ReceiptRequest)
    if isinstance(event.event, ReceiptRecorded):
        raise InvalidInput("a receipt gets no receipt", details={"field": "event_id"})
    receiver, words = _signed(said, event_id(position, event.leaf), caller)
    sender: Side = "client" if event.event.actor == "client" else "provider"
    command = RecordReceipt(
        position=position,
        leaf=words.leaf,
        sender=sender,
        # Who stands on both sides may take what either sends.
        side=next((side for side in sides if side != sender), sender),
        said=words.said,
        content_hash=words.content_hash,
        receiver=receiver,
        stamp=words.stamp,
        now=app[LEDGER].clock(),
    )
    receipt = await execute(app, order.id, command)
    if receipt.events:
        response = proven_response(request, _body(receipt.events[-1], command), receipt)
        response.set_status(201)
    else:
        first = _first(app[LEDGER], order, command)
        receipt = await standing(app, order_of(receipt).id)
        response = proven_response(request, _body(first, command), receipt)
    response.headers.update(NO_STORE)
    return response


async def _order_of(
    ledger: Ledger, event: SignedEvent, caller: Caller
) -> tuple[Order, tuple[Side, ...]]:
    """Return the event's order and on which of its sides the caller stands, or `NotFound`."""
    order = None
    if is_order(event.stream):
        order = await ledger.order(order_of_stream(event.stream))
    sides = _sides(ledger, order, caller) if order is not None else ()
    if order is None or not sides:
        raise NotFound("no event has this id", code="NOT_FOUND")
    return order, sides


def _sides(ledger: Ledger, order: Order, caller: Caller) -> tuple[Side, ...]:
    if caller.order is not None:  # a token for one order has proven no wallet
        return ()
    staff = bool(caller.roles & {Role.OPERATOR, Role.WORKER})
    side = side_of(order, caller.wallet)
    ours = staff or side == "agent" or caller.wallet == ledger.signer.address
    hers = side == "client"
    return (*(("client",) if hers else ()), *(("provider",) if ours else ()))


def _signed(
    said: ReceiptRequest, named: str, caller: Caller
) -> tuple[ClientText, EventReceiptText]:
    """Return the text that the body stands for, signed by the caller's own wallet."""
    if said.content_hash is not None:
        parse_digest(said.content_hash)
    parse_iso(said.at)
    digest = said.content_hash or "none"
    text = f"Receipt: {named} | Kind: {said.kind} | Hash: {digest} | Timestamp: {said.at}"
    receiver = text_of_wallet(caller.wallet, text, said.signature)
    if receiver.signer != caller.wallet:
        raise Unauthorized("the signature is not that of the wallet that signed in")
    return receiver, parse_event_receipt(text)


def _first(ledger: Ledger, order: Order, command: RecordReceipt) -> SignedEvent:
    """Return the receipt that says the same already; one that names other content is no repeat."""
    wanted = (command.leaf, command.said, command.receiver.signer)
    for placed in ledger.read_order(order.id):
        event = placed.signed.event
        if isinstance(event, ReceiptRecorded) and wanted == (
            event.leaf,
            event.said,
            event.receiver.signer,
        ):
            if event.content_hash != command.content_hash:
                msg = "this wallet gave a receipt of this kind that names other content"
                raise Conflict(msg, code="CONTENT_HASH_MISMATCH")
            return placed.signed
    msg = "a receipt that was recorded is not in its order"
    raise LookupError(msg)


def _body(recorded: SignedEvent, command: RecordReceipt) -> Json:
    found: Json = {
        "event_id": f"{command.position}-{command.leaf}",
        "kind": command.said,
        "receiver": command.receiver.signer,
        "recorded_at": iso_of(recorded.at),
    }
    if command.content_hash is not None:
        found["content_hash"] = command.content_hash
    return found
