"""A node that fails: claims are kept meanwhile, and afterwards they resolve by themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.faults.shop import PRICE, Bought, Shop, shop, until
from tests.support.chain import account_named
from tests.support.service import Service

ORDERS = 20
WATCHED = 3
LATE_ORDERS = 10
REPEATS = 3
TIMEOUT_SECONDS = 1.0
CLAIMED = {"quoted": 1, "payment_claimed": 1}
WRONG = {"payment_claim_closed", "payment_orphaned", "delivery_failed", "command_refused"}

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


def another_chain(pairs: Pairs) -> None:
    for asked, answer in pairs:
        if asked["method"] == "eth_chainId":
            answer["result"] = "0x1"


def nonsense(pairs: Pairs) -> None:
    for _, answer in pairs:
        answer["result"] = {"number": "many", "hash": None, "blockNumber": "0x"}


def no_answers(pairs: Pairs) -> None:
    pairs.clear()


def errors(pairs: Pairs) -> None:
    for _, answer in pairs:
        answer.pop("result", None)
        answer["error"] = {"code": -32000, "message": "internal error"}


Fault = Callable[[RpcProxy], None]
FAULTS: dict[str, Fault] = {
    "hangs": RpcProxy.hang,
    "is cut off": RpcProxy.cut,
    "asks for fewer requests": RpcProxy.status_429,
    "answers late": lambda proxy: proxy.delay(2 * TIMEOUT_SECONDS),
    "names another chain": lambda proxy: proxy.rewrite(another_chain),
    "talks nonsense": lambda proxy: proxy.rewrite(nonsense),
    "leaves answers out": lambda proxy: proxy.rewrite(no_answers),
    "answers with errors": lambda proxy: proxy.rewrite(errors),
}


@pytest.fixture(scope="module")
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest.fixture
def silent(chain: DevChain) -> Iterator[RpcProxy]:
    """Run a proxy for the service of one test."""
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider(
    tmp_path_factory: pytest.TempPathFactory, chain: DevChain, proxy: RpcProxy
) -> AsyncIterator[Shop]:
    folder, timeout = tmp_path_factory.mktemp("provider"), str(TIMEOUT_SECONDS)
    async with shop(folder, chain, proxy.url, "rpc", rpc_timeout=timeout) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_the_node_fails_claims_are_kept_and_afterwards_they_resolve(
    provider: Shop, proxy: RpcProxy, fault: str
) -> None:
    watched = [await provider.buy() for _ in range(WATCHED)]
    for order in watched:
        await provider.deliver(order)
        await until(partial(provider.is_word, order, "delivered"), "delivered")

    begun = len(proxy.calls)
    FAULTS[fault](proxy)
    ids = await asyncio.gather(*(provider.quote() for _ in range(ORDERS)))
    claimed = [provider.paid(order_id, provider.pay(PRICE)) for order_id in ids]
    await asyncio.gather(*(_kept_and_unchanged(provider, order) for order in claimed))
    calls = len(proxy.calls)
    asked, answers = calls - begun, ORDERS * (1 + REPEATS)
    # A node that asks for fewer requests gets fewer: not one for each notice, quote and look.
    assert fault != "asks for fewer requests" or asked < answers
    await until(lambda: _asked(proxy, calls + 1), "the service goes on asking")
    # Neither a false payment, nor a false failure, nor a false reorganisation.
    assert [provider.kinds(order) for order in claimed] == [CLAIMED] * ORDERS
    assert not any(provider.kinds(order)["payment_orphaned"] for order in watched)
    assert all([await provider.is_word(order, "quoted") for order in claimed])

    proxy.restore()
    await provider.finish_all(claimed)
    assert all(provider.kinds(order)["paid"] == 1 for order in claimed)
    for order in (*watched, *claimed):
        assert provider.kinds(order).keys().isdisjoint(WRONG)
    await _repeats_change_nothing(provider, claimed[0])
    await provider.balances(orphaned=0)
    figures = f"{ORDERS} claims kept, {ORDERS} paid at last, 0 failed"
    print(f"the node {fault}: {answers} answers 503, {asked} requests, {figures}")  # noqa: T201 - figures


async def _kept_and_unchanged(provider: Shop, order: Bought) -> None:
    """Give notice several times: the claim is kept once, and every answer says so."""
    answers = [await provider.deliver(order) for _ in range(1 + REPEATS)]
    for answer in answers:
        assert answer.status == 503
        assert answer.body["retryable"] is True
    places = {answer.body["ledger"]["position"] for answer in answers}  # type: ignore[index]
    assert len(places) == 1
    assert provider.kinds(order) == CLAIMED
    assert await provider.outcome(order) == "pending"


async def _repeats_change_nothing(provider: Shop, order: Bought) -> None:
    before = _told(provider, order)
    for _ in range(REPEATS):
        answer = await provider.deliver(order)
        assert answer.status == 200  # its sender was told to ask again, and it is paid by now
        assert answer.body["status"] == "accepted"
    assert _told(provider, order) == before


def _told(provider: Shop, order: Bought) -> dict[str, int]:
    """Return the order's events, but for those that the chain brings by itself."""
    return {k: n for k, n in provider.kinds(order).items() if k != "payment_finalized"}


async def _asked(proxy: RpcProxy, times: int) -> bool:
    return len(proxy.calls) >= times


@pytest.mark.parametrize("fault", ["hangs", "is cut off"])
async def test_a_service_that_starts_without_its_chain_keeps_claims_until_it_is_there(
    tmp_path: Path, chain: DevChain, silent: RpcProxy, fault: str
) -> None:
    FAULTS[fault](silent)
    name, timeout = f"silent start {fault}", str(TIMEOUT_SECONDS)
    async with shop(tmp_path, chain, silent.url, name, rpc_timeout=timeout) as provider:
        health = (await provider.buyer.get("/health")).require(200)
        assert health["payments"] == "chain_unknown"
        orders = [await provider.buy() for _ in range(LATE_ORDERS)]
        await asyncio.gather(*(_kept_and_unchanged(provider, order) for order in orders))

        silent.restore()
        await provider.finish_all(orders)
        assert (await provider.buyer.get("/health")).require(200)["payments"] == "ready"
    figures = f"{LATE_ORDERS} claims kept, {LATE_ORDERS} paid at last, 0 failed"
    print(f"the node {fault} at the start: {figures}")  # noqa: T201 - figures


async def test_a_service_does_not_start_on_another_chain(tmp_path: Path, silent: RpcProxy) -> None:
    silent.rewrite(another_chain)
    payee = account_named("payee of another chain").address
    service = Service(tmp_path, silent.url, payment_address=payee)

    with pytest.raises(AssertionError, match="MISCONFIGURED"):
        await asyncio.to_thread(service.start)

    service._end(0)  # type: ignore[arg-type]  # it has ended by itself; this only lets go of it
