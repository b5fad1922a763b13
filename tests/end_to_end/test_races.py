"""Two that come at once: one payment pays once, one order is accepted once, every time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.contract.kit import (
    ECHO_MICROS,
    NETWORK,
    PAYMENT_ADDRESS,
    Service,
    payer,
    serving,
    signed_notice,
    strict_text,
)

ROUNDS = 200
ROUNDS_AT_ONCE = 10
AT_ONCE = 4

pytestmark = pytest.mark.slow


@pytest.fixture
async def service(chain: DevChain, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, chain) as running:
        yield running


async def test_of_concurrent_notices_for_one_order_one_is_accepted_and_it_is_paid_once(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "races one order", ROUNDS * ECHO_MICROS)
    payments = transfers(chain, buyer, ROUNDS)

    async def round_(number: int) -> None:
        order_id, tx = await service.quote(buyer), payments[number]
        # Different texts, so that none is the repeat of another.
        notices = [
            signed_notice(buyer, order_id, tx, strict_text(order_id, tx, f"nonce-of-number-{n}"))
            for n in range(AT_ONCE)
        ]
        answers = await asyncio.gather(*map(buyer.deliver, notices))
        assert Counter(a.status for a in answers) == {200: 1, 409: AT_ONCE - 1}
        [accepted] = [a for a in answers if a.status == 200]
        for refused in answers:
            if refused.status == 409:
                assert refused.body["error"] == "DUPLICATE_DELIVERY_REQUEST"
                assert first_answer(refused) == without_proof(accepted)
        assert service.kinds(order_id).count("paid") == 1
        assert service.kinds(order_id).count("processing") == 1

    await many(round_)


async def test_the_same_notice_sent_twice_at_once_is_accepted_once(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "races one notice", ROUNDS * ECHO_MICROS)
    payments = transfers(chain, buyer, ROUNDS)

    async def round_(number: int) -> None:
        order_id = await service.quote(buyer)
        notice = buyer.notice(order_id, payments[number], NETWORK)
        answers = await asyncio.gather(buyer.deliver(notice), buyer.deliver(notice))
        assert sorted(a.status for a in answers) == [200, 409]
        assert service.kinds(order_id).count("paid") == 1

    await many(round_)


async def test_one_transfer_offered_for_two_orders_at_once_pays_one_of_them(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "races one transfer", ROUNDS * ECHO_MICROS)
    payments = transfers(chain, buyer, ROUNDS)

    async def round_(number: int) -> None:
        orders = [await service.quote(buyer), await service.quote(buyer)]
        answers = await deliver_both(buyer, orders, payments[number])
        assert sorted(a.status for a in answers) == [200, 402]
        paid, refused = (orders[[a.status for a in answers].index(code)] for code in (200, 402))
        [refusal] = [a for a in answers if a.status == 402]
        assert refusal.body["error"] == "PAYMENT_NOT_VERIFIED"
        assert refusal.body["details"] == {
            "reason": "already_claimed",
            "tx_hash": payments[number],
        }
        assert service.kinds(paid).count("paid") == 1
        assert service.kinds(refused) == ["quoted", "command_refused"]

    await many(round_)


async def test_two_transfers_in_one_transaction_pay_two_orders_at_once(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "races two transfers", 2 * ROUNDS * ECHO_MICROS)
    both = [(PAYMENT_ADDRESS, ECHO_MICROS)] * 2
    payments = [
        chain.transfer_many_in_one_tx(buyer.private_key, both, wait=number == 0)
        for number in range(ROUNDS)
    ]

    async def round_(number: int) -> None:
        orders = [await service.quote(buyer), await service.quote(buyer)]
        answers = await deliver_both(buyer, orders, payments[number])
        assert [a.status for a in answers] == [200, 200]
        assert [service.kinds(order).count("paid") for order in orders] == [1, 1]

    await many(round_)


def transfers(chain: DevChain, buyer: Buyer, count: int) -> list[str]:
    """Return transactions that pay for one `text_echo` each; every one is mined at once."""
    return [
        chain.transfer(buyer.private_key, PAYMENT_ADDRESS, ECHO_MICROS, wait=False)
        for _ in range(count)
    ]


async def deliver_both(buyer: Buyer, orders: list[str], tx_hash: str) -> list[Answer]:
    notices = [buyer.notice(order_id, tx_hash, NETWORK) for order_id in orders]
    return list(await asyncio.gather(*map(buyer.deliver, notices)))


async def many(round_: Callable[[int], Awaitable[None]]) -> None:
    """Play all rounds, several at a time."""
    for first in range(0, ROUNDS, ROUNDS_AT_ONCE):
        await asyncio.gather(*map(round_, range(first, first + ROUNDS_AT_ONCE)))


def first_answer(refused: Answer) -> object:
    details = refused.body["details"]
    assert isinstance(details, dict)
    return details["first_answer"]


def without_proof(answer: Answer) -> dict[str, object]:
    return {name: value for name, value in answer.body.items() if name != "ledger"}
