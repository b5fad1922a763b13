"""Which order a transfer is for, and how far the chain counts as read."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest

from ledger.chain import Inspection
from ledger.chain_answers import Block
from ledger.chain_quorum import SETTLE_BLOCKS, Tips, agreed_blocks, agreed_word, reached
from ledger.chain_scan import Glimpse, Span, Swept
from ledger.chain_transfers import Way
from ledger.decide import decide
from ledger.entry import Beacon
from ledger.errors import ChainUnavailable
from ledger.event import Transfer
from ledger.evolve import evolve
from ledger.finding import ChainView, Finding
from ledger.matching import (
    CLOCK_SKEW_S,
    Match,
    Unpaid,
    heir,
    match,
    match_refund,
    nonce_of,
    order_named,
    unpaid,
)
from ledger.order import Order
from ledger.scan import WALK_BACK_BLOCKS, Place, Scan
from ledger.values import OrderId
from tests.unit import builders as b

MINED_AT = b.NOON + 60


def lacking(order_id: str = "one", due: int = b.PRICE, **changes: object) -> Unpaid:
    values: dict[str, object] = {
        "order_id": order_id,
        "due": due,
        "since": b.NOON,
        "pay_by": b.PAY_BY,
        "open": True,
    }
    return Unpaid(**{**values, **changes})  # type: ignore[arg-type]


def match_at(time: int, orders: list[Unpaid], *, first_block: int = 100) -> Match:
    """Match a transfer of the price in block 100."""
    return match(b.transfer(time=time), orders, first_block=first_block)


def test_the_only_order_that_lacks_the_amount_is_the_one() -> None:
    orders = [lacking("one", b.PRICE), lacking("two", b.PRICE + 1)]

    assert match_at(MINED_AT, orders) == Match("one")


def test_of_two_orders_none_is_guessed() -> None:
    assert match_at(MINED_AT, [lacking("one"), lacking("two")]) == Match(None, waits=True)


def test_of_an_order_in_time_and_one_too_late_none_is_guessed() -> None:
    ended = lacking("one", pay_by=MINED_AT - 1)

    assert match_at(MINED_AT, [ended, lacking("two")]) == Match(None, waits=True)
    assert match_at(MINED_AT, [ended]) == Match("one")


def test_what_was_mined_up_to_the_newest_block_of_a_quote_is_not_for_it() -> None:
    known, newer = lacking(not_before=100), lacking(not_before=99)

    assert match_at(MINED_AT, [known]) == Match(None)
    assert match_at(MINED_AT, [newer]) == Match("one")
    # A reorganisation moves it: it is no newer for that.
    assert match_at(MINED_AT, [newer], first_block=99) == Match(None)


def test_blocks_say_which_came_first_and_clocks_only_within_a_minute() -> None:
    ahead = MINED_AT + CLOCK_SKEW_S

    assert match_at(MINED_AT, [lacking(since=ahead, not_before=99)]) == Match("one")
    assert match_at(MINED_AT, [lacking(since=ahead + 1, not_before=99)]) == Match(None)


def test_without_a_block_to_go_by_a_quote_in_doubt_gets_nothing() -> None:
    assert match_at(MINED_AT, [lacking(since=MINED_AT)]) == Match("one")
    assert match_at(MINED_AT, [lacking(since=MINED_AT + 1)]) == Match(None)


def test_a_quote_remembers_the_newest_block_when_it_was_made() -> None:
    beacon = Beacon(chain=b.CHAIN, number=77, hash=b.block("77"))
    quote = replace(b.issue_quote(), beacon=beacon)
    [draft] = decide(None, quote, b.NOTHING_CLAIMED).drafts

    order = evolve(None, replace(b.signed(draft.event), beacon=draft.beacon))

    assert order.not_before == 77
    assert (missing := unpaid(order)) is not None
    assert missing.not_before == 77
    assert b.quoted_order().not_before is None


def test_what_fits_only_ended_quotes_does_not_wait_for_a_notice() -> None:
    ended = [lacking(each, open=False, pay_by=MINED_AT - 1) for each in ("one", "two")]

    assert match_at(MINED_AT, ended) == Match(None, waits=False)


def test_an_order_whose_payment_left_the_chain_lacks_its_price_without_end() -> None:
    missing = unpaid(b.paused_order())

    assert missing is not None
    assert (missing.due, missing.pay_by) == (b.PRICE, None)


def test_a_paid_order_lacks_nothing_and_a_quoted_one_its_price() -> None:
    quoted, expired = unpaid(b.quoted_order()), unpaid(b.expired_order())

    assert unpaid(b.paid_order()) is None
    assert quoted is not None
    assert (quoted.due, quoted.pay_by, quoted.open) == (b.PRICE, b.PAY_BY, True)
    assert expired is not None
    assert not expired.open


# A transaction that was mined again as something else


GONE = b.transfer()
"""What the order lost; the transaction moves other sums or at other places now."""


def test_what_a_transaction_moves_now_is_for_the_order_that_lost_it() -> None:
    now = b.transfer(7, ordinal=3, fork=" other")
    lost = lacking("one", lost=frozenset({GONE.key}))

    assert heir(now, [now], [now], [lost, lacking("two")]) == "one"
    assert heir(now, [now], [now], [lacking("two")]) is None


def test_between_two_transfers_or_two_orders_that_lost_it_nobody_guesses() -> None:
    one, two = (b.transfer(7, ordinal=each, fork=" other") for each in (3, 4))
    lost = [lacking(each, lost=frozenset({GONE.key})) for each in ("one", "two")]

    assert heir(one, [one, two], [one, two], lost[:1]) is None
    assert heir(one, [one], [one], lost) is None


def test_an_order_whose_own_transfer_is_there_again_takes_no_other() -> None:
    back, other = b.transfer(fork=" other"), b.transfer(7, ordinal=3, fork=" other")
    lost = lacking("one", lost=frozenset({GONE.key}))

    assert heir(other, [back, other], [other], [lost]) is None


# Names


def test_a_nonce_names_the_order_that_it_is_the_hash_of() -> None:
    nonce = nonce_of(b.ORDER_ID)

    assert order_named(nonce, ["ivxp-other", b.ORDER_ID]) == b.ORDER_ID
    assert order_named(nonce, ["ivxp-other"]) is None


def refunded_by(amount: int) -> Transfer:
    return b.refund_transfer(amount)


def other(order: Order) -> Order:
    return replace(order, id=OrderId("ivxp-00000000-0000-4000-8000-000000000002"))


def test_all_that_is_held_names_the_order_in_every_status() -> None:
    for order in (b.confirmed_order(), b.delivered_order(), b.failed_handler_order()):
        assert match_refund(refunded_by(b.PRICE), [order]) == order.id


def test_a_part_names_the_only_order_only_where_money_is_due_back() -> None:
    part = refunded_by(b.PRICE - 1)

    for order in (b.disputed_order(), b.failed_handler_order()):
        assert match_refund(part, [order]) == order.id
        assert match_refund(part, [order, other(order)]) is None
    assert match_refund(part, [b.confirmed_order()]) is None
    assert match_refund(refunded_by(b.PRICE + 1), [b.disputed_order()]) is None


def test_the_same_sum_in_two_orders_names_none() -> None:
    order = b.delivered_order()

    assert match_refund(refunded_by(b.PRICE), [order, other(order)]) is None


def test_an_order_that_holds_nothing_takes_no_refund() -> None:
    assert match_refund(refunded_by(b.PRICE), [b.quoted_order(), b.refunded_order()]) is None


# How far the chain was read


def block(number: int, fork: str = "") -> Block:
    digest = "0x" + sha256(f"{number}{fork}".encode()).hexdigest()
    return Block.model_validate(
        {"number": hex(number), "hash": digest, "timestamp": hex(1_700_000_000 + number)}
    )


def glimpse(number: int, tx: str = "a", fork: str = "") -> Glimpse:
    return Glimpse(Way.IN, b.tx(tx), number, block(number, fork).hash, 0, "0x1", "0x2", 5)


def swept(
    head: int, safe: int | None, marks: list[int], *glimpses: Glimpse, fork: str = ""
) -> Swept:
    tips = Tips(block(head), block(safe) if safe is not None else None, None)
    known = {number: block(number, fork) for number in marks}
    return Swept(tips, known, frozenset(glimpses))


@pytest.fixture
def scan() -> Scan:
    return Scan(Place(100), first_block=100, confirmations=1)


def test_the_place_follows_the_safe_block_and_everything_to_the_head_is_read(scan: Scan) -> None:
    assert scan.absorb(Span(100, None), swept(120, 110, [100]))

    assert (scan.place.number, scan.covered) == (110, 120)
    assert scan.deep == block(120)
    assert scan.settled == block(110)


def test_a_part_of_a_long_way_moves_the_place_to_its_end(scan: Scan) -> None:
    scan.absorb(Span(100, 105), swept(500, 400, [100, 105]))

    assert (scan.place, scan.covered) == (Place(105, block(105).hash), 105)
    assert scan.deep == block(105)


def test_without_a_safe_block_depth_stands_for_it(scan: Scan) -> None:
    head = 100 + SETTLE_BLOCKS + 7
    scan.absorb(Span(100, None), swept(head, None, [100]))
    assert head - SETTLE_BLOCKS in scan.marks(Span(100, None))

    scan.absorb(Span(100, None), swept(head, None, [100, head - SETTLE_BLOCKS]))

    assert scan.place.number == head - SETTLE_BLOCKS


def test_a_node_that_lacks_the_place_is_late_and_moves_nothing(scan: Scan) -> None:
    with pytest.raises(ChainUnavailable):
        scan.absorb(Span(100, None), swept(99, 90, []))

    assert scan.place == Place(100)


def test_another_block_at_the_place_sends_the_reading_back() -> None:
    begin = 100 + WALK_BACK_BLOCKS
    scan = Scan(Place(begin + 50, block(begin + 50).hash), first_block=100, confirmations=1)

    assert not scan.absorb(Span(1, None), swept(begin + 60, begin + 55, [begin + 50], fork="b"))

    assert scan.place == Place(150)
    assert scan.deep is None


def test_what_is_undecided_holds_the_durable_place_back(scan: Scan) -> None:
    scan.absorb(Span(100, None), swept(120, 110, [100], glimpse(104), glimpse(106, "b")))
    assert (scan.place.number, scan.durable) == (110, Place(104))

    scan.done(Way.IN, scan.waiting[Way.IN][b.tx("a")])
    assert scan.durable == Place(106)
    scan.done(Way.IN, scan.waiting[Way.IN][b.tx("b")])
    assert scan.durable == scan.place


def test_what_is_decided_is_not_looked_at_again_unless_it_moves(scan: Scan) -> None:
    first = swept(120, 100, [100], glimpse(115))
    scan.absorb(Span(100, None), first)
    scan.done(Way.IN, scan.waiting[Way.IN][b.tx("a")])

    scan.absorb(Span(100, None), first)
    assert scan.waiting[Way.IN] == {}

    scan.absorb(Span(100, None), swept(121, 100, [100], glimpse(116, fork="b")))
    assert list(scan.waiting[Way.IN]) == [b.tx("a")]


def test_a_transaction_keeps_the_oldest_block_it_was_seen_in(scan: Scan) -> None:
    for number, fork in ((115, ""), (116, "b"), (117, "c")):
        scan.absorb(Span(100, None), swept(120, 100, [100], glimpse(number, fork=fork)))

    waiting = scan.waiting[Way.IN][b.tx("a")]
    assert (waiting.block_number, waiting.first_block) == (117, 115)


def test_a_log_that_was_listed_is_unshown_until_a_receipt_has_it_in_its_block(scan: Scan) -> None:
    listed = Glimpse(
        Way.IN, b.tx("a"), 115, b.block("115"), 3, b.CLIENT.address, b.PAYMENT_ADDRESS, b.PRICE
    )
    scan.absorb(Span(100, None), swept(120, 100, [100], listed))
    waiting = scan.waiting[Way.IN][b.tx("a")]
    assert waiting.unshown == [listed]

    there = b.transfer(number=115)
    for shown, missing in ((there, []), (b.transfer(1, number=115), [listed])):
        waiting.seen = Inspection(b.mined(shown))
        assert waiting.unshown == missing


def test_a_transaction_in_another_block_is_looked_at_anew(scan: Scan) -> None:
    scan.absorb(Span(100, None), swept(120, 100, [100], glimpse(115)))
    scan.waiting[Way.IN][b.tx("a")].seen = Inspection(Finding(b.tx("a"), ChainView.MINED))

    scan.absorb(Span(100, None), swept(120, 100, [100], glimpse(116, fork="b")))

    assert not scan.waiting[Way.IN][b.tx("a")].is_mined


def test_two_against_two_agree_on_nothing() -> None:
    one, other = {7: block(7)}, {7: block(7, "b")}

    assert agreed_blocks([one, other, one, other], 2) == ({}, True)
    assert agreed_blocks([one, other, one], 2) == (one, True)
    assert agreed_blocks([one], 2) == ({}, False)
    assert agreed_blocks([one], 1) == (one, False)


def test_what_may_not_be_known_yet_needs_every_voice_or_two_that_agree() -> None:
    def said(*words: str, needed: int, some_silent: bool = False) -> str | None:
        return agreed_word(words, needed, some_silent=some_silent)

    assert said("no", needed=1) == "no"
    assert said("no", needed=1, some_silent=True) is None
    assert said("no", "yes", needed=1) is None
    assert said("no", "no", needed=2, some_silent=True) == "no"
    assert said("no", "yes", "no", needed=2) == "no"
    assert said("no", needed=2) is None
    assert said(needed=1) is None


def test_the_newest_block_is_one_that_enough_endpoints_have_reached() -> None:
    heads = [block(7), block(9), block(8)]

    assert (reached(heads, 1), reached(heads, 2)) == (block(9), block(8))
