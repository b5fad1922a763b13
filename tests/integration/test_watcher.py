"""Payments that nobody tells of: found on the chain, and given to the order that they are for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api.keys import LEDGER
from api.workers.watcher import PLACE_FILE
from ledger.chain_transfers import Way
from ledger.entry import verify_entry
from ledger.money import Bucket
from ledger.values import ZERO_ADDRESS
from scripts.buyer import Buyer
from scripts.devchain import DevChain, encode_call
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.contract.kit import ECHO_MICROS, MovableClock
from tests.support.chain import account_named, mining_paused
from tests.support.watching import SAFE_AFTER, Shop, open_shop


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
async def shop(tmp_path: Path, chain: DevChain, name: str) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, chain, name) as running:
        yield running


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


async def test_a_payment_that_nobody_told_of_makes_its_order_paid(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    tx_hash = shop.pay(buyer)

    await shop.look()

    order = await shop.order(order_id)
    assert shop.kinds(order_id)[:2] == ["quoted", "paid"]
    assert [t.tx_hash for t in order.money.of(Bucket.APPLIED)] == [tx_hash]
    (await shop.notice(buyer, order_id, tx_hash)).require(200)
    assert shop.kinds(order_id).count("paid") == 1


async def test_an_authorization_names_one_of_two_orders_of_the_same_amount(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    first, second = await shop.quote(buyer), await shop.quote(buyer)

    shop.pay_by_name(name, second)
    await shop.look()

    assert shop.kinds(first) == ["quoted"]
    assert shop.kinds(second)[:2] == ["quoted", "paid"]


async def test_an_authorization_binds_a_quote_that_was_made_without_a_wallet(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    nobody = Buyer(shop.service.session, shop.service.url, buyer.private_key)
    nobody.address = ZERO_ADDRESS  # type: ignore[misc]
    order_id = await shop.quote(nobody)

    shop.pay_by_name(name, order_id)
    await shop.look()

    assert shop.kinds(order_id)[:2] == ["quoted", "paid"]
    assert (await shop.order(order_id)).client.endswith(buyer.address.lower())


async def test_an_authorization_with_a_nonce_of_its_own_is_matched_like_any_transfer(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)

    shop.authorized(name, ECHO_MICROS, b"\x07" * 32)
    await shop.look()

    assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


async def test_between_two_quotes_of_the_same_amount_the_notice_decides(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    first, second = await shop.quote(buyer), await shop.quote(buyer)
    tx_hash = shop.pay(buyer)
    await shop.look()
    await shop.look_when_safe()
    assert (shop.kinds(first), shop.kinds(second), shop.unattributed()) == (
        ["quoted"],
        ["quoted"],
        [],
    )

    (await shop.notice(buyer, second, tx_hash)).require(200)
    await shop.look()

    assert shop.kinds(first) == ["quoted"]
    assert shop.kinds(second)[1] == "paid"
    assert not any(shop.scan.waiting.values())


async def test_what_is_left_for_one_quote_only_goes_to_it(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    first, second = await shop.quote(buyer), await shop.quote(buyer)
    txs = [shop.pay(buyer), shop.pay(buyer)]
    await shop.look()
    (await shop.notice(buyer, first, txs[0])).require(200)

    await shop.look()

    [applied] = (await shop.order(second)).money.of(Bucket.APPLIED)
    assert applied.tx_hash == txs[1]


async def test_other_amounts_wait_for_the_notice_of_an_open_quote(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    tx_hash = shop.pay(buyer, ECHO_MICROS + 5)
    await shop.look()
    await shop.look_when_safe()
    assert (shop.kinds(order_id), shop.unattributed()) == (["quoted"], [])

    (await shop.notice(buyer, order_id, tx_hash)).require(200)

    assert (await shop.order(order_id)).money.covered == ECHO_MICROS + 5


async def test_a_named_transfer_to_a_paid_order_is_more_than_its_price(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    shop.pay(buyer)
    await shop.look()

    shop.pay_by_name(name, order_id, 7)
    await shop.look()

    order = await shop.order(order_id)
    assert "payment_overpaid" in shop.kinds(order_id)
    assert order.money.covered == ECHO_MICROS + 7


async def test_a_second_payment_of_a_paid_order_is_nobodys(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    txs = [shop.pay(buyer), shop.pay(buyer)]

    await shop.look_when_safe()
    await shop.look()

    assert (await shop.order(order_id)).money.covered == ECHO_MICROS
    assert [t.tx_hash for t in shop.unattributed()] == [txs[1]]


async def test_an_order_above_the_limit_waits_for_safe_blocks_in_however_many_parts_it_is_paid(
    tmp_path: Path, chain: DevChain, name: str
) -> None:
    half = ECHO_MICROS // 2
    async with open_shop(
        tmp_path, chain, name, safe_above_usdc=f"{half / 10**6}", loop_interval=60
    ) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        first, second = shop.pay(buyer, half), shop.pay(buyer, half)
        answers = [await shop.notice(buyer, order_id, tx_hash) for tx_hash in (first, second)]
        await shop.look()
        assert [answer.status for answer in answers] == [402, 402]
        assert shop.kinds(order_id) == ["quoted", "payment_claimed", "payment_claimed"]

        chain.mine(SAFE_AFTER)
        answers = [await shop.notice(buyer, order_id, tx_hash) for tx_hash in (first, second)]

        assert [answer.status for answer in answers] == [402, 200]
        assert shop.kinds(order_id)[3:6] == ["payment_partial", "paid", "processing"]


async def test_the_exact_rest_of_a_part_is_found_without_a_notice(shop: Shop, name: str) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    shop.pay_by_name(name, order_id, ECHO_MICROS - 40)
    await shop.look()

    shop.pay(buyer, 40)
    await shop.look()

    assert shop.kinds(order_id)[:3] == ["quoted", "payment_partial", "paid"]


async def test_money_of_a_stranger_is_recorded_once_and_can_still_be_claimed(
    shop: Shop, name: str
) -> None:
    buyer = shop.buyer(name)
    tx_hash = shop.pay(buyer)
    await shop.look()
    assert shop.unattributed() == []

    await shop.look_when_safe()
    await shop.look_when_safe()

    assert [t.tx_hash for t in shop.unattributed()] == [tx_hash]
    order_id = await shop.quote(buyer)
    await shop.look_when_safe()
    assert shop.kinds(order_id) == ["quoted"]
    (await shop.notice(buyer, order_id, tx_hash)).require(200)
    assert shop.kinds(order_id)[1] == "paid"


async def test_a_quote_that_somebody_takes_after_a_transfer_gets_nothing_of_it(
    shop: Shop, name: str
) -> None:
    payer = shop.buyer(name)
    tx_hash = shop.pay(payer)
    # The quote is in the payer's name, and nobody but the payer could prove another.
    theirs = await shop.quote(payer)

    await shop.look()
    await shop.look_when_safe()

    assert shop.kinds(theirs) == ["quoted"]
    (await shop.notice(payer, theirs, tx_hash)).require(200)
    assert shop.kinds(theirs)[1] == "paid"


async def test_a_quote_carries_the_newest_block_in_its_signed_bytes(
    shop: Shop, chain: DevChain, name: str
) -> None:
    newest = chain.rpc("eth_getBlockByNumber", ["latest", False])

    order_id = await shop.quote(shop.service.buyer(name))

    [placed] = shop.service.app[LEDGER].read_order(order_id)
    entry = verify_entry(placed.signed.entry, log=shop.service.app[LEDGER].origin)
    assert entry.envelope.nb is not None
    assert (entry.envelope.nb.number, entry.envelope.nb.hash) == (chain.head(), newest["hash"])
    assert (await shop.order(order_id)).not_before == chain.head()


async def test_what_the_payer_pays_after_the_quote_still_goes_to_it(shop: Shop, name: str) -> None:
    payer = shop.buyer(name)
    early = shop.pay(payer)
    order_id = await shop.quote(payer)
    late = shop.pay(payer)

    await shop.look()

    [applied] = (await shop.order(order_id)).money.of(Bucket.APPLIED)
    assert applied.tx_hash == late != early


async def test_a_quote_made_while_the_chain_was_silent_gets_what_is_later_by_the_clock(
    tmp_path: Path, proxy: RpcProxy, chain: DevChain, name: str
) -> None:
    clock = MovableClock()
    async with open_shop(tmp_path, chain, name, clock=clock, rpc_urls=proxy.url) as shop:
        payer, honest = shop.buyer(name), shop.buyer(name + ": honest")
        proxy.cut()
        shop.pay(payer)
        # By this clock the one quote is older than every block here, the other one newer.
        # Both by far more than a slow machine needs in between.
        clock.offset_ms = (chain.head_time() - int(time.time()) - 60) * 1000
        before = await shop.quote(honest)
        clock.offset_ms += 180_000
        after = await shop.quote(payer)
        shop.pay(honest)
        proxy.restore()

        await shop.look()

        assert (await shop.order(before)).not_before is None
        assert [shop.kinds(each)[1:2] for each in (before, after)] == [["paid"], []]


async def test_two_transfers_of_one_transaction_go_to_their_own_orders(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyer = shop.buyer(name)
    echo = await shop.quote(buyer)
    count = await shop.service.quote(buyer, "word_count")
    here, elsewhere = shop.treasury.address, account_named(name + ": else").address

    payments = [(here, 250_000), (elsewhere, 5), (here, ECHO_MICROS)]
    chain.transfer_many_in_one_tx(buyer.private_key, payments)
    await shop.look()

    paid = [await shop.order(order_id) for order_id in (count, echo)]
    assert [[t.ordinal for t in o.money.of(Bucket.APPLIED)] for o in paid] == [[0], [2]]


async def test_logs_that_a_node_lacks_at_first_are_found_by_the_next_reading(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, name: str
) -> None:
    def without_logs(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getLogs":
                answer["result"] = []

    async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        shop.pay(buyer)
        proxy.rewrite(without_logs)
        await shop.look()
        assert shop.kinds(order_id) == ["quoted"]

        proxy.restore()
        await shop.look_when_safe()

        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


def without_receipts(pairs: Pairs) -> None:
    for asked, answer in pairs:
        if asked["method"] == "eth_getTransactionReceipt":
            answer["result"] = None


async def test_a_transfer_whose_receipt_comes_long_after_its_block_is_safe_is_not_lost(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, name: str
) -> None:
    async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        paid, strange = shop.pay(buyer), shop.pay(shop.buyer(name + ": stranger"), 11)
        proxy.rewrite(without_receipts)
        for _ in range(3):
            await shop.look_when_safe()
        assert {paid, strange} == set(shop.scan.waiting[Way.IN])

        proxy.restore()
        await shop.look_when_safe()

        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]
        assert [t.tx_hash for t in shop.unattributed()] == [strange]
        assert not any(shop.scan.waiting.values())


async def test_a_receipt_without_the_log_that_was_listed_ends_nothing(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, name: str
) -> None:
    def bare(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getTransactionReceipt" and answer["result"]:
                answer["result"] |= {"logs": [], "logsBloom": "0x" + "00" * 256}

    async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        shop.pay(buyer)
        proxy.rewrite(bare)
        await shop.look()
        await shop.look_when_safe()
        assert shop.kinds(order_id) == ["quoted"]

        proxy.restore()
        await shop.look_when_safe()

        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


async def test_a_quiet_round_is_one_request(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, name: str
) -> None:
    async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url, loop_interval=60) as shop:
        await shop.look()
        before = len(proxy.calls)

        await shop.look()

        assert len(proxy.calls) == before + 1


async def test_a_restart_reads_on_and_misses_nothing(
    tmp_path: Path, chain: DevChain, name: str
) -> None:
    async with open_shop(tmp_path, chain, name) as shop:
        buyer = shop.buyer(name)
        order_id, stranger = await shop.quote(buyer), shop.buyer(name + ": stranger")
        early = shop.pay(stranger, 1)
        await shop.look_when_safe()
        place = shop.scan.place
    tx_hash = shop.pay(buyer)
    late = shop.pay(stranger, 2)

    async with open_shop(tmp_path, chain, name) as shop:
        await shop.look_when_safe()
        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]
        assert [t.tx_hash for t in shop.unattributed()] == [early, late]
        assert shop.scan.place.number > place.number
        assert tx_hash not in [t.tx_hash for t in shop.unattributed()]


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"log": "other"}'])
async def test_without_its_place_the_chain_is_read_again_and_nothing_is_doubled(
    tmp_path: Path, chain: DevChain, name: str, content: bytes | None
) -> None:
    async with open_shop(tmp_path, chain, name) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        shop.pay(buyer)
        shop.pay(shop.buyer(name + ": stranger"), 1)
        await shop.look_when_safe()
        size = shop.service.app[LEDGER].head.size
    file = tmp_path / "data" / PLACE_FILE
    assert file.exists()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)

    async with open_shop(tmp_path, chain, name) as shop:
        await shop.look_when_safe()
        assert len(shop.unattributed()) == 1
        assert shop.kinds(order_id).count("paid") == 1
        assert shop.service.app[LEDGER].head.size >= size


async def test_a_transfer_that_waits_is_found_again_after_a_restart(
    tmp_path: Path, chain: DevChain, name: str
) -> None:
    async with open_shop(tmp_path, chain, name) as shop:
        buyer = shop.buyer(name)
        first, second = await shop.quote(buyer), await shop.quote(buyer)
        txs = [shop.pay(buyer), shop.pay(buyer)]
        await shop.look_when_safe()
        await shop.look_when_safe()

    async with open_shop(tmp_path, chain, name) as shop:
        buyer = shop.service.buyer(name)
        (await shop.notice(buyer, first, txs[0])).require(200)
        await shop.look()
        [applied] = (await shop.order(second)).money.of(Bucket.APPLIED)
        assert applied.tx_hash == txs[1]


async def test_a_transfer_that_a_reorganisation_drops_pays_nothing(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    await shop.look()
    with mining_paused(chain):
        chain.transfer(buyer.private_key, shop.treasury.address, ECHO_MICROS, wait=False)
        chain.mine()
        chain.reorg(1)
        await shop.look_when_safe()

    assert shop.kinds(order_id) == ["quoted"]
    assert not any(shop.scan.waiting.values())


async def test_a_transfer_that_a_reorganisation_moves_pays_where_it_stands(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyer = shop.buyer(name)
    first, second = await shop.quote(buyer), await shop.quote(buyer)
    tx_hash = shop.pay(buyer)
    await shop.look()
    raw = chain.raw_transaction(tx_hash)
    chain.mine()

    chain.reorg(2, [(raw, 1)])
    await shop.look()
    (await shop.notice(buyer, second, tx_hash)).require(200)
    await shop.look_when_safe()

    [applied] = (await shop.order(second)).money.of(Bucket.APPLIED)
    block = chain.wait_for_receipt(tx_hash)
    assert (applied.tx_hash, applied.block_hash) == (tx_hash, block["blockHash"])
    assert shop.kinds(first) == ["quoted"]


async def test_a_new_payment_stands_in_for_one_that_left_the_chain(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyer = shop.buyer(name)
    order_id = await shop.quote(buyer)
    lost = shop.pay(buyer)
    await shop.look()
    chain.reorg(1)
    async with asyncio.timeout(10):
        while not (await shop.order(order_id)).paused:
            await shop.service.recorded(order_id, len(shop.kinds(order_id)) + 1)

    # The account's next transaction; the same one again would be the lost one, mined anew.
    chain.transfer(buyer.private_key, account_named(name + ": else").address, 1)
    found = shop.pay(buyer)
    await shop.look()

    order = await shop.order(order_id)
    assert not order.paused
    assert [t.tx_hash for t in order.money.of(Bucket.APPLIED)] == [found]
    assert [t.tx_hash for t in order.money.of(Bucket.ORPHANED)] == [lost]


@pytest.mark.parametrize("before", [0, 100], ids=["at another place", "with another amount"])
async def test_a_transaction_that_is_mined_again_as_something_else_counts_as_what_arrived(
    tmp_path: Path, name: str, before: int
) -> None:
    """The token takes a fee here, which has a log of its own before that of what is left."""
    with DevChain(slots_in_an_epoch=2) as own:
        async with open_shop(tmp_path, own, name, loop_interval=0.02) as shop:
            buyer = shop.buyer(name)
            set_fee(own, before)
            order_id = await shop.quote(buyer)
            tx_hash = shop.pay(buyer, ECHO_MICROS * 10_000 // (10_000 - before) + 1)
            (await shop.notice(buyer, order_id, tx_hash)).require(200)
            raw = own.raw_transaction(tx_hash)
            dearer = own.raw_transaction(set_fee(own, 300))

            own.reorg(2, [(dearer, 0), (raw, 0)])
            while "payment_restored" not in shop.kinds(order_id):
                known = len(shop.kinds(order_id))
                await shop.look()
                if "payment_restored" not in shop.kinds(order_id):
                    await shop.service.recorded(order_id, known + 1)

            order = await shop.order(order_id)
            [(_, amount)] = [each for each in shop.incoming() if each[0] == tx_hash]
            assert order.money.received == amount < ECHO_MICROS
            assert order.paused
            rest = shop.pay(buyer, (ECHO_MICROS - amount) * 100 // 97 + 1)
            await shop.notice(buyer, order_id, rest)
            assert not (await shop.order(order_id)).paused


def set_fee(chain: DevChain, basis_points: int) -> str:
    """Let the token of a chain keep a part of what is sent."""
    collector = account_named("collector").address
    knobs = [basis_points, collector, False]
    data = encode_call("usdc_like", "setTestKnobs", *knobs)
    return chain.send(chain.minter.key, to=chain.usdc_address, data=data)


async def test_when_a_safe_block_is_replaced_its_successors_are_read_anew(
    shop: Shop, chain: DevChain, name: str
) -> None:
    buyer = shop.buyer(name)
    chain.mine(6)
    await shop.look()
    order_id = await shop.quote(buyer)
    tx_hash = shop.pay(buyer)
    raw = chain.raw_transaction(tx_hash)
    chain.mine(SAFE_AFTER + 2)
    chain.reorg(SAFE_AFTER + 3)
    await shop.look()
    assert shop.kinds(order_id) == ["quoted"]
    chain.mine(SAFE_AFTER + 2)
    await shop.look()

    chain.reorg(SAFE_AFTER + 5, [(raw, 0)])
    await shop.look()
    await shop.look()

    assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


async def test_a_range_that_a_node_refuses_is_read_in_smaller_parts(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, name: str
) -> None:
    def refuse_long_ranges(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] != "eth_getLogs":
                continue
            [query] = asked["params"]
            last = chain.head() if query["toBlock"] == "latest" else int(query["toBlock"], 16)
            if last - int(query["fromBlock"], 16) >= 5:
                answer.pop("result", None)
                answer["error"] = {"code": -32602, "message": "range too long"}

    async with open_shop(tmp_path, chain, name, rpc_urls=proxy.url) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        await shop.look()
        chain.mine(20)
        shop.pay(buyer)
        proxy.rewrite(refuse_long_ranges)
        for _ in range(16):
            await shop.look()

        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


async def test_received_money_is_what_the_chain_shows_since_the_ledger_was_bound(
    tmp_path: Path, chain: DevChain, name: str
) -> None:
    async with open_shop(tmp_path, chain, name, scan_blocks=3) as shop:
        buyers = [shop.buyer(f"{name}: {index}") for index in range(4)]
        orders = [await shop.quote(buyer) for buyer in buyers]
        shop.pay(buyers[0])
        shop.pay_by_name(f"{name}: 1", orders[1], 7)
        await shop.notice(buyers[2], orders[2], shop.pay(buyers[2], ECHO_MICROS + 9))
        extra = shop.pay(shop.buyer(name + ": stranger"), 11)
        await shop.look_when_safe()
        await shop.look_when_safe()

        received = [(await shop.order(order_id)).money for order_id in orders]
        placed = [
            (p.transfer.tx_hash, p.transfer.amount)
            for money in received
            for p in money.placed.values()
        ]
        nobodys = [(t.tx_hash, t.amount) for t in shop.unattributed()]
        assert [tx for tx, _ in nobodys] == [extra]
        assert sorted(placed + nobodys) == sorted(shop.incoming())
        assert sum(money.received for money in received) + 11 == sum(
            amount for _, amount in shop.incoming()
        )
