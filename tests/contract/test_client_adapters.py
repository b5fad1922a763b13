"""The A2A and LangGraph adapters buy across both endpoint profiles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio

from scripts.devchain import DevChain
from tests.clients.adapters import AdapterClient, AdapterError
from tests.clients.wallet import Wallet
from tests.contract.client_shop import BY_HAND, Pauses, hand_in, shop, wallet
from tests.contract.kit import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

AGENTS = ["A2A client", "LangGraph client"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with shop(tmp_path_factory.mktemp("adapters"), chain) as running:
        yield running


def adapter(service: Service, buyer: Wallet, agent: str = AGENTS[0]) -> AdapterClient:
    numbers = count(1)

    def nonce() -> str:
        return f"nonce-{next(numbers):012}"

    return AdapterClient(service.session, service.url, buyer, Pauses(service), nonce, agent)


@pytest.mark.parametrize("agent", AGENTS)
async def test_an_adapter_buys(service: Service, chain: DevChain, agent: str) -> None:
    client = adapter(service, wallet(chain, agent), agent)
    offered = {entry["type"] for entry in (await client.get_catalog())["services"]}
    quote = await client.request_quote("summary_card", "one\ntwo", 5)
    tx_hash = await client.pay(quote)

    accepted = await client.deliver(client.notice(quote, tx_hash))
    status = await client.wait_for_end(quote["order_id"])
    deliverable = (await client.download(quote["order_id"]))["deliverable"]

    assert "summary_card" in offered
    assert accepted["order_id"] == quote["order_id"]
    assert status["status"] == "delivered"
    assert status["service_type"] == deliverable["type"] == "summary_card"
    assert isinstance(deliverable["content"], str)
    assert "words: 2" in deliverable["content"]


async def test_an_adapter_polls_until_a_worker_is_done(service: Service, chain: DevChain) -> None:
    client = adapter(service, wallet(chain, "adapter polls"))
    quote = await client.request_quote(BY_HAND, "do it", 1)
    await client.deliver(client.notice(quote, await client.pay(quote)))
    with pytest.raises(AdapterError) as raised:
        await client.download(quote["order_id"])

    polling = asyncio.create_task(client.wait_for_end(quote["order_id"]))
    await hand_in(service, quote["order_id"], "done")

    assert raised.value.status == 404
    assert (await polling)["status"] == "delivered"


async def test_failed_work_ends_the_polling(service: Service, chain: DevChain) -> None:
    client = adapter(service, wallet(chain, "adapter failed"))
    quote = await client.request_quote("breaks", "do it", 1)
    await client.deliver(client.notice(quote, await client.pay(quote)))

    assert (await client.wait_for_end(quote["order_id"]))["status"] == "delivery_failed"


async def test_a_second_notice_is_a_duplicate_with_the_first_answer_in_it(
    service: Service, chain: DevChain
) -> None:
    client = adapter(service, wallet(chain, "adapter twice"))
    quote = await client.request_quote("text_echo", "hello", 1)
    tx_hash = await client.pay(quote)
    first = await client.deliver(client.notice(quote, tx_hash))
    kinds = service.kinds(quote["order_id"])

    with pytest.raises(AdapterError) as raised:
        await client.deliver(client.notice(quote, tx_hash))

    assert (raised.value.status, raised.value.body["error"]) == (409, "DUPLICATE_DELIVERY_REQUEST")
    told = raised.value.body["details"]["first_answer"]
    assert {name: told[name] for name in first} == first
    assert service.kinds(quote["order_id"])[: len(kinds)] == kinds


async def test_a_nonce_counts_once_for_an_order(service: Service, chain: DevChain) -> None:
    """A notice of a transaction that is not there yet is kept, and with it the nonce is used."""
    client = adapter(service, wallet(chain, "adapter nonce"))
    quote = await client.request_quote("text_echo", "hello", 1)
    nonce = "the-only-nonce-there-is"
    codes = []
    for tx_hash in ("0x" + "ab" * 32, "0x" + "cd" * 32):
        with pytest.raises(AdapterError) as raised:
            await client.deliver(client.notice(quote, tx_hash, nonce))
        codes.append(raised.value.body["error"])
    other = await client.request_quote("text_echo", "hello", 1)

    accepted = await client.deliver(client.notice(other, await client.pay(other), nonce))

    assert codes == ["PAYMENT_NOT_VERIFIED", "NONCE_REUSED"]
    assert accepted["status"] == "accepted"
