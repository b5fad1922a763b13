"""Deciders of what the client says of its payment: notices and claims. Pure."""

from __future__ import annotations

from typing import Final, Literal

from ledger.commands import (
    AcceptNotice,
    IssueQuote,
    Notice,
    ResolveClaim,
)
from ledger.decision import (
    Claimed,
    Decision,
    decided,
    require_client,
    require_fresh,
)
from ledger.entry import Draft
from ledger.errors import (
    ChainUnavailable,
    Conflict,
    Gone,
    LedgerError,
    PaymentPending,
    PaymentRefused,
    PaymentTooLate,
    Rejected,
)
from ledger.event import Event
from ledger.finding import ChainView, Finding
from ledger.money import Bucket
from ledger.order import OpenClaim, Order, Status
from ledger.order_events import CommandRefused, ProcessingStarted
from ledger.payment_events import (
    PaymentClaimClosed,
    PaymentClaimed,
)
from ledger.payments import Settlement, settle
from ledger.values import UnixMs

MAX_OPEN_CLAIMS: Final = 3
MAX_RECORDED_REFUSALS: Final = 10

_PENDING_REASON: Final[
    dict[ChainView, Literal["chain_unavailable", "not_found", "not_deep_enough"]]
] = {
    ChainView.UNAVAILABLE: "chain_unavailable",
    ChainView.NOT_FOUND: "not_found",
    ChainView.SHALLOW: "not_deep_enough",
}


def issue_quote(command: IssueQuote) -> Decision:
    """Offer the terms; the first event of every order."""
    return Decision((Draft(command.terms, command.commit),))


def check_notice(order: Order, notice: Notice, now: UnixMs) -> None:
    """Refuse a notice that needs no look at the chain to be refused.

    A notice that is already kept, byte for byte, skips freshness and nonce: it was judged then.
    """
    require_client(order, notice.client)
    if any(claim.notice.text == notice.client.text for claim in order.claims):
        return
    if order.accepted is not None and not order.paused:
        msg = "this order was already accepted for delivery"
        raise Conflict(msg, code="DUPLICATE_DELIVERY_REQUEST")
    if order.status is Status.REFUNDED:
        msg = "this order was refunded"
        raise Rejected(msg, details={"status": str(order.status)})
    require_fresh(notice.stamp, now)
    known = order.nonces.get(notice.nonce or "")
    if known is not None and known != notice.client.text:
        msg = "the nonce was used before for this order"
        raise Conflict(msg, code="NONCE_REUSED")


def accept_notice(order: Order, command: AcceptNotice, claimed: Claimed) -> Decision:
    """Pay and start the order, or keep the claim, or refuse: never fail it from silence."""
    notice, finding = command.notice, command.finding
    check_notice(order, notice, command.now)
    if _counts_already(order, finding.tx_hash):
        return _start(order, notice, ())
    if finding.view in _PENDING_REASON:
        return _keep_claim(order, notice, finding)
    if finding.view is ChainView.REVERTED:
        return _refuse(order, notice, "reverted")
    settlement = settle(order, notice.client.signer, finding, claimed)
    if settlement.reached:
        return _start(order, notice, settlement.events)
    if settlement.events:
        return decided(*settlement.events, error=_shortfall(order, settlement))
    return _refuse(order, notice, settlement.reason)


def resolve_claim(order: Order, command: ResolveClaim, claimed: Claimed) -> Decision:
    """Judge a kept claim anew; silence leaves it as it is."""
    finding = command.finding
    claim = next((c for c in order.claims if c.tx_hash == finding.tx_hash), None)
    if claim is None or finding.view in (ChainView.UNAVAILABLE, ChainView.SHALLOW):
        return Decision()
    if finding.view is ChainView.NOT_FOUND:
        if finding.safe_time <= order.terms.pay_by:
            return Decision()
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="absent"))
    if finding.view is ChainView.REVERTED:
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="reverted"))
    if _counts_already(order, finding.tx_hash):
        return _close_counted(order, claim)
    settlement = settle(order, claim.notice.signer, finding, claimed)
    if not settlement.events:
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="not_matching"))
    started = _start_of_claim(order, claim) if settlement.reached else ()
    return decided(*settlement.events, *started)


def _counts_already(order: Order, tx_hash: str) -> bool:
    """Whether the order is paid and this transaction is part of it."""
    if order.paused or Status.PAID not in order.status_at:
        return False
    return any(t.tx_hash == tx_hash for t in order.money.of(Bucket.APPLIED))


def _start(order: Order, notice: Notice, events: tuple[Event, ...]) -> Decision:
    drafts = tuple(Draft(event) for event in events)
    if order.status not in (Status.QUOTED, Status.EXPIRED, Status.PAID):
        return Decision(drafts)
    started = ProcessingStarted(
        reason="notice",
        notice=notice.client,
        tx_hash=notice.tx_hash,
        nonce=notice.nonce,
        delivery_endpoint_id=notice.delivery_endpoint_id,
    )
    return Decision((*drafts, Draft(started, notice.commit)))


def _start_of_claim(order: Order, claim: OpenClaim) -> tuple[Event, ...]:
    if order.status not in (Status.QUOTED, Status.EXPIRED, Status.PAID):
        return ()
    return (
        ProcessingStarted(
            reason="notice",
            notice=claim.notice,
            tx_hash=claim.tx_hash,
            nonce=claim.nonce,
            delivery_endpoint_id=claim.delivery_endpoint_id,
        ),
    )


def _close_counted(order: Order, claim: OpenClaim) -> Decision:
    started = _start_of_claim(order, claim)
    closed = PaymentClaimClosed(tx_hash=claim.tx_hash, reason="not_matching")
    return decided(closed, *started)


def _keep_claim(order: Order, notice: Notice, finding: Finding) -> Decision:
    error = _pending(finding)
    if any(claim.tx_hash == notice.tx_hash for claim in order.claims):
        return Decision(error=error)
    if len(order.claims) >= MAX_OPEN_CLAIMS:
        msg = f"{MAX_OPEN_CLAIMS} payment claims of this order are open; wait for one to be judged"
        raise Rejected(msg, code="TOO_MANY_CLAIMS")
    claim = PaymentClaimed(
        tx_hash=notice.tx_hash,
        notice=notice.client,
        nonce=notice.nonce,
        delivery_endpoint_id=notice.delivery_endpoint_id,
        reason=_PENDING_REASON[finding.view],
    )
    return Decision((Draft(claim, notice.commit),), error)


def _pending(finding: Finding) -> LedgerError:
    details = {"tx_hash": finding.tx_hash, "outcome": "pending"}
    if finding.view is ChainView.UNAVAILABLE:
        msg = "the chain cannot be asked now; the claim is kept, do not pay again"
        return ChainUnavailable(msg, details=details)
    msg = "the payment is not provable yet; the claim is kept, do not pay again"
    return PaymentPending(msg, details=details)


def _refuse(order: Order, notice: Notice, reason: str) -> Decision:
    """Refuse on the chain's word; the refusal itself is signed, once per text."""
    error = PaymentRefused(
        "the transaction does not pay this order",
        details={"reason": reason, "tx_hash": notice.tx_hash},
    )
    known = any(text == notice.client.text for text, _ in order.refusals)
    if known or len(order.refusals) >= MAX_RECORDED_REFUSALS:
        return Decision(error=error)
    refused = CommandRefused(command="accept_notice", code=error.code, client=notice.client)
    closing = [
        PaymentClaimClosed(tx_hash=c.tx_hash, reason="reverted")
        for c in order.claims
        if c.tx_hash == notice.tx_hash and reason == "reverted"
    ]
    return decided(*closing, refused, error=error)


def _shortfall(order: Order, settlement: Settlement) -> LedgerError:
    if settlement.reason == "late":
        late = "the transfer was mined after the quote's pay_by; it is recorded and due back"
        if order.status is Status.EXPIRED:
            return Gone(late, details={"reason": "payment_late"})
        return PaymentTooLate(late, details={"reason": "payment_late"})
    due = getattr(settlement.events[0], "amount_due", 0)
    msg = "the transfers are below the price; pay the rest and send the notice again"
    return PaymentRefused(
        msg, code="AMOUNT_MISMATCH", details={"amount_due_micros": str(due), "reason": "partial"}
    )
