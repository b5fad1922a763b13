"""A dispute from the client's signed text to the provider's answer, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.buyer import Answer, Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.callers import OPERATOR, PARTY, ROLES, WORKER, Caller, signed_in
from tests.contract.kit import (
    NETWORK,
    MovableClock,
    Service,
    delivered_status,
    paid_order,
    payer,
    serving,
)
from tests.support.chain import account_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATEMENT = "This is not what I asked for. Ünïcode ☃"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("service"), chain, **ROLES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def operator(service: Service) -> Caller:
    return await signed_in(service, OPERATOR)


def dispute_text(
    order_id: str, reason: str = "wrong_content", digest: str = "none", statement: str | None = None
) -> str:
    said = sha256(statement.encode()).hexdigest() if statement else "none"
    return (
        f"Dispute delivery: {order_id} | Reason: {reason} | Hash: {digest}"
        f" | Statement: {said} | Timestamp: {utc_now()}"
    )


async def dispute(
    buyer: Buyer, order_id: str, text: str, statement: str | None = None, *, nested: bool = True
) -> Answer:
    inner: dict[str, object] = {} if statement is None else {"statement": statement}
    outer: dict[str, object] = {}
    if nested:
        inner |= {"message": text, "signature": buyer.sign(text), "signer": buyer.address}
    else:
        outer = {"signed_message": text, "signature": buyer.sign(text)}
    body = {"protocol": "IVXP/1.0", "order_id": order_id, "dispute": inner, **outer}
    return await buyer.post(f"/ivxp/orders/{order_id}/dispute", body)


async def delivered(service: Service, chain: DevChain, name: str) -> tuple[Buyer, str]:
    buyer = payer(chain, service, name)
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)
    return buyer, order_id


@pytest.mark.parametrize("shape", ["nested", "beside"])
async def test_a_dispute_is_recorded_shown_and_answered(
    service: Service, chain: DevChain, operator: Caller, shape: str
) -> None:
    buyer, order_id = await delivered(service, chain, f"dispute {shape}")
    nested = shape == "nested"
    text = dispute_text(order_id, statement=STATEMENT)

    answer = (await dispute(buyer, order_id, text, STATEMENT, nested=nested)).require(200)
    again = (await dispute(buyer, order_id, text, STATEMENT, nested=nested)).require(200)
    resigned = dispute_text(order_id, statement=STATEMENT)
    third = (await dispute(buyer, order_id, resigned, STATEMENT, nested=nested)).require(200)
    plain = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
    rich = (await buyer.get(f"/ivxp/status/{order_id}?protocol=1.1")).require(200)
    said = {"position": "rejects", "statement": "It is what you ordered."}
    answered = await operator.post(f"/v1/orders/{order_id}/dispute/answer", said)
    twice = await operator.post(f"/v1/orders/{order_id}/dispute/answer", said)

    assert answer["status"] == "disputed"
    assert {answer["disputed_at"]} == {again["disputed_at"], third["disputed_at"]}
    assert (plain["status"], rich["status"]) == ("delivered", "disputed")
    assert answered.status == 200, answered.body
    assert answered.body["position"] == "rejects"
    assert twice.outcome == (409, "INVALID_ORDER_STATE")
    assert service.kinds(order_id).count("disputed") == 1
    assert service.kinds(order_id).count("dispute_answered") == 1


async def test_a_keyed_answer_is_given_again(
    service: Service, chain: DevChain, operator: Caller
) -> None:
    buyer, order_id = await delivered(service, chain, "dispute keyed")
    (await dispute(buyer, order_id, dispute_text(order_id))).require(200)
    path, said = f"/v1/orders/{order_id}/dispute/answer", {"position": "accepts"}
    first = await operator.post(path, said, Idempotency_Key="answer")
    again = await operator.post(path, said, Idempotency_Key="answer")
    assert (first.status, again.status) == (200, 200)
    assert again.body["position"] == "accepts"


async def test_the_statement_has_to_be_the_one_that_was_signed(
    service: Service, chain: DevChain
) -> None:
    buyer, order_id = await delivered(service, chain, "dispute statement")
    text = dispute_text(order_id, statement=STATEMENT)
    other = await dispute(buyer, order_id, text, STATEMENT + "!")
    unsigned = await dispute(buyer, order_id, dispute_text(order_id), STATEMENT)
    withheld = await dispute(buyer, order_id, text)
    assert (other.status, other.body["error"]) == (400, "INVALID_REQUEST")
    assert (unsigned.status, unsigned.body["error"]) == (400, "INVALID_REQUEST")
    withheld.require(200)


async def test_only_the_client_may_dispute_and_only_what_is_due(
    service: Service, chain: DevChain
) -> None:
    buyer, order_id = await delivered(service, chain, "dispute who")
    stranger = service.buyer("dispute stranger")
    refused = await dispute(stranger, order_id, dispute_text(order_id))
    elsewhere = await dispute(buyer, order_id, dispute_text("ivxp-other"))
    unpaid = await service.quote(buyer)
    early = await dispute(buyer, unpaid, dispute_text(unpaid, "not_delivered"))
    assert (refused.status, refused.body["error"]) == (401, "SIGNATURE_INVALID")
    assert (elsewhere.status, elsewhere.body["error"]) == (401, "SIGNATURE_INVALID")
    assert (early.status, early.body["error"]) == (409, "INVALID_ORDER_STATE")
    assert "disputed" not in service.kinds(order_id)


async def test_a_confirmation_settles_a_dispute(service: Service, chain: DevChain) -> None:
    buyer, order_id = await delivered(service, chain, "dispute settled")
    (await dispute(buyer, order_id, dispute_text(order_id))).require(200)
    (await buyer.confirm(order_id, "hello")).require(200)
    refused = await dispute(buyer, order_id, dispute_text(order_id, "other"))
    assert refused.status == 409


@pytest.mark.parametrize("name", [PARTY, WORKER])
async def test_answers_and_refunds_are_the_operators(
    service: Service, chain: DevChain, name: str
) -> None:
    buyer, order_id = await delivered(service, chain, f"dispute role {name}")
    (await dispute(buyer, order_id, dispute_text(order_id))).require(200)
    caller = await signed_in(service, name)
    for path, body in (("dispute/answer", {"position": "accepts"}), ("refund", {"tx_hash": TX})):
        answer = await caller.post(f"/v1/orders/{order_id}/{path}", body)
        assert answer.status in (403, 404)


TX = "0x" + "ab" * 32


async def test_the_operator_names_a_refund(tmp_path: Path, chain: DevChain) -> None:
    treasury = account_named("dispute treasury")
    async with serving(tmp_path, chain, payment_address=treasury.address, **ROLES) as service:
        operator = await signed_in(service, OPERATOR)
        buyer = payer(chain, service, "dispute refund")
        order_id = str((await buyer.request("text_echo", "x")).require(200)["order_id"])
        paid = chain.transfer(buyer.private_key, treasury.address, 100_000)
        (await buyer.deliver(buyer.notice(order_id, paid, NETWORK))).require(200)
        await delivered_status(buyer, order_id)
        path = f"/v1/orders/{order_id}/refund"

        unknown = await operator.post(path, {"tx_hash": TX})
        chain.fund(treasury.address, 0)
        tx_hash = chain.transfer("0x" + bytes(treasury.key).hex(), buyer.address, 40_000)
        shallow = await operator.post(path, {"tx_hash": tx_hash})
        chain.mine(70)
        partial = await operator.post(path, {"tx_hash": tx_hash})
        again = await operator.post(path, {"tx_hash": tx_hash})

    assert unknown.outcome == (402, "PAYMENT_NOT_VERIFIED")
    assert shallow.outcome == (402, "PAYMENT_NOT_VERIFIED")
    assert shallow.body["retryable"] is True
    assert partial.status == 200, partial.body
    assert (partial.body["received_micros"], partial.body["refunded_micros"]) == ("100000", "40000")
    assert (again.status, again.body["refunded_micros"]) == (200, "40000")


async def test_an_arbiters_token_opens_one_order_until_it_expires_or_is_revoked(
    tmp_path: Path, chain: DevChain
) -> None:
    clock = MovableClock()
    async with serving(tmp_path, chain, clock=clock, **ROLES) as service:
        party = await signed_in(service, PARTY)
        stranger = await signed_in(service, "somebody else")
        mine = await service.quote(service.buyer(PARTY))
        other = await service.quote(service.buyer(PARTY))
        path = f"/v1/orders/{mine}/arbiter-token"
        refused = await stranger.post(path, {})
        too_long = await party.post(path, {"days": 91})
        made = await party.post(path, {"days": 2})
        arbiter = Caller(service, "anybody", str(made.body["token"]))
        reads = await arbiter.get(f"/ledger/orders/{mine}/events")
        elsewhere = await arbiter.get(f"/ledger/orders/{other}/events")
        work = await arbiter.get("/v1/work")
        again = await arbiter.post(path, {})
        clock.offset_ms += 2 * 86_400_000
        expired = await arbiter.get(f"/ledger/orders/{mine}/events")

        operator = await signed_in(service, OPERATOR)
        fresh = await operator.post(path, {})
        arbiter.token = str(fresh.body["token"])
        before = await arbiter.get(f"/ledger/orders/{mine}/events")
        await operator.post("/v1/auth/revoke", {"token_id": fresh.body["token_id"]})
        after = await arbiter.get(f"/ledger/orders/{mine}/events")

    assert refused.outcome == (404, "ORDER_NOT_FOUND")
    assert too_long.outcome == (400, "INVALID_REQUEST")
    assert (made.status, reads.status, before.status) == (200, 200, 200)
    assert elsewhere.outcome == (404, "ORDER_NOT_FOUND")
    assert work.outcome == (403, "FORBIDDEN")
    assert again.outcome == (404, "ORDER_NOT_FOUND")
    assert (expired.status, after.status) == (401, 401)
