import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.devchain import DevChain
from scripts.rpc_proxy import Pairs, RpcProxy
from tests.support.chain import account_named, funded_account, post, request

CHAIN_ID = request("eth_chainId")
CLOSED = (ConnectionError, http.client.RemoteDisconnected)


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


def test_a_healthy_proxy_passes_requests_and_batches_on(proxy: RpcProxy) -> None:
    assert post(proxy.url, CHAIN_ID)[1]["result"] == hex(84532)

    _, answers = post(proxy.url, [CHAIN_ID, request("eth_blockNumber", id=2)])

    assert [answer["id"] for answer in answers] == [1, 2]
    assert proxy.calls == [("eth_chainId",), ("eth_chainId", "eth_blockNumber")]


def test_a_cut_connection_is_closed_without_an_answer(proxy: RpcProxy) -> None:
    proxy.cut()
    with pytest.raises(CLOSED):
        post(proxy.url, CHAIN_ID)

    proxy.restore()
    assert post(proxy.url, CHAIN_ID)[0] == 200


def test_a_cut_reaches_requests_that_are_under_way(proxy: RpcProxy) -> None:
    proxy.hang()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, proxy.url, CHAIN_ID)
        proxy.wait_for_calls(1)

        proxy.cut()

        with pytest.raises(CLOSED):
            asked.result(timeout=10)


def test_a_hanging_proxy_accepts_and_never_answers(proxy: RpcProxy) -> None:
    proxy.hang()

    with pytest.raises(TimeoutError):
        post(proxy.url, CHAIN_ID, timeout_seconds=0.2)

    assert proxy.calls == [("eth_chainId",)]


def test_a_hanging_request_is_answered_after_the_fault_is_gone(proxy: RpcProxy) -> None:
    proxy.hang()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, proxy.url, CHAIN_ID)
        proxy.wait_for_calls(1)
        assert not asked.done()

        proxy.restore()

        assert asked.result(timeout=10)[0] == 200


def test_a_delayed_answer_comes_late_and_whole(proxy: RpcProxy) -> None:
    proxy.delay(0.2)
    started = time.monotonic()

    status, answer = post(proxy.url, CHAIN_ID)

    assert time.monotonic() - started >= 0.2
    assert (status, answer["result"]) == (200, hex(84532))


def test_a_throttling_proxy_answers_429(proxy: RpcProxy) -> None:
    proxy.status_429()

    assert post(proxy.url, CHAIN_ID)[0] == 429


def test_a_rewritten_chain_id_is_a_lie_only_to_those_behind_the_proxy(
    chain: DevChain, proxy: RpcProxy
) -> None:
    def lie(pairs: Pairs) -> None:
        for asked, answer in pairs:
            if asked["method"] == "eth_chainId":
                answer["result"] = "0x1"

    proxy.rewrite(lie)

    assert post(proxy.url, CHAIN_ID)[1]["result"] == "0x1"
    assert post(chain.rpc_url, CHAIN_ID)[1]["result"] == hex(84532)
    proxy.restore()
    assert post(proxy.url, CHAIN_ID)[1]["result"] == hex(84532)


def test_a_receipt_can_be_hidden_and_a_log_be_forged(chain: DevChain, proxy: RpcProxy) -> None:
    client = funded_account(chain, "forged log", 10)
    tx_hash = chain.transfer(client.key, account_named("forged log: payee").address, 5)
    ask = request("eth_getTransactionReceipt", tx_hash)

    def hide(pairs: Pairs) -> None:
        pairs[0][1]["result"] = None

    def forge(pairs: Pairs) -> None:
        pairs[0][1]["result"]["logs"][0]["data"] = hex(5_000_000)

    proxy.rewrite(hide)
    assert post(proxy.url, ask)[1]["result"] is None

    proxy.rewrite(forge)
    assert post(proxy.url, ask)[1]["result"]["logs"][0]["data"] == hex(5_000_000)


def test_an_answer_taken_out_of_a_batch_is_missing(proxy: RpcProxy) -> None:
    def drop_first(pairs: Pairs) -> None:
        del pairs[0]

    proxy.rewrite(drop_first)

    _, answers = post(proxy.url, [CHAIN_ID, request("eth_blockNumber", id=2)])

    assert [answer["id"] for answer in answers] == [2]


def test_a_dead_endpoint_looks_dead_through_the_proxy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with RpcProxy(dead) as proxy, pytest.raises(CLOSED):
            post(proxy.url, CHAIN_ID)


def test_a_stopped_proxy_refuses_connections_and_ends_its_hanging_requests(
    chain: DevChain,
) -> None:
    proxy = RpcProxy(chain.rpc_url)
    proxy.hang()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, proxy.url, CHAIN_ID)
        proxy.wait_for_calls(1)

        proxy.stop()

        with pytest.raises(CLOSED):
            asked.result(timeout=10)
    with pytest.raises(ConnectionRefusedError):
        post(proxy.url, CHAIN_ID)
