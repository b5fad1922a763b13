"""The hub: its page orders from a browser on another site, its server lists and claims."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256

import pytest
import pytest_asyncio

from scripts.devchain import BASE, DevChain
from tests.clients.browser import Browser, CorsBlocked
from tests.clients.hub import HubError, HubPage, HubServer
from tests.clients.middleman import Fault, between
from tests.clients.wallet import Wallet, utc_clock
from tests.contract.client_offerings import PICTURE
from tests.contract.client_shop import BY_HAND, Pauses, hand_in, poor_wallet, shop, wallet
from tests.contract.kit import NETWORK, MovableClock, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

HUB = "https://hub.example"
CHALLENGE = "ivxp-claim:8a5bd2b6-8a0d-4b6e-9d4f-0d5a3f0c2b11"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with shop(tmp_path_factory.mktemp("hub"), chain) as running:
        yield running


@pytest.fixture(scope="module")
def mainnet() -> Iterator[DevChain]:
    """Run a chain with the number of Base itself; its USDC is as worthless as the other's."""
    with DevChain(chain_id=BASE, slots_in_an_epoch=2) as running:
        yield running


def page(
    service: Service, buyer: Wallet | None, url: str | None = None, origin: str = HUB
) -> HubPage:
    browser = Browser(service.session, origin)
    return HubPage(browser, url or service.url, Pauses(service), buyer)


async def ordered(hub: HubPage, service_type: str, text: str = "hello") -> str:
    """Return the id of a paid order whose notice was accepted."""
    quote = await hub.request_quote(service_type, {"text": text})
    tx_hash = await hub.pay(quote)
    accepted = await hub.give_notice(quote["order_id"], tx_hash, NETWORK)
    assert accepted == {"order_id": quote["order_id"], "status": "accepted"}
    return str(quote["order_id"])


async def test_a_visitor_with_a_wallet_buys(service: Service, chain: DevChain) -> None:
    hub = page(service, wallet(chain, "hub"))

    order_id = await ordered(hub, "text_echo", "Grüße 🌍")
    word = await hub.wait_for_end(order_id)
    shown = await hub.download(order_id)

    assert word == "delivered"
    assert (shown.content.decode(), shown.failed) == ("Grüße 🌍", False)
    # Nothing fell back to the other endpoint profile.
    own = ["/delivery", "", "/deliverable"]
    assert {call.split()[1] for call in hub.calls[1:]} == {
        f"/ivxp/orders/{order_id}{tail}" for tail in own
    }
    assert len(hub.browser.preflights) == 2


async def test_a_visitor_who_connects_the_wallet_late_buys(
    service: Service, chain: DevChain
) -> None:
    hub = page(service, None)
    quote = await hub.request_quote("text_echo", {"text": "late"})
    hub.wallet = wallet(chain, "hub late")

    tx_hash = await hub.pay(quote)
    await hub.give_notice(quote["order_id"], tx_hash, NETWORK)

    assert await hub.wait_for_end(quote["order_id"]) == "delivered"
    assert (await hub.download(quote["order_id"])).content == b"late"


async def test_a_signature_of_another_wallet_takes_no_strangers_payment(
    service: Service, chain: DevChain
) -> None:
    """The hub's text names no transaction: who signs has to be who paid."""
    hub = page(service, None)
    quote = await hub.request_quote("text_echo", {"text": "mine"})
    hub.wallet = wallet(chain, "hub payer")
    tx_hash = await hub.pay(quote)
    thief = page(service, poor_wallet(chain, "hub thief"))

    with pytest.raises(HubError) as raised:
        await thief.give_notice(quote["order_id"], tx_hash, NETWORK)
    accepted = await hub.give_notice(quote["order_id"], tx_hash, NETWORK)

    assert raised.value.status == 402
    assert accepted["status"] == "accepted"


async def test_every_call_falls_back_where_the_provider_has_one_profile_only(
    service: Service, chain: DevChain
) -> None:
    def of_orders(_method: str, target: str) -> bool:
        return target.startswith("/ivxp/orders/")

    # The provider's own answer to a path that it does not have, with its own CORS headers.
    nowhere = Fault(of_orders, 100, redirected=lambda _target: "/ivxp/nowhere")
    async with between(service.session, service.url, nowhere) as middle:
        hub = page(service, wallet(chain, "hub fallback"), middle.url)
        quote = await hub.request_quote("text_echo", {"text": "fallback"})
        tx_hash = await hub.pay(quote)
        with pytest.raises(CorsBlocked):
            # An OPTIONS on a path that is not there is no permission to send.
            await hub.give_notice(quote["order_id"], tx_hash, NETWORK)
        nowhere.applies = lambda method, target: method != "OPTIONS" and of_orders(method, target)
        await hub.give_notice(quote["order_id"], tx_hash, NETWORK)
        word = await hub.wait_for_end(quote["order_id"])
        shown = await hub.download(quote["order_id"])

    assert (word, shown.content) == ("delivered", b"fallback")
    order_id = quote["order_id"]
    paths = [call.split()[1] for call in hub.calls]
    for fallback in ("/ivxp/deliver", f"/ivxp/status/{order_id}", f"/ivxp/download/{order_id}"):
        assert fallback in paths


async def test_a_notice_sent_again_is_accepted_again(service: Service, chain: DevChain) -> None:
    hub = page(service, wallet(chain, "hub again"))
    quote = await hub.request_quote("text_echo", {"text": "again"})
    tx_hash = await hub.pay(quote)
    first = await hub.give_notice(quote["order_id"], tx_hash, NETWORK)
    again = await hub.give_notice(quote["order_id"], tx_hash, NETWORK)

    assert first == again
    assert service.kinds(quote["order_id"]).count("paid") == 1


async def test_the_page_reads_the_answer_to_an_unknown_order(service: Service) -> None:
    hub = page(service, None)

    with pytest.raises(HubError) as raised:
        await hub.status("ivxp-nonexistent")

    assert raised.value.status == 404
    assert "ORDER_NOT_FOUND" in str(raised.value)
    assert hub.calls == ["GET /ivxp/orders/ivxp-nonexistent", "GET /ivxp/status/ivxp-nonexistent"]


async def test_a_download_too_early_is_a_readable_404_on_both_paths(
    service: Service, chain: DevChain
) -> None:
    hub = page(service, wallet(chain, "hub early"))
    order_id = await ordered(hub, BY_HAND)

    with pytest.raises(HubError) as raised:
        await hub.download(order_id)

    assert raised.value.status == 404
    assert "DELIVERABLE_NOT_READY" in str(raised.value)
    assert [call for call in hub.calls if "down" in call] == [f"GET /ivxp/download/{order_id}"]


async def test_the_page_polls_until_a_worker_is_done(service: Service, chain: DevChain) -> None:
    hub = page(service, wallet(chain, "hub polls"))
    order_id = await ordered(hub, BY_HAND)

    polling = asyncio.create_task(hub.wait_for_end(order_id))
    await hand_in(service, order_id, "done")

    assert await polling == "delivered"
    assert not (await hub.download(order_id)).failed


async def test_failed_work_is_shown_as_failed(service: Service, chain: DevChain) -> None:
    hub = page(service, wallet(chain, "hub failed"))

    assert await hub.wait_for_end(await ordered(hub, "breaks")) == "delivery_failed"


@pytest.mark.parametrize(
    ("service_type", "text", "content"),
    [
        ("picture", "", PICTURE),
        ("word_count", "one two", None),
        ("summary_card", "one two", None),
        ("text_echo", "QUJDRA==", b"QUJDRA=="),
        ("raw_echo", "no base64!", b"no base64!"),
        ("raw_echo", "QUJDRA==", b"QUJDRA=="),
        ("raw_echo", "data:text/plain;base64,QUJDRA==", b"data:text/plain;base64,QUJDRA=="),
    ],
)
async def test_the_page_decodes_and_checks_every_kind_of_content(
    service: Service, chain: DevChain, service_type: str, text: str, content: bytes | None
) -> None:
    hub = page(service, wallet(chain, "hub kinds"))
    order_id = await ordered(hub, service_type, text)
    await hub.wait_for_end(order_id)

    shown = await hub.download(order_id)

    assert not shown.failed
    if content is not None:
        assert shown.content == content
    if service_type == "word_count":
        assert json.loads(shown.content)["words"] == 2
    status = await hub.browser.fetch("GET", f"{service.url}/ivxp/orders/{order_id}", {})
    assert status.json()["content_hash"] == sha256(shown.content).hexdigest()


async def test_a_text_that_is_a_data_url_is_whole_and_yet_shown_as_failed(
    service: Service, chain: DevChain
) -> None:
    """The page decodes it whatever its type; no form of a text would come out as it is."""
    url = "data:text/plain;base64,QUJDRA=="
    hub = page(service, wallet(chain, "hub data url"))
    order_id = await ordered(hub, "text_echo", url)
    await hub.wait_for_end(order_id)

    answer = await hub.browser.fetch("GET", f"{service.url}/ivxp/download/{order_id}", {})

    assert (await hub.download(order_id)).failed
    assert answer.json()["content_hash"] == sha256(url.encode()).hexdigest()


async def test_a_price_above_the_pages_budget_of_one_is_refused_readably(
    service: Service, chain: DevChain
) -> None:
    hub = page(service, poor_wallet(chain, "hub budget"))

    with pytest.raises(HubError) as raised:
        await hub.request_quote("dear", {"text": "1.5 USDC"})

    assert raised.value.status == 400
    assert "BUDGET_TOO_LOW" in str(raised.value)
    assert (await hub.request_quote("dear", {}, 2))["quote"]["price_usdc"] == 1.5


async def test_an_identity_text_from_an_hour_ago_is_refused_and_can_be_signed_again(
    service: Service, chain: DevChain
) -> None:
    hub = page(service, wallet(chain, "hub stale"))
    quote = await hub.request_quote("text_echo", {"text": "stale"})
    tx_hash = await hub.pay(quote)
    clock = MovableClock(-3_600_000)
    hub.now = lambda: utc_clock().fromtimestamp(clock() / 1000, utc_clock().tzinfo)

    with pytest.raises(HubError) as raised:
        await hub.give_notice(quote["order_id"], tx_hash, NETWORK)
    hub.now = utc_clock
    accepted = await hub.give_notice(quote["order_id"], tx_hash, NETWORK)

    assert raised.value.status == 400
    assert "INVALID_TIMESTAMP" in str(raised.value)
    assert accepted["status"] == "accepted"


async def test_on_base_itself_the_page_says_base(
    mainnet: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mainnet")
    async with shop(folder, mainnet, network="base-mainnet") as service:
        hub = page(service, wallet(mainnet, "hub mainnet"))
        quote = await hub.request_quote("text_echo", {"text": "main"})
        tx_hash = await hub.pay(quote)
        with pytest.raises(HubError) as raised:
            await hub.give_notice(quote["order_id"], tx_hash, "base-sepolia")
        await hub.give_notice(quote["order_id"], tx_hash, "base")
        assert await hub.wait_for_end(quote["order_id"]) == "delivered"

    assert "INVALID_NETWORK" in str(raised.value)


async def test_a_listed_site_may_order_and_another_one_may_not(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("origins")
    origins = f"{HUB},http://localhost:3000"
    async with shop(folder, chain, cors_origins=origins) as service:
        hub = page(service, wallet(chain, "hub listed"))
        order_id = await ordered(hub, "text_echo")
        other = page(service, wallet(chain, "hub unlisted"), origin="https://elsewhere.example")
        with pytest.raises(CorsBlocked):
            await other.status(order_id)
        with pytest.raises(CorsBlocked):
            await other.request_quote("text_echo", {})
        assert await hub.wait_for_end(order_id) == "delivered"


async def test_the_preflight_names_the_method_and_the_header(service: Service) -> None:
    for path in ("/ivxp/request", "/ivxp/deliver", "/ivxp/orders/ivxp-x/delivery"):
        asked = {
            "Origin": HUB,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        async with service.session.options(service.url + path, headers=asked) as answer:
            methods = answer.headers["Access-Control-Allow-Methods"]
            headers = answer.headers["Access-Control-Allow-Headers"]
        assert answer.status in {200, 204}
        assert "POST" in methods.split(", ")
        assert "content-type" in headers.lower().split(", ")


async def test_errors_of_every_kind_can_be_read_by_the_page(service: Service) -> None:
    browser = Browser(service.session, HUB)
    json_header = {"Content-Type": "application/json"}
    cases: list[tuple[str, str, bytes | None, int]] = [
        ("GET", "/ivxp/nowhere", None, 404),
        ("GET", "/ivxp/deliver", None, 405),
        ("POST", "/ivxp/deliver", b"{", 400),
        ("POST", "/ivxp/request", b"x" * 70_000, 413),
        ("POST", "/ivxp/request", b"{}", 400),
    ]
    for method, path, body, status in cases:
        headers = json_header if body is not None else {}
        answer = await browser.fetch(method, service.url + path, headers, body)
        assert answer.status == status
        assert answer.json()["message"]


async def test_the_hubs_server_lists_the_provider(service: Service) -> None:
    server = HubServer(service.session, service.url)

    assert await server.is_alive()
    catalog = await server.catalog()
    assert len(catalog["services"]) >= 3


@pytest.mark.parametrize("letters", [str, str.lower])
async def test_the_hubs_server_sees_the_claim_proven(service: Service, letters: type[str]) -> None:
    server = HubServer(service.session, service.url)
    address = letters((await server.catalog())["wallet_address"])

    assert await server.is_claimed_by(address, CHALLENGE)
    assert not await server.is_claimed_by("0x" + "12" * 20, CHALLENGE)
    assert not await server.is_claimed_by(address, "Order: another | Payment: text")


async def test_the_health_check_of_the_hubs_operators_passes(service: Service) -> None:
    for path in ("/health", "/ivxp/catalog"):
        async with service.session.get(service.url + path) as answer:
            assert answer.status == 200
