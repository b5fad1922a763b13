"""The client's side: receipts, disputes, rulings, and windows that lapse."""

from collections.abc import Callable
from typing import Final, Literal

import pytest

from ledger.decide import OrderCommand, decide
from ledger.decision import Decision
from ledger.errors import Conflict, InvalidInput, Rejected, Unauthorized
from ledger.order import Order, Status
from ledger.order_events import (
    AcceptanceLapsed,
    AnswerLapsed,
    DeliveryConfirmed,
    DeliveryDisputed,
    DisputeAnswered,
    DisputeRuled,
    DisputeWithdrawn,
)
from ledger.values import UnixMs
from tests.unit import builders as b

Build = Callable[[], Order]

ACCEPTANCE_ENDS: Final = b.NOON + 60 + b.ACCEPTANCE_WINDOW
"""The deliverable was ready 60 s after the quote: this is the last second to object."""
ANSWER_ENDS: Final = b.DELIVER_BY + b.ANSWER_WINDOW
"""The dispute was opened just after `deliver_by`: this is the last second to answer."""


def decided(order: Order, command: OrderCommand) -> Decision:
    return decide(order, command, b.NOTHING_CLAIMED)


# Receipts


@pytest.mark.parametrize(
    ("text_digest", "body_digest", "binds", "content_hash"),
    [
        (b.RAW, None, "content", b.RAW),
        (b.JSON_DIGEST, None, "content", b.JSON_DIGEST),
        (b.RAW, b.JSON_DIGEST, "content", b.RAW),
        (None, b.RAW, "order_only", None),
        (None, None, "order_only", None),
    ],
)
def test_a_receipt_binds_the_content_only_if_the_signed_text_names_its_hash(
    text_digest: str | None,
    body_digest: str | None,
    binds: Literal["content", "order_only"],
    content_hash: str | None,
) -> None:
    command = b.confirm(text_digest=text_digest, body_digest=body_digest)

    [confirmed] = b.events_of(decided(b.delivered_order(), command))

    assert confirmed == DeliveryConfirmed(
        client=command.client, binds=binds, content_hash=content_hash, head=b.HEAD, rating=5
    )


@pytest.mark.parametrize(
    "command",
    [
        b.confirm(text_digest=b.OTHER_BYTES),
        b.confirm(text_digest=None, body_digest=b.OTHER_BYTES),
        b.confirm(text_digest=b.RAW, body_digest=b.OTHER_BYTES),
    ],
)
def test_a_receipt_for_other_bytes_is_refused(command: OrderCommand) -> None:
    with pytest.raises(Conflict) as refused:
        decided(b.delivered_order(), command)

    assert refused.value.code == "CONTENT_HASH_MISMATCH"


@pytest.mark.parametrize(
    "build", [b.ready_order, b.posted_order, b.delivered_order, b.failed_push_order]
)
def test_a_receipt_is_taken_wherever_a_deliverable_can_be_held(build: Build) -> None:
    assert b.obey(build(), b.confirm()).status is Status.CONFIRMED


@pytest.mark.parametrize(
    "build", [b.quoted_order, b.paid_order, b.processing_order, b.failed_handler_order]
)
def test_a_receipt_without_a_deliverable_is_refused(build: Build) -> None:
    with pytest.raises(Rejected):
        decided(build(), b.confirm())


def test_a_receipt_for_erased_content_is_taken() -> None:
    order = b.obey(b.delivered_order(), b.erase())

    assert b.obey(order, b.confirm()).status is Status.CONFIRMED


def test_a_receipt_given_again_records_nothing_even_when_its_stamp_is_old() -> None:
    again = b.confirm(stamp=b.NOW, now=UnixMs(b.NOW + 10**9))

    assert decided(b.confirmed_order(), again) == Decision()


def test_a_receipt_of_somebody_else_is_refused_before_and_after_the_clients() -> None:
    for order in (b.delivered_order(), b.confirmed_order()):
        with pytest.raises(Unauthorized):
            decided(order, b.confirm(by=b.STRANGER))


@pytest.mark.parametrize("age_ms", [300_001, -60_001])
def test_a_receipt_with_a_stale_or_future_stamp_is_refused(age_ms: int) -> None:
    with pytest.raises(InvalidInput):
        decided(b.delivered_order(), b.confirm(stamp=b.NOW - age_ms))


def test_a_receipt_closes_the_dispute() -> None:
    order = b.obey(b.disputed_order(), b.confirm())

    assert (order.status, order.dispute_open) == (Status.CONFIRMED, False)


def test_a_receipt_is_possible_after_the_acceptance_window_lapsed() -> None:
    order = b.obey(b.delivered_order(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))

    assert b.obey(order, b.confirm()).status is Status.CONFIRMED


# Opening a dispute


def test_a_dispute_keeps_the_clients_text_and_the_commitment_of_its_statement() -> None:
    command = b.dispute()

    [draft] = decided(b.delivered_order(), command).drafts

    assert draft.event == DeliveryDisputed(
        client=command.client, reason="other", statement_id=b.content_id("statement")
    )
    assert draft.commit == command.commit


def test_a_dispute_repeated_with_the_same_text_records_nothing() -> None:
    for order in (b.disputed_order(), b.obey(b.disputed_order(), b.withdraw())):
        assert decided(order, b.dispute()) == Decision()


def test_a_dispute_of_a_confirmed_or_refunded_order_is_refused() -> None:
    for order in (b.confirmed_order(), b.refunded_order(), b.quoted_order(), b.expired_order()):
        with pytest.raises(Rejected):
            decided(order, b.dispute())


def test_a_dispute_signed_by_somebody_else_is_refused() -> None:
    with pytest.raises(Unauthorized):
        decided(b.delivered_order(), b.dispute(by=b.STRANGER))


@pytest.mark.parametrize("age_ms", [300_001, -60_001])
def test_a_dispute_with_a_stale_or_future_stamp_is_refused(age_ms: int) -> None:
    with pytest.raises(InvalidInput):
        decided(b.delivered_order(), b.dispute(stamp=b.AFTER_DELIVER_BY - age_ms))


def test_a_dispute_after_the_acceptance_window_lapsed_is_refused() -> None:
    order = b.obey(b.delivered_order(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))

    with pytest.raises(Rejected) as refused:
        decided(order, b.dispute())

    assert refused.value.code == "WINDOW_CLOSED"


# While a dispute is open


@pytest.mark.parametrize(
    "command",
    [
        b.answer(),
        b.withdraw(),
        b.rule(),
        b.lapse_answer(ANSWER_ENDS * 1000 + 1),
    ],
)
@pytest.mark.parametrize("build", [b.quoted_order, b.delivered_order, b.confirmed_order])
def test_answers_rulings_and_withdrawals_need_an_open_dispute(
    command: OrderCommand, build: Build
) -> None:
    with pytest.raises(Rejected):
        decided(build(), command)


@pytest.mark.parametrize(
    "closing", [b.withdraw(), b.rule(), b.confirm(), b.refund(b.refund_transfer())]
)
def test_a_closed_dispute_takes_no_further_act(closing: OrderCommand) -> None:
    order = b.obey(b.disputed_order(), closing)

    assert not order.dispute_open
    for command in (b.answer(), b.withdraw(), b.rule(), b.lapse_answer(ANSWER_ENDS * 1000 + 1)):
        if type(command) is type(closing):
            assert b.events_of(decided(order, command)) == []  # a repeat, not a further act
            continue
        with pytest.raises(Rejected):
            decided(order, command)


@pytest.mark.parametrize("build", [b.disputed_order, b.disputed_undelivered_order])
def test_acts_on_the_dispute_leave_the_status_alone(build: Build) -> None:
    for command in (b.answer(), b.withdraw(), b.rule(), b.lapse_answer(ANSWER_ENDS * 1000 + 1)):
        assert b.obey(build(), command).status is Status.DISPUTED


def test_a_dispute_can_be_ruled_while_the_late_deliverable_makes_the_order_ready() -> None:
    order = b.obey(b.disputed_undelivered_order(), b.hand_in())

    order = b.obey(order, b.rule())

    assert (order.status, order.dispute_open) == (Status.READY, False)


def test_a_dispute_is_answered_once() -> None:
    command = b.answer()
    [draft] = decided(b.disputed_order(), command).drafts
    order = b.obey(b.disputed_order(), command)

    assert draft.event == DisputeAnswered(position="rejects", statement_id=b.content_id("answer"))
    assert draft.commit == command.commit
    with pytest.raises(Conflict):
        decided(order, b.answer())


def test_only_the_client_withdraws_a_dispute_and_with_a_fresh_text() -> None:
    with pytest.raises(Unauthorized):
        decided(b.disputed_order(), b.withdraw(by=b.STRANGER))
    with pytest.raises(InvalidInput):
        decided(b.disputed_order(), b.withdraw(stamp=b.AFTER_DELIVER_BY - 300_001))

    command = b.withdraw()
    assert b.events_of(decided(b.disputed_order(), command)) == [
        DisputeWithdrawn(client=command.client)
    ]


def test_a_withdrawn_dispute_can_still_be_confirmed() -> None:
    order = b.obey(b.disputed_order(), b.withdraw())

    assert b.obey(order, b.confirm()).status is Status.CONFIRMED


# Rulings


def test_a_ruling_of_the_named_arbiter_is_recorded_with_its_amount() -> None:
    command = b.rule(amount=1_000_000, outcome="split")

    decision = decided(b.disputed_order(), command)

    assert b.events_of(decision) == [
        DisputeRuled(arbiter=command.arbiter, outcome="split", amount=1_000_000)
    ]
    ruled = b.after(b.disputed_order(), decision).dispute
    assert ruled is not None
    assert (ruled.open, ruled.ruled, ruled.ruled_amount) == (False, "split", 1_000_000)


@pytest.mark.parametrize("by", [b.STRANGER, b.CLIENT, b.PROVIDER])
def test_a_ruling_signed_by_anybody_else_is_refused(by: b.Key) -> None:
    with pytest.raises(Unauthorized):
        decided(b.disputed_order(), b.rule(by=by))


@pytest.mark.parametrize(
    ("outcome", "amount", "fits"),
    [
        ("client", b.PRICE, True),
        ("client", b.PRICE - 1, False),
        ("provider", 0, True),
        ("provider", 1, False),
        ("split", 1, True),
        ("split", 0, False),
        ("split", b.PRICE, False),
        ("split", b.PRICE + 1, False),
    ],
)
def test_the_amount_of_a_ruling_fits_its_outcome(outcome: str, amount: int, *, fits: bool) -> None:
    command = b.rule(outcome=outcome, amount=amount)
    if fits:
        assert decided(b.disputed_order(), command).drafts
    else:
        with pytest.raises(Rejected):
            decided(b.disputed_order(), command)


def test_a_text_that_ruled_on_one_dispute_rules_on_no_other() -> None:
    ruled = b.obey(b.disputed_undelivered_order(), b.rule())
    again = b.obey(b.obey(ruled, b.hand_in()), b.dispute(words=" again"))
    assert again.dispute_open

    with pytest.raises(Conflict, match="earlier dispute"):
        decided(again, b.rule())


def test_a_ruling_is_signed_with_the_present_time() -> None:
    with pytest.raises(InvalidInput):
        decided(b.disputed_order(), b.rule(stamp=b.NOW - 300_001))


def test_an_order_whose_quote_names_no_arbiter_takes_no_ruling() -> None:
    order = b.quoted_order(b.terms(arbiter=None))
    for command in (b.accept(b.mined(b.transfer())), b.hand_in(), b.collect(), b.dispute()):
        order = b.obey(order, command)

    with pytest.raises(Unauthorized):
        decided(order, b.rule())


def test_a_ruling_returns_at_most_what_was_received() -> None:
    assert decided(b.disputed_order(), b.rule(amount=b.PRICE)).error is None
    with pytest.raises(Rejected):
        decided(b.disputed_order(), b.rule(amount=b.PRICE + 1))


def test_a_ruling_moves_no_money() -> None:
    order = b.obey(b.disputed_order(), b.rule())

    assert (order.money.held, order.status) == (b.PRICE, Status.DISPUTED)


# Windows


def test_the_answer_window_lapses_only_after_its_last_second() -> None:
    with pytest.raises(Rejected):
        decided(b.disputed_order(), b.lapse_answer(ANSWER_ENDS * 1000))

    decision = decided(b.disputed_order(), b.lapse_answer(ANSWER_ENDS * 1000 + 1))

    assert b.events_of(decision) == [AnswerLapsed(window_ended=ANSWER_ENDS)]


def test_the_answer_window_lapses_once_and_not_after_an_answer() -> None:
    lapse = b.lapse_answer(ANSWER_ENDS * 1000 + 1)

    for order in (b.obey(b.disputed_order(), lapse), b.obey(b.disputed_order(), b.answer())):
        with pytest.raises(Rejected):
            decided(order, lapse)


def test_a_late_answer_is_recorded_beside_the_lapse() -> None:
    order = b.obey(b.disputed_order(), b.lapse_answer(ANSWER_ENDS * 1000 + 1))

    assert b.kinds_of(decided(order, b.answer())) == ["dispute_answered"]


@pytest.mark.parametrize(
    "build", [b.ready_order, b.posted_order, b.delivered_order, b.failed_push_order]
)
def test_the_acceptance_window_lapses_only_after_its_last_second(build: Build) -> None:
    with pytest.raises(Rejected):
        decided(build(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000))

    decision = decided(build(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))

    assert b.events_of(decision) == [AcceptanceLapsed(window_ended=ACCEPTANCE_ENDS)]
    assert b.after(build(), decision).status is build().status


@pytest.mark.parametrize(
    "build",
    [
        b.quoted_order,
        b.processing_order,
        b.failed_handler_order,
        b.confirmed_order,
        b.disputed_order,
        b.refunded_order,
    ],
)
def test_there_is_no_acceptance_window_without_a_deliverable_or_after_the_clients_word(
    build: Build,
) -> None:
    with pytest.raises(Rejected):
        decided(build(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))


def test_the_acceptance_window_lapses_once() -> None:
    lapse = b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1)

    with pytest.raises(Rejected):
        decided(b.obey(b.delivered_order(), lapse), lapse)


def test_the_acceptance_window_waits_for_the_dispute_that_is_open_beside_the_status() -> None:
    order = b.obey(b.disputed_undelivered_order(), b.hand_in())

    with pytest.raises(Rejected):
        decided(order, b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))


def test_a_lapsed_acceptance_is_not_a_confirmation() -> None:
    order = b.obey(b.delivered_order(), b.lapse_acceptance(ACCEPTANCE_ENDS * 1000 + 1))

    assert (order.status, order.confirmation) == (Status.DELIVERED, None)
