"""A keyed POST that is sent again gets the first answer, and nothing is done twice."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from api.idempotency import ASKED, ONCE, Recent
from api.keys import LEDGER
from scripts.buyer import Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.callers import PARTY, ROLES, WORKER, Caller, found_paid, signed_in
from tests.contract.kit import NETWORK, Service, delivered_status, pay, payer, send, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


def quote_request(buyer: Buyer, text: str = "hello") -> bytes:
    return json.dumps(
        {
            "protocol": "IVXP/1.0",
            "timestamp": utc_now(),
            "client_agent": {"name": "buyer", "wallet_address": buyer.address},
            "service_request": {"type": "text_echo", "description": text, "budget_usdc": 1},
        }
    ).encode()


async def keyed(
    service: Service, path: str, data: bytes, key: str, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    return await send(service, "POST", path, data, **{"Idempotency-Key": key, **headers})


def without_ledger(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "ledger"}


async def test_a_repeated_request_gets_the_first_quote_and_its_proof(service: Service) -> None:
    data = quote_request(service.buyer("keyed quote"))
    status, first, headers = await keyed(service, "/ivxp/request", data, "quote-1")
    size = service.position

    again_status, again, again_headers = await keyed(service, "/ivxp/request", data, "quote-1")

    assert (status, again_status) == (200, 200)
    assert without_ledger(again) == without_ledger(first)
    assert again["ledger"]["position"] == first["ledger"]["position"]
    assert again["ledger"]["entry"] == first["ledger"]["entry"]
    assert "Idempotency-Replayed" not in headers
    assert again_headers["Idempotency-Replayed"] == "true"
    assert service.position == size


async def test_the_same_key_with_another_body_is_refused_and_records_nothing(
    service: Service,
) -> None:
    buyer = service.buyer("keyed other")
    await keyed(service, "/ivxp/request", quote_request(buyer), "other-1")
    size = service.position

    status, body, _ = await keyed(service, "/ivxp/request", quote_request(buyer, "b"), "other-1")

    assert (status, body["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert service.position == size


async def test_a_key_belongs_to_its_wallet_and_its_route(service: Service) -> None:
    ids = set()
    for name in ("keyed wallet a", "keyed wallet b"):
        data = quote_request(service.buyer(name))
        _, body, headers = await keyed(service, "/ivxp/request", data, "same-key")
        ids.add(body["order_id"])
        assert "Idempotency-Replayed" not in headers
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "ключ", "a b"])
async def test_a_key_of_another_form_is_refused(service: Service, key: str) -> None:
    data = quote_request(service.buyer("keyed form"))
    status, body, _ = await keyed(service, "/ivxp/request", data, key)
    assert (status, body["error"]) == (400, "INVALID_REQUEST")


async def test_twenty_at_once_make_one_quote(service: Service) -> None:
    data = quote_request(service.buyer("keyed race"))
    size = service.position

    answers = await asyncio.gather(
        *(keyed(service, "/ivxp/request", data, "race-1") for _ in range(20))
    )

    ids = {body["order_id"] for status, body, _ in answers if status == 200}
    others = {(status, body.get("error")) for status, body, _ in answers if status != 200}
    assert len(ids) == 1
    assert others <= {(409, "IDEMPOTENCY_KEY_IN_FLIGHT")}
    assert service.position == size + 1


async def test_a_refused_request_is_not_remembered(service: Service, chain: DevChain) -> None:
    buyer = payer(chain, service, "keyed refused")
    order_id = await service.quote(buyer)
    notice = buyer.notice(order_id, "0x" + "ab" * 32, NETWORK)

    first, body, _ = await keyed(service, "/ivxp/deliver", json.dumps(notice).encode(), "pay-1")
    assert (first, body["retryable"]) == (402, True)
    paid = buyer.notice(order_id, pay(chain, buyer), NETWORK)
    second, body, _ = await keyed(service, "/ivxp/deliver", json.dumps(paid).encode(), "pay-1")

    assert (second, body["status"]) == (200, "accepted")


async def test_a_keyed_notice_is_answered_200_again_where_an_unkeyed_one_is_409(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "keyed notice")
    order_id = await service.quote(buyer)
    data = json.dumps(buyer.notice(order_id, pay(chain, buyer), NETWORK)).encode()
    _, first, _ = await keyed(service, "/ivxp/deliver", data, "notice-1")
    await delivered_status(buyer, order_id)

    status, again, _ = await keyed(service, "/ivxp/deliver", data, "notice-1")

    assert status == 200
    assert without_ledger(again) == without_ledger(first)
    assert again["ledger"]["entry"] == first["ledger"]["entry"]
    assert (await buyer.deliver(json.loads(data))).status == 409


async def test_an_answer_survives_a_restart(chain: DevChain, tmp_path: Path) -> None:
    async with serving(tmp_path, chain) as service:
        data = quote_request(service.buyer("keyed restart"))
        _, first, _ = await keyed(service, "/ivxp/request", data, "restart-1")
    async with serving(tmp_path, chain) as service:
        status, again, headers = await keyed(service, "/ivxp/request", data, "restart-1")
        assert service.position == 2 + 1  # genesis, the chain, one quote

    assert (status, headers["Idempotency-Replayed"]) == (200, "true")
    assert without_ledger(again) == without_ledger(first)


async def test_the_strict_view_of_a_replay_has_no_ledger_block(service: Service) -> None:
    data = quote_request(service.buyer("keyed strict"))
    strict = {"IVXP-View": "strict"}
    _, first, _ = await keyed(service, "/ivxp/request", data, "strict-1", **strict)
    _, again, headers = await keyed(service, "/ivxp/request", data, "strict-1", **strict)

    assert again == first
    assert "ledger" not in again
    assert headers["Ledger-Head"]


async def test_what_changes_no_order_is_remembered_in_memory(
    chain: DevChain, tmp_path: Path
) -> None:
    async with serving(tmp_path, chain, **ROLES) as service:
        data = json.dumps({"address": Caller(service, PARTY).address}).encode()
        _, first, _ = await keyed(service, "/v1/auth/challenge", data, "challenge-1")
        _, again, headers = await keyed(service, "/v1/auth/challenge", data, "challenge-1")
        assert again == first
        assert headers["Idempotency-Replayed"] == "true"
        assert headers["Cache-Control"] == "no-store"


async def test_an_answer_from_memory_continues_a_newer_head(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "keyed memory head")
    order_id = await service.quote(buyer)
    tx_hash = pay(chain, buyer)
    (await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))).require(200)
    await delivered_status(buyer, order_id)
    text = f"Order: {order_id} | Payment: {tx_hash} | Timestamp: {utc_now()}"
    data = json.dumps(
        {
            "protocol": "IVXP/1.0",
            "order_id": order_id,
            "payment": {"tx_hash": tx_hash, "network": NETWORK},
            "signature": {"message": text, "sig": buyer.sign(text)},
        }
    ).encode()
    path = f"/ivxp/orders/{order_id}/payment"
    first = await keyed(service, path, data, "memory-1")
    for _ in range(3):
        await service.quote(buyer)
    head = service.app[LEDGER].head
    held = f"{head.size} {b64encode(head.root).decode()}"

    again = await keyed(service, path, data, "memory-1", **{"Ledger-Head": held})

    assert (first[0], again[0]) == (200, 200)
    assert again[2]["Ledger-Head"] == held
    assert again[2]["Ledger-Consistency"].startswith(f"{head.size}")


async def test_two_who_claim_no_wallet_share_no_key_across_addresses(
    tmp_path: Path, chain: DevChain
) -> None:
    nobody = {
        "protocol": "IVXP/1.0",
        "client_agent": {"name": "hub", "wallet_address": "0x" + "0" * 40},
        "service_request": {"type": "text_echo", "description": "x", "budget_usdc": 1},
    }
    data = json.dumps(nobody).encode()
    async with serving(tmp_path, chain, trusted_proxies="127.0.0.1") as service:
        ids = [
            (await keyed(service, "/ivxp/request", data, "1", **{"X-Forwarded-For": address}))[1]
            for address in ("203.0.113.1", "203.0.113.2")
        ]
    assert ids[0]["order_id"] != ids[1]["order_id"]


async def test_a_workers_key_is_not_another_workers(tmp_path: Path, chain: DevChain) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        'provider = "P"\n[[services]]\ntype = "by_hand"\nprice_usdc = "0.1"\n'
        'estimated_delivery_hours = 1\nkind = "external"\n'
    )
    async with serving(tmp_path, chain, catalog=catalog, **ROLES) as service:
        order_id = await found_paid(service, "by_hand")
        one, two = await signed_in(service, WORKER), await signed_in(service, "worker two")
        path = f"/v1/work/{order_id}/start"
        taken = await one.post(path, {}, Idempotency_Key="start")
        again = await one.post(path, {}, Idempotency_Key="start")
        other = await two.post(path, {}, Idempotency_Key="start")

    assert (taken.status, again.status) == (200, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.outcome == (409, "ORDER_TAKEN")


async def test_answers_in_memory_are_bounded(service: Service) -> None:
    once = service.app[ONCE]
    for number in range(5000):
        once.keep(number.to_bytes(32, "big"), Recent(b"", b"", {}))
    assert once.recent((0).to_bytes(32, "big")) is None
    assert once.recent((4999).to_bytes(32, "big")) is not None
    assert ASKED is not None


async def test_a_stored_answer_lies_beside_its_event(service: Service) -> None:
    data = quote_request(service.buyer("keyed row"))
    _, body, _ = await keyed(service, "/ivxp/request", data, "row-1")
    store = service.app[LEDGER].store
    row = (
        store._reader()
        .execute(
            "SELECT stream, position, body FROM answers WHERE stream=?",
            (f"order/{body['order_id']}",),
        )
        .fetchone()
    )

    assert row["position"] == body["ledger"]["position"]
    assert json.loads(row["body"]) == without_ledger(body)
