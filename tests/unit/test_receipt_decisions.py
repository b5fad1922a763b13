"""A party's word on an event: who may give it, once, and how many an order takes."""

from typing import Final

import pytest

from ledger.decide import decide
from ledger.decide_receipt import MAX_RECEIPTS
from ledger.decision import MAX_STAMP_AGE_MS, MAX_STAMP_SKEW_MS
from ledger.errors import Conflict, InvalidInput, NotFound, Unauthorized
from ledger.order import Order
from ledger.order_events import ReceiptRecorded
from ledger.values import UnixMs
from tests.unit import builders as b

ORDERS: Final = [order for orders in b.ORDERS_IN.values() for order in orders]


@pytest.mark.parametrize("order", ORDERS, ids=[f"{i}-{o.status}" for i, o in enumerate(ORDERS)])
def test_a_receipt_is_recorded_in_every_status_and_changes_none(order: Order) -> None:
    command = b.receipt(said="processed")
    [event] = b.events_of(decide(order, command, b.NOTHING_CLAIMED))

    assert event == ReceiptRecorded(
        position=9,
        leaf=command.leaf,
        sender="provider",
        said="processed",
        receiver=command.receiver,
    )
    after = b.apply(order, event)
    assert (after.status, after.money, after.dispute) == (order.status, order.money, order.dispute)
    assert after.receipts == {(command.leaf, "processed", b.CLIENT.address)}


def test_the_same_receipt_again_changes_nothing_however_old_its_text() -> None:
    order = b.obey(b.ready_order(), b.receipt())
    again = b.receipt(now=UnixMs(b.NOW + MAX_STAMP_AGE_MS + 1))

    assert decide(order, again, b.NOTHING_CLAIMED).drafts == ()
    assert b.kinds_of(decide(order, b.receipt(said="read"), b.NOTHING_CLAIMED)) == [
        "receipt_recorded"
    ]
    assert b.kinds_of(decide(order, b.receipt(of="another"), b.NOTHING_CLAIMED)) == [
        "receipt_recorded"
    ]


def test_on_the_clients_side_only_the_client_signs() -> None:
    with pytest.raises(Unauthorized):
        decide(b.ready_order(), b.receipt(by=b.STRANGER), b.NOTHING_CLAIMED)
    with pytest.raises(Unauthorized):
        decide(b.quoted_order(b.terms(b.NOBODY)), b.receipt(), b.NOTHING_CLAIMED)


@pytest.mark.parametrize("side", ["client", "provider"])
def test_nobody_gives_a_receipt_for_what_its_own_side_did(side: str) -> None:
    own = b.receipt(sender=side, side=side)  # type: ignore[arg-type]

    with pytest.raises(InvalidInput) as refused:
        decide(b.ready_order(), own, b.NOTHING_CLAIMED)

    assert refused.value.details == {"field": "event_id"}


def test_a_wallet_of_the_provider_takes_what_the_client_sent() -> None:
    command = b.receipt(by=b.STRANGER, sender="client", side="provider")

    assert b.kinds_of(decide(b.ready_order(), command, b.NOTHING_CLAIMED)) == ["receipt_recorded"]


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        (MAX_STAMP_AGE_MS, True),
        (MAX_STAMP_AGE_MS + 1, False),
        (-MAX_STAMP_SKEW_MS, True),
        (-MAX_STAMP_SKEW_MS - 1, False),
    ],
)
def test_a_fresh_receipt_is_signed_just_now(age: int, *, taken: bool) -> None:
    command = b.receipt(now=UnixMs(b.NOW + age))

    if taken:
        assert decide(b.ready_order(), command, b.NOTHING_CLAIMED).drafts
        return
    with pytest.raises(InvalidInput) as refused:
        decide(b.ready_order(), command, b.NOTHING_CLAIMED)
    assert refused.value.code == "INVALID_TIMESTAMP"


def test_an_order_takes_so_many_receipts_and_repeats_of_them() -> None:
    order = b.ready_order()
    for number in range(MAX_RECEIPTS):
        order = b.obey(order, b.receipt(of=f"entry {number}"))

    with pytest.raises(Conflict) as refused:
        decide(order, b.receipt(of="one more"), b.NOTHING_CLAIMED)

    assert refused.value.code == "TOO_MANY_RECEIPTS"
    assert decide(order, b.receipt(of="entry 7"), b.NOTHING_CLAIMED).drafts == ()


def test_there_is_no_receipt_without_an_order() -> None:
    with pytest.raises(NotFound):
        decide(None, b.receipt(), b.NOTHING_CLAIMED)
