"""How disputes come to an end: silence on either side, a ruling with a refund, a withdrawal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ledger.audit_keys import Trust
from ledger.values import iso_of
from scripts.audit_replay import replay
from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.contract.callers import OPERATOR, ROLES, WORKER, signed_in
from tests.contract.kit import (
    NETWORK,
    WAIT_SECONDS,
    MovableClock,
    Service,
    delivered_status,
    payer,
    serving,
)
from tests.contract.test_disputes import dispute, dispute_text
from tests.support.chain import account_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARBITER = "the arbiter"
CATALOG = (
    'provider = "P"\n[[services]]\ntype = "text_echo"\nprice_usdc = "0.1"\n'
    'estimated_delivery_hours = 1\nhandler = "api.offerings.text:text_echo"\n'
    '[[services]]\ntype = "by_hand"\nprice_usdc = "0.1"\n'
    'estimated_delivery_hours = 1\nkind = "external"\n'
)
HOUR, DAY = 3_600_000, 86_400_000


@dataclass
class Case:
    """One provider with an arbiter and a treasury of its own, and a clock that is moved."""

    service: Service
    chain: DevChain
    clock: MovableClock
    treasury: str
    buyer: Buyer

    async def paid(self, kind: str = "text_echo") -> str:
        answer = (await self.buyer.request(kind, "x")).require(200)
        order_id = str(answer["order_id"])
        treasury = account_named(self.treasury).address
        tx_hash = self.chain.transfer(self.buyer.private_key, treasury, 100_000)
        notice = self.buyer.notice(order_id, tx_hash, NETWORK)
        (await self.buyer.deliver(notice)).require(200)
        return order_id

    async def delivered(self) -> str:
        order_id = await self.paid()
        await delivered_status(self.buyer, order_id)
        return order_id

    async def until(self, order_id: str, kind: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while kind not in self.service.kinds(order_id):
                await self.service.recorded(order_id, len(self.service.kinds(order_id)) + 1)
            await self.service.views_have(self.service.position)

    def stamp(self) -> str:
        return iso_of(self.clock())

    async def rule(self, order_id: str, outcome: str, amount: int, by: str = ARBITER) -> Answer:
        text = (
            f"Rule dispute: {order_id} | Outcome: {outcome} | Amount: {amount}"
            f" | Timestamp: {self.stamp()}"
        )
        return await self.said(order_id, "ruling", text, self.service.buyer(by))

    async def withdraw(self, order_id: str, by: Buyer | None = None) -> Answer:
        text = f"Withdraw dispute: {order_id} | Timestamp: {self.stamp()}"
        return await self.said(order_id, "withdraw", text, by or self.buyer)

    async def said(self, order_id: str, act: str, text: str, by: Buyer) -> Answer:
        body = {
            "protocol": "IVXP/1.0",
            "order_id": order_id,
            "signed_message": text,
            "signature": by.sign(text),
        }
        return await self.buyer.post(f"/ivxp/orders/{order_id}/dispute/{act}", body)


@asynccontextmanager
async def case(folder: Path, chain: DevChain, name: str) -> AsyncIterator[Case]:
    """Serve one case, and find its ledger clean at the end."""
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    clock, treasury = MovableClock(), f"treasury of {name}"
    settings = {
        "catalog": catalog,
        "payment_address": account_named(treasury).address,
        "arbiter": account_named(ARBITER).address,
        **ROLES,
    }
    async with serving(folder, chain, clock=clock, **settings) as service:
        yield Case(service, chain, clock, treasury, payer(chain, service, name))
    data = folder / "data"
    report = replay(
        data, guard=folder / "data.guard", trust=Trust(None, None), views=data / "views.db"
    )
    assert report.ok, report.findings


async def test_a_silent_client_closes_the_order_without_objection(
    tmp_path: Path, chain: DevChain
) -> None:
    async with case(tmp_path, chain, "silent client") as c:
        order_id = await c.delivered()
        c.clock.offset_ms += 3 * DAY + HOUR
        await c.until(order_id, "acceptance_lapsed")
        rich = (await c.buyer.get(f"/ivxp/status/{order_id}?protocol=1.1")).require(200)
        late = await dispute(c.buyer, order_id, dispute_text(order_id))

        assert rich["status"] == "ready"
        assert rich["closed_without_objection"] is True
        assert late.status in (400, 409)
        assert "confirmed" not in c.service.kinds(order_id)


async def test_a_silent_provider_is_recorded_as_such(tmp_path: Path, chain: DevChain) -> None:
    async with case(tmp_path, chain, "silent provider") as c:
        order_id = await c.delivered()
        (await dispute(c.buyer, order_id, dispute_text(order_id))).require(200)
        c.clock.offset_ms += 3 * DAY + HOUR
        await c.until(order_id, "answer_lapsed")
        ruled = await c.rule(order_id, "client", 100_000)
        rich = (await c.buyer.get(f"/ivxp/status/{order_id}?protocol=1.1")).require(200)

        assert ruled.require(200)["outcome"] == "client"
        assert rich["dispute"] == {
            "open": False,
            "reason": "wrong_content",
            "answered": False,
            "answer_lapsed": True,
            "ended": "ruled",
            "outcome": "client",
            "amount_micros": "100000",
            "fulfilled": False,
        }


async def test_what_was_never_delivered_can_be_disputed_once_it_is_due(
    tmp_path: Path, chain: DevChain
) -> None:
    async with case(tmp_path, chain, "not delivered") as c:
        order_id = await c.paid("by_hand")
        early = await dispute(c.buyer, order_id, dispute_text(order_id, "not_delivered"))
        c.clock.offset_ms += 3 * HOUR
        text = (
            f"Dispute delivery: {order_id} | Reason: not_delivered | Hash: none"
            f" | Statement: none | Timestamp: {c.stamp()}"
        )
        (await dispute(c.buyer, order_id, text)).require(200)

        assert (early.status, early.body["error"]) == (409, "DELIVERY_NOT_DUE")
        assert c.service.kinds(order_id)[-1] == "disputed"


async def test_a_split_ruling_is_fulfilled_by_a_refund_on_the_chain(
    tmp_path: Path, chain: DevChain
) -> None:
    async with case(tmp_path, chain, "split ruling") as c:
        order_id = await c.delivered()
        (await dispute(c.buyer, order_id, dispute_text(order_id))).require(200)
        stranger = await c.rule(order_id, "split", 40_000, by="not the arbiter")
        too_much = await c.rule(order_id, "split", 100_000)
        ruled = (await c.rule(order_id, "split", 40_000)).require(200)
        again = (await c.rule(order_id, "split", 40_000)).require(200)
        other = await c.rule(order_id, "split", 50_000)
        operator = await signed_in(c.service, OPERATOR)
        chain.fund(account_named(c.treasury).address, 0)
        key = "0x" + bytes(account_named(c.treasury).key).hex()
        tx_hash = chain.transfer(key, c.buyer.address, 40_000)
        chain.mine(70)
        refund = await operator.post(f"/v1/orders/{order_id}/refund", {"tx_hash": tx_hash})
        rich = (await c.buyer.get(f"/ivxp/status/{order_id}?protocol=1.1")).require(200)

        assert (stranger.status, stranger.body["error"]) == (401, "SIGNATURE_INVALID")
        assert (too_much.status, too_much.body["error"]) == (409, "INVALID_ORDER_STATE")
        assert (ruled["dispute"], ruled["amount_micros"]) == ("ruled", "40000")
        assert again["amount_micros"] == "40000"
        assert other.status == 409
        assert refund.status == 200, refund.body
        assert rich["dispute"]["fulfilled"] is True  # type: ignore[index]
        assert c.service.kinds(order_id).count("dispute_ruled") == 1


async def test_a_client_withdraws_its_dispute(tmp_path: Path, chain: DevChain) -> None:
    async with case(tmp_path, chain, "withdrawal") as c:
        order_id = await c.delivered()
        early = await c.withdraw(order_id)
        (await dispute(c.buyer, order_id, dispute_text(order_id))).require(200)
        stranger = await c.withdraw(order_id, c.service.buyer("a stranger"))
        withdrawn = (await c.withdraw(order_id)).require(200)
        again = (await c.withdraw(order_id)).require(200)

        assert (early.status, early.body["error"]) == (409, "INVALID_ORDER_STATE")
        assert (stranger.status, stranger.body["error"]) == (401, "SIGNATURE_INVALID")
        assert withdrawn["dispute"] == again["dispute"] == "withdrawn"
        assert c.service.kinds(order_id).count("dispute_withdrawn") == 1


async def test_a_withdrawal_closes_its_own_dispute_and_no_later_one(
    tmp_path: Path, chain: DevChain
) -> None:
    async with case(tmp_path, chain, "old withdrawal") as c:
        order_id = await c.paid("by_hand")
        c.clock.offset_ms += 3 * HOUR
        first = (
            f"Dispute delivery: {order_id} | Reason: not_delivered | Hash: none"
            f" | Statement: none | Timestamp: {c.stamp()}"
        )
        (await dispute(c.buyer, order_id, first)).require(200)
        text = f"Withdraw dispute: {order_id} | Timestamp: {c.stamp()}"
        (await c.said(order_id, "withdraw", text, c.buyer)).require(200)
        worker = await signed_in(c.service, WORKER)
        handed = await worker.post(f"/v1/work/{order_id}/deliverable", {"content": "junk"})
        assert handed.status == 200, handed.body
        second = first.replace("not_delivered", "wrong_content")
        (await dispute(c.buyer, order_id, second)).require(200)

        old = await c.said(order_id, "withdraw", text, c.buyer)

        assert (old.status, old.body["error"]) == (409, "INVALID_ORDER_STATE")
        assert c.service.kinds(order_id).count("dispute_withdrawn") == 1
