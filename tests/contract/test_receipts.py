"""Receipts: a party's signed word on an event, in the feed of who caused it and in the bundle."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.keys import LEDGER, SETTINGS
from ledger.audit import audit
from ledger.evidence_verify.bags import read_zip
from ledger.evidence_verify.checks import Checks
from ledger.evidence_verify.keys import Roots
from ledger.values import iso_of
from scripts.buyer import utc_now
from tests.contract.callers import (
    AUDITOR,
    OPERATOR,
    PARTY,
    ROLES,
    WORKER,
    Answer,
    Caller,
    found_paid,
    signed_in,
)
from tests.contract.kit import MovableClock, Service, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CATALOG = """
provider = "fed"
[[services]]
type = "by_hand"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1
"""
WORDS = "the work is done"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, clock: MovableClock
) -> AsyncIterator[Service]:
    folder: Path = tmp_path_factory.mktemp("receipts")
    (folder / "catalog.toml").write_text(CATALOG)
    async with serving(folder, clock=clock, catalog=folder / "catalog.toml", **ROLES) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def callers(service: Service) -> dict[str, Caller]:
    names = (PARTY, OPERATOR, WORKER, AUDITOR, "stranger")
    return {name: await signed_in(service, name) for name in names}


@pytest_asyncio.fixture(loop_scope="module")
async def order_id(service: Service, callers: dict[str, Caller]) -> str:
    """Return an order that a worker has done and that its client confirmed."""
    found = await found_paid(service, "by_hand")
    done = await callers[WORKER].post(f"/v1/work/{found}/deliverable", {"content": WORDS})
    assert done.status == 200
    (await service.buyer(PARTY).confirm(found, WORDS)).require(200)
    return found


async def events_of(reader: Caller, party: str, order_id: str) -> dict[str, dict[str, Any]]:
    """Return a feed's events of one order by their types."""
    page = await reader.get(f"/v1/feeds/{party}/events?limit=1000")
    assert page.status == 200
    return {e["type"]: e for e in page.body["events"] if e.get("order_id") == order_id}


def text_of(event_id: str, kind: str, content_hash: str | None, at: str) -> str:
    digest = content_hash or "none"
    return f"Receipt: {event_id} | Kind: {kind} | Hash: {digest} | Timestamp: {at}"


def receipt(
    signer: Caller,
    event_id: str,
    kind: str = "received",
    *,
    content_hash: str | None = None,
    at: str | None = None,
) -> dict[str, object]:
    at = at or utc_now()
    body: dict[str, object] = {"kind": kind, "at": at}
    if content_hash is not None:
        body["content_hash"] = content_hash
    return {**body, "signature": signer.sign(text_of(event_id, kind, content_hash, at))}


async def give(
    giver: Caller, event_id: str, body: dict[str, object] | None = None, **headers: str
) -> Answer:
    said = receipt(giver, event_id) if body is None else body
    return await giver.post(f"/v1/events/{event_id}/receipts", said, **headers)


def without_proof(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in answer.body.items() if name != "ledger"}


async def test_a_clients_receipt_is_recorded_once_and_comes_to_the_provider(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    paid = (await events_of(party, party.address, order_id))["order.paid"]

    first = await give(party, paid["event_id"])
    again = await give(party, paid["event_id"])
    signed_anew = receipt(party, paid["event_id"], at="2020-01-01T00:00:00Z")
    older = await give(party, paid["event_id"], signed_anew)

    assert [first.status, again.status, older.status] == [201, 200, 200], first.body
    assert without_proof(first) == without_proof(again) == without_proof(older)
    assert first.body["receiver"] == party.address.lower()
    assert first.body["ledger"]["position"] == again.body["ledger"]["position"]
    assert service.kinds(order_id).count("receipt_recorded") == 1
    told = await events_of(callers[OPERATOR], "provider", order_id)
    assert (
        f'"leaf":"{paid["event_id"].partition("-")[2]}"'
        in told["receipt.recorded"]["data"]["entry"]
    )
    assert "receipt.recorded" not in await events_of(party, party.address, order_id)
    assert "receipt.recorded" not in await events_of(callers[WORKER], "workers", order_id)


async def test_each_kind_and_each_wallet_gives_its_own(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    confirmed = (await events_of(callers[OPERATOR], "provider", order_id))["order.confirmed"]
    named = confirmed["event_id"]

    for name in (OPERATOR, WORKER):
        for kind in ("received", "read", "processed", "rejected"):
            answer = await give(callers[name], named, receipt(callers[name], named, kind))
            assert answer.status == 201, answer.body

    assert service.kinds(order_id).count("receipt_recorded") == 8
    party = callers[PARTY]
    told = (await events_of(party, party.address, order_id))["receipt.recorded"]
    assert '"sender":"client"' in told["data"]["entry"]
    assert "receipt.recorded" not in await events_of(callers[OPERATOR], "provider", order_id)


async def test_the_content_that_a_receipt_names_is_part_of_it(
    callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    named = (await events_of(party, party.address, order_id))["order.ready"]["event_id"]

    first = await give(party, named, receipt(party, named, content_hash="sha256:" + "AB" * 32))
    same = await give(party, named, receipt(party, named, content_hash="ab" * 32))
    other = await give(party, named, receipt(party, named, content_hash="cd" * 32))
    none = await give(party, named)

    assert (first.status, same.status) == (201, 200)
    assert first.body["content_hash"] == same.body["content_hash"] == "ab" * 32
    assert other.outcome == none.outcome == (409, "CONTENT_HASH_MISMATCH")


async def test_a_key_gets_the_first_answer_again(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    named = (await events_of(party, party.address, order_id))["order.quoted"]["event_id"]
    body = receipt(party, named, "read")

    first = await give(party, named, body, Idempotency_Key="one")
    again = await give(party, named, body, Idempotency_Key="one")
    other = await give(party, named, receipt(party, named, "received"), Idempotency_Key="one")

    assert (first.status, again.status) == (201, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.body == first.body
    assert other.outcome == (422, "IDEMPOTENCY_KEY_REUSED")
    assert service.kinds(order_id).count("receipt_recorded") == 1


async def test_who_is_no_party_learns_nothing(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    real = (await events_of(party, party.address, order_id))["order.paid"]["event_id"]
    log = (await callers[OPERATOR].get("/v1/feeds/provider/events?limit=1")).body["events"][0]
    made_up = "7-" + "0" * 64
    arbiter = await party.post(f"/v1/orders/{order_id}/arbiter-token", {})
    judge = Caller(service, PARTY, str(arbiter.body["token"]))

    strangers = [
        await give(callers[name], event_id)
        for name in ("stranger", AUDITOR)
        for event_id in (real, made_up)
    ]
    unknown = [
        await give(party, event_id)
        for event_id in (
            *(made_up, log["event_id"], "x", "0-" + "0" * 64, real.upper(), real + "0"),
            real.replace("-", "%2D0"),
            "9" * 15 + real[real.index("-") :],
        )
    ]

    for answer in (*strangers, *unknown, await give(judge, real)):
        assert answer.outcome == (404, "NOT_FOUND"), answer.body
        assert answer.body["message"] == strangers[0].body["message"]
    assert (await give(Caller(service, PARTY), real)).outcome == (401, "UNAUTHORIZED")
    assert "receipt_recorded" not in service.kinds(order_id)


async def test_only_the_wallet_that_signed_in_signs(
    callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    named = (await events_of(party, party.address, order_id))["order.paid"]["event_id"]
    at = utc_now()
    good = receipt(party, named, at=at)
    wrong = [
        receipt(callers[OPERATOR], named, at=at),
        {**good, "kind": "read"},
        {**good, "content_hash": "ab" * 32},
        {**good, "signature": "0x" + "00" * 65},
        {**good, "signature": "0x"},
        receipt(party, "8" + named[1:], at=at),
    ]

    for body in wrong:
        assert (await give(party, named, body)).outcome == (401, "SIGNATURE_INVALID"), body


@pytest.mark.parametrize("seconds", [-301, 90, -(10**9), 10**9])
async def test_old_and_future_words_are_refused(
    service: Service, callers: dict[str, Caller], order_id: str, seconds: int
) -> None:
    party = callers[PARTY]
    named = (await events_of(party, party.address, order_id))["order.paid"]["event_id"]
    at = iso_of(service.app[LEDGER].clock() + seconds * 1000)  # type: ignore[arg-type]

    answer = await give(party, named, receipt(party, named, at=at))

    assert answer.outcome == (400, "INVALID_TIMESTAMP")


async def test_other_forms_are_refused(callers: dict[str, Caller], order_id: str) -> None:
    party = callers[PARTY]
    seen = await events_of(party, party.address, order_id)
    named = seen["order.paid"]["event_id"]
    good = receipt(party, named)

    for changed in (
        {**good, "kind": "confirmed"},
        {**good, "content_hash": "none"},
        {**good, "content_hash": "ab" * 31},
        {**good, "content_hash": 7},
        {**good, "signature": None},
        {name: value for name, value in good.items() if name != "at"},
    ):
        assert (await give(party, named, changed)).outcome == (400, "INVALID_REQUEST"), changed
    for at in ("now", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00Z | Kind: read"):
        answer = await give(party, named, receipt(party, named, at=at))
        assert answer.outcome == (400, "INVALID_TIMESTAMP"), at


async def test_nobody_gives_a_receipt_for_an_own_act_or_for_a_receipt(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party, operator = callers[PARTY], callers[OPERATOR]
    seen = await events_of(party, party.address, order_id)
    confirmed, paid = seen["order.confirmed"]["event_id"], seen["order.paid"]["event_id"]

    for giver, event_id in ((party, confirmed), (operator, paid), (callers[WORKER], paid)):
        assert (await give(giver, event_id)).outcome == (400, "INVALID_REQUEST")
    assert (await give(party, paid)).status == 201
    told = await events_of(operator, "provider", order_id)
    for giver in (party, operator):
        refused = await give(giver, told["receipt.recorded"]["event_id"])
        assert refused.outcome == (400, "INVALID_REQUEST")
    assert service.kinds(order_id).count("receipt_recorded") == 1


async def test_the_bundle_of_an_order_with_receipts_verifies_and_grades_them(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party, operator = callers[PARTY], callers[OPERATOR]
    seen = await events_of(party, party.address, order_id)
    paid, confirmed = seen["order.paid"]["event_id"], seen["order.confirmed"]["event_id"]
    said = receipt(party, paid, "processed", content_hash="ab" * 32)
    assert (await give(party, paid, said)).status == 201
    assert (await give(operator, confirmed)).status == 201

    url = f"{service.url}/ledger/orders/{order_id}/evidence"
    headers = {"Authorization": f"Bearer {party.token}"}
    async with service.session.get(url, headers=headers) as response:
        assert response.status == 200
        data = await response.read()

    checks = Checks(data, roots(service))
    checks.run()
    assert [(o.name, o.text) for o in checks.outcomes if not o.holds] == []
    case = json.loads(read_zip(data)[1]["data/case.json"])
    rows = case["timeline"][-2:]
    says = [[(s["text"], s["grade"]) for s in row["says"]] for row in rows]
    at = [f"position {event_id.partition('-')[0]} of the log." for event_id in (paid, confirmed)]
    wallet = operator.address.lower()
    assert [each[0] for each in says] == [
        (f"The client's wallet signed that it processed the event at {at[0]}", "proven"),
        (f"The wallet {wallet} signed that it received the event at {at[1]}", "proven"),
    ]
    assert [each[1][1] for each in says] == ["attested-by-counterparty", "attested-by-provider"]


async def test_the_audit_of_a_ledger_with_receipts_and_cursors_finds_nothing(
    service: Service, callers: dict[str, Caller], order_id: str
) -> None:
    party = callers[PARTY]
    seen = await events_of(party, party.address, order_id)
    assert (await give(party, seen["order.paid"]["event_id"])).status == 201
    cursor = f"/v1/feeds/{party.address}/cursors/one"
    assert (await party.call("PUT", cursor, {"start": "earliest"})).status == 201
    assert (await party.post(f"{cursor}/fetch", {"holder": "a"})).body["lease_token"] == 2

    settings = service.app[SETTINGS]
    report = audit(settings.data_dir / "ledger.db", settings.guard_path)

    assert report.findings == []


def roots(service: Service) -> Roots:
    ledger, found = service.app[LEDGER], Roots()
    found.origin, found.log_keys = ledger.origin, [ledger.log_key.vkey]
    found.wallets = [ledger.signer.address]
    return found
