import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.faults.shop import Bought, Shop, shop, until
from tests.support.chain import account_named
from tests.support.service import Service

ORDERS = 3
REPEATS = 3
TIMEOUT_SECONDS = 0.3
CLAIMED = {"quoted": 1, "payment_claimed": 1}
WRONG = {"payment_claim_closed", "payment_orphaned", "delivery_failed", "command_refused"}

pytestmark = pytest.mark.slow


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


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


@pytest.fixture
async def provider(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    name = request.node.name
    async with shop(tmp_path, chain, proxy.url, name, rpc_timeout=str(TIMEOUT_SECONDS)) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_the_node_fails_claims_are_kept_and_afterwards_they_resolve(
    provider: Shop, proxy: RpcProxy, fault: str
) -> None:
    watched = [await provider.buy() for _ in range(ORDERS)]
    for order in watched:
        (await provider.deliver(order)).require(200)
        await until(lambda o=order: provider.is_word(o, "delivered"), "delivered")  # type: ignore[misc]

    FAULTS[fault](proxy)
    claimed = [await provider.buy() for _ in range(ORDERS)]
    for order in claimed:
        await _kept_and_unchanged(provider, order)
    calls = len(proxy.calls)
    await until(lambda: _asked(proxy, calls + 3), "the service goes on asking")
    # Neither a false payment, nor a false failure, nor a false reorganisation.
    assert [provider.kinds(order) for order in claimed] == [CLAIMED] * ORDERS
    assert not any(provider.kinds(order)["payment_orphaned"] for order in watched)
    assert all([await provider.is_word(order, "quoted") for order in claimed])

    proxy.restore()
    for order in claimed:
        await provider.finish(order)
        assert provider.kinds(order)["paid"] == 1
    for order in (*watched, *claimed):
        assert provider.kinds(order).keys().isdisjoint(WRONG)
    await _repeats_change_nothing(provider, claimed[0])
    await provider.balances(orphaned=0)


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
    size = provider.size()
    for _ in range(REPEATS):
        answer = await provider.deliver(order)
        assert answer.status == 409
        assert answer.body["error"] == "DUPLICATE_DELIVERY_REQUEST"
        assert answer.body["details"]["first_answer"]["status"] == "accepted"  # type: ignore[index]
    assert provider.size() == size


async def _asked(proxy: RpcProxy, times: int) -> bool:
    return len(proxy.calls) >= times


@pytest.mark.parametrize("fault", ["hangs", "is cut off", "answers late"])
async def test_a_service_that_starts_without_its_chain_keeps_claims_until_it_is_there(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy, fault: str
) -> None:
    FAULTS[fault](proxy)
    name = f"silent start {fault}"
    async with shop(tmp_path, chain, proxy.url, name, rpc_timeout=str(TIMEOUT_SECONDS)) as provider:
        health = (await provider.buyer.get("/health")).require(200)
        assert health["payments"] == "chain_unknown"
        orders = [await provider.buy() for _ in range(ORDERS)]
        for order in orders:
            await _kept_and_unchanged(provider, order)

        proxy.restore()
        for order in orders:
            await provider.finish(order)
        assert (await provider.buyer.get("/health")).require(200)["payments"] == "ready"


async def test_a_service_does_not_start_on_another_chain(
    tmp_path: Path, chain: DevChain, proxy: RpcProxy
) -> None:
    proxy.rewrite(another_chain)
    payee = account_named("payee of another chain").address
    service = Service(tmp_path, proxy.url, payment_address=payee)

    with pytest.raises(AssertionError, match="MISCONFIGURED"):
        await asyncio.to_thread(service.start)

    service._end(0)  # type: ignore[arg-type]  # it has ended by itself; this only lets go of it
