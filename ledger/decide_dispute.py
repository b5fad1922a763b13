"""Deciders of acceptance: receipts, disputes, answers, rulings and lapsed windows. Pure."""

from __future__ import annotations

from ledger.commands import (
    AnswerDispute,
    ConfirmDelivery,
    LapseAcceptance,
    LapseAnswer,
    OpenDispute,
    RuleDispute,
    WithdrawDispute,
)
from ledger.decision import (
    Decision,
    decided,
    require_bound_client,
    require_fresh,
    require_next,
)
from ledger.entry import Draft
from ledger.errors import Conflict, Rejected, Unauthorized
from ledger.order import Dispute, Order, Status
from ledger.order_events import (
    AcceptanceLapsed,
    AnswerLapsed,
    DeliveryConfirmed,
    DeliveryDisputed,
    DisputeAnswered,
    DisputeRuled,
    DisputeWithdrawn,
)

AWAITING_ACCEPTANCE = (
    Status.READY,
    Status.POSTED,
    Status.DELIVERED,
    Status.DELIVERY_FAILED,
)
"""Where the client may still confirm or dispute what it got."""

BEFORE_DELIVERY = (Status.QUOTED, Status.PAID, Status.PROCESSING)
"""Where a dispute is about a delivery that did not come."""


def confirm_delivery(order: Order, command: ConfirmDelivery) -> Decision:
    """Accept the client's receipt for the deliverable, and for no other bytes."""
    require_bound_client(order, command.client)
    if order.confirmation is not None:
        # A repeat gets the first answer; a receipt for other bytes is no repeat of it.
        _require_delivered_bytes(order, command)
        return Decision()
    require_fresh(command.stamp, command.now)
    if order.deliverable is None:
        msg = "there is no deliverable to confirm"
        raise Rejected(msg, details={"status": str(order.status)})
    _require_delivered_bytes(order, command)
    require_next(order, Status.CONFIRMED)
    return decided(
        DeliveryConfirmed(
            client=command.client,
            binds="order_only" if command.text_digest is None else "content",
            # Only what the client signed; the body's hash was compared above and is nobody's word.
            content_hash=command.text_digest,
            head=command.head,
            rating=command.rating,
        )
    )


def open_dispute(order: Order, command: OpenDispute) -> Decision:
    """Record the client's complaint; before a deliverable only after `deliver_by`."""
    require_bound_client(order, command.client)
    if _said_before(order, command):
        return Decision()
    require_fresh(command.stamp, command.now)
    require_next(order, Status.DISPUTED)
    undelivered = order.status in BEFORE_DELIVERY
    if undelivered and command.now <= order.deliver_by * 1000:
        msg = "the time to deliver is not over"
        raise Rejected(msg, code="DELIVERY_NOT_DUE", details={"deliver_by": order.deliver_by})
    if order.acceptance_lapsed:
        msg = "the acceptance window is over"
        raise Rejected(msg, code="WINDOW_CLOSED")
    disputed = DeliveryDisputed(
        client=command.client,
        reason=command.reason,
        content_hash=command.content_hash,
        statement_id=command.statement_id,
    )
    return Decision((Draft(disputed, command.commit),))


def answer_dispute(order: Order, command: AnswerDispute) -> Decision:
    """Record the provider's answer, once."""
    dispute = _open(order)
    if dispute.answered:
        msg = "the dispute was answered already"
        raise Conflict(msg)
    answer = DisputeAnswered(position=command.position, statement_id=command.statement_id)
    return Decision((Draft(answer, command.commit),))


def withdraw_dispute(order: Order, command: WithdrawDispute) -> Decision:
    """Record the client's withdrawal."""
    require_bound_client(order, command.client)
    if order.dispute is not None and order.dispute.withdrawn:
        return Decision()
    if command.client.text in order.endings:
        msg = "this text withdrew an earlier dispute; sign again to withdraw this one"
        raise Conflict(msg)
    _open(order)
    require_fresh(command.stamp, command.now)
    return decided(DisputeWithdrawn(client=command.client))


def rule_dispute(order: Order, command: RuleDispute) -> Decision:
    """Record the ruling of the arbiter that the quote names, once."""
    if order.terms.arbiter is None or order.terms.arbiter != command.arbiter.signer:
        msg = "the ruling is not signed by the arbiter that the quote names"
        raise Unauthorized(msg)
    before = order.dispute
    if before is not None and (before.ruled, before.ruled_amount) == (
        command.outcome,
        command.amount,
    ):
        return Decision()
    if command.arbiter.text in order.endings:
        msg = "this text ruled on an earlier dispute; sign again to rule on this one"
        raise Conflict(msg)
    _open(order)
    require_fresh(command.stamp, command.now)
    _require_fitting(command.outcome, command.amount, order.received)
    return decided(
        DisputeRuled(arbiter=command.arbiter, outcome=command.outcome, amount=command.amount)
    )


def _require_fitting(outcome: str, amount: int, received: int) -> None:
    """Refuse an amount that contradicts its outcome: nothing, all, or a part of what came."""
    fits = {"provider": amount == 0, "client": amount == received, "split": 0 < amount < received}
    if not fits[outcome]:
        msg = f"a ruling for {outcome} cannot return {amount} of {received} micro-USDC"
        raise Rejected(msg, details={"received_micros": str(received)})


def lapse_acceptance(order: Order, command: LapseAcceptance) -> Decision:
    """Close the acceptance window: without objection, which is not a confirmation."""
    since = order.status_at.get(Status.READY)
    waits = order.status in AWAITING_ACCEPTANCE and not order.dispute_open
    if since is None or not waits or order.acceptance_lapsed:
        msg = "no acceptance window is open"
        raise Rejected(msg)
    ends = since // 1000 + order.terms.acceptance_window
    if command.now <= ends * 1000:
        msg = "the acceptance window is not over"
        raise Rejected(msg)
    return decided(AcceptanceLapsed(window_ended=ends))


def lapse_answer(order: Order, command: LapseAnswer) -> Decision:
    """Close the provider's answer window."""
    dispute = _open(order)
    ends = dispute.opened_at // 1000 + order.terms.answer_window
    if dispute.answered or dispute.answer_lapsed or command.now <= ends * 1000:
        msg = "no answer window has lapsed"
        raise Rejected(msg)
    return decided(AnswerLapsed(window_ended=ends))


def _require_delivered_bytes(order: Order, command: ConfirmDelivery) -> None:
    known = order.deliverable.digests if order.deliverable is not None else ()
    for digest in (command.text_digest, command.body_digest):
        if digest is not None and digest not in known:
            msg = "the receipt names other bytes than those that were delivered"
            raise Conflict(msg, code="CONTENT_HASH_MISMATCH")


def _said_before(order: Order, command: OpenDispute) -> bool:
    """Whether this is the last dispute again: the same text, or the open one signed anew."""
    if order.disputed_by is None:
        return False
    before, again = order.disputed_by.client.text, command.client.text
    same = before.rpartition(" | Timestamp: ")[0] == again.rpartition(" | Timestamp: ")[0]
    return before == again or (order.dispute_open and same)


def _open(order: Order) -> Dispute:
    if order.dispute is None or not order.dispute.open:
        msg = "no dispute is open"
        raise Rejected(msg)
    return order.dispute
