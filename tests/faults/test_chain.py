"""Confirmations, reorganisations and refunds on a real chain; each test prints what it counted."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from scripts.devchain import DevChain
from scripts.rpc_proxy import RpcProxy
from tests.faults.shop import PRICE, Bench, Bought, Shop, bench, shop, until
from tests.support.faults import seed

ROUNDS = 20
CLAIM_KEPT = "PAYMENT_NOT_VERIFIED"
RECEIPT_CALL = "eth_getTransactionReceipt"
REFUND_ROUNDS = 5
DROPPED_AT_ONCE = 4

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield bench(tmp_path_factory.mktemp("bench"), patch)


@pytest_asyncio.fixture(loop_scope="module")
async def deep(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that wants three confirmations."""
    name = request.node.name
    async with shop(tmp_path, chain, proxy.url, name, min_confirmations="3") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def quick(
    tmp_path_factory: pytest.TempPathFactory, chain: DevChain, proxy: RpcProxy, held: Bench
) -> AsyncIterator[Shop]:
    """Give a shop that wants one confirmation, the same to every test of reorganisations."""
    async with shop(tmp_path_factory.mktemp("quick"), chain, proxy.url, "quick") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that nobody bought at before."""
    async with shop(tmp_path, chain, proxy.url, request.node.name) as running:
        yield running


@pytest.fixture
def quiet(chain: DevChain) -> Iterator[RpcProxy]:
    """Run a proxy that nobody asks but the shop of one test."""
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def unscanned(
    tmp_path: Path, chain: DevChain, quiet: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that reads the chain only for the payments that it watches."""
    name = request.node.name
    async with shop(tmp_path, chain, quiet.url, name, scan_interval="0") as running:
        yield running


def say(row: str, **counted: int) -> None:
    """Print a row of figures."""
    figures = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counted.items())
    print(f"{row}: {figures}")  # noqa: T201 - figures


async def bought_in_one_block(at: Shop, count: int, offering: str = "text_echo") -> list[Bought]:
    """Take quotes and pay them all in the newest block."""
    ids = await asyncio.gather(*(at.quote(offering) for _ in range(count)))
    at.chain.set_automine(enabled=False)
    hashes = [
        at.chain.transfer(at.buyer.private_key, at.payee.address, PRICE, wait=False) for _ in ids
    ]
    at.chain.mine()
    at.chain.set_automine(enabled=True)
    return [at.paid(order_id, tx_hash) for order_id, tx_hash in zip(ids, hashes, strict=True)]


async def looked_again(proxy: RpcProxy, times: int = 3) -> None:
    """Return once the service has asked for that many further receipts."""

    def looks() -> int:
        return sum(RECEIPT_CALL in call for call in list(proxy.calls))

    wanted = looks() + times

    async def enough() -> bool:
        return looks() >= wanted

    await until(enough, "the service looks at the transaction")


def unmine(chain: DevChain) -> None:
    """Take the newest block off the chain, and its transactions with it."""
    chain.reorg(1)


def mine_again(chain: DevChain, order: Bought) -> None:
    chain.rpc("eth_sendRawTransaction", [order.raw])


async def test_nothing_is_paid_before_its_depth_and_all_without_the_clients_return(
    deep: Shop, proxy: RpcProxy, chain: DevChain
) -> None:
    orders = await bought_in_one_block(deep, ROUNDS)
    first = await asyncio.gather(*(deep.deliver(order) for order in orders))
    for depth in (1, 2):
        await looked_again(proxy, ROUNDS)
        again = await asyncio.gather(*(deep.deliver(order) for order in orders))
        for answer in (*first, *again):
            assert answer.status == 402
            assert answer.body["error"] == CLAIM_KEPT
            assert answer.body["retryable"] is True
        places = [[each.body["ledger"]["position"] for each in said] for said in (first, again)]  # type: ignore[index]
        assert places[0] == places[1]
        for order in orders:
            assert deep.kinds(order) == {"quoted": 1, "payment_claimed": 1}, depth
            assert await deep.outcome(order) == "pending"
        chain.mine()

    for order in orders:
        await until(lambda o=order: deep.is_word(o, "delivered"), "delivered")  # type: ignore[misc]
        kinds = {"quoted", "payment_claimed", "paid", "processing", "ready"}
        assert deep.kinds(order) == dict.fromkeys(kinds, 1)
    await deep.balances(orphaned=0)
    say("three confirmations", orders=ROUNDS, answers_402=3 * ROUNDS, paid_early=0)


async def test_an_orphaned_payment_pauses_the_work_until_it_is_mined_again(
    quick: Shop, proxy: RpcProxy, held: Bench
) -> None:
    before = quick.money()
    for _ in range(ROUNDS // DROPPED_AT_ONCE):
        orders = await bought_in_one_block(quick, DROPPED_AT_ONCE, "held")
        for order in orders:
            (await quick.deliver(order)).require(200)
        for order in orders:
            await held.has_started(order, 1)

        unmine(quick.chain)
        for order in orders:
            await until(lambda o=order: quick.is_outcome(o, "orphaned"), "orphaned")  # type: ignore[misc]
        await quick.balances(orphaned=before["orphaned"] + DROPPED_AT_ONCE * PRICE)
        # The handlers that ran end now: what they made is not accepted, and none starts anew.
        for order in orders:
            held.let_go(order)
        await looked_again(proxy, 5 * DROPPED_AT_ONCE)
        for order in orders:
            assert held.starts(order) == 1
            assert quick.kinds(order)["ready"] == 0
            assert (await quick.download(order)).status == 404
            assert await quick.is_word(order, "processing")

        for order in orders:
            mine_again(quick.chain, order)
        for order in orders:
            await quick.finish(order)
            assert held.starts(order) == 2
            assert await quick.outcome(order) is None
            kinds = quick.kinds(order)
            assert (kinds["payment_orphaned"], kinds["payment_restored"]) == (1, 1)
            assert (kinds["paid"], kinds["ready"], kinds["confirmed"]) == (1, 1, 1)
        await quick.balances(orphaned=before["orphaned"])
    assert quick.money()["received"] == before["received"] + ROUNDS * PRICE
    say("dropped and mined again", orders=ROUNDS, orphaned=ROUNDS, restored=ROUNDS, failed=0)


async def test_what_was_delivered_can_be_downloaded_while_its_payment_is_orphaned(
    quick: Shop, chain: DevChain
) -> None:
    orphaned = quick.money()["orphaned"]
    for _ in range(ROUNDS // DROPPED_AT_ONCE):
        orders = await bought_in_one_block(quick, DROPPED_AT_ONCE)
        for order in orders:
            (await quick.deliver(order)).require(200)
        for order in orders:
            await until(lambda o=order: quick.is_word(o, "delivered"), "delivered")  # type: ignore[misc]

        unmine(chain)
        for order in orders:
            await until(lambda o=order: quick.is_outcome(o, "orphaned"), "orphaned")  # type: ignore[misc]
            assert (await quick.download(order)).require(200)["content"] == "some words"

        for order in orders:
            mine_again(chain, order)
        for order in orders:
            await until(lambda o=order: quick.is_outcome(o, None), "restored")  # type: ignore[misc]
            await quick.finish(order)
        await quick.balances(orphaned=orphaned)
    say("downloads meanwhile", orders=ROUNDS, downloads=ROUNDS)


async def test_a_payment_that_moves_to_another_block_stays_counted_once(
    quick: Shop, chain: DevChain
) -> None:
    orphaned = quick.money()["orphaned"]
    for _ in range(ROUNDS):
        order = await quick.buy()
        chain.mine()
        (await quick.deliver(order)).require(200)

        chain.reorg(2, [(order.raw, 1)])

        async def moved(order: Bought = order) -> bool:
            return quick.kinds(order)["payment_restored"] == 1

        await until(moved, "found in its new block")
        await quick.finish(order)
        assert quick.kinds(order)["payment_orphaned"] == 1
        assert quick.kinds(order)["paid"] == 1
        await quick.balances(orphaned=orphaned)
    say("moved to another block", reorganisations=ROUNDS, paid_once=ROUNDS, failed=0)


async def test_the_money_table_is_the_chain_after_every_step_of_any_story(
    fresh: Shop, chain: DevChain
) -> None:
    chance = Random(seed())  # noqa: S311 - a reproducible choice
    gone: list[Bought] = []
    lost = 0
    for _ in range(ROUNDS):
        order, micros = await _paid_somehow(fresh, chance)
        await fresh.balances(orphaned=lost)
        fate = chance.choice(["stays", "leaves", "moves", "comes back"])
        if fate in ("leaves", "comes back"):
            unmine(chain)
            lost += micros
            gone.append(order)
            await fresh.balances(orphaned=lost)
        elif fate == "moves":
            chain.reorg(1, [(order.raw, 0)])
            await fresh.balances(orphaned=lost)
        if fate == "comes back":
            mine_again(chain, gone.pop())
            lost -= micros
            await fresh.balances(orphaned=lost)
        elif fate == "leaves":
            fresh.replace_lost_payment()
        # The next reorganisation may not reach back to this payment.
        chain.mine()
    say("stories", stories=ROUNDS, payments_gone=len(gone), **fresh.money())


async def test_money_that_went_back_is_refunded_to_the_micro_unit(
    fresh: Shop, chain: DevChain
) -> None:
    chance = Random(seed())  # noqa: S311 - a reproducible choice
    for _ in range(REFUND_ROUNDS):
        order, _ = await _paid_somehow(fresh, chance)
        fresh.refund(fresh.money()["held"])
        # A refund is recorded once its block is safe: nothing takes it back.
        chain.mine(4)
        await fresh.balances(orphaned=0)
        assert fresh.kinds(order)["refunded"] == 1
        assert fresh.money()["held"] == 0


async def _paid_somehow(fresh: Shop, chance: Random) -> tuple[Bought, int]:
    """Pay exactly, too much, or in two parts; return the newest block's payment and its amount."""
    order = await fresh.quote()
    if chance.random() < 0.3:
        part = chance.randrange(1, PRICE)
        first = fresh.paid(order, fresh.pay(part))
        answer = await fresh.deliver(first)
        assert (answer.status, answer.body["error"]) == (402, "AMOUNT_MISMATCH")
        micros = PRICE - part
    else:
        micros = PRICE + chance.choice([0, 0, 1, 77_777])
    paid = fresh.paid(order, fresh.pay(micros))
    (await fresh.deliver(paid)).require(200)
    await until(lambda: fresh.is_word(paid, "delivered"), "delivered")
    return paid, micros


async def test_a_final_payment_is_recorded_and_watched_no_more(
    unscanned: Shop, quiet: RpcProxy, chain: DevChain
) -> None:
    orders = []
    for _ in range(ROUNDS):
        orders.append(await unscanned.buy())
        (await unscanned.deliver(orders[-1])).require(200)
        await until(lambda: unscanned.is_word(orders[-1], "delivered"), "delivered")

    chain.mine(6)

    async def final() -> bool:
        return all(unscanned.kinds(order)["payment_finalized"] == 1 for order in orders)

    async def idle() -> bool:
        query = "SELECT count(*) FROM work WHERE kind='payment'"
        return unscanned._rows("views.db", query) == [(0,)]

    await until(final, "all are final")
    await until(idle, "no payment is watched")
    await looked_at_nothing(unscanned, quiet, orders)
    assert all(unscanned.kinds(order)["payment_finalized"] == 1 for order in orders)
    say("final blocks", orders=ROUNDS, finalized_once=ROUNDS, looks_after=0)


async def looked_at_nothing(unscanned: Shop, quiet: RpcProxy, orders: list[Bought]) -> None:
    """Check that the chain is left alone for a while, in which other things happen."""
    # A round that was under way when the last event came may still ask.
    await asyncio.gather(*(unscanned.finish(order) for order in orders[:5]))
    asked = len(quiet.calls)
    for order in orders[5:]:
        await unscanned.finish(order)
    assert len(quiet.calls) == asked


# The last test: what it leaves orphaned is looked at again and again.


async def test_a_payment_that_never_comes_back_is_no_failure(
    quick: Shop, proxy: RpcProxy, chain: DevChain
) -> None:
    orphaned = quick.money()["orphaned"]
    lost: list[Bought] = []
    for _ in range(ROUNDS):
        lost.append(await quick.buy())
        (await quick.deliver(lost[-1])).require(200)
        await until(lambda: quick.is_word(lost[-1], "delivered"), "delivered")
        unmine(chain)
        quick.replace_lost_payment()
        await quick.balances(orphaned=orphaned + len(lost) * PRICE)

    # Far past every final block, and with other payments coming in.
    chain.mine(12)
    other = await quick.buy()
    (await quick.deliver(other)).require(200)
    await quick.finish(other)
    await looked_again(proxy, 3 * len(lost))

    for order in lost:
        assert await quick.outcome(order) == "orphaned"
        assert await quick.is_word(order, "delivered")
        kinds = quick.kinds(order)
        kinds.pop("notice_accepted", None)  # there if the scan was faster than the notice
        assert kinds == dict.fromkeys(
            ("quoted", "paid", "processing", "ready", "payment_orphaned"), 1
        )
    await quick.balances(orphaned=orphaned + len(lost) * PRICE)
    say("dropped for ever", reorganisations=ROUNDS, orphaned=len(lost), failed=0)
