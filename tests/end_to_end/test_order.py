"""One whole order over HTTP, on a real process and a real chain, checked as an outsider would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.contract.kit import delivered_status
from tests.contract.proofs import Observer, observer_of, recovered
from tests.support.chain import funded_account
from tests.support.service import PAYMENT_ADDRESS, Service, running

WORDS = "two words\nand a second line"
OFFERINGS = [
    ("text_echo", WORDS, "text/plain"),
    ("word_count", '{"lines": 2, "words": 6, "characters": 27}', "application/json"),
    ("summary_card", "# Summary\n\n- first line: two words\n- words: 6\n", "text/markdown"),
]
"""Service, content for `WORDS`, media type."""


@pytest.fixture(scope="module")
def service(chain: DevChain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("order"), chain.rpc_url) as process:
        yield process


@pytest.fixture(scope="module")
def observer(service: Service) -> Observer:
    """Share one over all orders of this module: heads only grow over all of them."""
    return observer_of(service.data_dir)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_every_service_of_the_catalog_is_ordered_here(
    service: Service, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{service.url}/ivxp/catalog") as response:
        catalog = await response.json()

    assert [entry["type"] for entry in catalog["services"]] == [name for name, _, _ in OFFERINGS]


@pytest.mark.parametrize(("offering", "expected", "media_type"), OFFERINGS)
async def test_an_order_goes_from_catalog_to_signed_confirmation_and_every_answer_proves_itself(
    service: Service,
    chain: DevChain,
    observer: Observer,
    session: aiohttp.ClientSession,
    offering: str,
    expected: str,
    media_type: str,
) -> None:
    account = funded_account(chain, f"order {offering}", 5_000_000)
    buyer = Buyer(session, service.url, "0x" + bytes(account.key).hex())
    entry = await in_catalog(buyer, offering)

    quoted = await buyer.request(offering, WORDS)
    order_id = str(quoted.require(200)["order_id"])
    terms = proven(observer, quoted, "quoted", order_id)["body"]
    assert round(entry["base_price_usdc"] * 1_000_000) == int(terms["price"])
    assert terms["client"] == f"eip155:84532:{buyer.address.lower()}"
    assert terms["payment_address"] == PAYMENT_ADDRESS

    tx_hash = chain.transfer(buyer.private_key, terms["payment_address"], int(terms["price"]))
    accepted = await buyer.deliver(buyer.notice(order_id, tx_hash, "base-sepolia"))
    assert accepted.require(200)["status"] == "accepted"
    started = proven(observer, accepted, "processing", order_id)
    notice = started["body"]["notice"]
    assert recovered(notice["text"].encode(), notice["signature"]) == buyer.address.lower()

    status = await delivered_status(buyer, order_id)
    assert (await buyer.get(f"/ivxp/orders/{order_id}")).require(200) == status
    content = await downloaded(buyer, order_id, offering, status)
    assert content == expected
    assert status["content_hash"] == sha256(expected.encode()).hexdigest()
    flat = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    assert flat["content_type"] == media_type

    confirmed = await buyer.confirm(order_id, content, rating=5)
    assert confirmed.require(200)["status"] == "confirmed"
    receipt = proven(observer, confirmed, "confirmed", order_id)["body"]
    assert receipt["binds"] == "content"
    assert receipt["content_hash"] == status["content_hash"]
    signed = receipt["client"]
    assert recovered(signed["text"].encode(), signed["signature"]) == buyer.address.lower()


async def test_a_repeated_confirmation_gets_the_first_answer_and_proves_the_same_event(
    service: Service, chain: DevChain, observer: Observer, session: aiohttp.ClientSession
) -> None:
    account = funded_account(chain, "order confirmed twice", 5_000_000)
    buyer = Buyer(session, service.url, "0x" + bytes(account.key).hex())
    order_id = str((await buyer.request("text_echo", "again")).require(200)["order_id"])
    tx_hash = chain.transfer(buyer.private_key, PAYMENT_ADDRESS, 100_000)
    (await buyer.deliver(buyer.notice(order_id, tx_hash, "base-sepolia"))).require(200)
    await delivered_status(buyer, order_id)

    first = await buyer.confirm(order_id, "again")
    second = await buyer.confirm(order_id, "again", rating=1)

    assert first.require(200)["confirmed_at"] == second.require(200)["confirmed_at"]
    events = [proven(observer, answer, "confirmed", order_id) for answer in (first, second)]
    assert events[0] == events[1]


def proven(observer: Observer, answer: Answer, kind: str, order_id: str) -> dict[str, Any]:
    """Return the event of an answer after every check an outsider can make."""
    ledger = answer.body["ledger"]
    assert isinstance(ledger, dict)
    event = observer.check(ledger, answer.ledger_head)
    assert (event["kind"], event["stream"]) == (kind, f"order/{order_id}")
    return event


async def in_catalog(buyer: Buyer, offering: str) -> dict[str, Any]:
    catalog = (await buyer.get("/ivxp/catalog")).require(200)
    services = catalog["services"]
    assert isinstance(services, list)
    [entry] = [entry for entry in services if entry["type"] == offering]
    assert isinstance(entry, dict)
    return entry


async def downloaded(buyer: Buyer, order_id: str, offering: str, status: dict[str, Any]) -> str:
    """Return the content, the same under both paths; Markdown has two forms of the inner one."""
    flat = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    nested = (await buyer.get(f"/ivxp/orders/{order_id}/deliverable")).require(200)
    content = flat["content"]
    assert isinstance(content, str)
    for answer in (flat, nested):
        inner = answer["deliverable"]
        assert isinstance(inner, dict)
        body = inner["content"]["body"] if isinstance(inner["content"], dict) else inner["content"]
        assert body == answer["content"] == content
        assert answer["content_hash"] == status["content_hash"]
        assert answer["content_hash"] == sha256(content.encode()).hexdigest()
        assert inner["type"] == offering
    shapes = [type(answer["deliverable"]["content"]) for answer in (flat, nested)]
    assert shapes == ([dict, str] if offering == "summary_card" else [str, str])
    if flat["content_type"] == "application/json":
        assert isinstance(json.loads(content), dict)
    return content
