"""What a bundle's verifier demands of the texts and rulings of an order, and of times in them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.decision import MAX_STAMP_AGE_MS, MAX_STAMP_SKEW_MS
from ledger.errors import InvalidInput
from ledger.event import Event
from ledger.evidence_verify.basics import Bad, duration, stamp_ms
from ledger.evidence_verify.rules import OrderState, fold_order
from ledger.evidence_verify.shapes import Entry
from ledger.evidence_verify.words import MAX_AGE_MS, MAX_AHEAD_MS
from ledger.order_events import (
    DeliveryConfirmed,
    DeliveryDisputed,
    DeliveryFailed,
    DisputeRuled,
    DisputeWithdrawn,
    ProcessingStarted,
)
from ledger.values import UnixMs, iso_of, parse_iso
from tests.unit import builders as b
from tests.unit.test_evidence import FixedStore

FAILED = (
    b.terms(),
    b.SAMPLES["paid"].model_copy(
        update={"transfers": (b.transfer(),), "total": b.PRICE, "overpaid": 0}
    ),
    ProcessingStarted(reason="worker"),
    DeliveryFailed(reason="handler_failed", attempts=1),
)
"""The work failed, so the client may complain, and again about what comes after all."""


def at(offset_ms: int = 0) -> str:
    return iso_of(UnixMs(b.NOW + offset_ms))


def disputed(reason: str = "other", stamp: str = "") -> DeliveryDisputed:
    text = (
        f"Dispute delivery: {b.ORDER_ID} | Reason: {reason} | Hash: none | Statement: none"
        f" | Timestamp: {stamp or at()}"
    )
    return DeliveryDisputed(client=b.CLIENT.text(text), reason=reason)  # type: ignore[arg-type]


def withdrawn(stamp: str = "") -> DisputeWithdrawn:
    text = f"Withdraw dispute: {b.ORDER_ID} | Timestamp: {stamp or at()}"
    return DisputeWithdrawn(client=b.CLIENT.text(text))


def ruled(outcome: str, amount: int, stamp: str = "") -> DisputeRuled:
    text = (
        f"Rule dispute: {b.ORDER_ID} | Outcome: {outcome} | Amount: {amount}"
        f" | Timestamp: {stamp or at()}"
    )
    return DisputeRuled(arbiter=b.ARBITER.text(text), outcome=outcome, amount=amount)  # type: ignore[arg-type]


def received(stamp: str = "") -> DeliveryConfirmed:
    text = f"Confirm delivery: {b.ORDER_ID} | Timestamp: {stamp or at()}"
    return DeliveryConfirmed(client=b.CLIENT.text(text), binds="order_only")


def folded(*events: Event) -> OrderState:
    rows = FixedStore((*FAILED, *events)).read_stream(b.STREAM)
    return fold_order([Entry(raw, position - 1) for position, raw in rows])


@pytest.mark.parametrize("ending", [withdrawn(), ruled("client", b.PRICE)])
def test_an_old_text_ends_no_later_dispute(ending: Event) -> None:
    again = (disputed(), ending, b.SAMPLES["ready"], disputed("wrong_content"))

    assert folded(*again).dispute_open
    with pytest.raises(Bad, match="earlier event of the order"):
        folded(*again, ending)
    assert not folded(*again, withdrawn(at(1))).dispute_open


def test_a_dispute_is_opened_by_a_new_text() -> None:
    with pytest.raises(Bad, match="earlier event of the order"):
        folded(disputed(), withdrawn(), b.SAMPLES["ready"], disputed())


def stories(stamp: str) -> list[Sequence[Event]]:
    """Return one order for each text that is of its event's time, said at this time."""
    return [
        (disputed(stamp=stamp),),
        (disputed(), withdrawn(stamp)),
        (disputed(), ruled("provider", 0, stamp)),
        (disputed(), b.SAMPLES["ready"], received(stamp)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_text_was_signed_when_its_event_says(number: int) -> None:
    for offset_ms in (MAX_AHEAD_MS, 0, -MAX_AGE_MS):
        folded(*stories(at(offset_ms))[number])
    for offset_ms in (MAX_AHEAD_MS + 1, -MAX_AGE_MS - 1):
        with pytest.raises(Bad, match="at another time"):
            folded(*stories(at(offset_ms))[number])
    with pytest.raises(Bad, match="names no"):
        folded(*stories("2026-02-30T12:00:00Z")[number])


def test_no_text_that_the_ledger_takes_is_too_old_for_the_verifier() -> None:
    assert MAX_AHEAD_MS >= MAX_STAMP_SKEW_MS
    assert MAX_AGE_MS > MAX_STAMP_AGE_MS


@pytest.mark.parametrize(
    ("outcome", "amount", "fits"),
    [
        ("client", b.PRICE, True),
        ("client", b.PRICE - 1, False),
        ("client", 0, False),
        ("provider", 0, True),
        ("provider", b.PRICE, False),
        ("split", 1, True),
        ("split", 0, False),
        ("split", b.PRICE, False),
    ],
)
def test_the_amount_of_a_ruling_fits_its_outcome(outcome: str, amount: int, *, fits: bool) -> None:
    if fits:
        assert not folded(disputed(), ruled(outcome, amount)).dispute_open
        return
    with pytest.raises(Bad, match=f"a ruling for {outcome} cannot return"):
        folded(disputed(), ruled(outcome, amount))


STAMPS = st.one_of(
    st.from_regex(r"\A\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z"),
    st.text("0123456789-:.TZ+", min_size=19, max_size=40),
)


@given(STAMPS)
def test_a_time_is_read_as_by_the_ledger(text: str) -> None:
    try:
        expected = parse_iso(text)
    except InvalidInput:
        with pytest.raises(Bad):
            stamp_ms(text)
        return
    assert stamp_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-01-01T12:00:00Z", 1_767_268_800_000),
        ("2026-01-01T12:00:00.5Z", 1_767_268_800_500),
        ("2026-01-01T12:00:00.123456789+00:00", 1_767_268_800_123),
        ("2026-01-01T17:30:00+05:30", 1_767_268_800_000),
        ("2026-01-01T06:59:59.999-05:00", 1_767_268_799_999),
    ],
)
def test_every_form_of_a_time_is_known(text: str, said: int) -> None:
    assert stamp_ms(text) == parse_iso(text) == said


def test_a_length_of_time_is_said_as_people_say_it() -> None:
    lengths = (0, 1, 59, 60, 3600, 5400, 86_400, 259_200, 259_201)

    assert [duration(each) for each in lengths] == [
        "0 seconds",
        "1 second",
        "59 seconds",
        "1 minute (60 seconds)",
        "1 hour (3600 seconds)",
        "90 minutes (5400 seconds)",
        "1 day (86400 seconds)",
        "3 days (259200 seconds)",
        "259201 seconds",
    ]
