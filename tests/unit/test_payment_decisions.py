"""From what the chain shows to what is recorded: notices, claims, shortfalls, lateness."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger.commands import AcceptNotice, Notice, RecordRefund, RecordTransfers
from ledger.decide import OrderCommand, decide, transfers_of
from ledger.decide_payment import MAX_OPEN_CLAIMS
from ledger.decision import Decision
from ledger.errors import (
    ChainUnavailable,
    Conflict,
    Gone,
    InvalidInput,
    LedgerError,
    PaymentPending,
    PaymentRefused,
    PaymentTooLate,
    Rejected,
    Unauthorized,
)
from ledger.event import Event, Finality, Transfer, TransferKey
from ledger.finding import ChainView, Finding
from ledger.money import Bucket
from ledger.order import Order, Status
from ledger.order_events import CommandRefused, NoticeAccepted, ProcessingStarted
from ledger.payment_events import (
    PaymentClaimClosed,
    PaymentClaimed,
    PaymentFinalized,
    PaymentLate,
    PaymentOrphaned,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.payments import choose
from ledger.values import ZERO_ADDRESS, UnixMs, address_of
from tests.unit import builders as b

Build = Callable[[], Order]
MINUTE_MS: Final = 60_000


def accepted(order: Order, finding: Finding, *, by: b.Key = b.CLIENT) -> Decision:
    return decide(order, b.accept(finding, by=by), b.NOTHING_CLAIMED)


def with_claim(of: str = "a", *, order: Order | None = None, by: b.Key = b.CLIENT) -> Order:
    finding = b.seen(ChainView.NOT_FOUND, of=of)
    return b.obey(order or b.quoted_order(), b.accept(finding, by=by))


def own(*transfers: Transfer) -> dict[tuple[str, str, int], str]:
    """Return the claims that hold these transfers for the order itself."""
    return {t.key: b.STREAM for t in transfers}


PART = b.mined(b.transfer(2_000_000))
"""A part of the price in a block that is not safe yet."""


# What a notice leads to


@pytest.mark.parametrize(
    ("build", "finding", "kinds", "error"),
    [
        # The chain cannot prove it yet: the claim is kept, and the answer says pending.
        (
            b.quoted_order,
            b.seen(ChainView.UNAVAILABLE),
            ["payment_claimed"],
            ChainUnavailable,
        ),
        (b.quoted_order, b.seen(ChainView.NOT_FOUND), ["payment_claimed"], PaymentPending),
        (
            b.quoted_order,
            b.seen(ChainView.SHALLOW, b.transfer()),
            ["payment_claimed"],
            PaymentPending,
        ),
        (b.expired_order, b.seen(ChainView.UNAVAILABLE), ["payment_claimed"], ChainUnavailable),
        (b.expired_order, b.seen(ChainView.NOT_FOUND), ["payment_claimed"], PaymentPending),
        (b.paused_order, b.seen(ChainView.NOT_FOUND, of="b"), ["payment_claimed"], PaymentPending),
        # The chain answered, and it pays.
        (b.quoted_order, b.mined(b.transfer()), ["paid", "processing"], None),
        (b.expired_order, b.mined(b.transfer()), ["paid", "processing"], None),
        (b.paid_order, b.mined(b.transfer()), ["processing"], None),
        (
            b.paid_order,
            b.mined(b.transfer(of="b")),
            ["payment_overpaid", "processing"],
            None,
        ),
        (b.paused_order, b.mined(b.transfer(of="b")), ["payment_restored"], None),
        # The chain answered, and it does not pay.
        (b.quoted_order, b.seen(ChainView.REVERTED), ["command_refused"], PaymentRefused),
        (b.quoted_order, b.mined(), ["command_refused"], PaymentRefused),
        (
            b.quoted_order,
            b.mined(b.transfer(sender=b.STRANGER.address)),
            ["command_refused"],
            PaymentRefused,
        ),
        (b.quoted_order, b.mined(b.transfer(b.PRICE - 1)), ["payment_partial"], PaymentRefused),
        (b.quoted_order, b.mined(b.late_transfer()), ["payment_late"], PaymentTooLate),
        (b.expired_order, b.mined(b.late_transfer()), ["payment_late"], Gone),
    ],
)
def test_a_notice_leads_to_these_events_and_this_answer(
    build: Build, finding: Finding, kinds: list[str], error: type[LedgerError] | None
) -> None:
    decision = accepted(build(), finding)

    assert b.kinds_of(decision) == kinds
    assert type(decision.error) is (type(None) if error is None else error)


@pytest.mark.parametrize(
    ("build", "error", "code"),
    [
        (b.processing_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
        (b.ready_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
        (b.delivered_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
        (b.failed_handler_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
        (b.confirmed_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
        (b.disputed_order, Conflict, "DUPLICATE_DELIVERY_REQUEST"),
    ],
)
def test_a_notice_for_an_accepted_order_is_a_duplicate_whatever_the_chain_says(
    build: Build, error: type[LedgerError], code: str
) -> None:
    for finding in (b.mined(b.transfer()), b.seen(ChainView.UNAVAILABLE), b.mined()):
        with pytest.raises(error) as refused:
            accepted(build(), finding)

        assert refused.value.code == code


def test_a_notice_for_an_order_refunded_before_it_was_accepted_is_refused() -> None:
    refunded = b.obey(b.paid_order(), b.refund(b.refund_transfer()))

    with pytest.raises(Rejected):
        accepted(refunded, b.mined(b.transfer(of="b")))


def test_the_accepted_notice_is_kept_byte_for_byte_with_its_endpoint() -> None:
    notice = b.notice(nonce="nonce-0000000001", endpoint=b.content_id("endpoint"))
    command = AcceptNotice(notice, b.mined(b.transfer()), b.NOW)

    decision = decide(b.quoted_order(), command, b.NOTHING_CLAIMED)

    paid, started = decision.drafts
    assert started.event == ProcessingStarted(
        reason="notice",
        notice=notice.client,
        tx_hash=b.tx("a"),
        nonce="nonce-0000000001",
        delivery_endpoint_id=b.content_id("endpoint"),
    )
    assert (paid.commit, started.commit) == ({}, notice.commit)


def test_the_payment_names_payer_price_total_and_finality() -> None:
    [paid, _] = b.events_of(accepted(b.quoted_order(), b.mined(b.transfer(), finality="safe")))

    assert paid == PaymentVerified(
        transfers=(b.transfer(),),
        payer=b.CLIENT.account,
        price=b.PRICE,
        total=b.PRICE,
        overpaid=0,
        finality="safe",
    )


# Claims


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (ChainView.UNAVAILABLE, "chain_unavailable"),
        (ChainView.NOT_FOUND, "not_found"),
        (ChainView.SHALLOW, "not_deep_enough"),
    ],
)
def test_a_claim_says_why_it_could_not_be_proved(view: ChainView, reason: str) -> None:
    decision = accepted(b.quoted_order(), b.seen(view))

    [claim] = b.events_of(decision)
    assert isinstance(claim, PaymentClaimed)
    assert (claim.reason, claim.tx_hash, claim.actor) == (reason, b.tx("a"), "client")
    assert decision.error is not None
    assert decision.error.retryable
    assert decision.error.details == {"tx_hash": b.tx("a"), "outcome": "pending"}


@pytest.mark.parametrize("view", b.UNPROVEN)
def test_a_notice_repeated_three_times_adds_nothing_and_stays_pending(view: ChainView) -> None:
    order = with_claim()

    for _ in range(3):
        decision = accepted(order, b.seen(view))

        assert decision.drafts == ()
        assert decision.error is not None
        assert decision.error.retryable
        order = b.after(order, decision)
    assert len(order.claims) == 1


def test_the_fourth_open_claim_is_refused_and_the_first_three_stay() -> None:
    order = b.quoted_order()
    for of in "abc":
        order = with_claim(of, order=order)

    with pytest.raises(Rejected) as refused:
        accepted(order, b.seen(ChainView.NOT_FOUND, of="d"))

    assert refused.value.code == "TOO_MANY_CLAIMS"
    assert [c.tx_hash for c in order.claims] == [b.tx(of) for of in "abc"]
    assert len(order.claims) == MAX_OPEN_CLAIMS


def test_a_closed_claim_makes_room_for_another() -> None:
    order = b.quoted_order()
    for of in "abc":
        order = with_claim(of, order=order)
    order = b.obey(order, b.resolve(b.seen(ChainView.REVERTED, of="b")))

    order = with_claim("d", order=order)

    assert [c.tx_hash for c in order.claims] == [b.tx(of) for of in "acd"]
    assert order.closed_claims == (b.tx("b"),)


def test_a_fourth_claim_is_still_paid_at_once_if_the_chain_shows_it() -> None:
    order = b.quoted_order()
    for of in "abc":
        order = with_claim(of, order=order)

    order = b.obey(order, b.accept(b.mined(b.transfer(of="d"))))

    assert (order.status, len(order.claims)) == (Status.PROCESSING, 3)


def test_a_claim_does_not_change_the_status_but_holds_back_expiry() -> None:
    order = with_claim()

    assert order.status is Status.QUOTED
    with pytest.raises(Rejected):
        decide(order, b.expire(), b.NOTHING_CLAIMED)


def test_a_kept_claim_pays_and_starts_the_order_without_the_client() -> None:
    order = with_claim()
    [claim] = order.claims

    decision = decide(order, b.resolve(b.mined(b.transfer())), b.NOTHING_CLAIMED)

    paid, started = b.events_of(decision)
    assert isinstance(paid, PaymentVerified)
    assert isinstance(started, ProcessingStarted)
    assert (started.reason, started.notice) == ("notice", claim.notice)
    assert b.after(order, decision).claims == ()


def test_a_kept_claim_carries_its_endpoint_and_nonce_into_the_started_order() -> None:
    endpoint = b.content_id("endpoint")
    notice = b.notice(nonce="nonce-0000000001", endpoint=endpoint)
    order = b.obey(b.quoted_order(), AcceptNotice(notice, b.seen(ChainView.UNAVAILABLE), b.NOW))

    order = b.obey(order, b.resolve(b.mined(b.transfer())))

    assert order.delivery_endpoint_id == endpoint
    assert order.accepted is not None
    assert order.accepted.nonce == "nonce-0000000001"


@pytest.mark.parametrize("view", [ChainView.UNAVAILABLE, ChainView.SHALLOW])
def test_silence_leaves_a_claim_open_however_late_it_is(view: ChainView) -> None:
    finding = b.seen(view, safe_time=b.PAY_BY + 10**6)

    assert decide(with_claim(), b.resolve(finding), b.NOTHING_CLAIMED) == Decision()


def test_a_missing_receipt_is_absent_only_once_a_safe_block_is_past_pay_by() -> None:
    def resolved(safe_time: int) -> list[str]:
        finding = b.seen(ChainView.NOT_FOUND, safe_time=safe_time)
        return b.kinds_of(decide(with_claim(), b.resolve(finding), b.NOTHING_CLAIMED))

    assert resolved(0) == []
    assert resolved(b.PAY_BY) == []
    assert resolved(b.PAY_BY + 1) == ["payment_claim_closed"]


# What is at stake is the price, in however many transfers it comes


def test_the_parts_of_a_large_order_wait_for_a_safe_block_each() -> None:
    small, large = replace(PART, safe_above=b.PRICE), replace(PART, safe_above=b.PRICE - 1)
    safe = replace(large, finality="safe")
    order = b.quoted_order()

    for command in (b.accept, b.resolve, lambda f: RecordTransfers(f, None, b.NOW)):
        kept = with_claim() if command is b.resolve else order
        counted = [b.kinds_of(decide(kept, command(f), b.NOTHING_CLAIMED)) for f in (small, safe)]
        waits = b.kinds_of(decide(kept, command(large), b.NOTHING_CLAIMED))

        assert counted == [["payment_partial"]] * 2
        assert waits == (["payment_claimed"] if command is b.accept else [])


def test_a_large_order_whose_payment_moved_waits_for_a_safe_block_again() -> None:
    moved = replace(b.mined(b.transfer(fork=" other")), safe_above=b.PRICE - 1)

    order = b.obey(b.processing_order(), b.recheck(moved))
    assert order.paused

    order = b.obey(order, b.recheck(replace(moved, finality="safe")))
    assert not order.paused


@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        (b.seen(ChainView.REVERTED), "reverted"),
        (b.seen(ChainView.NOT_FOUND, safe_time=b.PAY_BY + 1), "absent"),
        (b.mined(), "not_matching"),
        (b.mined(b.transfer(sender=b.STRANGER.address)), "not_matching"),
    ],
)
def test_a_claim_is_closed_with_the_reason_that_the_chain_gives(
    finding: Finding, reason: Literal["reverted", "absent", "not_matching"]
) -> None:
    order = with_claim()

    decision = decide(order, b.resolve(finding), b.NOTHING_CLAIMED)

    assert b.events_of(decision) == [PaymentClaimClosed(tx_hash=b.tx("a"), reason=reason)]
    assert b.after(order, decision).claims == ()


def test_a_claim_of_a_late_transfer_is_answered_by_the_late_payment() -> None:
    order = with_claim("late")

    order = b.obey(order, b.resolve(b.mined(b.late_transfer())))

    assert (order.status, order.claims) == (Status.QUOTED, ())
    assert order.money.total(Bucket.LATE) == b.PRICE


def test_a_claim_whose_transfer_another_order_holds_does_not_match() -> None:
    taken = {b.transfer().key: b.OTHER_STREAM}

    decision = decide(with_claim(), b.resolve(b.mined(b.transfer())), taken)

    assert b.kinds_of(decision) == ["payment_claim_closed"]


def test_a_transaction_that_nobody_claimed_resolves_nothing() -> None:
    finding = b.mined(b.transfer(of="b"))

    assert decide(with_claim("a"), b.resolve(finding), b.NOTHING_CLAIMED) == Decision()


def test_the_claim_of_a_second_payment_becomes_an_overpayment() -> None:
    order = b.obey(with_claim("a"), b.accept(b.mined(b.transfer(of="b"))))

    decision = decide(order, b.resolve(b.mined(b.transfer(2, of="a"))), b.NOTHING_CLAIMED)

    assert b.events_of(decision) == [
        PaymentOverpaid(transfers=(b.transfer(2, of="a"),), overpaid=2)
    ]
    assert b.after(order, decision).claims == ()


# Refusals that the chain makes


def test_a_refusal_on_the_chains_word_is_recorded_once_per_text() -> None:
    order = b.quoted_order()
    first = accepted(order, b.mined())
    order = b.after(order, first)

    second = accepted(order, b.mined())

    [refused] = b.events_of(first)
    assert isinstance(refused, CommandRefused)
    assert (refused.command, refused.code) == ("accept_notice", "PAYMENT_NOT_VERIFIED")
    assert (second.drafts, type(second.error)) == ((), PaymentRefused)


def test_at_most_ten_refusals_of_an_order_are_recorded() -> None:
    order = b.quoted_order()
    for number in range(12):
        order = b.obey(order, b.accept(b.mined(of=f"wrong {number}")))

    assert len(order.refusals) == 10


@pytest.mark.parametrize(
    ("finding", "claimed", "reason"),
    [
        (b.seen(ChainView.REVERTED), {}, "reverted"),
        (b.mined(), {}, "no_transfer"),
        (b.mined(b.transfer(sender=b.STRANGER.address)), {}, "other_sender"),
        (b.mined(b.transfer()), {b.transfer().key: b.OTHER_STREAM}, "already_claimed"),
    ],
)
def test_a_refusal_names_its_reason(
    finding: Finding, claimed: dict[tuple[str, str, int], str], reason: str
) -> None:
    decision = decide(b.quoted_order(), b.accept(finding), claimed)

    assert decision.error is not None
    assert decision.error.details == {"reason": reason, "tx_hash": b.tx("a")}
    assert not decision.error.retryable


def test_a_reverted_transaction_closes_the_claim_that_named_it() -> None:
    order = with_claim()

    decision = accepted(order, b.seen(ChainView.REVERTED))

    assert b.kinds_of(decision) == ["payment_claim_closed", "command_refused"]
    assert b.after(order, decision).claims == ()


def test_one_transaction_pays_two_orders_only_with_two_transfers() -> None:
    first, second = b.transfer(ordinal=0), b.transfer(ordinal=4)
    taken = {first.key: b.OTHER_STREAM}

    decision = decide(b.quoted_order(), b.accept(b.mined(first, second)), taken)

    [paid, _] = b.events_of(decision)
    assert isinstance(paid, PaymentVerified)
    assert paid.transfers == (second,)


# Which transfers, and how much


def test_a_transfer_equal_to_the_price_is_preferred_to_earlier_ones() -> None:
    small, exact, large = b.transfer(1), b.transfer(ordinal=1), b.transfer(b.PRICE * 2, ordinal=2)

    [paid, _] = b.events_of(accepted(b.quoted_order(), b.mined(small, exact, large)))

    assert isinstance(paid, PaymentVerified)
    assert (paid.transfers, paid.overpaid) == ((exact,), 0)


def test_without_an_equal_one_transfers_count_in_ordinal_order_until_the_price_is_met() -> None:
    parts = [b.transfer(2_000_000, ordinal=n) for n in (5, 1, 9, 3)]

    chosen = choose(tuple(parts), b.PRICE)

    assert [t.ordinal for t in chosen] == [1, 3, 5]


def test_transfers_that_the_price_does_not_need_are_left_for_other_orders() -> None:
    parts = [b.transfer(3_000_000, ordinal=n) for n in range(4)]

    order = b.obey(b.quoted_order(), b.accept(b.mined(*parts)))

    assert len(order.money.placed) == 2
    assert order.money.received == 6_000_000


def test_partial_payments_add_up_over_transactions_until_the_price() -> None:
    order = b.quoted_order()

    first = accepted(order, b.mined(b.transfer(2_000_000, of="a")))
    order = b.after(order, first)
    second = accepted(order, b.mined(b.transfer(1_000_000, of="b")))
    order = b.after(order, second)

    assert b.events_of(first) == [
        PaymentPartial(transfers=(b.transfer(2_000_000, of="a"),), amount_due=3_000_000)
    ]
    assert first.error is not None
    assert first.error.code == "AMOUNT_MISMATCH"
    assert first.error.details == {"amount_due_micros": "3000000", "reason": "partial"}
    assert second.error is not None
    assert second.error.details == {"amount_due_micros": "2000000", "reason": "partial"}
    assert (order.status, order.money.total(Bucket.PENDING)) == (Status.QUOTED, 3_000_000)

    third = accepted(order, b.mined(b.transfer(2_000_000, of="c")))
    order = b.after(order, third)

    [paid, _] = b.events_of(third)
    assert isinstance(paid, PaymentVerified)
    assert (paid.total, paid.overpaid) == (b.PRICE, 0)
    assert paid.transfers == (b.transfer(2_000_000, of="c"),)
    assert order.money.total(Bucket.APPLIED) == b.PRICE
    assert order.money.total(Bucket.PENDING) == 0


def test_a_transfer_equal_to_what_is_still_due_is_preferred() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000, of="a"))))
    whole, rest = b.transfer(of="b"), b.transfer(3_000_000, of="b", ordinal=1)

    [paid, _] = b.events_of(accepted(order, b.mined(whole, rest)))

    assert isinstance(paid, PaymentVerified)
    assert (paid.transfers, paid.overpaid) == ((rest,), 0)


def test_more_than_the_price_is_accepted_and_named() -> None:
    decision = accepted(b.quoted_order(), b.mined(b.transfer(b.PRICE + 7)))

    [paid, _] = b.events_of(decision)
    assert isinstance(paid, PaymentVerified)
    assert (paid.total, paid.overpaid) == (b.PRICE + 7, 7)
    assert b.after(b.quoted_order(), decision).money.total(Bucket.APPLIED) == b.PRICE + 7


# Time


def test_lateness_is_judged_by_the_blocks_time_not_by_the_notices_arrival() -> None:
    on_time = b.transfer(time=b.PAY_BY)
    long_after = UnixMs((b.PAY_BY + 10**6) * 1000)

    decision = decide(
        b.quoted_order(), b.accept(b.mined(on_time), now=long_after), b.NOTHING_CLAIMED
    )

    assert b.kinds_of(decision) == ["paid", "processing"]


def test_a_transfer_one_second_after_pay_by_is_late_and_due_back() -> None:
    late = b.transfer(time=b.PAY_BY + 1)

    decision = accepted(b.quoted_order(), b.mined(late))

    assert b.events_of(decision) == [PaymentLate(transfers=(late,), refund_due=b.PRICE)]
    assert decision.error is not None
    assert decision.error.code == "PAYMENT_TIMEOUT"
    assert decision.error.details == {"reason": "payment_late"}


def test_an_expired_order_is_paid_by_a_transfer_in_time_that_is_proven_later() -> None:
    order = b.obey(b.expired_order(), b.accept(b.mined(b.transfer())))

    assert order.status is Status.PROCESSING


def test_a_quote_expires_only_after_pay_by_and_without_anything_open() -> None:
    quoted = b.quoted_order()

    for refused in (b.expire(block_time=b.PAY_BY), b.expire(candidate_transfers=True)):
        with pytest.raises(Rejected):
            decide(quoted, refused, b.NOTHING_CLAIMED)
    assert b.obey(quoted, b.expire()).status is Status.EXPIRED


def test_a_quote_with_a_partial_payment_expires_and_the_money_stays_visible() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))

    order = b.obey(order, b.expire())

    assert (order.status, order.money.held) == (Status.EXPIRED, 2_000_000)


@pytest.mark.parametrize("age_ms", [300_000, 0, -60_000])
def test_a_stamp_up_to_300_s_old_and_60_s_ahead_is_fresh(age_ms: int) -> None:
    notice = b.notice(stamp=b.NOW - age_ms)
    command = AcceptNotice(notice, b.mined(b.transfer()), b.NOW)

    assert decide(b.quoted_order(), command, b.NOTHING_CLAIMED).error is None


@pytest.mark.parametrize("age_ms", [300_001, -60_001])
def test_a_stamp_older_or_further_ahead_is_refused_whatever_the_chain_says(age_ms: int) -> None:
    notice = b.notice(stamp=b.NOW - age_ms)
    for finding in (b.mined(b.transfer()), b.seen(ChainView.UNAVAILABLE)):
        with pytest.raises(InvalidInput) as refused:
            decide(b.quoted_order(), AcceptNotice(notice, finding, b.NOW), b.NOTHING_CLAIMED)

        assert refused.value.code == "INVALID_TIMESTAMP"


# Nonces, repeats


def order_with_nonce() -> tuple[Order, Notice]:
    notice = b.notice(nonce="nonce-0000000001")
    command = AcceptNotice(notice, b.seen(ChainView.NOT_FOUND), b.NOW)
    return b.obey(b.quoted_order(), command), notice


def test_a_nonce_is_good_for_one_text_only() -> None:
    order, _ = order_with_nonce()
    other = b.notice("b", nonce="nonce-0000000001")

    with pytest.raises(Conflict) as refused:
        decide(order, AcceptNotice(other, b.mined(b.transfer(of="b")), b.NOW), b.NOTHING_CLAIMED)

    assert refused.value.code == "NONCE_REUSED"


def test_a_nonce_stays_used_after_its_claim_was_closed() -> None:
    order, _ = order_with_nonce()
    order = b.obey(order, b.resolve(b.seen(ChainView.REVERTED)))
    other = b.notice("b", nonce="nonce-0000000001")

    with pytest.raises(Conflict):
        decide(order, AcceptNotice(other, b.mined(b.transfer(of="b")), b.NOW), b.NOTHING_CLAIMED)


def test_a_kept_notice_that_is_sent_again_skips_freshness_and_nonce() -> None:
    order, notice = order_with_nonce()
    an_hour_later = UnixMs(b.NOW + 60 * MINUTE_MS)

    decision = decide(
        order, AcceptNotice(notice, b.mined(b.transfer()), an_hour_later), b.NOTHING_CLAIMED
    )

    assert b.kinds_of(decision) == ["paid", "processing"]


def test_a_notice_that_differs_from_the_kept_one_by_a_byte_is_judged_anew() -> None:
    order, notice = order_with_nonce()
    almost = b.notice(nonce="nonce-0000000001", words=" ")
    an_hour_later = UnixMs(b.NOW + 60 * MINUTE_MS)

    assert almost.client.text != notice.client.text
    with pytest.raises(InvalidInput):
        decide(order, AcceptNotice(almost, b.mined(), an_hour_later), b.NOTHING_CLAIMED)
    with pytest.raises(Conflict):
        decide(order, AcceptNotice(almost, b.mined(), b.NOW), b.NOTHING_CLAIMED)


# Whose payment


def test_a_notice_signed_by_somebody_else_is_refused_and_not_recorded() -> None:
    for finding in (b.mined(b.transfer()), b.seen(ChainView.UNAVAILABLE), b.mined()):
        with pytest.raises(Unauthorized):
            accepted(b.quoted_order(), finding, by=b.STRANGER)


def test_a_quote_without_a_wallet_is_bound_to_the_signer_that_paid() -> None:
    order = b.quoted_order(b.terms(b.NOBODY))

    order = b.obey(order, b.accept(b.mined(b.transfer())))

    assert (order.client, order.terms.client) == (b.CLIENT.account, b.NOBODY)
    with pytest.raises(Unauthorized):
        accepted(order, b.mined(b.transfer(of="b")), by=b.STRANGER)


def test_a_quote_without_a_wallet_is_not_bound_to_a_signer_that_did_not_send_the_money() -> None:
    order = b.quoted_order(b.terms(b.NOBODY))

    decision = accepted(order, b.mined(b.transfer()), by=b.STRANGER)

    assert b.kinds_of(decision) == ["command_refused"]
    assert b.after(order, decision).client == b.NOBODY


def test_a_claim_alone_does_not_bind_a_quote_without_a_wallet() -> None:
    order = with_claim("b", order=b.quoted_order(b.terms(b.NOBODY)), by=b.STRANGER)

    order = b.obey(order, b.accept(b.mined(b.transfer())))

    assert order.client == b.CLIENT.account


@pytest.mark.parametrize("act", [b.confirm(), b.dispute(), b.withdraw()])
def test_nobody_may_confirm_or_dispute_an_order_that_is_not_bound(act: object) -> None:
    order = b.quoted_order(b.terms(b.NOBODY))

    with pytest.raises(Unauthorized):
        decide(order, act, b.NOTHING_CLAIMED)  # type: ignore[arg-type]


# Claim keys


def test_the_commands_that_bring_transfers_name_their_claim_keys() -> None:
    first, second = b.transfer(), b.transfer(ordinal=7)
    finding = b.mined(first, second)

    for command in (
        b.accept(finding),
        b.resolve(finding),
        b.record(first, second),
        b.refund(first, second),
    ):
        assert transfers_of(command) == (first.key, second.key)
    for other in (b.hand_in(), b.recheck(finding)):
        assert transfers_of(other) == ()


# The chain looks again


def held_back(order: Order) -> Order:
    """Return the order after a reorganisation took its transaction `a` off the chain."""
    return b.obey(order, b.orphan())


@pytest.mark.parametrize("view", [ChainView.UNAVAILABLE, ChainView.NOT_FOUND])
def test_a_missing_receipt_alone_never_orphans_a_payment(view: ChainView) -> None:
    order = b.processing_order()

    for canonical in ({}, {100: b.block("100")}, {99: b.block("99 other")}):
        command = b.recheck(b.seen(view), canonical)

        assert decide(order, command, b.NOTHING_CLAIMED) == Decision()


def test_no_answer_orphans_nothing_even_beside_another_hash() -> None:
    command = b.recheck(b.seen(ChainView.UNAVAILABLE), {100: b.block("100 other")})

    assert decide(b.processing_order(), command, b.NOTHING_CLAIMED) == Decision()


def test_another_canonical_hash_at_the_height_orphans_the_payment_and_pauses_the_work() -> None:
    command = b.recheck(b.seen(ChainView.NOT_FOUND), {100: b.block("100 other")})

    decision = decide(b.processing_order(), command, b.NOTHING_CLAIMED)
    order = b.after(b.processing_order(), decision)

    assert b.kinds_of(decision) == ["payment_orphaned"]
    assert (order.status, order.paused) == (Status.PROCESSING, True)
    assert (order.money.received, order.money.total(Bucket.ORPHANED)) == (0, b.PRICE)


def test_an_orphaned_payment_is_not_orphaned_again() -> None:
    command = b.recheck(b.seen(ChainView.NOT_FOUND), {100: b.block("100 other")})

    assert decide(b.paused_order(), command, b.NOTHING_CLAIMED) == Decision()


def test_a_payment_that_moved_to_another_block_is_orphaned_and_restored_at_once() -> None:
    moved = b.transfer(number=103, fork=" other")

    decision = decide(b.processing_order(), b.recheck(b.mined(moved)), b.NOTHING_CLAIMED)
    order = b.after(b.processing_order(), decision)

    assert b.kinds_of(decision) == ["payment_orphaned", "payment_restored"]
    assert order.money.of(Bucket.APPLIED) == (moved,)
    assert not order.paused


def test_a_payment_that_moved_but_is_not_deep_enough_waits_until_it_is() -> None:
    moved = b.transfer(number=103, fork=" other")

    order = b.obey(b.processing_order(), b.recheck(b.seen(ChainView.SHALLOW, moved)))
    assert order.paused

    order = b.obey(order, b.recheck(b.mined(moved)))
    assert not order.paused


def test_the_same_transfers_mined_again_after_pay_by_resume_the_work() -> None:
    again = b.transfer(number=2_500, time=b.PAY_BY + 500)

    decision = decide(b.paused_order(), b.recheck(b.mined(again)), b.NOTHING_CLAIMED)
    order = b.after(b.paused_order(), decision)

    assert b.kinds_of(decision) == ["payment_restored"]
    assert (order.paused, order.money.received) == (False, b.PRICE)
    assert b.obey(order, b.hand_in()).status is Status.READY


@pytest.mark.parametrize(("amount", "paused"), [(b.PRICE - 1, True), (b.PRICE + 1, False)])
def test_a_transfer_mined_again_with_another_amount_counts_as_what_arrived(
    amount: int,
    paused: bool,  # noqa: FBT001 - a case
) -> None:
    again = b.transfer(amount, number=103, fork=" other")

    for order in (b.paused_order(), b.processing_order()):
        after = b.obey(order, b.recheck(b.mined(again)))

        assert (after.paused, after.money.received) == (paused, amount)
        assert after.money.of(Bucket.ORPHANED) == ()
        assert after.money.of(Bucket.APPLIED) == (again,)


def test_the_rest_of_a_transfer_mined_again_with_less_resumes_the_work() -> None:
    less = b.transfer(b.PRICE - 1, number=103, fork=" other")
    order = b.obey(b.paused_order(), b.recheck(b.mined(less)))

    order = b.obey(order, b.accept(b.mined(b.transfer(1, of="b", number=104))))

    assert (order.paused, order.money.received) == (False, b.PRICE)


def test_a_part_mined_again_with_another_amount_is_judged_as_a_new_one() -> None:
    order = held_back(b.obey(b.quoted_order(), b.record(b.transfer(2_000_000))))

    part = b.obey(order, b.recheck(b.mined(b.transfer(1_000_000, fork=" other"))))
    whole = b.obey(order, b.recheck(b.mined(b.transfer(fork=" other"))))

    assert (part.status, part.money.counted) == (Status.QUOTED, 1_000_000)
    assert (whole.status, whole.money.covered) == (Status.PAID, b.PRICE)


def test_another_amount_in_the_same_block_or_another_sender_is_not_restored() -> None:
    for changed in (
        b.transfer(b.PRICE - 1),
        b.transfer(sender=b.STRANGER.address),
        b.transfer(sender=b.STRANGER.address, fork=" other"),
    ):
        decision = decide(b.paused_order(), b.recheck(b.mined(changed)), b.NOTHING_CLAIMED)

        assert decision == Decision()


def test_new_transfers_of_the_client_after_pay_by_resume_a_paused_order() -> None:
    fresh = b.transfer(of="b", number=2_500, time=b.PAY_BY + 500)

    order = b.obey(b.paused_order(), b.accept(b.mined(fresh)))

    assert (order.paused, order.money.of(Bucket.APPLIED)) == (False, (fresh,))


def test_work_waits_while_the_payment_is_off_the_chain_but_downloads_do_not() -> None:
    for command in (b.hand_in(), b.start()):
        with pytest.raises(Rejected) as refused:
            decide(b.paused_order(), command, b.NOTHING_CLAIMED)
        assert refused.value.code == "PAYMENT_ORPHANED"

    ready = held_back(b.ready_order())
    assert ready.paused
    assert b.obey(ready, b.collect()).status is Status.DELIVERED


def test_losing_part_of_an_overpayment_does_not_pause_the_work() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(of="b"))))
    order = b.apply(
        order, PaymentOverpaid(transfers=(b.transfer(7, of="a"),), overpaid=7), at=b.NOW
    )

    order = held_back(order)

    assert (order.paused, order.money.received) == (False, b.PRICE)


def test_a_partial_payment_that_left_the_chain_counts_no_more() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))
    order = held_back(order)

    decision = accepted(order, b.mined(b.transfer(3_000_000, of="b")))

    assert b.kinds_of(decision) == ["payment_partial"]
    assert not order.paused


def test_a_payment_is_final_once_and_then_no_longer_watched() -> None:
    command = b.recheck(b.mined(b.transfer(), finality="finalized"))

    decision = decide(b.processing_order(), command, b.NOTHING_CLAIMED)
    order = b.after(b.processing_order(), decision)

    assert b.kinds_of(decision) == ["payment_finalized"]
    assert (order.finality, order.watched) == ("finalized", frozenset())
    assert decide(order, command, b.NOTHING_CLAIMED) == Decision()


@pytest.mark.parametrize("finality", ["sealed", "safe"])
def test_a_payment_that_is_not_final_yet_stays_watched(finality: Finality) -> None:
    command = b.recheck(b.mined(b.transfer(), finality=finality))

    assert decide(b.processing_order(), command, b.NOTHING_CLAIMED) == Decision()


def test_a_moved_payment_is_restored_first_and_final_only_at_the_next_look() -> None:
    command = b.recheck(b.mined(b.transfer(fork=" other"), finality="finalized"))

    first = decide(b.processing_order(), command, b.NOTHING_CLAIMED)
    order = b.after(b.processing_order(), first)

    assert b.kinds_of(first) == ["payment_orphaned", "payment_restored"]
    assert b.kinds_of(decide(order, command, b.NOTHING_CLAIMED)) == ["payment_finalized"]


def test_a_payment_is_declared_impossible_only_while_nothing_of_it_is_held() -> None:
    for order in (b.processing_order(), b.paid_order(), b.expired_order()):
        with pytest.raises(Rejected):
            decide(order, b.impossible(), b.NOTHING_CLAIMED)

    order = b.obey(b.paused_order(), b.impossible())
    assert (order.status, order.money.held) == (Status.REFUNDED, 0)


# Refunds


def test_a_partial_refund_is_recorded_and_changes_no_status() -> None:
    decision = decide(
        b.processing_order(), b.refund(b.refund_transfer(1_000_000)), b.NOTHING_CLAIMED
    )
    order = b.after(b.processing_order(), decision)

    assert b.kinds_of(decision) == ["refund_recorded"]
    assert (order.status, order.money.held) == (Status.PROCESSING, 4_000_000)


def test_an_order_is_refunded_once_all_that_was_received_went_back() -> None:
    order = b.obey(b.processing_order(), b.refund(b.refund_transfer(1_000_000, of="first")))

    decision = decide(order, b.refund(b.refund_transfer(4_000_000, of="second")), b.NOTHING_CLAIMED)

    recorded, refunded = b.events_of(decision)
    assert (recorded.kind, refunded.kind) == ("refund_recorded", "refunded")
    assert refunded.body() == {"reason": "returned", "amount": "5000000"}
    assert b.after(order, decision).money.held == 0


def test_the_price_alone_is_not_the_whole_refund_of_an_overpaid_order() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(b.PRICE + 1))))

    order = b.obey(order, b.refund(b.refund_transfer()))

    assert (order.status, order.money.held) == (Status.PROCESSING, 1)


def test_a_refund_counts_once_although_it_is_reported_twice() -> None:
    back = b.refund_transfer(1_000_000)
    order = b.obey(b.processing_order(), b.refund(back))

    assert decide(order, b.refund(back), own(back)) == Decision()


@pytest.mark.parametrize("view", [*b.UNPROVEN, ChainView.REVERTED])
def test_a_refund_that_the_chain_does_not_show_is_not_recorded(view: ChainView) -> None:
    finding = b.seen(view, b.refund_transfer(), of="refund")

    assert (
        decide(b.processing_order(), RecordRefund(finding, b.NOW), b.NOTHING_CLAIMED) == Decision()
    )


def test_money_sent_to_somebody_else_is_no_refund() -> None:
    elsewhere = b.transfer(sender=b.PAYMENT_ADDRESS, recipient=b.STRANGER.address, of="refund")

    assert decide(b.processing_order(), b.refund(elsewhere), b.NOTHING_CLAIMED) == Decision()


def test_a_late_payment_on_an_expired_quote_is_closed_by_its_refund() -> None:
    order = b.obey(b.expired_order(), b.accept(b.mined(b.late_transfer())))

    order = b.obey(order, b.refund(b.refund_transfer()))

    assert (order.status, order.money.received, order.money.held) == (
        Status.REFUNDED,
        b.PRICE,
        0,
    )


# The money of an order under any sequence of events


LEGS: Final = [
    b.transfer(amount, of=of, ordinal=ordinal, number=100 + ordinal)
    for of, ordinal, amount in [("a", 0, 1), ("a", 1, 20), ("b", 0, 300), ("c", 2, b.PRICE)]
]
some_legs = st.lists(st.sampled_from(LEGS), min_size=1, max_size=4, unique=True).map(tuple)


def _keys(transfers: tuple[Transfer, ...]) -> tuple[TransferKey, ...]:
    return tuple(
        TransferKey(chain=t.chain, tx_hash=t.tx_hash, ordinal=t.ordinal) for t in transfers
    )


def _paid(legs: tuple[Transfer, ...], total: int) -> Event:
    return PaymentVerified(
        transfers=legs,
        payer=b.CLIENT.account,
        price=b.PRICE,
        total=total,
        overpaid=0,
        finality="sealed",
    )


MONEY_EVENTS: Final[Mapping[str, Callable[[tuple[Transfer, ...], int], Event]]] = {
    "paid": _paid,
    "partial": lambda legs, _: PaymentPartial(transfers=legs, amount_due=1),
    "overpaid": lambda legs, total: PaymentOverpaid(transfers=legs, overpaid=total),
    "late": lambda legs, total: PaymentLate(transfers=legs, refund_due=total),
    "orphaned": lambda legs, _: PaymentOrphaned(transfers=_keys(legs), head_number=200),
    "restored": lambda legs, _: PaymentRestored(transfers=legs, finality="sealed"),
    "finalized": lambda legs, _: PaymentFinalized(transfers=_keys(legs), finality="finalized"),
    "refund": lambda legs, total: RefundRecorded(transfers=legs, amount=total),
}


def _money_event(kind: str, legs: tuple[Transfer, ...]) -> Event:
    return MONEY_EVENTS[kind](legs, sum(t.amount for t in legs))


money_events = st.builds(_money_event, st.sampled_from(sorted(MONEY_EVENTS)), some_legs)


def balanced(order: Order) -> bool:
    """Whether each transfer is in exactly one bucket, and the sums are those of the design."""
    money = order.money
    in_bucket = [t.key for bucket in Bucket for t in money.of(bucket)]
    on_the_chain = [Bucket.PENDING, Bucket.APPLIED, Bucket.LATE, Bucket.UNATTRIBUTED]
    return (
        sorted(in_bucket) == sorted(money.placed)
        and money.received == sum(money.total(bucket) for bucket in on_the_chain)
        and money.held == money.received - money.refunded
        and all(money.total(bucket) >= 0 for bucket in Bucket)
    )


@given(st.lists(money_events, max_size=12))
def test_any_sequence_of_money_events_leaves_each_transfer_in_exactly_one_bucket(
    events: list[Event],
) -> None:
    order = b.quoted_order()

    for event in events:
        order = b.apply(order, event)

        assert balanced(order)


@given(st.lists(money_events, max_size=12), some_legs)
def test_orphaned_money_is_not_received_and_comes_back_whole(
    events: list[Event], legs: tuple[Transfer, ...]
) -> None:
    order = b.apply(b.quoted_order(), PaymentOverpaid(transfers=tuple(LEGS), overpaid=0), *events)
    order = b.apply(order, PaymentRestored(transfers=tuple(LEGS), finality="sealed"))
    before = order.money

    gone = b.apply(order, PaymentOrphaned(transfers=_keys(legs), head_number=200))
    back = b.apply(gone, PaymentRestored(transfers=legs, finality="sealed"))

    assert gone.money.received == before.received - sum(t.amount for t in legs)
    assert back.money == before


some_payer = st.sampled_from([b.CLIENT, b.CLIENT, b.STRANGER])


class ChainOfOrder(RuleBasedStateMachine):
    """One order, one chain that moves its transfers about, and a claims table beside them."""

    quoted = b.terms()

    def __init__(self) -> None:
        super().__init__()
        self.order = b.quoted_order(self.quoted)
        self.claimed: dict[tuple[str, str, int], str] = {}
        self.mined: dict[str, tuple[Transfer, ...]] = {}
        self.refunds = 0

    def obey(self, command: OrderCommand) -> None:
        try:
            decision = decide(self.order, command, self.claimed)
        except LedgerError:
            return
        for event in b.events_of(decision):
            for transfer in getattr(event, "transfers", ()):
                self.claimed[transfer.key] = b.STREAM
            assert event.kind != "paid" or Status.PAID not in self.order.status_at
        self.order = b.after(self.order, decision)
        if "paid" in b.kinds_of(decision):
            assert self.order.money.held >= b.PRICE

    @rule(
        of=st.sampled_from("abcd"),
        amounts=st.lists(
            st.sampled_from([1, 2_000_000, 3_000_000, b.PRICE]), min_size=1, max_size=3
        ),
        late=st.booleans(),
        by=some_payer,
    )
    def mine(self, of: str, amounts: list[int], late: bool, by: b.Key) -> None:  # noqa: FBT001
        if of not in self.mined:
            time = b.PAY_BY + late
            self.mined[of] = tuple(
                b.transfer(amount, of=of, ordinal=ordinal, time=time, sender=by.address)
                for ordinal, amount in enumerate(amounts)
            )

    @rule(of=st.sampled_from("abcd"), view=st.sampled_from(list(ChainView)), by=some_payer)
    def notify(self, of: str, view: ChainView, by: b.Key) -> None:
        self.obey(b.accept(self.look(of, view), by=by))

    @rule(of=st.sampled_from("abcd"), by=some_payer)
    def watch(self, of: str, by: b.Key) -> None:
        if of in self.mined:
            self.obey(b.record(*self.mined[of], payer=by.address))

    @rule()
    def work(self) -> None:
        self.obey(b.start())

    @rule(of=st.sampled_from("abcd"), view=st.sampled_from(list(ChainView)))
    def resolve(self, of: str, view: ChainView) -> None:
        self.obey(b.resolve(self.look(of, view)))

    @rule(
        of=st.sampled_from("abcd"),
        fork=st.sampled_from(["", " x", " y"]),
        gone=st.booleans(),
        more=st.sampled_from([0, 0, 5]),
    )
    def reorganise(self, of: str, fork: str, gone: bool, more: int) -> None:  # noqa: FBT001
        # In the block that it was in before, a transaction moves what it moved before.
        forks = {t.block_hash for t in self.mined.get(of, ())}
        more = 0 if b.block(f"100{fork}") in forks else more
        legs = tuple(
            t.model_copy(update={"block_hash": b.block(f"100{fork}"), "amount": t.amount + more})
            for t in self.mined.get(of, ())
        )
        if gone or not legs:
            view, canonical = b.seen(ChainView.NOT_FOUND, of=of), {100: b.block("100 gone")}
            self.obey(b.recheck(view, canonical))
        else:
            self.mined[of] = legs
            self.obey(b.recheck(b.mined(*legs), {100: b.block(f"100{fork}")}))

    @rule(amount=st.sampled_from([1, 2_000_000, b.PRICE]))
    def give_back(self, amount: int) -> None:
        self.refunds += 1
        self.obey(b.refund(b.refund_transfer(amount, of=f"refund {self.refunds}")))

    @rule()
    def expire(self) -> None:
        self.obey(b.expire())

    def look(self, of: str, view: ChainView) -> Finding:
        legs = self.mined.get(of, ())
        if view is ChainView.MINED and legs:
            return b.mined(*legs)
        return b.seen(ChainView.NOT_FOUND if view is ChainView.MINED else view, of=of)

    @invariant()
    def money_is_balanced(self) -> None:
        assert balanced(self.order)

    @invariant()
    def the_order_holds_only_what_it_claimed(self) -> None:
        assert set(self.order.money.placed) <= set(self.claimed)

    @invariant()
    def a_paid_order_that_is_not_paused_has_its_price_on_the_chain(self) -> None:
        if Status.PAID in self.order.status_at and not self.order.paused:
            assert self.order.money.total(Bucket.APPLIED) >= b.PRICE

    @invariant()
    def nothing_of_a_paid_order_is_pending(self) -> None:
        assert Status.PAID not in self.order.status_at or not self.order.money.of(Bucket.PENDING)

    @invariant()
    def all_of_the_money_is_the_clients(self) -> None:
        senders = {p.transfer.sender for p in self.order.money.placed.values()}
        assert senders <= {address_of(self.order.client)}

    @invariant()
    def claims_are_few_and_of_transactions_that_do_not_count(self) -> None:
        assert len(self.order.claims) <= MAX_OPEN_CLAIMS
        for claim in self.order.claims:
            assert self.order.money.buckets_of(claim.tx_hash) <= {Bucket.ORPHANED}


class ChainOfOrderOfNobody(ChainOfOrder):
    """The same for a quote without a wallet: two parties send notices and money."""

    quoted = b.terms(b.NOBODY)


TestAnyHistoryOfAnOrder = ChainOfOrder.TestCase
TestAnyHistoryOfAnOrder.settings = settings(max_examples=60, deadline=None)
TestAnyHistoryOfAnOrderOfNobody = ChainOfOrderOfNobody.TestCase
TestAnyHistoryOfAnOrderOfNobody.settings = settings(max_examples=60, deadline=None)


# Repeats of a notice that was judged already


def test_repeating_a_partial_notice_still_says_how_much_is_due() -> None:
    part = b.transfer(2_000_000)
    order = b.obey(b.quoted_order(), b.accept(b.mined(part)))

    again = decide(order, b.accept(b.mined(part)), own(part))

    assert again.error is not None
    assert again.error.code == "AMOUNT_MISMATCH"
    assert again.error.details["amount_due_micros"] == "3000000"
    assert again.drafts == ()


@pytest.mark.parametrize("view", b.UNPROVEN)
def test_a_silent_chain_does_not_unlearn_a_part_or_a_late_payment(view: ChainView) -> None:
    part = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))
    late = b.obey(b.quoted_order(), b.accept(b.mined(b.late_transfer())))

    again = accepted(part, b.seen(view))
    too_late = accepted(late, b.seen(view, of="late"))

    assert (again.drafts, too_late.drafts) == ((), ())
    assert again.error is not None
    assert again.error.details == {"amount_due_micros": "3000000", "reason": "partial"}
    assert isinstance(too_late.error, PaymentTooLate)


@pytest.mark.parametrize(
    ("build", "error"), [(b.quoted_order, PaymentTooLate), (b.expired_order, Gone)]
)
def test_repeating_a_late_notice_still_says_that_it_was_late(
    build: Build, error: type[LedgerError]
) -> None:
    late = b.late_transfer()
    order = b.obey(build(), b.accept(b.mined(late)))

    again = decide(order, b.accept(b.mined(late)), own(late))

    assert type(again.error) is error
    assert again.drafts == ()


def test_a_notice_of_the_payment_that_was_mined_again_is_not_refused() -> None:
    again = b.transfer(fork=" other")

    decision = decide(b.paused_order(), b.accept(b.mined(again)), own(again))

    assert b.events_of(decision) == [PaymentRestored(transfers=(again,), finality="sealed")]
    assert decision.error is None
    assert not b.after(b.paused_order(), decision).paused


@pytest.mark.parametrize("view", b.UNPROVEN)
def test_a_notice_of_a_payment_that_left_the_chain_is_answered_as_pending(view: ChainView) -> None:
    decision = accepted(b.paused_order(), b.seen(view))

    assert decision.drafts == ()
    assert isinstance(decision.error, PaymentPending)


def test_a_notice_of_a_part_that_stayed_while_the_other_left_is_answered_as_pending() -> None:
    part, rest = b.transfer(2_000_000), b.transfer(3_000_000, of="b", number=101)
    order = b.obey(b.quoted_order(), b.accept(b.mined(part)))
    order = b.obey(b.obey(order, b.accept(b.mined(rest))), b.orphan("b", 101))

    decision = decide(order, b.accept(b.mined(part)), own(part, rest))

    assert order.paused
    assert decision.drafts == ()
    assert isinstance(decision.error, PaymentPending)


def test_a_notice_of_a_payment_that_was_mined_again_with_another_amount_counts_it() -> None:
    more, less = (b.transfer(b.PRICE + each, fork=" other") for each in (1, -1))

    paid = decide(b.paused_order(), b.accept(b.mined(more)), own(more))
    part = decide(b.paused_order(), b.accept(b.mined(less)), own(less))

    assert (b.kinds_of(paid), paid.error) == (["payment_restored"], None)
    assert b.kinds_of(part) == ["payment_restored"]
    assert part.error is not None
    assert part.error.details["amount_due_micros"] == "1"


def test_a_payment_that_was_mined_again_as_somebody_elses_is_refused() -> None:
    theirs = b.transfer(sender=b.STRANGER.address, fork=" other")

    decision = decide(b.paused_order(), b.accept(b.mined(theirs)), own(theirs))

    assert isinstance(decision.error, PaymentRefused)
    assert decision.error.details["reason"] == "other_sender"


def test_a_first_notice_after_a_worker_began_is_kept_with_its_endpoint() -> None:
    order = b.worked_on_order()
    notice = b.notice(nonce="nonce-0000000001", endpoint=b.content_id("endpoint"))
    command = AcceptNotice(notice, b.mined(b.transfer()), b.NOW)

    decision = decide(order, command, own(b.transfer()))
    order = b.after(order, decision)

    [draft] = decision.drafts
    assert draft.event == NoticeAccepted(
        notice=notice.client,
        tx_hash=b.tx("a"),
        nonce="nonce-0000000001",
        delivery_endpoint_id=b.content_id("endpoint"),
    )
    assert (draft.commit, decision.error) == (notice.commit, None)
    assert order.status is Status.PROCESSING
    assert (order.accepted, order.delivery_endpoint_id) == (draft.event, b.content_id("endpoint"))
    assert order.nonces == {"nonce-0000000001": notice.client.text}


@pytest.mark.parametrize(
    "acts",
    [
        (b.hand_in(),),
        (b.hand_in(), b.push()),
        (b.hand_in(), b.collect()),
        (b.fail(),),
        (b.hand_in(), b.confirm()),
        (b.dispute(),),
    ],
)
def test_a_first_notice_is_kept_in_every_status_after_paid_and_a_second_is_a_duplicate(
    acts: tuple[OrderCommand, ...],
) -> None:
    order = b.worked_on_order()
    for act in acts:
        order = b.obey(order, act)

    decision = accepted(order, b.mined(b.transfer()))
    after = b.after(order, decision)

    assert (b.kinds_of(decision), decision.error) == (["notice_accepted"], None)
    assert after.status is order.status
    with pytest.raises(Conflict):
        accepted(after, b.mined(b.transfer()))


def test_a_first_notice_while_the_payment_is_off_the_chain_is_kept_until_it_is_back() -> None:
    order = held_back(b.worked_on_order())
    first = accepted(order, b.seen(ChainView.NOT_FOUND))
    order = b.after(order, first)

    back = decide(order, b.recheck(b.mined(b.transfer(fork=" other"))), b.NOTHING_CLAIMED)
    order = b.after(order, back)

    assert (b.kinds_of(first), type(first.error)) == (["payment_claimed"], PaymentPending)
    assert b.kinds_of(back) == ["payment_restored", "notice_accepted"]
    assert (order.claims, order.paused) == ((), False)
    assert order.accepted is not None


def test_a_restoration_below_the_price_says_how_much_is_due() -> None:
    decision = accepted(b.paused_order(), b.mined(b.transfer(2_000_000, of="b")))

    assert b.kinds_of(decision) == ["payment_restored"]
    assert decision.error is not None
    assert decision.error.code == "AMOUNT_MISMATCH"
    assert decision.error.details["amount_due_micros"] == "3000000"


def test_a_claim_that_restores_a_payment_is_no_longer_open() -> None:
    order = with_claim("b", order=b.paused_order())

    order = b.obey(order, b.resolve(b.mined(b.transfer(of="b"))))

    assert (order.paused, order.claims) == (False, ())


def test_a_claim_on_a_paused_order_is_not_absent_because_pay_by_is_over() -> None:
    order = with_claim("b", order=b.paused_order())
    nothing = b.seen(ChainView.NOT_FOUND, of="b", safe_time=b.PAY_BY + 10**6)

    assert decide(order, b.resolve(nothing), b.NOTHING_CLAIMED) == Decision()


# Finality of what is not there


def test_a_transfer_that_the_final_receipt_does_not_show_is_not_final() -> None:
    other_log = b.transfer(ordinal=9, number=103, fork=" other")
    command = b.recheck(b.mined(other_log, finality="finalized"))

    decision = decide(b.processing_order(), command, b.NOTHING_CLAIMED)

    assert b.kinds_of(decision) == ["payment_orphaned"]


def test_an_orphaned_transfer_does_not_become_final() -> None:
    changed = b.transfer(sender=b.STRANGER.address, fork=" other")
    command = b.recheck(b.mined(changed, finality="finalized"))

    decision = decide(b.paused_order(), command, b.NOTHING_CLAIMED)

    assert decision == Decision()


def test_a_partial_payment_mined_again_after_the_order_was_paid_counts_as_applied() -> None:
    part = b.transfer(2_000_000)
    order = held_back(b.obey(b.quoted_order(), b.accept(b.mined(part))))
    order = b.obey(order, b.accept(b.mined(b.transfer(of="b"))))

    order = b.obey(order, b.recheck(b.mined(b.transfer(2_000_000, fork=" other"))))

    assert order.money.total(Bucket.PENDING) == 0
    assert order.money.total(Bucket.APPLIED) == b.PRICE + 2_000_000


# Refunds that are none, and money that went back


def test_a_refund_in_more_transfers_than_one_event_holds_takes_several() -> None:
    each = b.PRICE // 100
    back = [b.refund_transfer(each).model_copy(update={"ordinal": n}) for n in range(100)]

    decision = decide(b.processing_order(), b.refund(*back), b.NOTHING_CLAIMED)

    first, second, refunded = b.events_of(decision)
    assert isinstance(first, RefundRecorded)
    assert isinstance(second, RefundRecorded)
    assert (first.amount, second.amount) == (64 * each, 36 * each)
    assert refunded.kind == "refunded"
    assert b.after(b.processing_order(), decision).money.held == 0


def test_what_left_the_chain_or_is_final_is_named_in_as_many_events_as_it_takes() -> None:
    legs = [b.transfer(1 + n, ordinal=n) for n in range(70)]
    order = b.quoted_order()
    for part in (legs[:64], legs[64:]):
        order = b.obey(order, b.record(*part))

    final = decide(order, b.recheck(b.mined(*legs, finality="finalized")), b.NOTHING_CLAIMED)
    gone = decide(order, b.orphan(), b.NOTHING_CLAIMED)
    order = b.after(order, gone)
    while order.money.of(Bucket.ORPHANED):
        order = b.obey(order, b.recheck(b.mined(*legs)))

    assert b.kinds_of(final) == ["payment_finalized"] * 2
    assert b.kinds_of(gone) == ["payment_orphaned"] * 2
    assert order.money.total(Bucket.PENDING) == sum(t.amount for t in legs)


def test_money_sent_to_the_client_by_a_third_party_is_no_refund() -> None:
    gift = b.transfer(sender=b.STRANGER.address, recipient=b.CLIENT.address, of="refund")

    assert decide(b.processing_order(), b.refund(gift), b.NOTHING_CLAIMED) == Decision()


def test_a_part_that_went_back_does_not_count_towards_the_price() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))
    order = b.obey(order, b.refund(b.refund_transfer(2_000_000)))

    decision = accepted(order, b.mined(b.transfer(3_000_000, of="b")))

    [part] = b.events_of(decision)
    assert isinstance(part, PaymentPartial)
    assert part.amount_due == 2_000_000

    order = b.obey(b.after(order, decision), b.accept(b.mined(b.transfer(2_000_000, of="c"))))
    assert (order.status, order.money.held) == (Status.PROCESSING, b.PRICE)


def test_the_refund_of_a_late_payment_takes_nothing_from_a_part_that_was_in_time() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))
    order = b.obey(order, b.accept(b.mined(b.late_transfer())))
    order = b.obey(order, b.refund(b.refund_transfer()))

    order = b.obey(order, b.accept(b.mined(b.transfer(3_000_000, of="b"))))

    assert (order.status, order.money.held) == (Status.PROCESSING, b.PRICE)


def test_a_part_that_went_back_does_not_stand_in_for_a_payment_that_left_the_chain() -> None:
    order = b.obey(b.quoted_order(), b.accept(b.mined(b.transfer(2_000_000))))
    order = b.obey(order, b.refund(b.refund_transfer(2_000_000)))
    order = b.obey(order, b.accept(b.mined(b.transfer(of="b", number=101))))
    order = b.obey(order, b.orphan("b", 101))

    decision = accepted(order, b.mined(b.transfer(3_000_000, of="c")))

    assert decision.error is not None
    assert decision.error.details["amount_due_micros"] == "2000000"
    assert b.after(order, decision).paused


def test_a_refund_of_a_paid_order_does_not_pause_its_work() -> None:
    order = b.obey(b.processing_order(), b.refund(b.refund_transfer(1_000_000)))
    order = held_back(order)

    order = b.obey(order, b.recheck(b.mined(b.transfer(fork=" other"))))

    assert not order.paused


# Quotes without a wallet, beyond the plain payment


def test_parts_of_two_signers_do_not_add_up_to_the_payment_of_one() -> None:
    order = b.quoted_order(b.terms(b.NOBODY))
    order = b.obey(order, b.accept(b.mined(b.transfer(2_000_000))))
    rest = b.transfer(3_000_000, of="b", sender=b.STRANGER.address)

    with pytest.raises(Unauthorized):
        accepted(order, b.mined(rest), by=b.STRANGER)
    assert order.client == b.CLIENT.account
    for payer in (None, b.STRANGER.address):
        assert decide(order, b.record(rest, payer=payer), b.NOTHING_CLAIMED) == Decision()


def test_a_late_payment_of_a_quote_without_a_wallet_can_be_refunded_to_its_sender() -> None:
    order = b.obey(b.quoted_order(b.terms(b.NOBODY)), b.expire())
    order = b.obey(order, b.accept(b.mined(b.late_transfer())))

    order = b.obey(order, b.refund(b.refund_transfer()))

    assert order.client == b.CLIENT.account
    assert (order.status, order.money.held) == (Status.REFUNDED, 0)


def test_the_claim_of_a_signer_that_did_not_become_the_client_adds_no_money() -> None:
    order = with_claim("b", order=b.quoted_order(b.terms(b.NOBODY)), by=b.STRANGER)
    order = b.obey(order, b.accept(b.mined(b.transfer())))
    strangers = b.transfer(of="b", sender=b.STRANGER.address)

    decision = decide(order, b.resolve(b.mined(strangers)), b.NOTHING_CLAIMED)

    assert b.events_of(decision) == [PaymentClaimClosed(tx_hash=b.tx("b"), reason="not_matching")]


def test_a_transfer_counts_for_the_one_of_two_claims_whose_signer_sent_it() -> None:
    order = with_claim(order=b.quoted_order(b.terms(b.NOBODY)), by=b.STRANGER)
    order = with_claim(order=order)

    order = b.obey(order, b.resolve(b.mined(b.transfer())))

    assert (order.client, order.claims) == (b.CLIENT.account, ())
    assert order.accepted is not None
    assert order.accepted.notice is not None
    assert order.accepted.notice.signer == b.CLIENT.address


def test_the_smallest_part_binds_a_quote_without_a_wallet() -> None:
    order = b.quoted_order(b.terms(b.NOBODY))

    order = b.obey(order, b.record(b.transfer(1), payer=b.CLIENT.address))

    assert order.client == b.CLIENT.account


def test_a_watcher_that_names_no_payer_binds_nobody() -> None:
    order = b.quoted_order(b.terms(b.NOBODY))
    minted = b.transfer(sender=ZERO_ADDRESS)

    for found in (b.transfer(), minted):
        assert decide(order, b.record(found), b.NOTHING_CLAIMED) == Decision()


# Transfers that a watcher finds


@pytest.mark.parametrize(
    ("build", "found", "kinds"),
    [
        (b.quoted_order, b.transfer(), ["paid"]),
        (b.expired_order, b.transfer(), ["paid"]),
        (b.quoted_order, b.transfer(2_000_000), ["payment_partial"]),
        (b.quoted_order, b.late_transfer(), ["payment_late"]),
        (b.paid_order, b.transfer(of="b"), ["payment_overpaid"]),
        (b.confirmed_order, b.transfer(of="b"), ["payment_overpaid"]),
        (b.refunded_order, b.transfer(of="b"), ["payment_overpaid"]),
        (b.paused_order, b.transfer(of="b"), ["payment_restored"]),
        (b.paused_order, b.transfer(fork=" other"), ["payment_restored"]),
        (b.paid_order, b.transfer(), []),
        (b.quoted_order, b.transfer(sender=b.STRANGER.address), []),
    ],
)
def test_a_transfer_without_a_notice_counts_and_starts_nothing(
    build: Build, found: Transfer, kinds: list[str]
) -> None:
    decision = decide(build(), b.record(found), b.NOTHING_CLAIMED)

    assert (b.kinds_of(decision), decision.error) == (kinds, None)


def test_a_transfer_for_an_order_refunded_before_it_was_paid_is_due_back() -> None:
    order = b.obey(b.expired_order(), b.record(b.late_transfer()))
    order = b.obey(order, b.refund(b.refund_transfer()))

    decision = decide(order, b.record(b.transfer()), b.NOTHING_CLAIMED)

    assert order.status is Status.REFUNDED
    assert b.kinds_of(decision) == ["payment_late"]


@pytest.mark.parametrize("view", [*b.UNPROVEN, ChainView.REVERTED])
def test_a_transfer_that_the_chain_does_not_show_deep_enough_is_not_recorded(
    view: ChainView,
) -> None:
    command = RecordTransfers(b.seen(view, b.transfer()), None, b.NOW)

    assert decide(b.quoted_order(), command, b.NOTHING_CLAIMED) == Decision()


def test_a_transfer_that_another_order_holds_is_not_recorded() -> None:
    taken = {b.transfer().key: b.OTHER_STREAM}

    assert decide(b.quoted_order(), b.record(b.transfer()), taken) == Decision()


def test_a_found_transfer_takes_the_notice_that_was_kept_for_it_along() -> None:
    order = with_claim()
    [claim] = order.claims

    decision = decide(order, b.record(b.transfer()), b.NOTHING_CLAIMED)

    _, started = b.events_of(decision)
    assert isinstance(started, ProcessingStarted)
    assert started.notice == claim.notice


# Parts that were mined again before the order was paid


def test_a_part_that_moved_is_counted_once_in_its_new_block() -> None:
    order = b.obey(b.quoted_order(), b.record(b.transfer(2_000_000)))
    moved = b.transfer(2_000_000, fork=" other")

    decision = decide(order, b.recheck(b.mined(moved)), b.NOTHING_CLAIMED)

    assert b.kinds_of(decision) == ["payment_orphaned", "payment_partial"]
    assert b.after(order, decision).money.of(Bucket.PENDING) == (moved,)


def test_a_part_that_comes_back_after_the_rest_pays_the_order() -> None:
    order = held_back(b.obey(b.quoted_order(), b.record(b.transfer(2_000_000))))
    order = b.obey(order, b.record(b.transfer(3_000_000, of="b")))

    again = b.transfer(2_000_000, fork=" other")
    for command in (b.recheck(b.mined(again)), b.record(again)):
        paid = b.obey(order, command, own(again))

        assert paid.status is Status.PAID
        assert paid.money.total(Bucket.APPLIED) == b.PRICE


def test_a_part_that_comes_back_after_pay_by_is_late() -> None:
    order = held_back(b.obey(b.quoted_order(), b.record(b.transfer(2_000_000))))

    order = b.obey(order, b.recheck(b.mined(b.transfer(2_000_000, time=b.PAY_BY + 1))))

    assert order.money.total(Bucket.LATE) == 2_000_000


@pytest.mark.parametrize("view", [ChainView.MINED, ChainView.REVERTED])
def test_a_receipt_that_shows_the_payment_no_more_orphans_it(view: ChainView) -> None:
    command = b.recheck(b.seen(view))

    assert b.kinds_of(decide(b.processing_order(), command, b.NOTHING_CLAIMED)) == [
        "payment_orphaned"
    ]
