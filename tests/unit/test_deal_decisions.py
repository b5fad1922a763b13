"""What an order of the marketplace takes, in every state that it can be in, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.deal import Deal
from ledger.deal_commands import AuthorizePayment, DealCommand
from ledger.deal_events import OrderProposed, PaymentAuthorized, PaymentSettled, PaymentVoided
from ledger.decide import OrderCommand, PaymentCommand, decide, transfers_of
from ledger.decide_deal import NOT_NOW
from ledger.errors import Conflict, LedgerError, NotFound, PaymentRefused, Rejected
from ledger.market_money import due_micros, split
from ledger.order import ENDLESS_SECONDS, NEXT, Order, Status
from ledger.values import UnixMs, order_stream
from tests.support import ledger_files as lf
from tests.support import market_stories as ms
from tests.unit import builders as b

OTHER = b.paid_with(blockhash=b"\x08" * 32)
"""Another transfer of the same payer."""
AFTER_PAY_BY = UnixMs(b.PAY_BY * 1000 + 1)
DUE_AT = b.NOW // 1000 + b.DELIVERY_SECONDS


def disputed(order: Order) -> Order:
    return b.obey(order, b.dispute(by=b.BUYER))


STATES: Final[Mapping[str, Order]] = {
    "proposed": b.proposed_order(),
    "countered": b.countered_order(),
    "declined": b.declined_order(),
    "cancelled": b.cancelled_order(),
    "awaiting": b.awaiting_order(),
    "paid": b.authorized_order(),
    "settled": b.settled_order(),
    "void": b.voided_order(),
    "void, paid": b.voided_paid_order(),
    "worked on": b.worked_deal(),
    "ready": b.ready_deal(),
    "delivered": b.delivered_deal(),
    "failed": b.failed_deal(),
    "reviewed": b.reviewed_order(),
    "confirmed": b.obey(b.delivered_deal(), b.confirm(by=b.BUYER)),
    "disputed": disputed(b.delivered_deal()),
    "disputed, reviewed": disputed(b.reviewed_order()),
    "disputed undelivered": disputed(b.authorized_order()),
}

COMMANDS: Final[Mapping[str, DealCommand]] = {
    "counter": b.counter_offer(),
    "decline": b.decline(),
    "cancel": b.cancel(),
    "pay": b.authorize(OTHER),
    "settle": b.settle(),
    "void": b.void(),
    "review": b.review(),
}

NO = "refused"
AS_BEFORE = "nothing new"
OPEN = ("order_countered", "order_declined", "order_cancelled", "payment_authorized")
WHILE_PAID = (NO, NO, NO, AS_BEFORE)
OVER = (NO, NO, NO, NO)
UNKNOWN = (AS_BEFORE, AS_BEFORE)
OF_IT = ("payment_settled", "payment_voided")

TABLE: Final[Mapping[str, tuple[str, ...]]] = {
    "proposed": (*OPEN, *UNKNOWN, NO),
    "countered": (*OPEN, *UNKNOWN, NO),
    "declined": (NO, AS_BEFORE, NO, NO, *UNKNOWN, NO),
    "cancelled": (NO, NO, AS_BEFORE, NO, *UNKNOWN, NO),
    "awaiting": (*WHILE_PAID, *OF_IT, NO),
    "paid": (*WHILE_PAID, *OF_IT, NO),
    "settled": (*WHILE_PAID, AS_BEFORE, AS_BEFORE, NO),
    "void": (*OPEN, *UNKNOWN, NO),
    "void, paid": (*WHILE_PAID, "payment_settled", AS_BEFORE, NO),
    "worked on": (*WHILE_PAID, *OF_IT, NO),
    "ready": (*WHILE_PAID, *OF_IT, "order_reviewed"),
    "delivered": (*WHILE_PAID, *OF_IT, "order_reviewed"),
    "failed": (*WHILE_PAID, *OF_IT, NO),
    "reviewed": (*WHILE_PAID, *OF_IT, NO),
    "confirmed": (*WHILE_PAID, *OF_IT, "order_reviewed"),
    "disputed": (*WHILE_PAID, *OF_IT, NO),
    "disputed, reviewed": (*WHILE_PAID, *OF_IT, NO),
    "disputed undelivered": (*WHILE_PAID, *OF_IT, NO),
}
"""For each state what each command leads to, in the order of `COMMANDS`."""


def outcome(order: Order, command: OrderCommand) -> str:
    try:
        kinds = b.kinds_of(decide(order, command, b.NOTHING_CLAIMED))
    except LedgerError as error:
        return NO if error.code == NOT_NOW else error.code
    assert len(kinds) <= 1
    return kinds[0] if kinds else AS_BEFORE


@pytest.mark.parametrize("state", list(STATES))
def test_every_command_in_every_state_is_answered_by_the_table(state: str) -> None:
    found = tuple(outcome(STATES[state], command) for command in COMMANDS.values())

    assert found == TABLE[state]
    assert TABLE.keys() == STATES.keys()
    assert {type(command) for command in COMMANDS.values()} == set(get_args(DealCommand))


# Work, delivery and disputes

WORK: Final[Mapping[str, OrderCommand]] = {
    "start": b.start(),
    "retry": b.start("retry"),
    "hand in": b.hand_in("another deliverable"),
    "collect": b.collect(),
    "confirm": b.confirm(by=b.BUYER),
    "dispute": b.dispute(by=b.BUYER, words=" | once more"),
}
LATER: Final[Mapping[str, set[str]]] = {
    "proposed": set(),
    "countered": set(),
    "declined": set(),
    "cancelled": set(),
    "awaiting": set(),
    "void": set(),
    "paid": {"start", "hand in", "dispute"},
    "settled": {"start", "hand in", "dispute"},
    "void, paid": {"start", "hand in", "dispute"},
    "worked on": {"hand in", "dispute"},
    "ready": {"collect", "confirm", "dispute"},
    "delivered": {"confirm", "dispute"},
    "failed": {"retry", "hand in", "dispute"},
    "reviewed": {"confirm", "dispute"},
    "confirmed": set(),
    "disputed": {"confirm"},
    "disputed, reviewed": {"confirm"},
    "disputed undelivered": {"hand in"},
}
"""Of the commands that every order has, those that lead to something, long after the payment."""


@pytest.mark.parametrize("state", list(STATES))
def test_work_waits_for_a_payment_that_counts(state: str) -> None:
    order = STATES[state]
    taken = set()
    for name, command in WORK.items():
        try:
            taken |= {name} if decide(order, command, b.NOTHING_CLAIMED).drafts else set()
        except LedgerError:
            continue

    assert taken == LATER[state]


@pytest.mark.parametrize("state", list(STATES))
def test_what_may_follow_is_the_table_and_a_little_more_once_it_is_paid(state: str) -> None:
    order = STATES[state]
    assert order.deal is not None

    more = {Status.PROCESSING, Status.DISPUTED}
    waits = order.deal.paid and order.status is Status.QUOTED
    assert order.next == NEXT[order.status] | (more if waits else set())


PAYMENTS: Final[tuple[PaymentCommand, ...]] = (
    b.accept(b.mined(b.transfer())),
    b.resolve(b.mined(b.transfer())),
    b.record(b.transfer()),
    b.recheck(b.mined(b.transfer())),
    b.refund(b.refund_transfer()),
    b.impossible(),
    b.expire(),
)


@pytest.mark.parametrize("state", list(STATES))
@pytest.mark.parametrize("command", PAYMENTS, ids=lambda c: type(c).__name__)
def test_nothing_else_pays_expires_or_refunds_an_order_of_the_marketplace(
    state: str, command: PaymentCommand
) -> None:
    with pytest.raises(Rejected, match="paid on the marketplace"):
        decide(STATES[state], command, b.NOTHING_CLAIMED)


@pytest.mark.parametrize("command", list(COMMANDS.values()), ids=lambda c: type(c).__name__)
def test_a_quoted_order_and_a_missing_one_take_no_command_of_the_marketplace(
    command: DealCommand,
) -> None:
    for order in (None, b.quoted_order(), b.ready_order()):
        with pytest.raises(NotFound):
            decide(order, command, b.NOTHING_CLAIMED)


def test_an_order_is_offered_once() -> None:
    for order in (b.proposed_order(), b.quoted_order()):
        with pytest.raises(Conflict):
            decide(order, b.propose(), b.NOTHING_CLAIMED)
        with pytest.raises(Conflict):
            decide(order, b.issue_quote(), b.NOTHING_CLAIMED)


# Who may do it


@pytest.mark.parametrize("wallet", [b.STRANGER.address, "somebody", b.BUYER.address.lower()])
def test_strangers_learn_nothing(wallet: str) -> None:
    order = b.proposed_order()
    for command in (
        b.counter_offer(wallet),
        b.decline(wallet),
        b.cancel(wallet),
        b.authorize(wallet=wallet),
        b.review(wallet),
    ):
        with pytest.raises(NotFound, match="no order of this wallet"):
            decide(order, command, b.NOTHING_CLAIMED)


def test_the_agent_takes_back_and_does_nothing_else() -> None:
    order, agent = b.proposed_order(), b.AGENT_KEY.address
    for command in (
        b.counter_offer(agent),
        b.decline(agent),
        b.authorize(wallet=agent),
        b.review(agent),
    ):
        with pytest.raises(NotFound):
            decide(order, command, b.NOTHING_CLAIMED)

    for wallet, side in ((agent, "agent"), (b.BUYER.address, "client")):
        (event,) = b.events_of(decide(order, b.cancel(wallet), b.NOTHING_CLAIMED))
        assert event.body()["by"] == side


@pytest.mark.parametrize("wallet", list(b.ACCOUNTS))
def test_a_client_of_each_kind_of_wallet_pays(wallet: str) -> None:
    order = b.proposed_order(b.offer(b.ACCOUNTS[wallet]))

    paid = b.obey(order, b.authorize(wallet=wallet))

    assert paid.deal is not None
    assert paid.deal.paid


# Payment


def test_the_second_payment_gets_the_answer_of_the_first() -> None:
    first = b.authorized_order()

    for again in (b.authorize(), b.authorize(OTHER), b.authorize(OTHER, now=AFTER_PAY_BY)):
        assert decide(first, again, b.NOTHING_CLAIMED).drafts == ()


@pytest.mark.parametrize("which", [0, 1], ids=["signature", "message"])
def test_what_pays_another_order_pays_no_second_one(which: int) -> None:
    command = b.authorize()
    claims = {command.payment.keys[which]: b.OTHER_STREAM}

    with pytest.raises(Conflict, match="pays another order") as refused:
        decide(b.proposed_order(), command, claims)
    assert refused.value.code == "INVALID_PAYMENT_HEADER"


@pytest.mark.parametrize("which", [0, 1], ids=["signature", "message"])
def test_what_was_void_in_an_order_is_taken_under_no_other_signature(which: int) -> None:
    command = b.authorize()
    own = {command.payment.keys[which]: order_stream(b.ORDER_ID)}

    with pytest.raises(Rejected) as refused:
        decide(b.proposed_order(), command, own)
    assert refused.value.code == "TRANSACTION_FAILED"


def test_one_message_is_known_under_every_signature() -> None:
    first = b.authorize().payment
    other = first.model_copy(update={"signature": "1" * 64})

    assert first.keys[0] != other.keys[0]
    assert first.keys[1] == other.keys[1]


@pytest.mark.parametrize(
    "terms",
    [
        {"payment_address": None},
        {"payment_address": b.AGENT_KEY.account},
        {"token": b.AGENT_KEY.address},
        {"chain": "solana:" + "5" * 32},
    ],
)
def test_a_payment_goes_where_the_offer_says(terms: dict[str, object]) -> None:
    order = b.proposed_order(b.offer(**terms))

    with pytest.raises(PaymentRefused, match="another place") as refused:
        decide(order, b.authorize(), b.NOTHING_CLAIMED)
    assert refused.value.code == "INVALID_PAYMENT_HEADER"


def test_the_signature_and_its_message_are_what_is_claimed() -> None:
    claimed = transfers_of(b.authorize())

    assert claimed == b.paid_with().keys
    assert claimed[0] == (b.SOLANA, b.paid_with().signature, 0)
    assert len(claimed) == 2


def test_the_offer_can_be_paid_until_its_last_second() -> None:
    last = UnixMs(b.PAY_BY * 1000)

    assert b.kinds_of(decide(b.proposed_order(), b.authorize(now=last), b.NOTHING_CLAIMED)) == [
        "payment_authorized"
    ]
    with pytest.raises(Rejected, match="lapsed") as refused:
        decide(b.proposed_order(), b.authorize(now=AFTER_PAY_BY), b.NOTHING_CLAIMED)
    assert refused.value.details == {"pay_by": b.PAY_BY}


def test_a_void_payment_is_followed_by_another_and_never_by_itself() -> None:
    void = b.voided_order()
    first = b.authorize(b.paid_with(awaits="settlement"))

    with pytest.raises(Rejected, match="never will") as refused:
        decide(void, first, b.NOTHING_CLAIMED)
    assert refused.value.code == "TRANSACTION_FAILED"
    again = b.obey(void, b.authorize(OTHER))
    assert again.deal is not None
    assert again.deal.authorization == OTHER
    assert again.deal.paid
    # The late word on the first one concerns nobody any more.
    for late in (b.settle(), b.void()):
        assert decide(again, late, b.NOTHING_CLAIMED).drafts == ()
    assert b.kinds_of(decide(again, b.settle(OTHER), b.NOTHING_CLAIMED)) == ["payment_settled"]


def test_an_order_counts_as_paid_when_it_was_agreed() -> None:
    for order, paid in (
        (b.proposed_order(), False),
        (b.authorized_order(), True),
        (b.awaiting_order(), False),
        (b.settled_order(), True),
        (b.voided_order(), False),
        (b.voided_paid_order(), True),
    ):
        assert order.deal is not None
        assert order.deal.paid is paid


def test_money_counts_once_it_is_paid_and_not_when_it_is_void() -> None:
    amounts = [
        order.received
        for order in (
            b.proposed_order(),
            b.awaiting_order(),
            b.authorized_order(),
            b.settled_order(),
            b.voided_paid_order(),
            b.obey(b.voided_paid_order(), b.settle()),
        )
    ]

    assert amounts == [0, 0, b.PRICE, b.PRICE, 0, b.PRICE]
    assert b.ready_order().received == b.PRICE


def test_a_long_word_of_the_network_is_cut() -> None:
    (event,) = b.events_of(decide(b.awaiting_order(), b.void(detail="x" * 900), b.NOTHING_CLAIMED))

    assert isinstance(event, PaymentVoided)
    assert event.detail == "x" * 200


# Time


def offered(**terms: object) -> Order:
    return b.proposed_order(b.offer(**terms))


def test_the_time_to_deliver_begins_with_the_payment() -> None:
    late = UnixMs(b.NOW + 500_000)
    settled = b.obey(b.awaiting_order(), b.settle(now=late))

    assert b.proposed_order().deliver_by == ENDLESS_SECONDS
    assert b.awaiting_order().deliver_by == ENDLESS_SECONDS
    assert b.authorized_order().deliver_by == DUE_AT
    assert settled.deliver_by == DUE_AT + 500
    assert b.obey(b.authorized_order(), b.settle(now=late)).deliver_by == DUE_AT


@pytest.mark.parametrize("earlier", [True, False])
def test_the_deadline_counts_where_it_is_earlier(*, earlier: bool) -> None:
    deadline = DUE_AT - 7 if earlier else DUE_AT + 7

    order = b.obey(offered(deadline=deadline), b.authorize())

    assert order.deliver_by == min(deadline, DUE_AT)


@pytest.mark.parametrize("build", [b.authorized_order, b.worked_deal, b.voided_paid_order])
def test_a_missing_delivery_is_disputed_only_after_its_time(build: Callable[[], Order]) -> None:
    order = build()
    due, after = UnixMs(DUE_AT * 1000), UnixMs(DUE_AT * 1000 + 1)

    with pytest.raises(Rejected, match="not over") as refused:
        decide(order, b.dispute(by=b.BUYER, now=due), b.NOTHING_CLAIMED)
    assert refused.value.details == {"deliver_by": DUE_AT}
    decision = decide(order, b.dispute(by=b.BUYER, now=after), b.NOTHING_CLAIMED)
    assert b.kinds_of(decision) == ["disputed"]


@pytest.mark.parametrize("build", [b.proposed_order, b.awaiting_order, b.voided_order])
def test_an_unpaid_offer_is_never_disputed(build: Callable[[], Order]) -> None:
    order = build()
    late = UnixMs(b.NOW + 10**9)

    with pytest.raises(Rejected, match="cannot become disputed"):
        decide(order, b.dispute(by=b.BUYER, now=late), b.NOTHING_CLAIMED)


def test_what_is_delivered_is_disputed_at_once() -> None:
    decision = decide(b.delivered_deal(), b.dispute(by=b.BUYER, now=b.NOW), b.NOTHING_CLAIMED)

    assert b.kinds_of(decision) == ["disputed"]


# Rulings, reviews, erasure


@pytest.mark.parametrize(
    ("build", "amount", "fits"),
    [
        (b.delivered_deal, b.PRICE, True),
        (b.delivered_deal, b.PRICE - 1, False),
        (b.voided_paid_order, b.PRICE, False),
        (b.voided_paid_order, 0, True),
    ],
)
def test_a_ruling_for_the_client_gives_back_what_was_given(
    build: Callable[[], Order], amount: int, *, fits: bool
) -> None:
    order = disputed(build())
    command = b.rule(amount=amount)

    if fits:
        assert b.kinds_of(decide(order, command, b.NOTHING_CLAIMED)) == ["dispute_ruled"]
    else:
        with pytest.raises(LedgerError):
            decide(order, command, b.NOTHING_CLAIMED)


def test_a_review_is_no_receipt() -> None:
    order = b.reviewed_order()

    assert order.confirmation is None
    assert order.status is Status.DELIVERED
    with pytest.raises(Conflict, match="reviewed already"):
        decide(order, b.review(rating=1), b.NOTHING_CLAIMED)


@pytest.mark.parametrize("build", [b.declined_order, b.cancelled_order])
def test_the_words_of_an_ended_offer_may_be_erased(build: Callable[[], Order]) -> None:
    order = build()

    assert b.kinds_of(decide(order, b.erase("description"), b.NOTHING_CLAIMED)) == [
        "content_erased"
    ]


@pytest.mark.parametrize("build", [b.proposed_order, b.awaiting_order, b.authorized_order])
def test_the_words_of_an_offer_that_may_be_paid_are_kept(build: Callable[[], Order]) -> None:
    with pytest.raises(Rejected, match="needs the client's words"):
        decide(build(), b.erase("description"), b.NOTHING_CLAIMED)


# Sums


@given(price=st.integers(0, 10**12), bps=st.integers(0, 10_000), short=st.integers(0, 1))
def test_what_is_paid_divides_without_a_rest(price: int, bps: int, short: int) -> None:
    for method in ("USDC", "ATHR"):
        due = due_micros(price, method)  # type: ignore[arg-type]
        amount = max(due - short, 0)
        parts = split(amount, bps)
        assert parts.commission + parts.agent == amount
        assert 0 <= parts.commission <= amount
        assert parts.commission * 10_000 <= amount * bps < (parts.commission + 1) * 10_000
        assert due * (4 if method == "ATHR" else 3) <= price * 3


# Races, with the real writer


def told(folder: Path, *, orders: int) -> tuple[list[str], list[list[str]], list[object]]:
    """Let two payments race for each order, and one payment for all of them."""
    ledger = lf.LedgerFiles(folder).open()
    ledger.start()
    teller = lf.Teller(ledger)

    async def race() -> tuple[list[str], list[object]]:
        await lf.opening(teller)
        deals = [await ms.propose(teller) for _ in range(orders)]
        shared = ms.authorized(deals[0].payment(), bps=ms.BPS)
        paid = [shared, *(ms.authorized(deal.payment(), bps=ms.BPS) for deal in deals)]
        now = teller.tick()
        commands = [AuthorizePayment(ms.BUYER.address, payment, now) for payment in paid]
        acts = [
            ledger.execute(deal.order_id, command)
            for deal in deals
            for command in (commands[0], commands[0], commands[1 + deals.index(deal)])
        ]
        return [deal.order_id for deal in deals], list(
            await asyncio.gather(*acts, return_exceptions=True)
        )

    try:
        ids, answers = asyncio.run(race())
        kinds = [[p.signed.event.kind for p in ledger.read_order(each)] for each in ids]
        payments = [
            p.signed.event.signature
            for each in ids
            for p in ledger.read_order(each)
            if isinstance(p.signed.event, PaymentAuthorized)
        ]
        return payments, kinds, answers
    finally:
        ledger.close()


def test_one_payment_pays_one_order_and_one_order_takes_one_payment(tmp_path: Path) -> None:
    payments, kinds, answers = told(tmp_path, orders=4)

    assert kinds == [["order_proposed", "payment_authorized"]] * 4
    assert len(set(payments)) == 4
    refused = [each for each in answers if isinstance(each, BaseException)]
    assert all(isinstance(each, Conflict) for each in refused)
    # The shared one pays the first order; each other order refuses it, until it has its own.
    assert 0 < len(refused) <= 6


def test_the_state_of_a_deal_is_made_of_its_events_alone() -> None:
    order = b.obey(b.obey(b.voided_order(), b.authorize(OTHER)), b.settle(OTHER))
    deal = order.deal

    assert isinstance(order.terms, OrderProposed)
    assert isinstance(deal, Deal)
    assert isinstance(deal.settled, PaymentSettled)
    assert (deal.authorization, deal.voided) == (
        OTHER,
        frozenset({b.paid_with(awaits="settlement").signature}),
    )
    assert deal.authorized_at == deal.paid_at == b.NOW
