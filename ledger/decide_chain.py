"""Deciders of what the chain does by itself: reorganisations, finality, expiry, refunds. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.commands import DeclarePaymentImpossible, ExpireQuote, RecheckPayment, RecordRefund
from ledger.decision import Claimed, Decision, decided, require_next
from ledger.errors import Rejected
from ledger.event import Event, Transfer, TransferKey
from ledger.finding import ChainView, Finding
from ledger.money import Bucket, Placed, TransferId
from ledger.order import NEXT, Order, Status
from ledger.order_events import OrderRefunded, QuoteExpired
from ledger.payment_events import (
    PaymentFinalized,
    PaymentOrphaned,
    PaymentRestored,
    RefundRecorded,
)
from ledger.values import address_of


def recheck_payment(order: Order, command: RecheckPayment) -> Decision:
    """Say which watched transfers a reorganisation took or gave back, and which are final."""
    finding = command.finding
    watched = [p for p in order.money.placed.values() if p.transfer.tx_hash == finding.tx_hash]
    if finding.view is ChainView.UNAVAILABLE:
        return Decision()
    seen = {t.key: t for t in finding.transfers}
    gone = [
        p.transfer
        for p in watched
        if p.bucket is not Bucket.ORPHANED and _left_the_chain(p.transfer, seen, command.canonical)
    ]
    back = [t for p in watched if (t := seen.get(p.transfer.key)) and _returned(p, t, finding)]
    events: list[Event] = []
    if gone:
        events.append(PaymentOrphaned(transfers=_keys(gone), head_number=finding.head_number))
    if back:
        events.append(PaymentRestored(transfers=tuple(back), finality=finding.finality))
    final = [p.transfer for p in watched if p.transfer.key in order.watched and not events]
    if final and finding.view is ChainView.MINED and finding.finality == "finalized":
        events.append(PaymentFinalized(transfers=_keys(final), finality="finalized"))
    return decided(*events)


def expire_quote(order: Order, command: ExpireQuote) -> Decision:
    """Close a quote that a block past `pay_by` shows to be unpaid."""
    require_next(order, Status.EXPIRED)
    late = command.scanned_block_time > order.terms.pay_by
    if not late or order.claims or command.candidate_transfers:
        msg = "the quote may still turn out to be paid in time"
        raise Rejected(msg)
    return decided(
        QuoteExpired(
            scanned_block=command.scanned_block, scanned_block_time=command.scanned_block_time
        )
    )


def record_refund(order: Order, command: RecordRefund, claimed: Claimed) -> Decision:
    """Record transfers back to the client; the order is refunded when all of it went back."""
    client = address_of(order.client)
    new = tuple(
        t for t in command.finding.transfers if t.recipient == client and t.key not in claimed
    )
    if command.finding.view is not ChainView.MINED or not new:
        return Decision()
    amount = sum(t.amount for t in new)
    events: list[Event] = [RefundRecorded(transfers=new, amount=amount)]
    refunded = order.money.refunded + amount
    if 0 < order.money.received <= refunded and Status.REFUNDED in NEXT[order.status]:
        events.append(OrderRefunded(reason="returned", amount=refunded))
    return decided(*events)


def declare_impossible(order: Order, command: DeclarePaymentImpossible) -> Decision:
    """End an order whose orphaned payment can never be mined again."""
    require_next(order, Status.REFUNDED)
    if not order.paused or order.money.held > 0:
        msg = "the payment is not proven impossible"
        raise Rejected(msg)
    return decided(
        OrderRefunded(reason="payment_impossible", amount=0, payer_nonce_used_by=command.used_by)
    )


def _left_the_chain(
    transfer: Transfer, seen: Mapping[TransferId, Transfer], canonical: Mapping[int, str]
) -> bool:
    """Whether it is a fact that the transfer's block is not canonical any more.

    A missing receipt alone is silence; another hash at the block's height is a fact.
    """
    now = seen.get(transfer.key)
    if now is not None:
        return now.block_hash != transfer.block_hash
    return canonical.get(transfer.block_number, transfer.block_hash) != transfer.block_hash


def _returned(placed: Placed, now: Transfer, finding: Finding) -> bool:
    """Whether an orphaned or moved transfer is deep enough in a block again, unchanged."""
    before = placed.transfer
    if finding.view is not ChainView.MINED or now.amount != before.amount:
        return False
    moved = placed.bucket is Bucket.ORPHANED or now.block_hash != before.block_hash
    return moved and now.sender == before.sender


def _keys(transfers: list[Transfer]) -> tuple[TransferKey, ...]:
    return tuple(
        TransferKey(chain=t.chain, tx_hash=t.tx_hash, ordinal=t.ordinal) for t in transfers
    )
