import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from scripts.devchain import DevChain
from scripts.rpc_proxy import RpcProxy
from tests.faults.shop import PRICE, Bench, Bought, Shop, bench, shop, until
from tests.support.faults import seed

ROUNDS = 20
CLAIM_KEPT = "PAYMENT_NOT_VERIFIED"
RECEIPT_CALL = "eth_getTransactionReceipt"
REORG_ROUNDS = 5

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench(tmp_path, monkeypatch)


@pytest.fixture
async def deep(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that wants three confirmations."""
    name = request.node.name
    async with shop(tmp_path, chain, proxy.url, name, min_confirmations="3") as running:
        yield running


@pytest.fixture
async def quick(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, held: Bench, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that wants one confirmation."""
    async with shop(tmp_path, chain, proxy.url, request.node.name) as running:
        yield running


@pytest.fixture
async def unscanned(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Give a shop that reads the chain only for the payments that it watches."""
    name = request.node.name
    async with shop(tmp_path, chain, proxy.url, name, scan_interval="0") as running:
        yield running


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
    for _ in range(ROUNDS):
        order = await deep.buy()
        first = await deep.deliver(order)
        for _depth in (1, 2):
            await looked_again(proxy)
            again = await deep.deliver(order)
            for answer in (first, again):
                assert answer.status == 402
                assert answer.body["error"] == CLAIM_KEPT
                assert answer.body["retryable"] is True
            assert again.body["ledger"]["position"] == first.body["ledger"]["position"]  # type: ignore[index]
            assert deep.kinds(order) == {"quoted": 1, "payment_claimed": 1}
            assert await deep.outcome(order) == "pending"
            chain.mine()

        await until(lambda order=order: deep.is_word(order, "delivered"), "delivered")  # type: ignore[misc]
        kinds = {"quoted", "payment_claimed", "paid", "processing", "ready"}
        assert deep.kinds(order) == dict.fromkeys(kinds, 1)
    await deep.balances(orphaned=0)


async def test_an_orphaned_payment_pauses_the_work_until_it_is_mined_again(
    quick: Shop, proxy: RpcProxy, chain: DevChain, held: Bench
) -> None:
    for each in range(REORG_ROUNDS):
        order = await quick.buy("held")
        (await quick.deliver(order)).require(200)
        await held.has_started(order, 1)

        unmine(chain)
        await until(lambda o=order: quick.is_outcome(o, "orphaned"), "orphaned")  # type: ignore[misc]
        await quick.balances(orphaned=PRICE)
        # The handler that ran ends now: what it made is not accepted, and none is started anew.
        held.let_go(order)
        await looked_again(proxy, 5)
        assert held.starts(order) == 1
        assert quick.kinds(order)["ready"] == 0
        assert (await quick.download(order)).status == 404
        assert await quick.is_word(order, "processing")

        mine_again(chain, order)
        await quick.finish(order)
        assert held.starts(order) == 2
        assert await quick.outcome(order) is None
        kinds = quick.kinds(order)
        assert (kinds["payment_orphaned"], kinds["payment_restored"]) == (1, 1)
        assert (kinds["paid"], kinds["ready"], kinds["confirmed"]) == (1, 1, 1)
        await quick.balances(orphaned=0)
        assert quick.money()["received"] == (each + 1) * PRICE


async def test_what_was_delivered_can_be_downloaded_while_its_payment_is_orphaned(
    quick: Shop, chain: DevChain
) -> None:
    for _ in range(REORG_ROUNDS):
        order = await quick.buy()
        (await quick.deliver(order)).require(200)
        await until(lambda o=order: quick.is_word(o, "delivered"), "delivered")  # type: ignore[misc]

        unmine(chain)
        await until(lambda o=order: quick.is_outcome(o, "orphaned"), "orphaned")  # type: ignore[misc]

        assert (await quick.download(order)).require(200)["content"] == "some words"
        mine_again(chain, order)
        await until(lambda o=order: quick.is_outcome(o, None), "restored")  # type: ignore[misc]
        await quick.finish(order)
        await quick.balances(orphaned=0)


async def test_a_payment_that_moves_to_another_block_stays_counted_once(
    quick: Shop, chain: DevChain
) -> None:
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
        await quick.balances(orphaned=0)


async def test_a_payment_that_never_comes_back_is_no_failure(
    quick: Shop, proxy: RpcProxy, chain: DevChain, held: Bench
) -> None:
    lost: list[Bought] = []
    for _ in range(REORG_ROUNDS):
        lost.append(await quick.buy("held"))
        (await quick.deliver(lost[-1])).require(200)
        await held.has_started(lost[-1], 1)
        unmine(chain)
        quick.replace_lost_payment()
        await quick.balances(orphaned=len(lost) * PRICE)
    for order in lost:
        held.let_go(order)

    # Far past every final block, and with other payments coming in.
    chain.mine(12)
    other = await quick.buy()
    (await quick.deliver(other)).require(200)
    await quick.finish(other)
    await looked_again(proxy, 10 * len(lost))

    for order in lost:
        assert await quick.outcome(order) == "orphaned"
        assert await quick.is_word(order, "processing")
        assert quick.kinds(order) == dict.fromkeys(
            ("quoted", "paid", "processing", "payment_orphaned"), 1
        )
    await quick.balances(orphaned=len(lost) * PRICE)


async def test_the_money_table_is_the_chain_after_every_step_of_any_story(
    quick: Shop, chain: DevChain
) -> None:
    chance = Random(seed())  # noqa: S311 - a reproducible choice
    gone: list[Bought] = []
    lost = 0
    for _ in range(ROUNDS):
        order, micros = await _paid_somehow(quick, chance)
        await quick.balances(orphaned=lost)
        fate = chance.choice(["stays", "leaves", "moves", "comes back"])
        if fate in ("leaves", "comes back"):
            unmine(chain)
            lost += micros
            gone.append(order)
            await quick.balances(orphaned=lost)
        elif fate == "moves":
            chain.reorg(1, [(order.raw, 0)])
            await quick.balances(orphaned=lost)
        if fate == "comes back":
            mine_again(chain, gone.pop())
            lost -= micros
            await quick.balances(orphaned=lost)
        elif fate == "leaves":
            quick.replace_lost_payment()
        # The next reorganisation may not reach back to this payment.
        chain.mine()
    print(f"{ROUNDS} stories, {len(gone)} payments gone, {quick.money()}")  # noqa: T201 - figures


async def test_money_that_went_back_is_refunded_to_the_micro_unit(
    quick: Shop, chain: DevChain
) -> None:
    chance = Random(seed())  # noqa: S311 - a reproducible choice
    for _ in range(REORG_ROUNDS):
        order, _ = await _paid_somehow(quick, chance)
        quick.refund(quick.money()["held"])
        # A refund is recorded once its block is safe: nothing takes it back.
        chain.mine(4)
        await quick.balances(orphaned=0)
        assert quick.kinds(order)["refunded"] == 1
        assert quick.money()["held"] == 0


async def _paid_somehow(quick: Shop, chance: Random) -> tuple[Bought, int]:
    """Pay exactly, too much, or in two parts; return the newest block's payment and its amount."""
    order = await quick.quote()
    if chance.random() < 0.3:
        part = chance.randrange(1, PRICE)
        first = quick.paid(order, quick.pay(part))
        answer = await quick.deliver(first)
        assert (answer.status, answer.body["error"]) == (402, "AMOUNT_MISMATCH")
        micros = PRICE - part
    else:
        micros = PRICE + chance.choice([0, 0, 1, 77_777])
    paid = quick.paid(order, quick.pay(micros))
    (await quick.deliver(paid)).require(200)
    await until(lambda: quick.is_word(paid, "delivered"), "delivered")
    return paid, micros


async def test_a_final_payment_is_recorded_and_watched_no_more(
    unscanned: Shop, proxy: RpcProxy, chain: DevChain
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
        return unscanned.work() == 0

    await until(final, "all are final")
    await until(idle, "nothing is to do")
    await looked_at_nothing(unscanned, proxy)
    assert all(unscanned.kinds(order)["payment_finalized"] == 1 for order in orders)


async def looked_at_nothing(unscanned: Shop, proxy: RpcProxy) -> None:
    """Check that the chain is left alone for a while, in which other things happen."""
    # A round that was under way when the last event came may still ask.
    await asyncio.gather(*(unscanned.quote() for _ in range(5)))
    asked = len(proxy.calls)
    for _ in range(30):
        await unscanned.quote()
    assert len(proxy.calls) == asked
