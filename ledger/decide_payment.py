"""Deciders of what the client says of its payment: notices and claims. Pure."""

from __future__ import annotations

from typing import Final, Literal

from ledger.commands import (
    AcceptNotice,
    IssueQuote,
    Notice,
    RecordTransfers,
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
from ledger.event import ClientText, Event
from ledger.finding import ChainView, Finding
from ledger.money import Bucket
from ledger.order import OpenClaim, Order, Status
from ledger.order_events import CommandRefused, NoticeAccepted, ProcessingStarted
from ledger.payment_events import (
    PaymentClaimClosed,
    PaymentClaimed,
)
from ledger.payments import settle
from ledger.values import ZERO_ADDRESS, UnixMs, address_of

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
    return Decision((Draft(command.terms, command.commit, command.beacon),))


def check_notice(order: Order, notice: Notice, now: UnixMs) -> None:
    """Refuse a notice that needs no look at the chain to be refused.

    A notice that is already kept, byte for byte, skips freshness and nonce: it was judged then.
    """
    require_client(order, notice.client)
    if any(claim.notice.text == notice.client.text for claim in order.claims):
        return
    if notice.client.text in order.claimed_texts and _was_told_to_ask(order, notice):
        return
    if order.accepted is not None and not order.paused and not _was_told_to_ask(order, notice):
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


def _was_told_to_ask(order: Order, notice: Notice) -> bool:
    """Whether this is the repeat of a notice that was answered as pending and is paid by now."""
    paid_by = order.accepted.tx_hash if order.accepted is not None else None
    return order.accepted_unasked and paid_by == notice.tx_hash


def accept_notice(order: Order, command: AcceptNotice, claimed: Claimed) -> Decision:
    """Pay and start the order, or keep the claim, or refuse: never fail it from silence."""
    notice, finding = command.notice, command.finding.for_price(order.terms.price)
    check_notice(order, notice, command.now)
    if _counts_already(order, finding.tx_hash):
        return _start(order, notice, ())
    if finding.view is ChainView.REVERTED:
        return _refuse(order, notice, "reverted")
    if finding.view is not ChainView.MINED:
        return _wait(order, notice, finding)
    settlement = settle(order, notice.client.signer, finding, claimed)
    if settlement.reached:
        return _start(order, notice, settlement.events)
    if settlement.events:
        late = settlement.reason == "late"
        error = _too_late(order) if late else _underpaid(settlement.due)
        return decided(*settlement.events, error=error)
    if settlement.reason == "already_counted":
        return Decision(error=_known(order, finding.tx_hash))
    return _refuse(order, notice, settlement.reason)


def resolve_claim(order: Order, command: ResolveClaim, claimed: Claimed) -> Decision:
    """Judge a kept claim anew; silence leaves it as it is."""
    finding = command.finding.for_price(order.terms.price)
    claim = _claim_of(order, finding)
    if claim is None or finding.view in (ChainView.UNAVAILABLE, ChainView.SHALLOW):
        return Decision()
    if finding.view is ChainView.NOT_FOUND:
        # The time to pay does not end while a payment that left the chain is to be replaced.
        if order.paused or finding.safe_time <= order.terms.pay_by:
            return Decision()
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="absent"))
    if finding.view is ChainView.REVERTED:
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="reverted"))
    events = settle_unasked(order, claim.notice.signer, finding, claimed)
    if not events:
        return decided(PaymentClaimClosed(tx_hash=claim.tx_hash, reason="not_matching"))
    return decided(*events)


def record_transfers(order: Order, command: RecordTransfers, claimed: Claimed) -> Decision:
    """Count transfers that nobody told of; an order that they pay waits in `paid`."""
    finding = command.finding.for_price(order.terms.price)
    if finding.view is not ChainView.MINED:
        return Decision()
    payer = command.payer or address_of(order.client)
    return decided(*settle_unasked(order, payer, finding, claimed))


def settle_unasked(
    order: Order, payer: str, finding: Finding, claimed: Claimed
) -> tuple[Event, ...]:
    """Return what a mined transaction leads to without a notice at hand.

    A notice of the payer that was kept for it is accepted with it, else it would be lost.
    """
    settlement = settle(order, payer, finding, claimed)
    claim = next(
        (c for c in order.claims if (c.tx_hash, c.notice.signer) == (finding.tx_hash, payer)), None
    )
    if claim is None or not settlement.reached:
        return settlement.events
    accepted = _acceptance(order, claim.notice, claim)
    return settlement.events if accepted is None else (*settlement.events, accepted)


def _counts_already(order: Order, tx_hash: str) -> bool:
    """Whether the order is paid and this transaction is part of it."""
    if order.paused or Status.PAID not in order.status_at:
        return False
    return any(t.tx_hash == tx_hash for t in order.money.of(Bucket.APPLIED))


def _start(order: Order, notice: Notice, events: tuple[Event, ...]) -> Decision:
    drafts = tuple(Draft(event) for event in events)
    accepted = _acceptance(order, notice.client, notice)
    return Decision(drafts if accepted is None else (*drafts, Draft(accepted, notice.commit)))


def _acceptance(
    order: Order, text: ClientText, said: Notice | OpenClaim
) -> ProcessingStarted | NoticeAccepted | None:
    """Return the event that keeps the notice: it starts the work, or is the first one after."""
    if order.status in (Status.QUOTED, Status.EXPIRED, Status.PAID):
        return ProcessingStarted(
            reason="notice",
            notice=text,
            tx_hash=said.tx_hash,
            nonce=said.nonce,
            delivery_endpoint_id=said.delivery_endpoint_id,
        )
    if order.accepted is not None or order.status is Status.REFUNDED:
        return None
    return NoticeAccepted(
        notice=text,
        tx_hash=said.tx_hash,
        nonce=said.nonce,
        delivery_endpoint_id=said.delivery_endpoint_id,
    )


def _claim_of(order: Order, finding: Finding) -> OpenClaim | None:
    """Return the claim of the transaction; of several, that of the signer who sent the money."""
    claims = [c for c in order.claims if c.tx_hash == finding.tx_hash]
    client = address_of(order.client)
    unbound = client == ZERO_ADDRESS
    payers = {t.sender for t in finding.transfers} if unbound else {client}
    return next((c for c in claims if c.notice.signer in payers), claims[0] if claims else None)


def _wait(order: Order, notice: Notice, finding: Finding) -> Decision:
    """Answer from what is known of the transaction, and keep the claim of an unknown one.

    An orphaned payment is watched without a claim; its claim keeps a first notice, no more.
    """
    buckets = order.money.buckets_of(finding.tx_hash)
    keeps_notice = order.accepted is None and Bucket.ORPHANED in buckets
    if buckets and not keeps_notice:
        return Decision(error=_known(order, finding.tx_hash))
    return _keep_claim(order, notice, finding)


def _keep_claim(order: Order, notice: Notice, finding: Finding) -> Decision:
    error = _pending(finding)
    said = (notice.tx_hash, notice.client.signer)
    if any((claim.tx_hash, claim.notice.signer) == said for claim in order.claims):
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
    if reason == "reverted" and any(c.tx_hash == notice.tx_hash for c in order.claims):
        closed = PaymentClaimClosed(tx_hash=notice.tx_hash, reason="reverted")
        return decided(closed, refused, error=error)
    return decided(refused, error=error)


def _known(order: Order, tx_hash: str) -> LedgerError:
    """Return the answer for a transaction that is recorded already: what it was then."""
    buckets = order.money.buckets_of(tx_hash)
    if Bucket.LATE in buckets:
        return _too_late(order)
    if Bucket.ORPHANED in buckets or order.paused:
        msg = "the payment left the chain in a reorganisation and is watched; do not pay again"
        return PaymentPending(msg, details={"tx_hash": tx_hash, "outcome": "pending"})
    return _underpaid(order.terms.price - order.money.counted)


def _too_late(order: Order) -> LedgerError:
    late = "the transfer was mined after the quote's pay_by; it is recorded and due back"
    error = Gone if order.status is Status.EXPIRED else PaymentTooLate
    return error(late, details={"reason": "payment_late"})


def _underpaid(due: int) -> LedgerError:
    msg = "the transfers are below the price; pay the rest and send the notice again"
    return PaymentRefused(
        msg, code="AMOUNT_MISMATCH", details={"amount_due_micros": str(due), "reason": "partial"}
    )
