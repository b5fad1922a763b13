"""What a notice gets when the chain does not prove it: by code, and with what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.keys import LEDGER
from ledger.commands import EraseContent, ExpireQuote
from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain, encode_call
from scripts.rpc_proxy import RpcProxy
from tests.contract.kit import (
    ECHO_MICROS,
    NETWORK,
    PAYMENT_ADDRESS,
    MovableClock,
    Service,
    delivered_status,
    paid_order,
    pay,
    payer,
    serving,
)
from tests.contract.proofs import observer_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000
OTHER = "0x00000000000000000000000000000000000000cc"


@pytest.fixture
def proxy(chain: DevChain) -> Iterator[RpcProxy]:
    with RpcProxy(chain.rpc_url) as running:
        yield running


def refusal(answer: Answer, status: int, code: str, reason: str | None = None) -> None:
    """Check a refusal that the ledger recorded, with its proof."""
    assert (answer.status, answer.body["error"]) == (status, code), answer.body
    details = answer.body.get("details", {})
    assert isinstance(details, dict)
    assert details.get("reason") == reason


def proven_kind(service: Service, answer: Answer) -> str:
    """Return the kind of the event that an answer proves."""
    ledger = answer.body["ledger"]
    assert isinstance(ledger, dict)
    kind: str = observer_of(service.folder / "data").check(ledger, answer.ledger_head)["kind"]
    return kind


async def test_an_unknown_transaction_is_kept_and_asks_to_come_again(service: Service) -> None:
    buyer = service.buyer("payments unknown")
    order_id = await service.quote(buyer)

    answer = await buyer.deliver(buyer.notice(order_id, "0x" + "12" * 32, NETWORK))

    refusal(answer, 402, "PAYMENT_NOT_VERIFIED")
    assert answer.body["retryable"] is True
    assert answer.body["details"] == {"tx_hash": "0x" + "12" * 32, "outcome": "pending"}
    assert proven_kind(service, answer) == "payment_claimed"
    status = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
    assert status["status"] == "quoted"
    assert status["payment"] == {"outcome": "pending", "claims_open": 1}


async def test_the_same_notice_again_records_nothing_more(service: Service) -> None:
    buyer = service.buyer("payments repeated")
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, "0x" + "12" * 32, NETWORK)
    first = await buyer.deliver(notice)

    second = await buyer.deliver(notice)

    refusal(second, 402, "PAYMENT_NOT_VERIFIED")
    assert first.body["details"] == second.body["details"]
    assert service.kinds(order_id) == ["quoted", "payment_claimed"]


async def test_a_fourth_open_claim_is_refused(service: Service) -> None:
    buyer = service.buyer("payments claims")
    order_id = await service.quote(buyer)
    for digit in "123":
        answer = await buyer.deliver(buyer.notice(order_id, "0x" + digit * 64, NETWORK))
        refusal(answer, 402, "PAYMENT_NOT_VERIFIED")

    answer = await buyer.deliver(buyer.notice(order_id, "0x" + "4" * 64, NETWORK))

    refusal(answer, 409, "TOO_MANY_CLAIMS")
    assert service.kinds(order_id) == ["quoted", *["payment_claimed"] * 3]


async def test_a_reverted_transaction_is_refused_and_the_refusal_is_signed(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments reverted", 1)
    data = encode_call("usdc_like", "transfer", PAYMENT_ADDRESS, ECHO_MICROS)
    tx_hash = chain.send(buyer.private_key, to=chain.usdc_address, data=data, wait=False)
    assert chain.wait_for_receipt(tx_hash)["status"] == "0x0"

    await require_refusal(service, buyer, tx_hash, "reverted")


async def test_a_transaction_without_a_transfer_to_the_provider_is_refused(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments elsewhere")

    await require_refusal(
        service, buyer, chain.transfer(buyer.private_key, OTHER, ECHO_MICROS), "no_transfer"
    )


async def test_a_transfer_of_somebody_else_is_refused(service: Service, chain: DevChain) -> None:
    rich, buyer = payer(chain, service, "payments rich"), service.buyer("payments poor")

    await require_refusal(service, buyer, pay(chain, rich), "other_sender")


async def test_a_transfer_that_paid_another_order_is_refused(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments claimed")
    tx_hash = pay(chain, buyer)
    first = await service.quote(buyer)
    (await buyer.deliver(buyer.notice(first, tx_hash, NETWORK))).require(200)

    await require_refusal(service, buyer, tx_hash, "already_claimed")


async def require_refusal(service: Service, buyer: Buyer, tx_hash: str, reason: str) -> None:
    """Check the refusal of a transaction, and that its repeat is not recorded again."""
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, tx_hash, NETWORK)
    for _ in range(2):
        answer = await buyer.deliver(notice)
        refusal(answer, 402, "PAYMENT_NOT_VERIFIED", reason)
        assert "retryable" not in answer.body
        assert proven_kind(service, answer) == "command_refused"
    assert service.kinds(order_id) == ["quoted", "command_refused"]


async def test_too_little_says_what_is_missing_and_the_rest_completes_it(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments partial")
    order_id = await service.quote(buyer)
    tx_hash = pay(chain, buyer, ECHO_MICROS - 1)

    answer = await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))

    refusal(answer, 402, "AMOUNT_MISMATCH", "partial")
    assert answer.body["details"] == {"reason": "partial", "amount_due_micros": "1"}
    assert proven_kind(service, answer) == "payment_partial"
    rest = await buyer.deliver(buyer.notice(order_id, pay(chain, buyer, 1), NETWORK))
    assert rest.require(200)["status"] == "accepted"


async def test_a_transfer_after_the_deadline_is_late_by_its_block(
    chain: DevChain, tmp_path: Path
) -> None:
    clock = MovableClock(offset_ms=-2 * HOUR_MS)
    async with serving(tmp_path, chain, clock=clock) as service:
        buyer = payer(chain, service, "payments late")
        order_id = await old_quote(buyer)
        clock.offset_ms = 0

        answer = await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))

        refusal(answer, 408, "PAYMENT_TIMEOUT", "payment_late")
        assert proven_kind(service, answer) == "payment_late"
        status = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
        assert status["status"] == "quoted"
        assert status["expired"] is True


async def test_a_transfer_for_an_order_that_is_marked_expired_gets_410(
    chain: DevChain, tmp_path: Path
) -> None:
    clock = MovableClock(offset_ms=-2 * HOUR_MS)
    async with serving(tmp_path, chain, clock=clock) as service:
        buyer = payer(chain, service, "payments expired")
        order_id = await old_quote(buyer)
        clock.offset_ms = 0
        expire = ExpireQuote(
            scanned_block=chain.head(),
            scanned_block_time=chain.head_time(),
            candidate_transfers=False,
            now=clock(),
        )
        await service.app[LEDGER].execute(order_id, expire)

        answer = await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))

        refusal(answer, 410, "ORDER_EXPIRED", "payment_late")
        assert service.kinds(order_id)[1] == "expired"


async def test_content_that_was_erased_gets_410_and_its_hash_stays(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments erased")
    order_id = await paid_order(service, chain, buyer)
    status = await delivered_status(buyer, order_id)
    order = await service.app[LEDGER].order(order_id)
    assert order is not None
    assert order.deliverable is not None
    erase = EraseContent((order.deliverable.content_id,), "retention", service.app[LEDGER].clock())
    receipt = await service.app[LEDGER].execute(order_id, erase)
    await service.views_have(receipt.stream.position)

    answer = await buyer.get(f"/ivxp/download/{order_id}")

    refusal(answer, 410, "ORDER_EXPIRED", "delivery_retention_elapsed")
    after = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
    assert after["content_hash"] == status["content_hash"]


async def test_a_payment_that_is_not_deep_enough_waits(chain: DevChain, tmp_path: Path) -> None:
    async with serving(tmp_path, chain, min_confirmations=3, loop_interval=60) as service:
        buyer = payer(chain, service, "payments shallow")
        order_id = await service.quote(buyer)
        notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)

        answer = await buyer.deliver(notice)

        refusal(answer, 402, "PAYMENT_NOT_VERIFIED")
        assert answer.body["retryable"] is True
        chain.mine(2)
        assert (await buyer.deliver(notice)).require(200)["status"] == "accepted"


async def test_a_silent_chain_is_unknown_and_not_unpaid(
    chain: DevChain, proxy: RpcProxy, tmp_path: Path
) -> None:
    async with serving(
        tmp_path, chain, rpc_urls=proxy.url, rpc_timeout=2, loop_interval=60
    ) as service:
        buyer = payer(chain, service, "payments silent")
        order_id = await service.quote(buyer)
        notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
        proxy.hang()

        answer = await buyer.deliver(notice)

        refusal(answer, 503, "SERVICE_UNAVAILABLE")
        assert answer.body["retryable"] is True
        assert "'outcome': 'pending'" in str(answer.body["details"])
        assert proven_kind(service, answer) == "payment_claimed"
        proxy.restore()
        assert (await buyer.deliver(notice)).require(200)["status"] == "accepted"


async def test_without_a_chain_a_notice_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        buyer = service.buyer("payments disabled")
        order_id = await service.quote(buyer)

        answer = await buyer.deliver(buyer.notice(order_id, "0x" + "12" * 32, NETWORK))

        refusal(answer, 503, "SERVICE_UNAVAILABLE")
        assert service.kinds(order_id) == ["quoted"]
        assert (await buyer.get("/health")).require(200)["payments"] == "disabled"


async def test_a_second_notice_of_a_paid_order_gets_the_first_answer(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "payments twice")
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, pay(chain, buyer), NETWORK)
    first = (await buyer.deliver(notice)).require(200)
    kinds = service.kinds(order_id)

    second = await buyer.deliver(notice)

    assert (second.status, second.body["error"]) == (409, "DUPLICATE_DELIVERY_REQUEST")
    assert second.body["details"] == {
        "first_answer": {name: value for name, value in first.items() if name != "ledger"}
    }
    assert service.kinds(order_id)[: len(kinds)] == kinds
    assert service.kinds(order_id).count("paid") == 1


async def old_quote(buyer: Buyer) -> str:
    """Return an order of a client whose message says no time: the service's clock is moved."""
    answer = await buyer.post(
        "/ivxp/request",
        {
            "protocol": "IVXP/1.0",
            "client_agent": {"name": "buyer", "wallet_address": buyer.address},
            "service_request": {"type": "text_echo", "description": "x", "budget_usdc": 1},
        },
    )
    return str(answer.require(200)["order_id"])


async def test_a_notice_that_was_pending_gets_200_once_it_is_paid(
    tmp_path: Path, chain: DevChain
) -> None:
    async with serving(tmp_path, chain, min_confirmations=3) as service:
        buyer = payer(chain, service, "payments told to ask")
        order_id = await service.quote(buyer)
        tx_hash = pay(chain, buyer)
        notice = buyer.notice(order_id, tx_hash, NETWORK)
        pending = await buyer.deliver(notice)
        chain.mine(5)
        await service.status_when(buyer, order_id, {"delivered"})
        same = await buyer.deliver(notice)
        anew = await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))
        other = await buyer.deliver(buyer.notice(order_id, "0x" + "ab" * 32, NETWORK))

    assert (pending.status, pending.body["retryable"]) == (402, True)
    assert (same.status, anew.status) == (200, 200)
    assert (other.status, other.body["error"]) == (409, "DUPLICATE_DELIVERY_REQUEST")
