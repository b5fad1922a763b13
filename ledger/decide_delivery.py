"""Deciders of the provider's side: work, hand-in, push, download, erasure. Pure."""

from __future__ import annotations

from ledger.commands import (
    EraseContent,
    FailHandler,
    HandIn,
    NoteCollected,
    RecordPush,
    StartProcessing,
)
from ledger.decision import Decision, decided, require_next
from ledger.errors import Conflict, Gone, Rejected
from ledger.event import Event
from ledger.order import Order, Status
from ledger.order_events import (
    ContentErased,
    DeliverableCollected,
    DeliverablePosted,
    DeliverableReady,
    DeliveryFailed,
    DownloadNoted,
    ProcessingStarted,
    PushAttempted,
)
from ledger.values import UnixMs


def start_processing(order: Order, command: StartProcessing) -> Decision:
    """Let a worker take a paid order, or retry one whose handler failed."""
    require_paid(order)
    require_next(order, Status.PROCESSING)
    if order.deliverable is not None:
        msg = "the order has a deliverable"
        raise Rejected(msg)
    failed = order.status is Status.DELIVERY_FAILED
    if (command.reason == "retry") is not failed:
        msg = "failed work is retried, and nothing else is" if failed else "no work failed yet"
        raise Rejected(msg, details={"status": str(order.status)})
    return decided(ProcessingStarted(reason=command.reason))


def hand_in(order: Order, command: HandIn) -> Decision:
    """Take the deliverable; a paid or failed order starts and becomes ready in one step."""
    if order.deliverable is not None:
        msg = "the order has a deliverable already"
        details = {"content_hash": order.deliverable.raw}
        raise Conflict(msg, code="DELIVERABLE_EXISTS", details=details)
    require_paid(order)
    events: list[Event] = []
    if order.status in (Status.PAID, Status.QUOTED) and Status.PROCESSING in order.next:
        events.append(ProcessingStarted(reason="worker"))
    elif order.status is Status.DELIVERY_FAILED:
        events.append(ProcessingStarted(reason="retry"))
    else:
        require_next(order, Status.READY)
    item = command.deliverable
    ready = DeliverableReady(
        content_id=item.content_id,
        raw=item.raw,
        json_digest=item.json_digest,
        legacy_digest=item.legacy_digest,
        object_digest=item.object_digest,
        size_bytes=item.size_bytes,
        format=item.format,
        content_type=item.content_type,
    )
    return decided(*events, ready)


def fail_handler(order: Order, command: FailHandler) -> Decision:
    """Record that the handler ended without content."""
    if order.status is not Status.PROCESSING:
        msg = f"an order that is {order.status} has no running handler"
        raise Rejected(msg)
    detail = command.detail[:200] or None
    return decided(
        DeliveryFailed(reason="handler_failed", attempts=command.attempts, detail=detail)
    )


def record_push(order: Order, command: RecordPush) -> Decision:
    """Record how a push ended; where it changes no status it is an attempt."""
    if order.deliverable is None:
        msg = "nothing was pushed: the order has no deliverable"
        raise Rejected(msg)
    attempt = order.push_attempts + 1
    explicit = command.target == "delivery_endpoint"
    if explicit and command.outcome == "accepted" and Status.POSTED in order.next:
        posted = DeliverablePosted(
            attempt=attempt,
            content_hash=order.deliverable.raw,
            response_status=command.response_status or 200,
        )
        return decided(posted)
    if explicit and command.outcome == "exhausted" and order.status is Status.READY:
        return decided(
            DeliveryFailed(reason="push_exhausted", attempts=attempt, detail=command.detail)
        )
    return decided(
        PushAttempted(
            attempt=attempt,
            target=command.target,
            outcome=command.outcome,
            response_status=command.response_status,
        )
    )


def note_collected(order: Order, command: NoteCollected) -> Decision:
    """Record the first download; later ones change nothing."""
    if order.deliverable is None or not order.content_held:
        msg = "the order holds no content"
        raise Gone(msg)
    if order.collected:
        return Decision()
    digest = order.deliverable.raw
    if Status.DELIVERED in order.next:
        return decided(DeliverableCollected(by=command.by, content_hash=digest))
    return decided(DownloadNoted(by=command.by, content_hash=digest))


def erase_content(order: Order, command: EraseContent) -> Decision:
    """Say that content was erased; an open dispute holds it."""
    if order.dispute_open:
        msg = "content is kept while a dispute is open"
        raise Rejected(msg, code="DISPUTE_HOLD")
    unfinished = order.status is Status.DELIVERY_FAILED and order.deliverable is None
    waits = order.status in (Status.QUOTED, Status.PAID, Status.PROCESSING)
    if unfinished or (waits and not _is_over(order, command.now)):
        msg = "the work, or work that may yet be paid for, needs the client's words"
        raise Rejected(msg, details={"status": str(order.status)})
    new = tuple(c for c in command.content_ids if c not in order.erased)
    if not new:
        return Decision()
    return decided(ContentErased(content_ids=new, reason=command.reason))


def _is_over(order: Order, now: UnixMs) -> bool:
    """Whether an offer of the marketplace was declined, taken back, or left to lapse unpaid."""
    deal = order.deal
    if deal is None or deal.authorization is not None:
        return False
    return deal.ended is not None or now > order.terms.pay_by * 1000


def require_paid(order: Order) -> None:
    """Refuse work while a reorganisation holds the payment back."""
    if order.paused:
        msg = "the payment left the chain in a reorganisation; work waits until it is back"
        raise Rejected(msg, code="PAYMENT_ORPHANED")
