"""Several endpoints: what they agree on is a fact, what they contradict each other on is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession
from eth_account.signers.local import LocalAccount
from structlog.testing import CapturingLogger

from ledger.chain import Chain
from ledger.chain_transfers import Way
from ledger.finding import ChainView
from ledger.rpc import RpcEndpoint, RpcPool
from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.contract.kit import ECHO_MICROS
from tests.faults.lies import Laggard
from tests.support.chain import account_named, funded_account
from tests.support.watching import open_shop

USDC = 10**6
Lie = Callable[[Pairs], None]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def payee(name: str) -> str:
    return str(account_named(name + ": payee").address)


@pytest.fixture
def payer(chain: DevChain, name: str) -> LocalAccount:
    return funded_account(chain, name, 100 * USDC)


@pytest.fixture
def nodes(chain: DevChain) -> Iterator[list[RpcProxy]]:
    """Three providers of one chain, each with faults of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(RpcProxy(chain.rpc_url)) for _ in range(3)]


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def reader(
    chain: DevChain, payee: str, session: ClientSession, nodes: list[RpcProxy], depth: int = 1
) -> Chain:
    endpoints = [RpcEndpoint(node.url, session, timeout_s=2) for node in nodes]
    return Chain(
        RpcPool(endpoints),
        chain_id=chain.chain_id,
        token=chain.usdc_address,
        payment_address=payee,
        min_confirmations=depth,
        safe_above_micros=None,
    )


def results(pairs: Pairs, method: str) -> Iterator[dict[str, object]]:
    for asked, answer in pairs:
        if asked["method"] == method and isinstance(answer.get("result"), dict):
            yield answer["result"]


def more_money(pairs: Pairs) -> None:
    for receipt in results(pairs, "eth_getTransactionReceipt"):
        receipt["logs"][0]["data"] = f"0x{99 * USDC:064x}"  # type: ignore[index]


def reverted(pairs: Pairs) -> None:
    for receipt in results(pairs, "eth_getTransactionReceipt"):
        receipt["status"] = "0x0"


def another_block(pairs: Pairs) -> None:
    for receipt in results(pairs, "eth_getTransactionReceipt"):
        receipt["blockHash"] = "0x" + "cd" * 32
        for log in receipt["logs"]:  # type: ignore[attr-defined]
            log["blockHash"] = "0x" + "cd" * 32
    for block in results(pairs, "eth_getBlockByNumber"):
        block["hash"] = "0x" + "cd" * 32


def no_receipt(pairs: Pairs) -> None:
    for asked, answer in pairs:
        if asked["method"] == "eth_getTransactionReceipt":
            answer["result"] = None


def no_receipt_and_another_block(pairs: Pairs) -> None:
    another_block(pairs)
    no_receipt(pairs)


LIES = [more_money, reverted, another_block]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("liar", [0, 1])
async def test_two_endpoints_that_disagree_show_nothing_and_raise_an_alarm(
    chain: DevChain,
    nodes: list[RpcProxy],
    session: ClientSession,
    payer: LocalAccount,
    payee: str,
    lie: Lie,
    liar: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    nodes[liar].rewrite(lie)
    alarms = CapturingLogger()
    monkeypatch.setattr("ledger.chain._log", alarms)

    finding = await reader(chain, payee, session, nodes[:2]).lookup(tx_hash)

    assert (finding.view, finding.transfers) == (ChainView.UNAVAILABLE, ())
    assert finding.detail.startswith("disagreement")
    assert [call.method_name for call in alarms.calls] == ["error"]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("liar", [0, 1, 2])
async def test_of_three_endpoints_one_liar_is_outvoted(
    chain: DevChain,
    nodes: list[RpcProxy],
    session: ClientSession,
    payer: LocalAccount,
    payee: str,
    lie: Lie,
    liar: int,
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    nodes[liar].rewrite(lie)

    finding = await reader(chain, payee, session, nodes).lookup(tx_hash)

    assert finding.view is ChainView.MINED
    assert [t.amount for t in finding.transfers] == [5 * USDC]


async def test_three_endpoints_with_three_stories_show_nothing(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    nodes[0].rewrite(more_money)
    nodes[1].rewrite(reverted)

    finding = await reader(chain, payee, session, nodes).lookup(tx_hash)

    assert finding.view is ChainView.UNAVAILABLE


async def test_of_two_endpoints_one_is_enough_while_the_other_is_silent(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    both = reader(chain, payee, session, nodes[:2])
    for silent in (nodes[0].cut, nodes[0].status_429, nodes[0].hang):
        silent()
        assert (await both.lookup(tx_hash)).view is ChainView.MINED
    nodes[0].restore()


async def test_of_three_endpoints_one_alone_is_not_enough(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    three = reader(chain, payee, session, nodes)
    nodes[0].cut()
    assert (await three.lookup(tx_hash)).view is ChainView.MINED

    nodes[1].cut()
    assert (await three.lookup(tx_hash)).view is ChainView.UNAVAILABLE


async def test_a_missing_receipt_is_no_fact_while_another_endpoint_knows_it(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    nodes[0].rewrite(no_receipt)
    assert (await reader(chain, payee, session, nodes[:2]).lookup(tx_hash)).view is ChainView.MINED
    assert (await reader(chain, payee, session, nodes).lookup(tx_hash)).view is ChainView.MINED

    nodes[1].rewrite(no_receipt)
    three = await reader(chain, payee, session, nodes).lookup(tx_hash)
    assert three.view is ChainView.UNAVAILABLE
    nodes[2].rewrite(no_receipt)
    three = await reader(chain, payee, session, nodes).lookup(tx_hash)
    assert three.view is ChainView.NOT_FOUND


async def test_an_endpoint_without_the_receipt_but_with_another_block_contradicts(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    nodes[1].rewrite(no_receipt_and_another_block)

    finding = await reader(chain, payee, session, nodes[:2]).lookup(tx_hash)

    assert finding.view is ChainView.UNAVAILABLE
    assert finding.detail.startswith("disagreement")


async def test_the_depth_counts_from_the_lowest_head(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)
    mined_in = chain.rpc("eth_getBlockByNumber", ["latest", False])
    chain.mine(3)

    def behind(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["params"] and asked["params"][0] in ("latest", "safe", "finalized"):
                answer["result"] = mined_in

    nodes[1].rewrite(behind)

    deep = reader(chain, payee, session, nodes[:2], depth=2)
    assert (await deep.lookup(tx_hash)).view is ChainView.SHALLOW
    nodes[1].restore()
    assert (await deep.lookup(tx_hash)).depth == 4


async def test_heights_that_endpoints_disagree_on_are_not_known(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payee: str
) -> None:
    head = chain.head()
    nodes[0].rewrite(another_block)

    two = await reader(chain, payee, session, nodes[:2]).blocks([head])
    three = await reader(chain, payee, session, nodes).blocks([head])

    truth = chain.rpc("eth_getBlockByNumber", [hex(head), False])["hash"]
    assert (dict(two.hashes), dict(three.hashes)) == ({}, {head: truth})


async def test_one_endpoint_is_asked_once_and_three_are_asked_twice(
    chain: DevChain, nodes: list[RpcProxy], session: ClientSession, payer: LocalAccount, payee: str
) -> None:
    tx_hash = chain.transfer(payer.key, payee, 5 * USDC)

    await reader(chain, payee, session, nodes).lookup(tx_hash)
    assert [len(node.calls) for node in nodes] == [1, 1, 0]
    await reader(chain, payee, session, nodes[2:]).lookup(tx_hash)
    assert len(nodes[2].calls) == 1


async def test_a_notice_waits_while_the_endpoints_disagree_and_counts_once_they_agree(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str
) -> None:
    urls = ",".join(node.url for node in nodes[:2])
    async with open_shop(tmp_path, chain, name, rpc_urls=urls) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        nodes[1].rewrite(reverted)
        tx_hash = shop.pay(buyer)

        answer = await shop.notice(buyer, order_id, tx_hash)
        await shop.look()
        assert answer.status == 503
        assert shop.kinds(order_id) == ["quoted", "payment_claimed"]

        nodes[1].restore()
        await shop.service.recorded(order_id, 4)

        assert shop.kinds(order_id)[:4] == ["quoted", "payment_claimed", "paid", "processing"]


async def test_a_log_that_only_one_endpoint_lists_is_found(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str
) -> None:
    def without_logs(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_getLogs":
                answer["result"] = []

    urls = ",".join(node.url for node in nodes)
    async with open_shop(tmp_path, chain, name, rpc_urls=urls) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        nodes[0].rewrite(without_logs)
        shop.pay(buyer)

        await shop.look()

        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


STRANGE = "0x" + "ee" * 32
"""A transaction that nobody sent."""


def invent(pairs: Pairs, *, tx_hash: str | None = None, block_too: bool = False) -> None:
    """List one more log, of a transaction that was never sent or of a real one; or even show it."""
    for asked, answer in pairs:
        if asked["method"] == "eth_getLogs" and answer.get("result"):
            log = answer["result"][0]
            amount = f"0x{ECHO_MICROS:064x}"
            index = hex(int(log["logIndex"], 16) + 7)
            false = {"transactionHash": tx_hash or log["transactionHash"], "data": amount}
            answer["result"].append({**log, "logIndex": index, **false})
        elif block_too and asked["method"] == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"]["transactions"].append(STRANGE)


INVENTIONS: dict[str, Lie] = {
    "a transaction": partial(invent, tx_hash=STRANGE),
    "a transaction and its place": partial(invent, tx_hash=STRANGE, block_too=True),
    "a log of a real transaction": invent,
}


@pytest.mark.parametrize("what", INVENTIONS)
async def test_what_one_of_three_endpoints_invents_ends_where_two_do_not_list_it(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str, what: str
) -> None:
    urls = ",".join(node.url for node in nodes)
    async with open_shop(tmp_path, chain, name, rpc_urls=urls) as shop:
        order_id = await shop.quote(shop.buyer(name))
        real = shop.pay(shop.buyer(name + ": stranger"), 7)
        nodes[1].rewrite(INVENTIONS[what])
        await shop.look()
        await shop.look_when_safe()
        await shop.look()

        assert shop.kinds(order_id) == ["quoted"]
        assert [t.tx_hash for t in shop.unattributed()] == [real]
        assert not any(shop.scan.waiting.values())


@pytest.mark.parametrize("what", ["a transaction and its place", "a log of a real transaction"])
async def test_what_the_only_endpoint_insists_on_is_neither_believed_nor_dropped(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str, what: str
) -> None:
    async with open_shop(tmp_path, chain, name, rpc_urls=nodes[0].url) as shop:
        order_id = await shop.quote(shop.buyer(name))
        real = shop.pay(shop.buyer(name + ": stranger"), 7)
        nodes[0].rewrite(INVENTIONS[what])
        for _ in range(3):
            await shop.look_when_safe()

        assert shop.kinds(order_id) == ["quoted"]
        assert [t.tx_hash for t in shop.unattributed()] == [real]
        waits = [w.tx_hash for w in shop.scan.waiting[Way.IN].values()]
        assert waits == [STRANGE if "place" in what else real]

        nodes[0].restore()
        await shop.look_when_safe()
        assert not any(shop.scan.waiting.values())


async def test_a_receipt_that_one_of_two_endpoints_lacks_is_waited_for(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str
) -> None:
    urls = ",".join(node.url for node in nodes[:2])
    async with open_shop(tmp_path, chain, name, rpc_urls=urls) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        shop.pay(buyer)
        # The one that lists the log has no receipt, the other one is behind.
        nodes[0].rewrite(no_receipt)
        nodes[1].rewrite(Laggard(chain, blocks=2))
        for _ in range(3):
            await shop.look_when_safe()
        assert shop.kinds(order_id) == ["quoted"]

        for node in nodes:
            node.restore()
        await shop.look_when_safe()
        assert shop.kinds(order_id)[:2] == ["quoted", "paid"]


async def test_an_invented_log_leads_to_nothing(
    tmp_path: Path, chain: DevChain, nodes: list[RpcProxy], name: str
) -> None:
    async with open_shop(tmp_path, chain, name, rpc_urls=nodes[0].url) as shop:
        buyer = shop.buyer(name)
        order_id = await shop.quote(buyer)
        real = shop.pay(buyer, ECHO_MICROS + 1)

        def invent(pairs: Pairs) -> None:
            for asked, answer in pairs:
                if asked["method"] == "eth_getLogs" and answer["result"]:
                    [log] = answer["result"]
                    answer["result"].append({**log, "transactionHash": "0x" + "ee" * 32})

        nodes[0].rewrite(invent)
        await shop.look_when_safe()

        assert shop.kinds(order_id) == ["quoted"]
        assert [w.tx_hash for each in shop.scan.waiting.values() for w in each.values()] == [real]
