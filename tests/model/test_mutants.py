"""The model bites: a product that is wrong in one place is caught by playing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import Phase
from hypothesis.errors import Flaky

from api import idempotency
from api.ivxp import deliver, views
from api.workers import refunds
from ledger import decide_chain, decide_delivery, decide_dispute, decide_payment, evolve, payments
from ledger.batch import Batch
from ledger.commands import ExpireQuote, OpenDispute, ResolveClaim
from ledger.decision import Claimed, Decision, decided
from ledger.event import Transfer
from ledger.finding import ChainView, Finding
from ledger.money import Money
from ledger.order import Order, changed
from ledger.payment_events import PaymentClaimClosed
from projections.orders import OrderView
from projections.reader import ViewReader
from projections.runner import Projector
from tests.model.theatre import Played, play

PLAYS: Final = 150
SEED: Final = 20_261_122
FOR_EVER_S: Final = 2**39

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def one_transfer_pays_twice(patch: Patch) -> None:
    patch.setattr(Batch, "_claimed", lambda _batch, _keys: {})


def a_refund_counts_twice(patch: Patch) -> None:
    real = Money.refund

    def refund(money: Money, transfers: tuple[Transfer, ...]) -> Money:
        return real(money, [t.model_copy(update={"amount": 2 * t.amount}) for t in transfers])

    patch.setattr(Money, "refund", refund)


def a_quote_expires_although_a_claim_is_open(patch: Patch) -> None:
    real = decide_chain.expire_quote

    def overdue(reader: ViewReader, time: int) -> Any:  # noqa: ANN401 - an iterator of pages
        query = "SELECT order_id FROM orders WHERE status='quoted' AND pay_by<?"
        yield [row[0] for row in reader._db.execute(query, (time,))]

    def expire(order: Order, command: ExpireQuote) -> Decision:
        return real(changed(order, claims=()), command)

    patch.setattr(ViewReader, "overdue", overdue)
    patch.setattr(decide_chain, "expire_quote", expire)


def a_receipt_for_other_bytes_is_taken(patch: Patch) -> None:
    patch.setattr(decide_dispute, "_require_delivered_bytes", lambda _order, _command: None)


def a_reorganisation_fails_the_order(patch: Patch) -> None:
    real = views.word_1_0

    def word(order: OrderView) -> str:
        return "delivery_failed" if order.paused else real(order)

    patch.setattr(views, "word_1_0", word)


def the_view_misses_a_notice(patch: Patch) -> None:
    real = Projector._write

    def write(projector: Projector, rows: dict[str, Any], history: list[Any]) -> None:
        newest = {row["order_id"]: row["kind"] for row in history}
        kept = {order_id: row for order_id, row in rows.items() if newest[order_id] != "processing"}
        real(projector, kept, history)

    patch.setattr(Projector, "_write", write)


def late_money_pays(patch: Patch) -> None:
    real = payments._pay

    def pay(order: Order, transfers: tuple[Transfer, ...], finding: Finding) -> Any:  # noqa: ANN401
        terms = order.terms.model_copy(update={"pay_by": FOR_EVER_S})
        return real(changed(order, terms=terms), transfers, finding)

    patch.setattr(payments, "_pay", pay)


def a_payment_that_is_not_mined_yet_is_absent(patch: Patch) -> None:
    real = decide_payment.resolve_claim

    def resolve(order: Order, command: ResolveClaim, claimed: Claimed) -> Decision:
        tx_hash = command.finding.tx_hash
        if command.finding.view is ChainView.NOT_FOUND:
            return decided(PaymentClaimClosed(tx_hash=tx_hash, reason="absent"))
        return real(order, command, claimed)

    patch.setattr(decide_payment, "resolve_claim", resolve)


def every_download_is_the_first(patch: Patch) -> None:
    real = evolve._apply

    def apply(order: Order, event: Any, at: Any) -> Order:  # noqa: ANN401 - any event
        return changed(real(order, event, at), collected=False)

    patch.setattr(evolve, "_apply", apply)


def a_keyed_repeat_is_done_again(patch: Patch) -> None:
    patch.setattr(idempotency, "_known", lambda _request, _asked: None)


def a_repeated_notice_is_refused_on_every_route(patch: Patch) -> None:
    patch.setattr(deliver, "_paid_by", lambda _order, _tx_hash: False)


def a_complaint_needs_no_delay(patch: Patch) -> None:
    real = decide_dispute.open_dispute

    def dispute(order: Order, command: OpenDispute) -> Decision:
        terms = order.terms.model_copy(update={"deliver_by": 0})
        return real(changed(order, terms=terms), command)

    patch.setattr(decide_dispute, "open_dispute", dispute)


def work_goes_on_without_the_payment(patch: Patch) -> None:
    patch.setattr(decide_delivery, "require_paid", lambda _order: None)


def a_refund_needs_no_safe_block(patch: Patch) -> None:
    patch.setattr(refunds, "_is_safe", lambda finding: finding.view is ChainView.MINED)


MUTANTS: Final[dict[Mutant, str]] = {
    one_transfer_pays_twice: "calm",
    a_refund_counts_twice: "generous",
    a_quote_expires_although_a_claim_is_open: "slow",
    a_receipt_for_other_bytes_is_taken: "careless",
    a_reorganisation_fails_the_order: "stormy",
    the_view_misses_a_notice: "calm",
    late_money_pays: "slow",
    a_payment_that_is_not_mined_yet_is_absent: "slow",
    every_download_is_the_first: "busy",
    a_keyed_repeat_is_done_again: "forgetful",
    a_repeated_notice_is_refused_on_every_route: "forgetful",
    a_complaint_needs_no_delay: "quarrelsome",
    work_goes_on_without_the_payment: "stormy",
    a_refund_needs_no_safe_block: "generous",
}
"""Each with the temper of the plays that are to find it."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_model_catches(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    played = Played()

    # What a wrong product leaves behind may make a repeat of the play end otherwise.
    with suppress(AssertionError, Flaky):
        play(SEED, PLAYS, played, phases=(Phase.generate,), tempers=(MUTANTS[mutant],))

    assert [type(failure) for failure in played.failures[:1]] == [AssertionError]
    print(f"caught in play {played.acts['plays']}: {played.failures[0]}"[:300])  # noqa: T201
