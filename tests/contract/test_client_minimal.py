"""The interoperability test's minimal client: all ten checks, and what of it has to be refused."""

from __future__ import annotations

import pytest

from scripts.devchain import DevChain
from tests.clients.minimal import FAKE_TX, POLLS, MinimalClient
from tests.clients.wallet import Wallet
from tests.contract.client_shop import Pauses, no_pause, wallet
from tests.contract.kit import Service, delivered_status, pay, payer

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Swindler(Wallet):
    """Signs truly, for a transaction that there is not."""

    async def pay(self, to: str, micros: int) -> str:  # noqa: ARG002 - nothing is paid
        return FAKE_TX


async def test_all_ten_checks_pass_with_a_real_payment(service: Service, chain: DevChain) -> None:
    buyer = wallet(chain, "minimal honest")
    client = MinimalClient(service.session, service.url, Pauses(service), buyer)

    passed = await client.run()

    assert client.failures == {}
    assert passed == list(range(1, 11))


async def test_all_ten_checks_pass_again_on_the_same_ledger(
    service: Service, chain: DevChain
) -> None:
    buyer = wallet(chain, "minimal honest")
    client = MinimalClient(service.session, service.url, Pauses(service), buyer)

    assert await client.run() == list(range(1, 11))


async def test_the_invented_payment_is_refused_and_the_other_seven_checks_pass(
    service: Service,
) -> None:
    polls = 0

    async def pause(seconds: float) -> None:
        nonlocal polls
        polls += 1

    client = MinimalClient(service.session, service.url, pause)

    passed = await client.run()

    assert passed == [1, 2, 6, 7, 8, 9, 10]
    assert "SIGNATURE_INVALID" in client.failures[3]
    assert polls == POLLS
    assert service.kinds(client.order_id) == ["quoted"]


async def test_a_signature_of_ones_own_does_not_make_the_transaction_real(
    service: Service, chain: DevChain
) -> None:
    honest = wallet(chain, "minimal swindler", 0)
    buyer = Swindler(honest.chain, honest.account)
    client = MinimalClient(service.session, service.url, no_pause, buyer)

    assert await client.run() == [1, 2, 6, 7, 8, 9, 10]
    assert "PAYMENT_NOT_VERIFIED" in client.failures[3]


@pytest.mark.parametrize("service_type", ["text_echo", "word_count", "summary_card"])
async def test_no_answer_of_an_order_has_a_null_in_it(
    service: Service, chain: DevChain, service_type: str
) -> None:
    buyer = payer(chain, service, "minimal nulls")
    quoted = (await buyer.request(service_type, "hi")).require(200)
    order_id, terms = str(quoted["order_id"]), quoted["quote"]
    assert isinstance(terms, dict)
    tx_hash = pay(chain, buyer, round(terms["price_usdc"] * 1_000_000))
    notice = buyer.notice(order_id, tx_hash, "base-sepolia")
    accepted = (await buyer.deliver(notice)).require(200)
    answers = [quoted, accepted, await delivered_status(buyer, order_id)]
    answers += [(await buyer.get(f"/ivxp/download/{order_id}")).require(200)]

    assert [answer for answer in answers if has_null(answer)] == []


def has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(has_null(inner) for inner in value.values())
    if isinstance(value, list):
        return any(has_null(inner) for inner in value)
    return value is None
