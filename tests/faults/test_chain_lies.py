"""What a chain and its nodes may show: never paid from a lie, and never failed from silence.

Each test is a row of the table in `docs/faults.md` and prints what it counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from random import Random
from typing import TypeVar

import pytest
import pytest_asyncio

from scripts.buyer import Answer, Buyer
from scripts.devchain import ASSETS, DevChain, encode_call
from scripts.rpc_proxy import RpcProxy
from tests.faults import lies
from tests.faults.lies import Json, Laggard, Liar, Lie
from tests.faults.shop import NETWORK, PRICE, Bought, Shop, shop, until
from tests.support.chain import TRANSFER_TOPIC, funded_account, mining_paused
from tests.support.faults import seed

ROUNDS = 20
TIMEOUT_SECONDS = 3.0
OTHER_TOKEN = "0x00000000000000000000000000000000000070ce"
FAILED = {"delivery_failed", "payment_orphaned", "payment_claim_closed", "expired"}
PAID = {"paid", "processing", "ready"}

T = TypeVar("T")

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def nodes(chain: DevChain) -> Iterator[list[RpcProxy]]:
    """Three providers of one chain, each with faults of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(RpcProxy(chain.rpc_url)) for _ in range(3)]


@pytest.fixture
def chance() -> Random:
    return Random(seed())  # noqa: S311 - a reproducible choice


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one(
    chain: DevChain, nodes: list[RpcProxy], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """Give a service that knows one endpoint."""
    folder = tmp_path_factory.mktemp("one")
    timeout = str(TIMEOUT_SECONDS)
    async with shop(folder, chain, nodes[0].url, "one", rpc_timeout=timeout) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def two(
    chain: DevChain, nodes: list[RpcProxy], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """Give a service that knows two endpoints."""
    urls = ",".join(node.url for node in nodes[:2])
    async with shop(tmp_path_factory.mktemp("two"), chain, urls, "two") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def three(
    chain: DevChain, nodes: list[RpcProxy], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shop]:
    """Give a service that knows three endpoints."""
    urls = ",".join(node.url for node in nodes)
    async with shop(tmp_path_factory.mktemp("three"), chain, urls, "three") as running:
        yield running


@pytest.fixture(autouse=True)
def honest(nodes: list[RpcProxy]) -> Iterator[None]:
    """Let every node tell the truth again after a test."""
    yield
    for node in nodes:
        node.restore()


def say(row: str, **counted: int) -> None:
    """Print a row of figures."""
    figures = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counted.items())
    print(f"{row}: {ROUNDS} rounds; {figures}")  # noqa: T201 - figures


async def each(todo: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*todo))


async def quotes(at: Shop) -> list[str]:
    return await each(at.quote() for _ in range(ROUNDS))


def kinds(at: Shop, orders: Iterable[Bought]) -> Counter[str]:
    """Return how many events of each kind the orders have together."""
    return sum((at.kinds(order) for order in orders), Counter())


def reasons(answers: Iterable[Answer]) -> Counter[tuple[int, object]]:
    """Return how often each status was answered, with the reason that it gave."""
    details = [(answer.status, answer.body.get("details", {})) for answer in answers]
    return Counter(
        (status, each.get("reason") if isinstance(each, dict) else None) for status, each in details
    )


async def looks(node: RpcProxy, times: int) -> None:
    """Return once a node was asked that many further times."""
    wanted = len(node.calls) + times

    async def asked() -> bool:
        return len(node.calls) >= wanted

    await until(asked, "the service goes on asking")


async def read_on(node: RpcProxy) -> None:
    """Return once the chain was read up to its newest block: a reading that began since ended."""

    def readings() -> int:
        return sum("eth_getLogs" in methods for methods in list(node.calls))

    wanted = readings() + 3

    async def read() -> bool:
        return readings() >= wanted

    await until(read, "the chain is read")


async def test_a_receipt_that_is_missing_keeps_the_claim_until_it_is_there(
    one: Shop, nodes: list[RpcProxy], chain: DevChain, chance: Random
) -> None:
    liar = Liar()
    nodes[0].rewrite(liar)
    orders = [one.paid(each, one.pay(PRICE + chance.randrange(3))) for each in await quotes(one)]
    liar.hidden |= {order.tx_hash for order in orders}
    answers = await each(one.deliver(order) for order in orders for _ in range(2))
    # Far past every safe and final block.
    chain.mine(12)
    await looks(nodes[0], 20)
    assert {answer.status for answer in answers} == {402}
    assert all(answer.body["retryable"] for answer in answers)
    assert kinds(one, orders) == {"quoted": ROUNDS, "payment_claimed": ROUNDS}

    chance.shuffle(orders)
    for order in orders:
        liar.hidden.discard(order.tx_hash)
    await one.finish_all(orders)

    seen = kinds(one, orders)
    assert (seen["paid"], seen.keys() & FAILED) == (ROUNDS, set())
    await one.balances(orphaned=0)
    say("receipt missing", claims_kept=ROUNDS, paid_early=0, closed=0, paid_at_last=seen["paid"])


async def test_a_receipt_without_its_logs_is_no_answer(
    one: Shop, nodes: list[RpcProxy], chance: Random
) -> None:
    liar = Liar()
    nodes[0].rewrite(liar)
    half = [lies.without_its_logs, lies.without_its_last_log]
    orders = [one.paid(each, one.pay(PRICE)) for each in await quotes(one)]
    liar.lies |= {order.tx_hash: chance.choice(half) for order in orders}
    answers = await each(one.deliver(order) for order in orders)
    await looks(nodes[0], 20)
    assert {answer.status for answer in answers} == {503}
    assert kinds(one, orders) == {"quoted": ROUNDS, "payment_claimed": ROUNDS}

    liar.lies.clear()
    await one.finish_all(orders)

    assert kinds(one, orders)["paid"] == ROUNDS
    await one.balances(orphaned=0)
    say("receipt without its logs", told=liar.told, believed=0, paid_at_last=ROUNDS)


async def test_a_reverted_payment_is_refused_and_the_true_one_accepted(
    one: Shop, chain: DevChain, chance: Random
) -> None:
    ids = await quotes(one)
    early = set(chance.sample(ids, ROUNDS // 2))
    with mining_paused(chain):
        failing = [one.paid(each, fail(one)) for each in ids]
        first = await each(one.deliver(order) for order in failing if order.order_id in early)
    assert reasons(first) == {(402, None): len(early)}

    async def closed() -> bool:
        return kinds(one, failing)["payment_claim_closed"] == len(early)

    await until(closed, "what was claimed before it was mined is closed")
    second = await each(one.deliver(order) for order in failing)
    assert reasons(second) == {(402, "reverted"): ROUNDS}
    assert not any(answer.body.get("retryable") for answer in second)
    assert kinds(one, failing).keys() == {
        *("quoted", "payment_claimed", "payment_claim_closed", "command_refused")
    }

    paid = [one.paid(each, one.pay(PRICE)) for each in ids]
    answers = await each(one.deliver(order) for order in paid)
    assert {answer.status for answer in answers} == {200}
    await one.finish_all(paid)
    await one.balances(orphaned=0)
    say("reverted", refused=ROUNDS, claims_closed=len(early), paid_by_it=0, paid_after=ROUNDS)


def fail(at: Shop) -> str:
    """Send more than the buyer has: the transaction is mined and moves nothing."""
    key, payee = at.buyer.private_key, at.payee.address
    return at.chain.transfer(key, payee, 10**12, wait=False)


async def test_another_token_pays_nothing(
    one: Shop, nodes: list[RpcProxy], chain: DevChain, chance: Random
) -> None:
    code = (ASSETS / "usdc_like.runtime.hex").read_text().strip()
    chain.rpc("anvil_setCode", [OTHER_TOKEN, code])
    for call in (("initialize", "USDC", chain.minter.address), ("mint", one.buyer.address, 10**10)):
        chain.send(chain.minter.key, to=OTHER_TOKEN, data=encode_call("usdc_like", *call))
    ids = await quotes(one)
    fake = []
    for order_id in ids:
        data = encode_call(
            "usdc_like", "transfer", one.payee.address, chance.choice([PRICE, 10**8])
        )
        fake.append(
            one.paid(order_id, chain.send(one.buyer.private_key, to=OTHER_TOKEN, data=data))
        )

    await refused_then_paid(one, nodes[0], fake, "no_transfer")

    say("wrong token", refused=ROUNDS, paid_by_it=0, paid_after=ROUNDS)


async def test_a_strangers_transfer_of_nothing_in_the_clients_name_pays_nothing(
    one: Shop, nodes: list[RpcProxy], chain: DevChain
) -> None:
    stranger = funded_account(chain, "stranger", 0)
    nothing = encode_call("usdc_like", "transferFrom", one.buyer.address, one.payee.address, 0)
    before = chain.rpc("eth_blockNumber")
    ids = await quotes(one)
    empty = [
        one.paid(each, chain.send(stranger.key, to=chain.usdc_address, data=nothing))
        for each in ids
    ]
    logs = chain.rpc("eth_getLogs", [{"fromBlock": before, "topics": [TRANSFER_TOPIC]}])
    assert len(logs) == ROUNDS

    await refused_then_paid(one, nodes[0], empty, "no_transfer")

    say("zero-value transfer", logs=len(logs), refused=ROUNDS, paid_by_it=0, paid_after=ROUNDS)


async def refused_then_paid(at: Shop, node: RpcProxy, false: list[Bought], reason: str) -> None:
    """Refuse what is no payment, let the watcher pass over it, and accept a true one after it."""
    answers = await each(at.deliver(order) for order in false)
    at.chain.mine(4)
    await read_on(node)
    assert reasons(answers) == {(402, reason): len(false)}
    assert kinds(at, false) == {"quoted": len(false), "command_refused": len(false)}

    paid = [at.paid(order.order_id, at.pay(PRICE)) for order in false]
    for answer in await each(at.deliver(order) for order in paid):
        answer.require(200)
    await at.finish_all(paid)
    await at.balances(orphaned=0)


async def test_two_orders_in_one_transaction_get_one_transfer_each(
    one: Shop, chain: DevChain, chance: Random
) -> None:
    payee, ids = one.payee.address, await each(one.quote() for _ in range(3 * ROUNDS))
    thirds, pairs = [], []
    for start in range(0, 3 * ROUNDS, 3):
        amounts = [PRICE, PRICE + chance.choice([0, 1, 77])]
        chance.shuffle(amounts)
        tx_hash = chain.transfer_many_in_one_tx(
            one.buyer.private_key, [(payee, amount) for amount in amounts]
        )
        *pair, third = (one.paid(order_id, tx_hash) for order_id in ids[start : start + 3])
        thirds.append(third)
        pairs += pair
    for answer in await each(one.deliver(order) for order in pairs):
        answer.require(200)
    answers = await each(one.deliver(order) for order in thirds)

    assert reasons(answers) == {(402, "already_claimed"): ROUNDS}
    await one.finish_all(pairs)
    assert kinds(one, pairs)["paid"] == 2 * ROUNDS
    assert kinds(one, thirds).keys() == {"quoted", "command_refused"}
    await one.balances(orphaned=0)
    say("two orders in one transaction", paid=2 * ROUNDS, third_orders_refused=ROUNDS, doubled=0)


async def test_a_log_that_shifts_in_its_block_pays_the_same_order_and_no_other(
    one: Shop, chain: DevChain
) -> None:
    stranger = funded_account(chain, "in front", PRICE)
    shifted, orders, others = 0, [], []
    for _ in range(ROUNDS):
        order, other = await one.buy(), await one.quote()
        (await one.deliver(order)).require(200)
        [before] = chain.wait_for_receipt(order.tx_hash)["logs"]
        in_front = chain.transfer(stranger.key, stranger.address, 1)

        moved = [(chain.raw_transaction(tx_hash), 0) for tx_hash in (in_front, order.tx_hash)]
        chain.reorg(2, moved)

        [after] = chain.wait_for_receipt(order.tx_hash)["logs"]
        shifted += int(after["logIndex"], 16) > int(before["logIndex"], 16)
        orders.append(order)
        others.append(one.paid(other, order.tx_hash))
        chain.mine()
    await each(until(partial(restored, one, order), "in its new block") for order in orders)
    answers = await each(one.deliver(order) for order in others)

    assert shifted == ROUNDS
    assert reasons(answers) == {(402, "already_claimed"): ROUNDS}
    await one.finish_all(orders)
    seen = kinds(one, orders)
    assert (seen["paid"], seen["payment_restored"]) == (ROUNDS, ROUNDS)
    await one.balances(orphaned=0)
    say("log-index shift", shifted=shifted, paid_once=ROUNDS, paid_twice=0)


async def restored(at: Shop, order: Bought) -> bool:
    seen = at.kinds(order)
    return seen["payment_restored"] == seen["payment_orphaned"] == 1


async def test_a_node_that_lags_delays_and_denies_nothing(
    one: Shop, nodes: list[RpcProxy], chain: DevChain, chance: Random
) -> None:
    ids = await quotes(one)
    laggard = Laggard(chain)
    nodes[0].rewrite(laggard)
    behind = laggard.head
    orders = [one.paid(each, one.pay(PRICE)) for each in ids]
    answers = await each(one.deliver(order) for order in orders)
    chain.mine(8)
    await looks(nodes[0], 20)
    assert reasons(answers) == {(402, None): ROUNDS}
    assert kinds(one, orders) == {"quoted": ROUNDS, "payment_claimed": ROUNDS}

    # It comes nearer by leaps, and each time it shows a few more of them.
    while laggard.head < chain.head():
        laggard.head += chance.randrange(1, 8)
        await looks(nodes[0], 3)
    nodes[0].restore()
    await one.finish_all(orders)

    seen = kinds(one, orders)
    assert (seen["paid"], seen.keys() & FAILED) == (ROUNDS, set())
    await one.balances(orphaned=0)
    say("node lag", blocks_behind=chain.head() - behind, denied=0, paid_at_last=ROUNDS)


async def test_cancelled_requests_to_a_hung_node_leave_the_service_as_it_was(
    one: Shop, nodes: list[RpcProxy]
) -> None:
    orders = [one.paid(each, one.pay(PRICE)) for each in await quotes(one)]
    nodes[0].hang()
    waiting = [asyncio.create_task(one.deliver(order)) for order in orders for _ in range(5)]
    await looks(nodes[0], 1)
    for task in waiting:
        task.cancel()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    cancelled = sum(isinstance(end, asyncio.CancelledError) for end in ends)
    answers = await each(one.deliver(order) for order in orders)
    assert {answer.status for answer in answers} == {503}
    assert kinds(one, orders) == {"quoted": ROUNDS, "payment_claimed": ROUNDS}

    nodes[0].restore()
    await one.finish_all(orders)

    assert cancelled > ROUNDS
    assert kinds(one, orders)["paid"] == ROUNDS
    await one.balances(orphaned=0)
    say("hung node", requests_cancelled=cancelled, claims_kept=ROUNDS, paid_at_last=ROUNDS)


async def test_a_quote_taken_after_a_transfer_gets_nothing_of_it(
    one: Shop, nodes: list[RpcProxy], chain: DevChain, chance: Random
) -> None:
    taken, meant = [], []
    for number in range(ROUNDS):
        payer = account_of(one, f"payer {number}", PRICE)
        tx_hash = chain.transfer(payer.private_key, one.payee.address, PRICE)
        chain.mine(chance.randrange(2))
        taken.append(bought(one, payer, await quote_of(payer), tx_hash))
    await read_on(nodes[0])
    chain.mine(4)
    await read_on(nodes[0])
    assert kinds(one, taken) == {"quoted": ROUNDS}

    # The payer's own word names the order, be it a quote that came later.
    for order in taken:
        payer = account_of(one, f"payer {len(meant)}", 0)
        meant.append(bought(one, payer, await quote_of(payer), order.tx_hash))
    for answer in await each(one.deliver(order) for order in meant):
        answer.require(200)
    await one.balances(orphaned=0)
    assert kinds(one, taken) == {"quoted": ROUNDS}
    say("quote after the transfer", taken=0, paid_by_notice=ROUNDS)


def account_of(at: Shop, name: str, micros: int) -> Buyer:
    """Return the same wallet for the same name; anybody may ask for a quote in its name."""
    key = "0x" + funded_account(at.chain, name, micros).key.hex()
    return Buyer(at.buyer._session, at.service.url, key)


async def quote_of(payer: Buyer) -> str:
    return str((await payer.request("text_echo", "some words")).require(200)["order_id"])


def bought(at: Shop, payer: Buyer, order_id: str, tx_hash: str) -> Bought:
    notice = payer.notice(order_id, tx_hash, NETWORK)
    return Bought(order_id, tx_hash, at.chain.raw_transaction(tx_hash), notice)


# Several endpoints


TRUE = [lies.more_money, lies.less_money, lies.another_sender, lies.reverted, lies.bare]
"""Lies about a payment that was made."""


def invented(at: Shop) -> Lie:
    """Let a transaction that failed show a payment."""

    def lie(receipt: Json) -> None:
        sender, payee = (
            "0x" + "0" * 24 + each[2:].lower() for each in (at.buyer.address, at.payee.address)
        )
        log = {
            "address": at.chain.usdc_address.lower(),
            "topics": [TRANSFER_TOPIC, sender, payee],
            "data": f"0x{PRICE:064x}",
            "logIndex": "0x0",
            "transactionHash": receipt["transactionHash"],
            "blockHash": receipt["blockHash"],
            "blockNumber": receipt["blockNumber"],
            "removed": False,
        }
        receipt |= {"status": "0x1", "logs": [log]}
        lies.with_filter(receipt)

    return lie


async def test_of_two_endpoints_that_disagree_neither_is_believed(
    two: Shop, nodes: list[RpcProxy], chance: Random
) -> None:
    liars = [Liar(), Liar()]
    for node, liar in zip(nodes, liars, strict=False):
        node.rewrite(liar)
    ids = await quotes(two)
    failing = [two.paid(each, fail(two)) for each in ids[: ROUNDS // 2]]
    paid = [two.paid(each, two.pay(PRICE)) for each in ids[ROUNDS // 2 :]]
    for order in failing:
        chance.choice(liars).lies[order.tx_hash] = invented(two)
    for order in paid:
        chance.choice(liars).lies[order.tx_hash] = chance.choice(TRUE)

    answers = await each(two.deliver(order) for order in failing + paid)
    await looks(nodes[0], 20)
    assert {answer.status for answer in answers} == {503}
    assert kinds(two, failing + paid) == {"quoted": ROUNDS, "payment_claimed": ROUNDS}

    for liar in liars:
        liar.lies.clear()
    await two.finish_all(paid)

    async def closed() -> bool:
        return kinds(two, failing)["payment_claim_closed"] == len(failing)

    await until(closed, "what never paid is closed")
    assert kinds(two, failing).keys().isdisjoint(PAID)
    assert kinds(two, paid)["paid"] == len(paid)
    await two.balances(orphaned=0)
    told = sum(liar.told for liar in liars)
    say(
        "two that disagree", lies_told=told, believed=0, paid_at_last=len(paid), closed=len(failing)
    )


async def test_of_three_endpoints_one_liar_changes_nothing(
    three: Shop, nodes: list[RpcProxy], chance: Random
) -> None:
    liars = [Liar(), Liar(), Liar()]
    for node, liar in zip(nodes, liars, strict=True):
        node.rewrite(liar)
    ids = await quotes(three)
    failing = [three.paid(each, fail(three)) for each in ids[: ROUNDS // 2]]
    paid = [three.paid(each, three.pay(PRICE)) for each in ids[ROUNDS // 2 :]]
    for order in failing:
        chance.choice(liars).lies[order.tx_hash] = invented(three)
    for order in paid:
        chance.choice(liars).lies[order.tx_hash] = chance.choice(TRUE)

    answers = await each(three.deliver(order) for order in paid)
    refused = await each(three.deliver(order) for order in failing)

    assert {answer.status for answer in answers} == {200}
    assert reasons(refused) == {(402, "reverted"): len(failing)}
    await three.finish_all(paid)
    assert kinds(three, failing).keys() == {"quoted", "command_refused"}
    await three.balances(orphaned=0)
    told = sum(liar.told for liar in liars)
    say("one liar of three", lies_told=told, believed=0, paid=len(paid), refused=len(failing))
