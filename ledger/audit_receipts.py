"""Checks of receipts: each is for an event of its order that the other side caused, and once."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.decide_receipt import MAX_RECEIPTS
from ledger.entry import SignedEvent
from ledger.order import Order
from ledger.order_events import ReceiptRecorded
from ledger.texts import parse_event_receipt


def c08_receipt(order: Order, signed: SignedEvent, sent: SignedEvent | None) -> Iterator[str]:
    """C08: a receipt names an earlier event of its order and who sent it, and is given once.

    `sent` is the event at the position that the receipt names, if there is one.
    """
    event = signed.event
    if not isinstance(event, ReceiptRecorded):
        return
    known = sent is not None and sent.stream == signed.stream and sent.seq < signed.seq
    if sent is None or not known or sent.leaf.hex() != event.leaf:
        yield "a receipt for no earlier event of the order"
    elif isinstance(sent.event, ReceiptRecorded):
        yield "a receipt for a receipt"
    elif event.sender != ("client" if sent.event.actor == "client" else "provider"):
        yield f"the event that the receipt is for was not sent by the {event.sender}"
    if (event.leaf, event.said, event.receiver.signer) in order.receipts:
        yield "the same receipt was recorded before"
    if len(order.receipts) >= MAX_RECEIPTS:
        yield f"more than {MAX_RECEIPTS} receipts"


def c16_receipt(event: ReceiptRecorded) -> Iterator[str]:
    """C16: the receiver's text names the event and says what is recorded of it."""
    said = parse_event_receipt(event.receiver.text)
    recorded = (event.position, event.leaf, event.said, event.content_hash)
    if recorded != (said.position, said.leaf, said.said, said.content_hash):
        yield "the receipt does not say what is recorded of it"
