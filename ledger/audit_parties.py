"""Checks of what clients and arbiters signed: whose signature it is, and what the text says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ledger.audit_receipts import c16_receipt
from ledger.audit_signatures import Verify
from ledger.errors import LedgerError, VerificationError
from ledger.event import ClientText, Event
from ledger.order import Order
from ledger.order_events import (
    CommandRefused,
    DeliveryConfirmed,
    DeliveryDisputed,
    DisputeRuled,
    DisputeWithdrawn,
    NoticeAccepted,
    ProcessingStarted,
    ReceiptRecorded,
)
from ledger.payment_events import PaymentClaimed
from ledger.signing import is_of_solana, verify_text
from ledger.texts import (
    parse_dispute,
    parse_notice,
    parse_receipt,
    parse_ruling,
    parse_withdrawal,
)
from ledger.values import ZERO_ADDRESS, address_of

_TEXT: Final[Mapping[type[Event], str]] = {
    **dict.fromkeys((PaymentClaimed, ProcessingStarted, NoticeAccepted), "notice"),
    **dict.fromkeys(
        (CommandRefused, DeliveryConfirmed, DeliveryDisputed, DisputeWithdrawn), "client"
    ),
    DisputeRuled: "arbiter",
    ReceiptRecorded: "receiver",
}


def text_of(event: Event) -> ClientText | None:
    """Return the party's signed text inside an order's event, if it holds one."""
    name = _TEXT.get(type(event))
    return None if name is None else getattr(event, name)


def c16_signature(text: ClientText, verify: Verify) -> Iterator[str]:
    """C16: the signature is over the text, byte for byte, and is that of the named signer."""
    judge = verify_text if is_of_solana(text.signature) else verify
    try:
        judge(text.text.encode(), text.signature, text.signer)
    except VerificationError as error:
        yield error.message


def c16_signer(order: Order, event: Event, text: ClientText) -> Iterator[str]:
    """C16: the signer is the order's client, or the quote's arbiter of a ruling.

    A quote made without a wallet is bound by its first payment; until then anybody may claim one.
    Which wallets give receipts for what the client sends is the provider's own matter.
    """
    if isinstance(event, ReceiptRecorded) and event.sender == "client":
        return
    if isinstance(event, DisputeRuled):
        if text.signer != order.terms.arbiter:
            yield f"{text.signer} is not the arbiter {order.terms.arbiter}"
        return
    client = address_of(order.client)
    unbound = client == ZERO_ADDRESS and isinstance(event, PaymentClaimed | CommandRefused)
    if text.signer != client and not unbound:
        yield f"{text.signer} is not the client {client}"


def c16_text(order: Order, event: Event) -> Iterator[str]:
    """C16: the text has a documented form, names this order, and says what is recorded."""
    try:
        yield from _disagreements(order, event)
    except LedgerError as error:
        yield error.message


def _disagreements(order: Order, event: Event) -> Iterator[str]:
    match event:
        case PaymentClaimed() | ProcessingStarted() | NoticeAccepted():
            yield from _notice(order, event)
        case DeliveryConfirmed():
            yield from _receipt(order, event)
        case DeliveryDisputed():
            yield from _dispute(order, event)
        case CommandRefused(command="accept_notice"):
            yield from _order(order, parse_notice(event.client.text).order_id)
        case DisputeWithdrawn():
            yield from _order(order, parse_withdrawal(event.client.text).order_id)
        case DisputeRuled():
            yield from _ruling(order, event)
        case ReceiptRecorded():
            yield from c16_receipt(event)
        case CommandRefused():
            yield f"no refusal of {event.command!r} is documented"
        case _:
            return


def _notice(
    order: Order, event: PaymentClaimed | ProcessingStarted | NoticeAccepted
) -> Iterator[str]:
    if event.notice is None:
        return
    if is_of_solana(event.notice.signature):
        yield "a notice of payment is signed by the EVM wallet that paid"
    said = parse_notice(event.notice.text)
    yield from _order(order, said.order_id)
    if said.tx_hash not in (None, event.tx_hash):
        yield f"the notice names {said.tx_hash}, not {event.tx_hash}"
    if said.nonce != event.nonce:
        yield f"the notice's nonce is {said.nonce!r}, not {event.nonce!r}"
    if said.address not in (None, event.notice.signer):
        yield f"the notice names the address {said.address}, not its signer"
    counted = {tx_hash for _, tx_hash, _ in order.money.placed}
    if not isinstance(event, PaymentClaimed) and event.tx_hash not in counted:
        yield f"the notice was accepted for {event.tx_hash}, which pays nothing here"


def _receipt(order: Order, event: DeliveryConfirmed) -> Iterator[str]:
    said, ready = parse_receipt(event.client.text), order.deliverable
    yield from _order(order, said.order_id)
    binds = "order_only" if said.content_hash is None else "content"
    if (event.binds, event.content_hash, event.head) != (binds, said.content_hash, said.head):
        yield "the receipt does not say what is recorded of it"
    known = ready.digests if ready else frozenset()
    if said.content_hash is not None and said.content_hash not in known:
        yield f"the receipt is for {said.content_hash}, not for the deliverable"


def _dispute(order: Order, event: DeliveryDisputed) -> Iterator[str]:
    said = parse_dispute(event.client.text)
    yield from _order(order, said.order_id)
    if (event.reason, event.content_hash) != (said.reason, said.content_hash):
        yield "the dispute does not say what is recorded of it"


def _ruling(order: Order, event: DisputeRuled) -> Iterator[str]:
    said = parse_ruling(event.arbiter.text)
    yield from _order(order, said.order_id)
    if (event.outcome, event.amount) != (said.outcome, said.amount):
        yield "the ruling does not say what is recorded of it"


def _order(order: Order, named: str) -> Iterator[str]:
    if named != order.id:
        yield f"the text names the order {named!r}"
