"""From a command to a decision: one match over the closed list of commands. Pure."""

from __future__ import annotations

from typing import assert_never

from ledger import commands as c
from ledger import deal_commands as d
from ledger import decide_chain as chain
from ledger import decide_deal as deal
from ledger import decide_delivery as delivery
from ledger import decide_dispute as dispute
from ledger import decide_payment as payment
from ledger import decide_receipt as receipt
from ledger.decision import Claimed, Decision
from ledger.errors import Conflict, NotFound, Rejected
from ledger.order import Order

PaymentCommand = (
    c.AcceptNotice
    | c.ResolveClaim
    | c.RecordTransfers
    | c.RecheckPayment
    | c.ExpireQuote
    | c.RecordRefund
    | c.DeclarePaymentImpossible
)
DeliveryCommand = (
    c.StartProcessing | c.HandIn | c.FailHandler | c.RecordPush | c.NoteCollected | c.EraseContent
)
DisputeCommand = (
    c.ConfirmDelivery
    | c.OpenDispute
    | c.AnswerDispute
    | c.WithdrawDispute
    | c.RuleDispute
    | c.LapseAcceptance
    | c.LapseAnswer
)
OrderCommand = (
    c.IssueQuote
    | d.ProposeOrder
    | PaymentCommand
    | DeliveryCommand
    | DisputeCommand
    | c.RecordReceipt
    | d.DealCommand
)


def decide(order: Order | None, command: OrderCommand, claimed: Claimed) -> Decision:
    """Return the events that the command leads to; raises a `LedgerError` if it is refused."""
    if isinstance(command, c.IssueQuote | d.ProposeOrder):
        if order is not None:
            msg = "an order with this id exists"
            raise Conflict(msg)
        if isinstance(command, d.ProposeOrder):
            return deal.propose_order(command)
        return payment.issue_quote(command)
    if order is None:
        msg = "no such order"
        raise NotFound(msg)
    if isinstance(command, d.DealCommand):
        return deal.decide_deal(order, command, claimed)
    if isinstance(command, PaymentCommand):
        if order.deal is not None:
            msg = "this order is paid on the marketplace"
            raise Rejected(msg, details={"status": str(order.status)})
        return _decide_payment(order, command, claimed)
    if isinstance(command, DeliveryCommand):
        return _decide_delivery(order, command)
    if isinstance(command, c.RecordReceipt):
        return receipt.record_receipt(order, command)
    return _decide_dispute(order, command)


def _decide_payment(order: Order, command: PaymentCommand, claimed: Claimed) -> Decision:
    match command:
        case c.AcceptNotice():
            return payment.accept_notice(order, command, claimed)
        case c.ResolveClaim():
            return payment.resolve_claim(order, command, claimed)
        case c.RecordTransfers():
            return payment.record_transfers(order, command, claimed)
        case c.RecheckPayment():
            return chain.recheck_payment(order, command)
        case c.ExpireQuote():
            return chain.expire_quote(order, command)
        case c.RecordRefund():
            return chain.record_refund(order, command, claimed)
        case c.DeclarePaymentImpossible():
            return chain.declare_impossible(order, command)
        case _:
            assert_never(command)


def _decide_delivery(order: Order, command: DeliveryCommand) -> Decision:
    match command:
        case c.StartProcessing():
            return delivery.start_processing(order, command)
        case c.HandIn():
            return delivery.hand_in(order, command)
        case c.FailHandler():
            return delivery.fail_handler(order, command)
        case c.RecordPush():
            return delivery.record_push(order, command)
        case c.NoteCollected():
            return delivery.note_collected(order, command)
        case c.EraseContent():
            return delivery.erase_content(order, command)
        case _:
            assert_never(command)


def _decide_dispute(order: Order, command: DisputeCommand) -> Decision:
    match command:
        case c.ConfirmDelivery():
            return dispute.confirm_delivery(order, command)
        case c.OpenDispute():
            return dispute.open_dispute(order, command)
        case c.AnswerDispute():
            return dispute.answer_dispute(order, command)
        case c.WithdrawDispute():
            return dispute.withdraw_dispute(order, command)
        case c.RuleDispute():
            return dispute.rule_dispute(order, command)
        case c.LapseAcceptance():
            return dispute.lapse_acceptance(order, command)
        case c.LapseAnswer():
            return dispute.lapse_answer(order, command)
        case _:
            assert_never(command)


def transfers_of(command: object) -> tuple[tuple[str, str, int], ...]:
    """Return the claim keys that a command brings, for the store to look up.

    A recheck brings none: it names transfers that the order holds already, and no others.
    """
    if isinstance(command, c.AcceptNotice | c.ResolveClaim | c.RecordTransfers | c.RecordRefund):
        return tuple(t.key for t in command.finding.transfers)
    if isinstance(command, d.AuthorizePayment):
        return command.payment.keys
    return ()
