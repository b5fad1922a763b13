"""Money that goes back is recorded from the chain, with the one order that it can be for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.workers.refunds import record_named_refund
from ledger.errors import PaymentPending, PaymentRefused
from ledger.order import Status
from scripts.buyer import Buyer
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.contract.kit import ECHO_MICROS
from tests.support.watching import Shop, open_shop


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
async def shop(tmp_path: Path, chain: DevChain, name: str) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, chain, name) as running:
        yield running


async def paid(shop: Shop, buyer: Buyer, micros: int = ECHO_MICROS) -> str:
    order_id = await shop.quote(buyer)
    (await shop.notice(buyer, order_id, shop.pay(buyer, micros))).require(200)
    await shop.service.recorded(order_id, 4)
    await shop.look()
    return order_id


async def test_the_whole_sum_back_makes_the_order_refunded(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await paid(shop, buyer)

    tx_hash = shop.give_back(buyer, ECHO_MICROS)
    await shop.look()
    assert "refund_recorded" not in shop.kinds(order_id)
    await shop.look_when_safe()
    await shop.look_when_safe()

    order = await shop.order(order_id)
    assert {"refund_recorded", "refunded"} <= set(shop.kinds(order_id))
    assert (order.status, order.money.held) == (Status.REFUNDED, 0)
    assert [tx for _, tx, _ in order.money.returned] == [tx_hash]


async def test_a_refund_whose_receipt_comes_late_is_not_lost(
    tmp_path: Path, chain: DevChain, name: str
) -> None:
    def without_receipts(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getTransactionReceipt":
                answer["result"] = None

    with RpcProxy(chain.rpc_url) as proxy:
        async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url) as shop:
            buyer = shop.buyer(name)
            order_id = await paid(shop, buyer)
            shop.give_back(buyer, ECHO_MICROS)
            proxy.rewrite(without_receipts)
            for _ in range(3):
                await shop.look_when_safe()
            assert "refund_recorded" not in shop.kinds(order_id)

            proxy.restore()
            await shop.look()

            assert (await shop.order(order_id)).status is Status.REFUNDED


async def test_what_was_paid_too_much_goes_back_as_a_part(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await paid(shop, buyer, ECHO_MICROS + 700)

    shop.give_back(buyer, 700)
    await shop.look_when_safe()

    order = await shop.order(order_id)
    assert "refund_recorded" in shop.kinds(order_id)
    assert order.status is not Status.REFUNDED
    assert (order.money.refunded, order.money.held) == (700, ECHO_MICROS)


async def test_a_part_that_nothing_names_is_left_to_the_operator(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await paid(shop, buyer)
    tx_hash = shop.give_back(buyer, 300)
    await shop.look_when_safe()
    assert "refund_recorded" not in shop.kinds(order_id)

    await record_named_refund(shop.service.app, order_id, tx_hash)

    assert (await shop.order(order_id)).money.refunded == 300
    with pytest.raises(PaymentRefused, match="recorded already"):
        await record_named_refund(shop.service.app, order_id, tx_hash)


async def test_between_two_orders_of_the_same_sum_the_operator_decides(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    first, second = await paid(shop, buyer), await paid(shop, buyer)
    tx_hash = shop.give_back(buyer, ECHO_MICROS)
    await shop.look_when_safe()
    assert "refund_recorded" not in shop.kinds(first) + shop.kinds(second)

    await record_named_refund(shop.service.app, second, tx_hash)

    assert (await shop.order(second)).status is Status.REFUNDED
    assert (await shop.order(first)).money.refunded == 0


async def test_two_clients_paid_back_in_one_transaction_each_get_their_own_record(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyers = [shop.buyer(f"{name}: {index}") for index in range(2)]
    orders = [await paid(shop, buyer) for buyer in buyers]
    chain.fund(shop.treasury.address, 0)

    payments = [(buyer.address, ECHO_MICROS) for buyer in buyers]
    chain.transfer_many_in_one_tx(shop.treasury.key, payments)
    await shop.look_when_safe()

    assert [(await shop.order(each)).status for each in orders] == [Status.REFUNDED] * 2


async def test_a_named_refund_waits_for_a_safe_block_and_must_go_to_the_client(
    shop: Shop, name: str
) -> None:
    buyer, other = shop.buyer(name), shop.buyer(name + ": other")
    order_id = await paid(shop, buyer)
    tx_hash = shop.give_back(other, 300)
    with pytest.raises(PaymentPending):
        await record_named_refund(shop.service.app, order_id, tx_hash)

    await shop.look_when_safe()

    with pytest.raises(PaymentRefused):
        await record_named_refund(shop.service.app, order_id, tx_hash)
    assert (await shop.order(order_id)).money.refunded == 0
