"""The older Python client and its receiver, on the only network that it knows: Base itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import pytest
import pytest_asyncio

from scripts.devchain import BASE, DevChain
from tests.clients.legacy import LegacyClient, LegacyError
from tests.clients.receivers import OldReceiver, listening
from tests.clients.wallet import Wallet
from tests.contract.client_shop import BY_HAND, Pauses, hand_in, shop, wallet
from tests.contract.kit import WAIT_SECONDS, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = "first line\nsecond line"


@pytest.fixture(scope="module")
def mainnet() -> Iterator[DevChain]:
    """Run a chain with the number of Base itself; its USDC is as worthless as the other's."""
    with DevChain(chain_id=BASE, slots_in_an_epoch=2) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    mainnet: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("legacy")
    async with shop(folder, mainnet, network="base-mainnet") as running:
        yield running


def legacy(service: Service, buyer: Wallet, **more: object) -> LegacyClient:
    return LegacyClient(service.session, service.url, buyer, Pauses(service), **more)  # type: ignore[arg-type]


async def ordered(client: LegacyClient, kind: str) -> str:
    """Return the id of a paid order whose notice was accepted."""
    quote = await client.request_service(kind, WORDS, 5)
    tx_hash = await client.pay(quote)
    await client.request_delivery(client.notice(quote["order_id"], tx_hash))
    return str(quote["order_id"])


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("kind", ["summary_card", "text_echo", "word_count"])
async def test_the_client_buys_and_its_receiver_takes_the_push(
    service: Service, mainnet: DevChain, kind: str, *, bare: bool
) -> None:
    async with listening(OldReceiver) as receiver:
        client = legacy(
            service, wallet(mainnet, f"legacy {bare}"), receiver=receiver.url, bare=bare
        )
        assert kind in {entry["type"] for entry in (await client.get_catalog())["services"]}
        order_id = await ordered(client, kind)
        async with asyncio.timeout(WAIT_SECONDS):
            pushed = await receiver.taken.get()
        found = await client.poll_and_download(order_id)

    assert [status for status, _ in receiver.answers] == [200]
    assert client.failed_downloads == []
    assert client.statuses[-1] == "delivered"
    assert set(client.statuses) <= {"processing", "delivered"}
    form = {"summary_card": "markdown", "word_count": "json"}.get(kind, "text")
    assert (found["type"], found["format"]) == (kind, form)
    inner = pushed["deliverable"]["content"]
    assert (inner["body"] if form == "markdown" else inner) == found["words"]
    assert pushed["content_hash"] == sha256(found["words"].encode()).hexdigest()
    await service.recorded(order_id, 6)
    assert service.kinds(order_id)[:5] == ["quoted", "paid", "processing", "ready", "posted"]


async def test_without_a_receiver_the_client_polls_and_downloads(
    service: Service, mainnet: DevChain
) -> None:
    async with listening(OldReceiver) as receiver:
        gone = receiver.url
    client = legacy(service, wallet(mainnet, "legacy nobody"), receiver=gone)

    order_id = await ordered(client, "summary_card")
    found = await client.poll_and_download(order_id)

    assert "first line" in found["words"]
    assert client.statuses[-1] == "delivery_failed"
    assert client.failed_downloads == []


async def test_a_receiver_on_this_machine_is_not_called_unless_the_provider_allows_it(
    mainnet: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("public")
    async with (
        shop(folder, mainnet, network="base-mainnet", push_allow_private=False) as service,
        listening(OldReceiver) as receiver,
    ):
        client = legacy(service, wallet(mainnet, "legacy private"), receiver=receiver.url)
        order_id = await ordered(client, "text_echo")
        found = await client.poll_and_download(order_id)

    assert receiver.answers == []
    assert (client.statuses[-1], found["words"]) == ("delivery_failed", WORDS)


async def test_the_client_waits_for_a_worker(service: Service, mainnet: DevChain) -> None:
    async with listening(OldReceiver) as receiver:
        client = legacy(service, wallet(mainnet, "legacy waits"), receiver=receiver.url)
        order_id = await ordered(client, BY_HAND)
        polling = asyncio.create_task(client.poll_and_download(order_id))
        await hand_in(service, order_id, "by hand")
        assert (await polling)["words"] == "by hand"

    assert isinstance(client.pause, Pauses)
    assert set(client.pause.asked) <= {30.0}


async def test_a_download_too_early_is_a_failure_that_passes(
    service: Service, mainnet: DevChain
) -> None:
    client = legacy(service, wallet(mainnet, "legacy early"))
    quote = await client.request_service(BY_HAND, WORDS, 5)

    with pytest.raises(LegacyError) as raised:
        await client.download(quote["order_id"])

    assert raised.value.status == 404
    assert await client.status(quote["order_id"]) == "quoted"


async def test_a_second_notice_is_refused_and_the_order_goes_on(
    service: Service, mainnet: DevChain
) -> None:
    async with listening(OldReceiver) as receiver:
        client = legacy(service, wallet(mainnet, "legacy twice"), receiver=receiver.url)
        quote = await client.request_service("text_echo", WORDS, 5)
        notice = client.notice(quote["order_id"], await client.pay(quote))
        await client.request_delivery(notice)
        with pytest.raises(LegacyError) as raised:
            await client.request_delivery(notice)
        found = await client.poll_and_download(quote["order_id"])

    assert raised.value.status == 409
    assert "DUPLICATE_DELIVERY_REQUEST" in str(raised.value)
    assert found["words"] == WORDS


async def test_the_client_is_told_plainly_that_a_provider_is_on_another_network(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with shop(tmp_path_factory.mktemp("sepolia"), chain) as service:
        client = legacy(service, wallet(chain, "legacy sepolia"))
        quote = await client.request_service("text_echo", WORDS, 5)
        with pytest.raises(LegacyError) as raised:
            await client.request_delivery(client.notice(quote["order_id"], "0x" + "ab" * 32))

    assert raised.value.status == 400
    assert "INVALID_NETWORK" in str(raised.value)


async def test_an_unknown_service_and_a_strangers_signature_are_refused(
    service: Service, mainnet: DevChain
) -> None:
    client = legacy(service, wallet(mainnet, "legacy refused"))
    stranger = legacy(service, wallet(mainnet, "legacy stranger"))
    with pytest.raises(LegacyError) as raised:
        await client.request_service("nothing_like_it", WORDS, 5)
    assert raised.value.status == 400
    quote = await client.request_service("text_echo", WORDS, 5)
    tx_hash = await client.pay(quote)

    with pytest.raises(LegacyError) as raised:
        await stranger.request_delivery(stranger.notice(quote["order_id"], tx_hash))

    assert raised.value.status == 401
    with pytest.raises(LegacyError) as raised:
        await client.status("ivxp-nonexistent")
    assert raised.value.status == 404
