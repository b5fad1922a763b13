"""Erasure: content goes, history stays valid, and nothing of the content is left in the file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ledger.audit_keys import Trust
from scripts.audit_replay import replay
from scripts.buyer import Buyer
from scripts.devchain import DevChain
from tests.contract.callers import OPERATOR, ROLES, found_paid, signed_in
from tests.contract.kit import (
    WAIT_SECONDS,
    MovableClock,
    Service,
    delivered_status,
    paid_order,
    payer,
    serving,
)
from tests.contract.test_disputes import dispute, dispute_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "a most unusual sentence about seventeen purple umbrellas"
DAY = 86_400_000


async def delivered(service: Service, chain: DevChain, name: str) -> tuple[Buyer, str]:
    buyer = payer(chain, service, name)
    order_id = await paid_order(service, chain, buyer, text=SECRET)
    await delivered_status(buyer, order_id)
    return buyer, order_id


async def until(service: Service, order_id: str, kind: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while kind not in service.kinds(order_id):
            await service.recorded(order_id, len(service.kinds(order_id)) + 1)
        await service.views_have(service.position)


def audited(folder: Path) -> None:
    data = folder / "data"
    report = replay(
        data, guard=folder / "data.guard", trust=Trust(None, None), views=data / "views.db"
    )
    assert report.ok, report.findings


def held_in(folder: Path, text: str) -> list[str]:
    """Return the files of the ledger that hold a text."""
    files = sorted((folder / "data").glob("ledger.db*"))
    return [file.name for file in files if text.encode() in file.read_bytes()]


async def test_a_deliverable_goes_when_its_time_is_over_and_history_stays(
    tmp_path: Path, chain: DevChain
) -> None:
    clock = MovableClock()
    async with serving(tmp_path, chain, clock=clock, **ROLES) as service:
        buyer, order_id = await delivered(service, chain, "erase retention")
        clock.offset_ms += 4 * DAY
        await until(service, order_id, "acceptance_lapsed")
        assert (await buyer.get(f"/ivxp/download/{order_id}")).status == 200
        clock.offset_ms += 8 * DAY
        await until(service, order_id, "content_erased")
        await service.views_have(service.position)
        gone = await buyer.get(f"/ivxp/download/{order_id}")
        status = (await buyer.get(f"/ivxp/status/{order_id}")).require(200)
        operator = await signed_in(service, OPERATOR)
        rest = await operator.post(f"/v1/orders/{order_id}/erase", {"reason": "request"})

    assert (gone.status, gone.body["error"]) == (410, "ORDER_EXPIRED")
    assert gone.body["details"] == {"reason": "delivery_retention_elapsed"}
    assert status["status"] == "delivered"
    assert rest.status == 200, rest.body
    assert len(rest.body["erased"]) == 3  # deliverable, description, name
    assert held_in(tmp_path, SECRET) == []
    audited(tmp_path)


async def test_the_operator_erases_some_fields_and_a_repeat_changes_nothing(
    tmp_path: Path, chain: DevChain
) -> None:
    async with serving(tmp_path, chain, **ROLES) as service:
        buyer, order_id = await delivered(service, chain, "erase fields")
        operator = await signed_in(service, OPERATOR)
        path = f"/v1/orders/{order_id}/erase"
        unknown = await operator.post(path, {"reason": "operator", "fields": ["nonsense"]})
        one = await operator.post(path, {"reason": "operator", "fields": ["description"]})
        again = await operator.post(path, {"reason": "operator", "fields": ["description"]})
        kept = await buyer.get(f"/ivxp/download/{order_id}")
        assert service.kinds(order_id).count("content_erased") == 1

    assert unknown.outcome == (400, "INVALID_REQUEST")
    assert (one.status, again.status, kept.status) == (200, 200, 200)
    audited(tmp_path)


async def test_a_dispute_and_unfinished_work_hold_the_content(
    tmp_path: Path, chain: DevChain
) -> None:
    clock = MovableClock()
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        'provider = "P"\n[[services]]\ntype = "text_echo"\nprice_usdc = "0.1"\n'
        'estimated_delivery_hours = 1\nhandler = "api.offerings.text:text_echo"\n'
        '[[services]]\ntype = "by_hand"\nprice_usdc = "0.1"\n'
        'estimated_delivery_hours = 1\nkind = "external"\n'
    )
    async with serving(tmp_path, chain, clock=clock, catalog=catalog, **ROLES) as service:
        operator = await signed_in(service, OPERATOR)
        waiting = await found_paid(service, "by_hand")
        buyer, order_id = await delivered(service, chain, "erase held")
        (await dispute(buyer, order_id, dispute_text(order_id))).require(200)
        working = await operator.post(f"/v1/orders/{waiting}/erase", {"reason": "operator"})
        held = await operator.post(f"/v1/orders/{order_id}/erase", {"reason": "request"})
        clock.offset_ms += 30 * DAY
        await until(service, order_id, "answer_lapsed")
        assert (await buyer.get(f"/ivxp/download/{order_id}")).status == 200

    assert working.outcome == (409, "INVALID_ORDER_STATE")
    assert held.outcome == (409, "DISPUTE_HOLD")
    assert held_in(tmp_path, SECRET) == ["ledger.db"]
    audited(tmp_path)
