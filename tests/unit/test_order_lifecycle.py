"""What may follow what: all pairs of statuses against the lifecycle table, and its conditions."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Final, get_args

import pytest

from ledger.deal_events import OrderProposed
from ledger.decide import OrderCommand, decide
from ledger.errors import LedgerError, NotFound, Rejected
from ledger.event import Event
from ledger.order import NEXT, Order, Status
from ledger.order_events import DeliverableReady, OrderEvent, OrderQuoted
from ledger.values import UnixMs
from tests.unit import builders as b

S = Status

TABLE: Final[Mapping[Status | None, set[Status]]] = {
    None: {S.QUOTED},
    S.QUOTED: {S.PAID, S.EXPIRED},
    S.EXPIRED: {S.PAID, S.REFUNDED},
    S.PAID: {S.PROCESSING, S.REFUNDED, S.DISPUTED},
    S.PROCESSING: {S.READY, S.DELIVERY_FAILED, S.REFUNDED, S.DISPUTED},
    S.READY: {S.POSTED, S.DELIVERED, S.DELIVERY_FAILED, S.CONFIRMED, S.DISPUTED, S.REFUNDED},
    S.POSTED: {S.DELIVERED, S.CONFIRMED, S.DISPUTED, S.REFUNDED},
    S.DELIVERED: {S.CONFIRMED, S.DISPUTED, S.REFUNDED},
    S.DELIVERY_FAILED: {
        S.PROCESSING,
        S.POSTED,
        S.DELIVERED,
        S.CONFIRMED,
        S.DISPUTED,
        S.REFUNDED,
    },
    S.DISPUTED: {S.CONFIRMED, S.REFUNDED, S.READY},
    S.CONFIRMED: {S.REFUNDED},
    S.REFUNDED: set(),
}
"""The design's lifecycle table, written out a second time.

`quoted -> processing` is missing on purpose: it belongs to authorised marketplace payments.
"""

COMMANDS_TO: Final[Mapping[Status, tuple[OrderCommand, ...]]] = {
    S.QUOTED: (b.issue_quote(),),
    S.EXPIRED: (b.expire(),),
    S.PAID: (
        b.accept(b.mined(b.transfer(of="new"))),
        b.resolve(b.mined(b.transfer(of="new"))),
    ),
    S.PROCESSING: (b.start("worker"), b.start("retry")),
    S.READY: (b.hand_in("another deliverable"),),
    S.POSTED: (b.push("accepted"),),
    S.DELIVERED: (b.collect(),),
    S.DELIVERY_FAILED: (b.fail(), b.push("exhausted")),
    S.CONFIRMED: (b.confirm(),),
    S.DISPUTED: (b.dispute(words=" | once more"),),
    S.REFUNDED: (b.refund(b.refund_transfer(of="whole refund")), b.impossible()),
}
"""The commands that by their nature lead to a status."""

PAIRS: Final = [(first, second) for first in (None, *Status) for second in Status]
WITH_DELIVERABLE: Final = [
    b.ready_order,
    b.posted_order,
    b.delivered_order,
    b.failed_push_order,
    b.confirmed_order,
    b.disputed_order,
]
Build = Callable[[], Order]


def orders_in(status: Status | None) -> tuple[Order | None, ...]:
    return (None,) if status is None else b.ORDERS_IN[status]


def statuses_after(order: Order | None, command: OrderCommand) -> list[Status]:
    """Return the statuses that the command makes, in order; a refusal makes none."""
    try:
        decision = decide(order, command, b.NOTHING_CLAIMED)
    except LedgerError:
        return []
    return [Status(kind) for kind in b.kinds_of(decision) if kind in set(Status)]


def test_the_table_in_code_is_the_table_of_the_design() -> None:
    assert {status: set(following) for status, following in NEXT.items()} == TABLE


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_status_follows_another_exactly_where_the_table_allows_it(
    first: Status | None, second: Status
) -> None:
    followed = {
        statuses[0]
        for order in orders_in(first)
        for command in COMMANDS_TO[second]
        if (statuses := statuses_after(order, command))
    }

    assert (second in followed) is (second in TABLE[first])


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_step_of_a_decision_is_in_the_table_and_evolve_takes_it(
    first: Status | None, second: Status
) -> None:
    for order in orders_in(first):
        for command in COMMANDS_TO[second]:
            path = [first, *statuses_after(order, command)]

            assert all(after in TABLE[before] for before, after in pairwise(path))
            if len(path) > 1:
                assert b.obey(order, command).status is path[-1]


@pytest.mark.parametrize("status", list(Status))
def test_each_status_is_reached_by_decisions(status: Status) -> None:
    assert {order.status for order in b.ORDERS_IN[status]} == {status}
    assert all(status in order.status_at for order in b.ORDERS_IN[status])


def test_an_order_that_does_not_exist_takes_no_command_but_a_quote() -> None:
    for status in set(Status) - {S.QUOTED}:
        for command in COMMANDS_TO[status]:
            with pytest.raises(NotFound):
                decide(None, command, b.NOTHING_CLAIMED)


@pytest.mark.parametrize(
    ("first", "command"),
    [
        (S.QUOTED, b.start()),
        (S.QUOTED, b.hand_in()),
        (S.QUOTED, b.dispute()),
        (S.QUOTED, b.confirm()),
        (S.EXPIRED, b.start()),
        (S.EXPIRED, b.expire()),
        (S.PAID, b.fail()),
        (S.PAID, b.expire()),
        (S.PROCESSING, b.start()),
        (S.READY, b.fail()),
        (S.READY, b.hand_in()),
        (S.CONFIRMED, b.dispute()),
        (S.REFUNDED, b.dispute()),
        (S.REFUNDED, b.hand_in()),
        (S.REFUNDED, b.accept(b.mined(b.transfer(of="new")))),
    ],
)
def test_a_forbidden_command_is_refused_and_leaves_no_event(
    first: Status, command: OrderCommand
) -> None:
    # An exception carries no decision, so nothing can be appended from it.
    for order in b.ORDERS_IN[first]:
        before = repr(order)

        with pytest.raises(LedgerError):
            decide(order, command, b.NOTHING_CLAIMED)

        assert repr(order) == before


@pytest.mark.parametrize("build", [b.paid_order, b.processing_order])
def test_a_dispute_of_a_missing_delivery_is_refused_until_deliver_by_is_over(build: Build) -> None:
    at_the_deadline = UnixMs(b.DELIVER_BY * 1000)

    with pytest.raises(Rejected) as refused:
        decide(build(), b.dispute(now=at_the_deadline), b.NOTHING_CLAIMED)

    assert refused.value.code == "DELIVERY_NOT_DUE"
    assert b.obey(build(), b.dispute(now=b.AFTER_DELIVER_BY)).status is S.DISPUTED


@pytest.mark.parametrize(
    "build", [b.ready_order, b.posted_order, b.delivered_order, b.failed_handler_order]
)
def test_a_dispute_of_what_was_delivered_or_failed_need_not_wait(build: Build) -> None:
    assert b.obey(build(), b.dispute(now=b.NOW)).status is S.DISPUTED


def test_a_failed_handler_is_retried() -> None:
    order = b.obey(b.failed_handler_order(), b.start("retry"))

    assert order.status is S.PROCESSING


def test_a_failed_handler_is_not_started_as_if_for_the_first_time() -> None:
    with pytest.raises(Rejected):
        decide(b.failed_handler_order(), b.start("worker"), b.NOTHING_CLAIMED)


def test_a_failed_push_is_not_retried_as_work_because_a_deliverable_exists() -> None:
    with pytest.raises(Rejected):
        decide(b.failed_push_order(), b.start("retry"), b.NOTHING_CLAIMED)


@pytest.mark.parametrize("build", WITH_DELIVERABLE)
def test_a_second_deliverable_is_refused_in_every_status(build: Build) -> None:
    with pytest.raises(LedgerError):
        decide(build(), b.hand_in("another deliverable"), b.NOTHING_CLAIMED)


def test_a_disputed_order_becomes_ready_only_if_nothing_was_delivered_before() -> None:
    late = decide(b.disputed_undelivered_order(), b.hand_in(), b.NOTHING_CLAIMED)

    assert b.kinds_of(late) == ["ready"]
    assert statuses_after(b.disputed_order(), b.hand_in("another deliverable")) == []


def test_the_dispute_stays_open_beside_the_status_when_the_deliverable_comes_late() -> None:
    order = b.obey(b.disputed_undelivered_order(), b.hand_in())

    assert (order.status, order.dispute_open) == (S.READY, True)


def test_an_order_without_a_deliverable_cannot_be_confirmed_posted_or_collected() -> None:
    for build in (b.failed_handler_order, b.disputed_undelivered_order):
        for command in (b.confirm(), b.push(), b.collect()):
            with pytest.raises(LedgerError):
                decide(build(), command, b.NOTHING_CLAIMED)


@pytest.mark.parametrize("sample", b.ORDER_SAMPLES, ids=lambda e: e.kind)
@pytest.mark.parametrize("status", list(Status))
def test_evolve_takes_every_event_in_every_status(status: Status, sample: Event) -> None:
    for order in b.ORDERS_IN[status]:
        after = b.apply(order, sample)

        assert after.version == order.version + 1
        assert after.status == (sample.kind if sample.kind in set(Status) else status)


@pytest.mark.parametrize("sample", b.ORDER_SAMPLES, ids=lambda e: e.kind)
def test_evolve_takes_every_event_right_after_the_quote(sample: Event) -> None:
    assert b.apply(b.quoted_order(), sample, sample).version == 3


def test_the_samples_hold_every_event_class_of_an_order() -> None:
    assert {type(e) for e in b.ORDER_SAMPLES} == set(get_args(OrderEvent))


def test_the_status_times_are_those_of_the_events() -> None:
    order = b.apply(b.quoted_order(), b.SAMPLES["paid"], at=UnixMs(b.NOW + 1))
    order = b.apply(order, b.SAMPLES["processing"], at=UnixMs(b.NOW + 2))

    assert order.status_at == {
        S.QUOTED: b.QUOTED_AT,
        S.PAID: b.NOW + 1,
        S.PROCESSING: b.NOW + 2,
    }
    assert (order.created_at, order.updated_at) == (b.QUOTED_AT, b.NOW + 2)


def test_an_order_begins_with_its_quote_and_with_nothing_else() -> None:
    for sample in b.ORDER_SAMPLES:
        if isinstance(sample, OrderQuoted | OrderProposed):
            continue
        with pytest.raises(TypeError, match="begins with its quote"):
            b.apply(None, sample)


@pytest.mark.parametrize("sample", b.LOG_SAMPLES, ids=lambda e: e.kind)
def test_an_event_of_the_log_is_not_taken_for_one_of_an_order(sample: Event) -> None:
    with pytest.raises(TypeError, match="not an event of an order"):
        b.apply(b.quoted_order(), sample)


def test_the_deliverable_of_the_order_is_the_one_that_was_handed_in() -> None:
    order = b.ready_order()

    assert isinstance(order.deliverable, DeliverableReady)
    assert (order.deliverable.raw, order.content_held) == (b.RAW, True)


@pytest.mark.parametrize("sample", b.ORDER_SAMPLES, ids=lambda e: e.kind)
def test_an_evolved_order_has_exactly_the_fields_of_the_class(sample: Event) -> None:
    order = b.apply(b.quoted_order(), sample)

    assert set(vars(order)) == {field.name for field in fields(Order)}
