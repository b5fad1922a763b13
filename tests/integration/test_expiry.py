"""Quotes end by the time of blocks that were read, and a payment in time counts even after that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ledger.chain_quorum import SETTLE_BLOCKS
from ledger.commands import ExpireQuote
from ledger.decide import OrderCommand
from ledger.matching import NOTICE_GRACE_S
from ledger.money import Bucket
from ledger.order_events import QuoteExpired
from ledger.payment_events import PaymentClaimClosed
from ledger.receipt import Receipt
from ledger.service import Ledger
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.contract.kit import ECHO_MICROS, MovableClock
from tests.support.watching import Shop, open_shop

HOUR_S = 3600


@pytest.fixture
def own() -> Iterator[DevChain]:
    """Run a chain for this test alone: its clock is moved."""
    with DevChain(slots_in_an_epoch=2) as running:
        yield running


@pytest.fixture
def proxy(own: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(own.rpc_url) as running:
        yield running


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def shop(
    tmp_path: Path, own: DevChain, proxy: RpcProxy, clock: MovableClock
) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, own, "expiry", clock=clock, rpc_urls=proxy.url) as running:
        yield running


def pass_time(chain: DevChain, seconds: int = HOUR_S + 100) -> None:
    chain.increase_time(seconds)
    chain.mine()


async def test_a_block_past_the_end_expires_an_unpaid_quote(shop: Shop, own: DevChain) -> None:
    order_id = await shop.quote(shop.buyer("idle"))
    await shop.look()
    assert shop.kinds(order_id) == ["quoted"]

    pass_time(own)
    await shop.look()

    assert shop.kinds(order_id) == ["quoted", "expired"]
    event = shop.events(order_id)[-1]
    assert isinstance(event, QuoteExpired)
    assert (event.scanned_block, event.scanned_block_time) == (own.head(), own.head_time())


async def test_a_clock_far_ahead_expires_nothing(
    shop: Shop, clock: MovableClock, proxy: RpcProxy
) -> None:
    buyer = shop.buyer("waits")
    order_id = await shop.quote(buyer)
    clock.offset_ms = 10 * HOUR_S * 1000
    await shop.look()
    proxy.cut()
    await shop.look()

    assert shop.kinds(order_id) == ["quoted"]
    shown = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
    assert (shown["status"], shown["expired"]) == ("quoted", True)


async def test_more_confirmations_let_a_quote_live_longer(tmp_path: Path, own: DevChain) -> None:
    async with open_shop(tmp_path, own, "deep", min_confirmations=3) as shop:
        order_id = await shop.quote(shop.buyer("idle"))
        pass_time(own)
        await shop.look()
        own.mine()
        await shop.look()
        assert shop.kinds(order_id) == ["quoted"]

        own.mine()
        await shop.look()
        await shop.look()

        assert shop.kinds(order_id) == ["quoted", "expired"]


async def test_a_price_that_needs_a_safe_block_expires_by_one(
    tmp_path: Path, own: DevChain
) -> None:
    async with open_shop(tmp_path, own, "safe", safe_above_usdc="0.01") as shop:
        order_id = await shop.quote(shop.buyer("idle"))
        pass_time(own)
        await shop.look()
        assert shop.kinds(order_id) == ["quoted"]

        await shop.look_when_safe()

        assert shop.kinds(order_id) == ["quoted", "expired"]


async def test_a_claim_that_is_still_open_keeps_the_quote(shop: Shop, own: DevChain) -> None:
    buyer = shop.buyer("claims")
    order_id = await shop.quote(buyer)
    answer = await shop.notice(buyer, order_id, "0x" + "ab" * 32)
    assert answer.status == 402

    pass_time(own)
    await shop.look()

    assert shop.kinds(order_id) == ["quoted", "payment_claimed"]


async def test_claims_of_nothing_end_on_a_node_that_knows_no_safe_block(
    tmp_path: Path, own: DevChain, proxy: RpcProxy
) -> None:
    def no_tags(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["params"] and asked["params"][0] in ("safe", "finalized"):
                answer.pop("result", None)
                answer["error"] = {"code": -32602, "message": "unknown block tag"}

    proxy.rewrite(no_tags)
    async with open_shop(tmp_path, own, "tags", rpc_urls=proxy.url) as shop:
        buyer = shop.buyer("claims")
        order_id = await shop.quote(buyer)
        for each in ("aa", "bb", "cc"):
            assert (await shop.notice(buyer, order_id, "0x" + each * 32)).status == 402
        blocked = await shop.notice(buyer, order_id, "0x" + "dd" * 32)
        assert blocked.body["error"] == "TOO_MANY_CLAIMS"

        pass_time(own)
        await shop.look()
        assert shop.kinds(order_id) == ["quoted", *["payment_claimed"] * 3]
        own.mine(SETTLE_BLOCKS)
        await shop.service.recorded(order_id, 7)

        assert shop.kinds(order_id)[4:] == ["payment_claim_closed"] * 3
        assert {e.reason for e in shop.events(order_id) if isinstance(e, PaymentClaimClosed)} == {
            "absent"
        }
        await shop.look()
        assert shop.kinds(order_id)[-1] == "expired"


async def test_a_claim_whose_log_is_listed_is_not_absent(
    tmp_path: Path, own: DevChain, proxy: RpcProxy
) -> None:
    def without_receipts(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getTransactionReceipt":
                answer["result"] = None

    proxy.rewrite(without_receipts)
    async with open_shop(tmp_path, own, "listed", rpc_urls=proxy.url, loop_interval=0.02) as shop:
        buyer, other = shop.buyer("listed"), shop.buyer("other")
        order_id, bogus = await shop.quote(buyer), await shop.quote(other)
        await shop.notice(buyer, order_id, shop.pay(buyer))
        await shop.look()
        await shop.notice(other, bogus, "0x" + "aa" * 32)

        pass_time(own)
        await shop.look_when_safe()
        await shop.service.recorded(bogus, 3)
        assert shop.kinds(order_id) == ["quoted", "payment_claimed"]

        proxy.restore()
        await shop.service.recorded(order_id, 4)
        assert shop.kinds(order_id)[2:4] == ["paid", "processing"]


async def test_the_decision_to_expire_knows_of_a_transfer_that_may_pay(
    shop: Shop, own: DevChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    execute = Ledger.execute

    async def noted(ledger: Ledger, order_id: str, command: OrderCommand) -> Receipt:
        if isinstance(command, ExpireQuote):
            told.append(command.candidate_transfers)
        return await execute(ledger, order_id, command)

    buyer = shop.buyer("undecided")
    orders = [
        await shop.quote(buyer),
        await shop.quote(buyer),
        await shop.quote(shop.buyer("none")),
    ]
    shop.pay(buyer)
    pass_time(own)
    monkeypatch.setattr(Ledger, "execute", noted)
    await shop.look()

    assert sorted(told) == [False, True, True]
    assert [shop.kinds(each)[1:] for each in orders] == [[], [], ["expired"]]


async def test_a_payment_in_time_counts_although_it_is_found_after_the_end(
    shop: Shop, own: DevChain, proxy: RpcProxy
) -> None:
    def without_logs(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getLogs":
                answer["result"] = []

    buyer = shop.buyer("unseen")
    order_id = await shop.quote(buyer)
    proxy.rewrite(without_logs)
    shop.pay(buyer)
    pass_time(own)
    await shop.look()
    assert shop.kinds(order_id) == ["quoted", "expired"]

    proxy.restore()
    await shop.look()

    assert shop.kinds(order_id)[:3] == ["quoted", "expired", "paid"]


@pytest.mark.parametrize("expires_first", [True, False], ids=["expired", "still quoted"])
async def test_a_payment_mined_too_late_is_held_as_late(
    shop: Shop, own: DevChain, *, expires_first: bool
) -> None:
    buyer = shop.buyer("late")
    order_id = await shop.quote(buyer)
    pass_time(own)
    if expires_first:
        await shop.look()

    shop.pay(buyer)
    await shop.look()

    order = await shop.order(order_id)
    assert set(shop.kinds(order_id)) == {"quoted", "expired", "payment_late"}
    assert (order.money.total(Bucket.LATE), order.money.held) == (ECHO_MICROS, ECHO_MICROS)


async def test_a_transfer_that_fits_two_quotes_keeps_both_for_a_day(
    shop: Shop, own: DevChain
) -> None:
    buyer = shop.buyer("undecided")
    orders = [await shop.quote(buyer), await shop.quote(buyer)]
    tx_hash = shop.pay(buyer)
    pass_time(own)
    await shop.look_when_safe()
    assert [shop.kinds(order_id) for order_id in orders] == [["quoted"], ["quoted"]]
    assert shop.unattributed() == []

    pass_time(own, NOTICE_GRACE_S)
    await shop.look_when_safe()
    await shop.look_when_safe()

    assert [shop.kinds(each) for each in orders] == [["quoted", "expired"]] * 2
    assert [t.tx_hash for t in shop.unattributed()] == [tx_hash]
    (await shop.notice(buyer, orders[0], tx_hash)).require(200)
    assert shop.kinds(orders[0])[:3] == ["quoted", "expired", "paid"]


async def test_a_part_of_the_price_does_not_keep_the_quote(shop: Shop, own: DevChain) -> None:
    buyer = shop.buyer("part")
    order_id = await shop.quote(buyer)
    shop.pay(buyer, ECHO_MICROS - 1)
    await shop.look()

    pass_time(own)
    await shop.look()

    assert shop.kinds(order_id) == ["quoted", "expired"]
    await shop.look_when_safe()
    assert [t.amount for t in shop.unattributed()] == [ECHO_MICROS - 1]
