"""The decider of receipts: what a party signed that it has, or made of an event. Pure."""

from __future__ import annotations

from typing import Final

from ledger.commands import RecordReceipt
from ledger.decision import Decision, decided, require_bound_client, require_fresh
from ledger.errors import Conflict, InvalidInput
from ledger.order import Order
from ledger.order_events import ReceiptRecorded

MAX_RECEIPTS: Final = 256
"""Of one order: each is a signed event for ever."""


def record_receipt(order: Order, command: RecordReceipt) -> Decision:
    """Record the receipt; the same word of the same wallet on the same event changes nothing."""
    if command.side == "client":
        require_bound_client(order, command.receiver)
    if command.side == command.sender:
        msg = "a receipt is for what the other side caused; this event is your own side's"
        raise InvalidInput(msg, details={"field": "event_id"})
    if (command.leaf, command.said, command.receiver.signer) in order.receipts:
        return Decision()
    require_fresh(command.stamp, command.now)
    if len(order.receipts) >= MAX_RECEIPTS:
        msg = f"an order holds at most {MAX_RECEIPTS} receipts"
        raise Conflict(msg, code="TOO_MANY_RECEIPTS")
    return decided(
        ReceiptRecorded(
            position=command.position,
            leaf=command.leaf,
            sender=command.sender,
            said=command.said,
            content_hash=command.content_hash,
            receiver=command.receiver,
        )
    )
