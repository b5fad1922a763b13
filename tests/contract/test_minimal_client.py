"""What the interoperability test's minimal client asks of a provider, but for its fake payment.

It signs nothing real and pays nothing, which a provider that verifies has to refuse; in place of
that step a real order is paid here, and the client's other checks follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

import pytest

from scripts.buyer import utc_now
from scripts.devchain import DevChain
from tests.contract.kit import NETWORK, Service, delivered_status, pay, payer, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

SNAKE = re.compile(r"[a-z][a-z0-9_]*")
CAMEL = [
    "serviceType",
    "basePriceUsdc",
    "walletAddress",
    "messageType",
    "estimatedDeliveryHours",
    "providerAgent",
    "orderId",
    "priceUsdc",
    "paymentAddress",
    "contentHash",
    "contentType",
    "createdAt",
]


def keys_of(value: object) -> Iterator[str]:
    """Yield every key at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def require_snake_case(value: object) -> None:
    assert [key for key in keys_of(value) if not SNAKE.fullmatch(key)] == []


async def test_the_catalog_has_what_the_minimal_client_checks(service: Service) -> None:
    async with service.session.get(service.url + "/ivxp/catalog") as response:
        text, catalog = await response.text(), await response.json()

    assert response.status == 200
    assert catalog["protocol"] == "IVXP/1.0"
    assert catalog["message_type"] == "service_catalog"
    assert len(catalog["services"]) >= 1
    assert catalog["wallet_address"].startswith("0x")
    assert len(catalog["wallet_address"]) == 42
    assert "T" in catalog["timestamp"]
    assert [word for word in CAMEL if word in text] == []
    require_snake_case(catalog)


async def test_a_quote_has_what_the_minimal_client_checks(service: Service) -> None:
    quote = (await service.buyer("minimal").request("text_echo", "hi", 100)).require(200)

    assert quote["protocol"] == "IVXP/1.0"
    assert quote["message_type"] == "service_quote"
    assert str(quote["order_id"]).startswith("ivxp-")
    provider, terms = quote["provider_agent"], quote["quote"]
    assert isinstance(provider, dict)
    assert isinstance(terms, dict)
    assert provider["wallet_address"].startswith("0x")
    assert terms["price_usdc"] == 0.1
    assert re.fullmatch(r"0x[0-9a-fA-F]{40}", terms["payment_address"])
    assert terms["network"] == NETWORK
    require_snake_case(quote)


async def test_the_fake_payment_of_the_minimal_client_is_refused(service: Service) -> None:
    buyer = service.buyer("minimal")
    order_id, stamp = await service.quote(buyer), utc_now().replace("Z", "000+00:00")
    tx_hash = "0x" + "1234567890abcdef" * 4
    answer = await buyer.deliver(
        {
            "protocol": "IVXP/1.0",
            "message_type": "delivery_request",
            "timestamp": stamp,
            "order_id": order_id,
            "payment_proof": {
                "tx_hash": tx_hash,
                "from_address": buyer.address,
                "network": NETWORK,
            },
            "signature": "0x" + "ab" * 65,
            "signed_message": f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {stamp}",
        }
    )

    assert (answer.status, answer.body["error"]) == (401, "SIGNATURE_INVALID")
    assert service.kinds(order_id) == ["quoted"]


async def test_a_paid_order_has_what_the_minimal_client_checks(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "minimal paid")
    order_id = await service.quote(buyer, text="hi")
    accepted = (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(
        200
    )
    assert (accepted["status"], accepted["order_id"]) == ("accepted", order_id)
    require_snake_case(accepted)

    status = await delivered_status(buyer, order_id)
    assert status["order_id"] == order_id
    assert re.fullmatch(r"[0-9a-f]{64}", status["content_hash"])
    require_snake_case(status)

    download = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    assert download["order_id"] == order_id
    assert download["content_type"] == "text/plain"
    assert download["content_hash"] == sha256(str(download["content"]).encode()).hexdigest()
    assert isinstance(download["content"], str)
    require_snake_case(download)


async def test_errors_have_the_status_that_the_minimal_client_expects(service: Service) -> None:
    unknown = await service.buyer("minimal").get("/ivxp/status/ivxp-nonexistent")
    wrong_method, _, _ = await send(service, "POST", "/ivxp/catalog", b"{}")

    assert unknown.status == 404
    assert wrong_method == 405


@pytest.mark.parametrize("service_type", ["text_echo", "word_count", "summary_card"])
async def test_no_answer_of_an_order_has_a_null_in_it(
    service: Service, chain: DevChain, service_type: str
) -> None:
    buyer = payer(chain, service, "minimal nulls")
    quoted = (await buyer.request(service_type, "hi")).require(200)
    order_id = str(quoted["order_id"])
    terms = quoted["quote"]
    assert isinstance(terms, dict)
    tx_hash = pay(chain, buyer, round(terms["price_usdc"] * 1_000_000))
    accepted = (await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))).require(200)
    answers = [quoted, accepted, await delivered_status(buyer, order_id)]
    answers += [(await buyer.get(f"/ivxp/download/{order_id}")).require(200)]

    assert [answer for answer in answers if has_null(answer)] == []


def has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(has_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(has_null(inner) for inner in value)
    return value is None
