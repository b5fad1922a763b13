"""Checks of a stream by folding it: places, links and legal steps.

Deciders refuse commands; these checks judge events that exist, by the documented lifecycle alone.
Times are judged by the time the event carries.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final

from ledger.audit_report import CLEAN, Problems
from ledger.audit_texts import c08_ruling
from ledger.decide_dispute import BEFORE_DELIVERY
from ledger.decide_payment import MAX_OPEN_CLAIMS, MAX_RECORDED_REFUSALS
from ledger.entry import SignedEvent
from ledger.event import Event
from ledger.log_events import ChainBound, LogOpened
from ledger.order import Order, Status
from ledger.order_events import (
    AcceptanceLapsed,
    AnswerLapsed,
    CommandRefused,
    ContentErased,
    DeliverableCollected,
    DeliverablePosted,
    DeliverableReady,
    DeliveryConfirmed,
    DeliveryDisputed,
    DeliveryFailed,
    DisputeAnswered,
    DisputeRuled,
    DisputeWithdrawn,
    DownloadNoted,
    NoticeAccepted,
    OrderRefunded,
    ProcessingStarted,
    PushAttempted,
    QuoteExpired,
    ReceiptRecorded,
)
from ledger.payment_events import MoneyEvent, PaymentClaimClosed, PaymentClaimed
from ledger.values import UnixMs

_STATUS_WORDS: Final = frozenset(Status)
_AWAITING_ACCEPTANCE: Final = frozenset(
    {Status.READY, Status.POSTED, Status.DELIVERED, Status.DELIVERY_FAILED}
)
_AFTER_REFUND: Final = (
    *MoneyEvent.__args__,
    ContentErased,
    DownloadNoted,
    PushAttempted,
    ReceiptRecorded,
)
"""Late money, erasure, and what changes no status anywhere."""

_UNPAID: Final = frozenset({Status.QUOTED, Status.EXPIRED, Status.PAID})


def c06_sequence(signed: SignedEvent, seq: int, position: int, last_position: int) -> Problems:
    """C06: a stream's events are numbered 1…n, in the order of their positions."""
    if signed.seq == seq and position > last_position:
        return CLEAN
    found = []
    if signed.seq != seq:
        found.append(f"the stream's event {signed.seq} stands where {seq} was expected")
    if position <= last_position:
        found.append(f"position {position} comes after {last_position} in the stream")
    return found


def c07_previous(prev: str, leaf: str) -> Problems:
    """C07: the event names the leaf hash of the one before it in its stream; 64 zeros if none."""
    return CLEAN if prev == leaf else [f"the event before this one has the leaf {leaf}, not {prev}"]


def c08_log_event(kinds: Container[str], event: Event) -> Problems:
    """C08: the log's own stream opens it first and once, and binds it to one chain once."""
    found = []
    if isinstance(event, LogOpened) is (LogOpened.kind in kinds):
        found.append(f"{event.kind} stands before the opening of the log, or opens it again")
    if isinstance(event, ChainBound) and event.kind in kinds:
        found.append("the log was bound to a chain before")
    return found


def c08_nothing_after_the_end(closed_at: int | None, position: int) -> Problems:
    """C08: nothing follows the event that closed the log, in any stream."""
    if closed_at is None or position <= closed_at:
        return CLEAN
    return [f"the log was closed at position {closed_at}"]


def c08_next_status(order: Order, event: Event) -> Problems:
    """C08: a status follows only where the lifecycle table lets it; refunded is final."""
    follows = event.kind not in _STATUS_WORDS or event.kind in order.next
    if follows and order.status is not Status.REFUNDED:
        return CLEAN
    found = []
    if not follows:
        found.append(f"an order that is {order.status} cannot become {event.kind}")
    if order.status is Status.REFUNDED and not isinstance(event, _AFTER_REFUND):
        found.append(f"{event.kind} after the refund")
    return found


def c08_work(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: work starts on a paid order without a deliverable, and ends with one or with none."""
    event = signed.event
    made = order.deliverable is not None
    match event:
        case ProcessingStarted():
            failed = order.status is Status.DELIVERY_FAILED
            if made:
                yield "work starts although the deliverable is there"
            if (event.reason == "retry") is not failed:
                yield f"work starts as {event.reason!r} of an order that is {order.status}"
            if (event.reason == "notice") is not (event.notice is not None):
                yield "work that a notice starts holds the notice, and no other does"
        case NoticeAccepted():
            if order.accepted is not None or order.status in _UNPAID:
                yield "a notice was accepted before, or is still to start the work"
        case DeliverableReady():
            if made:
                yield "there is a deliverable already"
        case DeliveryFailed():
            if made is not (event.reason == "push_exhausted"):
                yield f"delivery failed as {event.reason!r}, which does not fit the deliverable"
        case _:
            return
    # Work that runs already may still fail meanwhile.
    if order.paused and isinstance(event, ProcessingStarted | DeliverableReady):
        yield f"{event.kind} while the payment is off the chain"


def c08_delivery(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: what is pushed, collected or confirmed is the deliverable; collecting needs bytes."""
    event = signed.event
    match event:
        case DeliverablePosted() | DeliverableCollected() | DownloadNoted():
            if order.deliverable is None or event.content_hash != order.deliverable.raw:
                yield f"{event.kind} names other bytes than the deliverable"
        case PushAttempted() | DeliveryConfirmed():
            if order.deliverable is None:
                yield f"{event.kind} without a deliverable"
        case _:
            return
    if isinstance(event, DeliverablePosted | PushAttempted):
        if event.attempt != order.push_attempts + 1:
            yield f"push {event.attempt} follows push {order.push_attempts}"
    elif not isinstance(event, DeliveryConfirmed) and not order.content_held:
        yield f"{event.kind} of erased content"
    if isinstance(event, DownloadNoted) and order.collected:
        yield "a first download was recorded before"


def c08_dispute(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: answers, rulings and withdrawals are legal exactly while a dispute is open."""
    event, at = signed.event, signed.at
    match event:
        case DeliveryDisputed():
            undelivered = order.status in BEFORE_DELIVERY
            if undelivered and at <= order.deliver_by * 1000:
                yield "disputed before the time to deliver was over"
            if order.acceptance_lapsed:
                yield "disputed after the acceptance window"
        case DisputeAnswered() | DisputeWithdrawn() | DisputeRuled() | AnswerLapsed():
            if order.dispute is None or not order.dispute.open:
                yield f"{event.kind} while no dispute is open"
                return
            answered = order.dispute.answered
            if isinstance(event, DisputeAnswered | AnswerLapsed) and answered:
                yield "the dispute was answered before"
            if isinstance(event, AnswerLapsed) and order.dispute.answer_lapsed:
                yield "the time to answer lapsed before"
            if isinstance(event, AnswerLapsed):
                opened = order.dispute.opened_at
                yield from _window(event.window_ended, opened, order.terms.answer_window, at)
            if isinstance(event, DisputeRuled):
                yield from c08_ruling(event, order.received)
        case _:
            return


def c08_acceptance(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: the acceptance window lapses once, after its time, while nothing is disputed."""
    event, at = signed.event, signed.at
    if not isinstance(event, AcceptanceLapsed):
        return
    since = order.status_at.get(Status.READY)
    if since is None or order.status not in _AWAITING_ACCEPTANCE or order.dispute_open:
        yield f"no acceptance window is open for an order that is {order.status}"
    elif order.acceptance_lapsed:
        yield "the acceptance window lapsed before"
    else:
        yield from _window(event.window_ended, since, order.terms.acceptance_window, at)


def c08_refund(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: an order is refunded when all that was received went back, or can never arrive."""
    event = signed.event
    if not isinstance(event, OrderRefunded):
        return
    money = order.money
    if event.reason == "returned":
        if not 0 < money.received <= money.refunded or event.amount != money.refunded:
            yield f"{money.refunded} of {money.received} went back, not {event.amount}"
    elif not order.paused or money.held > 0 or event.amount or not event.payer_nonce_used_by:
        yield "the payment is not proven impossible"


def c08_claims(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C08: open claims are few, and only an open one is closed; refusals are few too."""
    event = signed.event
    match event:
        case PaymentClaimed():
            said = (event.tx_hash, event.notice.signer)
            if len(order.claims) >= MAX_OPEN_CLAIMS:
                yield f"more than {MAX_OPEN_CLAIMS} claims are open"
            if any((c.tx_hash, c.notice.signer) == said for c in order.claims):
                yield "the same claim is open already"
        case PaymentClaimClosed():
            if all(claim.tx_hash != event.tx_hash for claim in order.claims):
                yield "no claim of this transaction is open"
        case CommandRefused():
            if len(order.refusals) >= MAX_RECORDED_REFUSALS:
                yield f"more than {MAX_RECORDED_REFUSALS} refusals"
        case _:
            return


def c08_erasure(order: Order, event: Event, known: frozenset[str]) -> Iterator[str]:
    """C08: only content of this order is erased, once, and not while a dispute is open."""
    if not isinstance(event, ContentErased):
        return
    if order.dispute_open:
        yield "content was erased while a dispute was open"
    for content_id in event.content_ids:
        if content_id not in known:
            yield f"content {content_id} was never part of this stream"
        if content_id in order.erased:
            yield f"content {content_id} was erased before"


def c14_expiry(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C14: a quote expires by a block past `pay_by`, and not while a payment claim is open."""
    event = signed.event
    if not isinstance(event, QuoteExpired):
        return
    if event.scanned_block_time <= order.terms.pay_by:
        yield f"expired by a block of {event.scanned_block_time}, before {order.terms.pay_by}"
    if order.claims:
        yield "expired while a payment claim was open"


def _window(ended: int, since: UnixMs, window_seconds: int, at: UnixMs) -> Iterator[str]:
    ends = since // 1000 + window_seconds
    if ended != ends:
        yield f"the window ended at {ends}, not at {ended}"
    if at <= ends * 1000:
        yield f"the window of {ends} was not over"
