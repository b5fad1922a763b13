"""The provider's side: taking work, handing in, pushing, downloads, erasure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest

from ledger.decide import OrderCommand, decide
from ledger.decision import Decision
from ledger.errors import Conflict, Gone, LedgerError, Rejected
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
from tests.unit import builders as b

Build = Callable[[], Order]


def decided(order: Order, command: OrderCommand) -> Decision:
    return decide(order, command, b.NOTHING_CLAIMED)


# Work


def test_a_worker_takes_a_paid_order_without_a_notice() -> None:
    decision = decided(b.paid_order(), b.start("worker"))

    assert b.events_of(decision) == [ProcessingStarted(reason="worker")]
    assert b.after(b.paid_order(), decision).accepted is None


def test_a_retry_keeps_the_notice_and_the_endpoint_of_the_first_start() -> None:
    failed = replace(b.failed_handler_order(), delivery_endpoint_id=b.content_id("endpoint"))

    order = b.obey(failed, b.start("retry"))

    assert order.accepted == failed.accepted
    assert order.accepted is not None
    assert order.delivery_endpoint_id == b.content_id("endpoint")


def test_work_that_never_failed_is_not_retried() -> None:
    with pytest.raises(Rejected):
        decided(b.paid_order(), b.start("retry"))


@pytest.mark.parametrize(
    "build", [b.quoted_order, b.expired_order, b.processing_order, b.ready_order, b.refunded_order]
)
def test_work_begins_only_on_a_paid_or_failed_order(build: Build) -> None:
    for command in (b.start("worker"), b.start("retry")):
        with pytest.raises(Rejected):
            decided(build(), command)


@pytest.mark.parametrize(
    "build", [b.quoted_order, b.paid_order, b.ready_order, b.failed_handler_order]
)
def test_a_handler_fails_only_where_one_runs(build: Build) -> None:
    with pytest.raises(Rejected):
        decided(build(), b.fail())


def test_a_long_failure_is_cut_to_what_an_event_holds_and_an_empty_one_is_left_out() -> None:
    [long] = b.events_of(decided(b.processing_order(), b.fail("x" * 1_000)))
    [empty] = b.events_of(decided(b.processing_order(), b.fail("")))

    assert long == DeliveryFailed(reason="handler_failed", attempts=3, detail="x" * 200)
    assert empty == DeliveryFailed(reason="handler_failed", attempts=3)


# Handing in


@pytest.mark.parametrize(
    ("build", "kinds"),
    [
        (b.paid_order, ["processing", "ready"]),
        (b.processing_order, ["ready"]),
        (b.failed_handler_order, ["processing", "ready"]),
        (b.disputed_undelivered_order, ["ready"]),
    ],
)
def test_handing_in_makes_the_order_ready_in_one_command(build: Build, kinds: list[str]) -> None:
    decision = decided(build(), b.hand_in())

    assert b.kinds_of(decision) == kinds
    assert b.after(build(), decision).status is Status.READY


def test_handing_in_after_a_failure_is_a_retry_and_before_any_start_a_workers_act() -> None:
    retried, _ready = b.events_of(decided(b.failed_handler_order(), b.hand_in()))
    taken, _ready = b.events_of(decided(b.paid_order(), b.hand_in()))

    assert (retried, taken) == (
        ProcessingStarted(reason="retry"),
        ProcessingStarted(reason="worker"),
    )


def test_the_deliverable_is_recorded_by_its_digests_and_never_by_its_bytes() -> None:
    [ready] = b.events_of(decided(b.processing_order(), b.hand_in()))

    assert ready == DeliverableReady(
        content_id=b.content_id("deliverable"),
        raw=b.RAW,
        json_digest=b.JSON_DIGEST,
        size_bytes=15,
        format="text",
        content_type="text/plain",
    )


@pytest.mark.parametrize("build", [b.quoted_order, b.expired_order, b.refunded_order])
def test_nothing_is_handed_in_for_an_order_that_is_not_paid(build: Build) -> None:
    with pytest.raises(Rejected):
        decided(build(), b.hand_in())


def test_a_deliverable_stays_the_only_one_even_after_it_was_erased() -> None:
    order = b.obey(b.ready_order(), b.erase())

    with pytest.raises(Conflict):
        decided(order, b.hand_in("another"))


# Pushing


def test_an_accepted_push_to_the_clients_endpoint_is_posted() -> None:
    [posted] = b.events_of(decided(b.ready_order(), b.push("accepted", status=202)))

    assert posted == DeliverablePosted(attempt=1, content_hash=b.RAW, response_status=202)


@pytest.mark.parametrize("outcome", ["refused", "unreachable", "blocked"])
def test_a_push_that_will_be_tried_again_changes_no_status(outcome: str) -> None:
    order = b.obey(b.ready_order(), b.push(outcome))  # type: ignore[arg-type]

    assert (order.status, order.push_attempts) == (Status.READY, 1)


def test_attempts_are_counted_over_every_outcome() -> None:
    order = b.obey(b.ready_order(), b.push("unreachable"))
    order = b.obey(order, b.push("refused", status=500))

    [posted] = b.events_of(decided(order, b.push()))

    assert isinstance(posted, DeliverablePosted)
    assert posted.attempt == 3


def test_an_exhausted_push_fails_the_delivery_and_keeps_the_content() -> None:
    decision = decided(b.ready_order(), b.push("exhausted"))
    order = b.after(b.ready_order(), decision)

    assert b.events_of(decision) == [DeliveryFailed(reason="push_exhausted", attempts=1)]
    assert (order.status, order.content_held) == (Status.DELIVERY_FAILED, True)


def test_a_push_accepted_after_all_turns_a_failed_delivery_into_posted() -> None:
    assert b.obey(b.failed_push_order(), b.push()).status is Status.POSTED


@pytest.mark.parametrize(
    "build",
    [b.posted_order, b.delivered_order, b.confirmed_order, b.disputed_order],
)
@pytest.mark.parametrize("outcome", ["accepted", "exhausted"])
def test_a_push_outcome_that_changes_no_status_is_still_recorded(
    build: Build, outcome: str
) -> None:
    order = build()

    decision = decided(order, b.push(outcome))  # type: ignore[arg-type]

    assert b.kinds_of(decision) == ["push_attempted"]
    assert b.after(order, decision).status is order.status


@pytest.mark.parametrize("outcome", ["accepted", "exhausted"])
def test_a_push_to_the_contact_endpoint_is_best_effort_and_changes_no_status(outcome: str) -> None:
    command = b.push(outcome, target="contact_endpoint")  # type: ignore[arg-type]

    [attempt] = b.events_of(decided(b.ready_order(), command))

    assert isinstance(attempt, PushAttempted)
    assert (attempt.target, attempt.outcome) == ("contact_endpoint", outcome)


@pytest.mark.parametrize("build", [b.paid_order, b.processing_order, b.failed_handler_order])
def test_there_is_no_push_without_a_deliverable(build: Build) -> None:
    for outcome in ("accepted", "refused", "exhausted"):
        with pytest.raises(Rejected):
            decided(build(), b.push(outcome))


def test_an_erased_deliverable_was_still_posted_if_its_push_ended_later() -> None:
    order = b.obey(b.ready_order(), b.erase())

    assert b.obey(order, b.push()).status is Status.POSTED


# Downloads


@pytest.mark.parametrize("build", [b.ready_order, b.posted_order, b.failed_push_order])
@pytest.mark.parametrize("by", ["bearer", "party"])
def test_the_first_whole_download_is_recorded_with_who_asked(
    build: Build, by: Literal["bearer", "party"]
) -> None:
    decision = decided(build(), b.collect(by))

    assert b.events_of(decision) == [DeliverableCollected(by=by, content_hash=b.RAW)]
    assert b.after(build(), decision).status is Status.DELIVERED


def test_later_downloads_record_nothing() -> None:
    for order in (b.delivered_order(), b.confirmed_order(), b.disputed_order()):
        assert decided(order, b.collect("party")) == Decision()


@pytest.mark.parametrize("commands", [[b.confirm()], [b.dispute()]], ids=["confirmed", "disputed"])
def test_a_first_download_where_the_status_must_stay_is_noted_once(
    commands: list[OrderCommand],
) -> None:
    order = b.posted_order()
    for command in commands:
        order = b.obey(order, command)

    decision = decided(order, b.collect())
    after = b.after(order, decision)

    assert b.events_of(decision) == [DownloadNoted(by="bearer", content_hash=b.RAW)]
    assert after.status is order.status
    assert decided(after, b.collect()) == Decision()


@pytest.mark.parametrize(
    "build", [b.quoted_order, b.paid_order, b.processing_order, b.failed_handler_order]
)
def test_there_is_no_download_before_there_is_content(build: Build) -> None:
    with pytest.raises(LedgerError):
        decided(build(), b.collect())


def test_erased_content_is_gone_for_a_first_download() -> None:
    order = b.obey(b.ready_order(), b.erase())

    with pytest.raises(Gone):
        decided(order, b.collect())


# Erasure


def test_an_erasure_names_only_content_that_was_not_erased_before() -> None:
    order = b.obey(b.delivered_order(), b.erase("description"))

    decision = decided(order, b.erase("description", "deliverable"))

    assert b.events_of(decision) == [
        ContentErased(content_ids=(b.content_id("deliverable"),), reason="request")
    ]
    assert not b.after(order, decision).content_held


def test_an_erasure_of_nothing_new_records_nothing() -> None:
    order = b.obey(b.delivered_order(), b.erase())

    assert decided(order, b.erase()) == Decision()


def test_erasing_something_else_leaves_the_deliverable_held() -> None:
    assert b.obey(b.delivered_order(), b.erase("description")).content_held


@pytest.mark.parametrize("build", [b.disputed_order, b.disputed_undelivered_order])
def test_an_open_dispute_holds_the_content(build: Build) -> None:
    with pytest.raises(Rejected) as refused:
        decided(build(), b.erase())

    assert refused.value.code == "DISPUTE_HOLD"


def test_a_dispute_that_is_over_holds_nothing() -> None:
    order = b.obey(b.disputed_order(), b.withdraw())

    assert b.kinds_of(decided(order, b.erase())) == ["content_erased"]


WORKING = (Status.QUOTED, Status.PAID, Status.PROCESSING)


@pytest.mark.parametrize("status", WORKING)
def test_what_the_work_needs_is_not_erased(status: Status) -> None:
    for order in b.ORDERS_IN[status]:
        with pytest.raises(Rejected):
            decided(order, b.erase("description"))


@pytest.mark.parametrize("status", [status for status in Status if status not in WORKING])
def test_content_can_be_erased_in_every_other_status_without_an_open_dispute(
    status: Status,
) -> None:
    for order in b.ORDERS_IN[status]:
        if order.dispute_open:
            continue
        if status is Status.DELIVERY_FAILED and order.deliverable is None:
            with pytest.raises(Rejected):  # it may be begun again
                decided(order, b.erase("description"))
            continue
        assert b.kinds_of(decided(order, b.erase("description"))) == ["content_erased"]
        assert b.obey(order, b.erase("description")).status is status
