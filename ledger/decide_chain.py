"""Deciders of what the chain does by itself: reorganisations, finality, expiry, refunds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ledger.commands import DeclarePaymentImpossible, ExpireQuote, RecheckPayment, RecordRefund
from ledger.decide_payment import settle_unasked
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
    RefundRecorded,
)
from ledger.payments import in_parts, is_same_again
from ledger.values import address_of


def recheck_payment(order: Order, command: RecheckPayment) -> Decision:
    """Say which watched transfers a reorganisation took or gave back, and which are final."""
    finding = command.finding.for_price(order.terms.price)
    if finding.view is ChainView.UNAVAILABLE:
        return Decision()
    placed = [p for p in order.money.placed.values() if p.transfer.tx_hash == finding.tx_hash]
    seen = {t.key: t for t in finding.transfers}
    gone = [p.transfer for p in placed if _left_the_chain(p, seen, finding, command.canonical)]
    back = tuple(t for p in placed if (t := seen.get(p.transfer.key)) and _returned(p, t, finding))
    final = [p.transfer for p in placed if _is_final(order, p, seen, finding)]
    events: list[Event] = [
        PaymentOrphaned(transfers=_keys(part), head_number=finding.head_number)
        for part in in_parts(gone)
    ]
    if back:
        # The rest of the receipt is left alone: it may be meant for other orders.
        left = replace(order, money=order.money.orphan(t.key for t in gone))
        again = replace(finding, transfers=back)
        events += settle_unasked(left, address_of(order.client), again, {})
    events += [
        PaymentFinalized(transfers=_keys(part), finality="finalized") for part in in_parts(final)
    ]
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
    way = (order.terms.payment_address, address_of(order.client))
    new = tuple(
        t
        for t in command.finding.transfers
        if (t.sender, t.recipient) == way and t.key not in claimed
    )
    if command.finding.view is not ChainView.MINED or not new:
        return Decision()
    events: list[Event] = [
        RefundRecorded(transfers=part, amount=sum(t.amount for t in part)) for part in in_parts(new)
    ]
    refunded = order.money.refunded + sum(t.amount for t in new)
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
    placed: Placed,
    seen: Mapping[TransferId, Transfer],
    finding: Finding,
    canonical: Mapping[int, str],
) -> bool:
    """Whether it is a fact that a transfer, counted until now, is not where it was.

    A missing receipt alone is silence. A receipt without the transfer, or another hash at the
    height of its block, is a fact.
    """
    before = placed.transfer
    if placed.bucket is Bucket.ORPHANED:
        return False
    now = seen.get(before.key)
    if now is not None:
        return now.block_hash != before.block_hash
    if finding.view in (ChainView.MINED, ChainView.REVERTED):
        return True
    return canonical.get(before.block_number, before.block_hash) != before.block_hash


def _returned(placed: Placed, now: Transfer, finding: Finding) -> bool:
    """Whether an orphaned or moved transfer is deep enough in a block again."""
    gone = placed.bucket is Bucket.ORPHANED or now.block_hash != placed.transfer.block_hash
    return finding.view is ChainView.MINED and gone and is_same_again(placed.transfer, now)


def _is_final(
    order: Order, placed: Placed, seen: Mapping[TransferId, Transfer], finding: Finding
) -> bool:
    """Whether a final block shows a watched transfer just as it is counted."""
    if finding.view is not ChainView.MINED or finding.finality != "finalized":
        return False
    key = placed.transfer.key
    now = seen.get(key) if key in order.watched and placed.bucket is not Bucket.ORPHANED else None
    return now is not None and now.block_hash == placed.transfer.block_hash


def _keys(transfers: tuple[Transfer, ...]) -> tuple[TransferKey, ...]:
    return tuple(
        TransferKey(chain=t.chain, tx_hash=t.tx_hash, ordinal=t.ordinal) for t in transfers
    )
