"""The three views: what everybody gets, the schemas' members alone, and the words of 1.1."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from api.ivxp.negotiation import VERSION_HEADER, VIEW_HEADER
from api.keys import LEDGER
from scripts.buyer import Answer, Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.kit import NETWORK, Service, delivered_status, pay, payer, send

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "line one\nünïcode ☃"
STATUS_SCHEMA = {"order_id", "status", "created_at", "service_type", "price_usdc"}
RICH_SCHEMA = {"order_id", "status", "status_details", "service_type", "price_usdc"}


async def confirmed(service: Service, chain: DevChain, name: str) -> tuple[Buyer, str]:
    buyer = payer(chain, service, name)
    answer = (await buyer.request("text_echo", TEXT)).require(200)
    order_id = str(answer["order_id"])
    (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(200)
    await delivered_status(buyer, order_id)
    content = str((await buyer.get(f"/ivxp/download/{order_id}")).require(200)["content"])
    (await buyer.confirm(order_id, content, rating=4)).require(200)
    return buyer, order_id


@pytest.mark.parametrize("path", ["/ivxp/status/", "/ivxp/orders/"])
async def test_a_status_in_each_view(service: Service, chain: DevChain, path: str) -> None:
    buyer, order_id = await confirmed(service, chain, f"views {path}")
    plain = (await buyer.get(path + order_id)).require(200)
    strict = (await buyer.get(path + order_id + "?view=strict")).require(200)
    rich = (await buyer.get(path + order_id + "?protocol=IVXP/1.1")).require(200)
    both = (await buyer.get(path + order_id + "?protocol=IVXP/1.1&view=strict")).require(200)

    assert plain["status"] == strict["status"] == "delivered"
    assert rich["status"] == both["status"] == "client_confirmed"
    assert set(strict) == STATUS_SCHEMA
    assert set(both) == RICH_SCHEMA | {"client_satisfaction"}
    assert set(both["status_details"]) == {"created_at", "paid_at", "confirmed_at"}  # type: ignore[arg-type]
    assert rich["client_satisfaction"] == 4
    assert rich["protocol"] == "IVXP/1.1"
    assert plain.items() >= strict.items()


@pytest.mark.parametrize(
    ("query", "headers", "word"),
    [
        ("", {VERSION_HEADER: "1.1"}, "client_confirmed"),
        ("", {VERSION_HEADER: "IVXP/1.1"}, "client_confirmed"),
        ("", {VERSION_HEADER: "1.0"}, "delivered"),
        ("?protocol=IVXP/1.0", {VERSION_HEADER: "1.1"}, "delivered"),
        ("?protocol=1.1", {}, "client_confirmed"),
        ("?view=default", {VIEW_HEADER: "strict"}, "delivered"),
    ],
)
async def test_the_query_wins_over_the_headers(
    service: Service, chain: DevChain, query: str, headers: dict[str, str], word: str
) -> None:
    _, order_id = await confirmed(service, chain, "views header")
    status, body, sent = await send(
        service, "GET", f"/ivxp/status/{order_id}{query}", b"", **headers
    )
    assert (status, body["status"]) == (200, word)
    assert VERSION_HEADER in sent["Vary"]
    assert VIEW_HEADER in sent["Vary"]


@pytest.mark.parametrize(
    ("query", "code"),
    [("?protocol=IVXP/2.0", "PROTOCOL_VERSION_UNSUPPORTED"), ("?view=pretty", "INVALID_REQUEST")],
)
async def test_a_view_that_does_not_exist_is_refused(
    service: Service, query: str, code: str
) -> None:
    order_id = await service.quote(service.buyer("views none"))
    status, body, _ = await send(service, "GET", f"/ivxp/status/{order_id}{query}", b"")
    assert (status, body["error"]) == (400, code)


async def test_the_strict_download_is_hashed_as_the_documents_say(
    service: Service, chain: DevChain
) -> None:
    buyer, order_id = await confirmed(service, chain, "views strict download")
    for path in (f"/ivxp/download/{order_id}", f"/ivxp/orders/{order_id}/deliverable"):
        body = (await buyer.get(path + "?view=strict")).require(200)
        assert set(body) == {
            "protocol",
            "message_type",
            "timestamp",
            "order_id",
            "status",
            "provider_agent",
            "deliverable",
            "content_hash",
            "delivered_at",
        }
        content = body["deliverable"]["content"]  # type: ignore[index]
        quoted = json.dumps(content, ensure_ascii=False).encode()
        assert body["content_hash"] == "sha256:" + sha256(quoted).hexdigest()


async def test_the_strict_catalog_and_quote_have_the_members_of_the_schemas(
    service: Service,
) -> None:
    buyer = service.buyer("views strict quote")
    catalog = (await buyer.get("/ivxp/catalog?view=strict")).require(200)
    assert set(catalog) == {
        "protocol",
        "message_type",
        "timestamp",
        "provider",
        "wallet_address",
        "services",
    }
    assert all(
        set(each) == {"type", "base_price_usdc", "estimated_delivery_hours"}
        for each in catalog["services"]  # type: ignore[attr-defined]
    )
    body = {
        "protocol": "IVXP/1.1",
        "client_agent": {"name": "buyer", "wallet_address": buyer.address},
        "service_request": {"type": "text_echo", "description": "x", "budget_usdc": 1},
    }
    quote = (await buyer.post("/ivxp/request?view=strict", body)).require(200)
    assert set(quote) == {
        "protocol",
        "message_type",
        "timestamp",
        "order_id",
        "provider_agent",
        "quote",
        "terms",
    }
    assert quote["protocol"] == "IVXP/1.1"


async def test_a_strict_error_has_three_members_at_most(service: Service) -> None:
    order_id = await service.quote(service.buyer("views strict error"))
    buyer = service.buyer("views strict error")
    notice = buyer.notice(order_id, "0x" + "cd" * 32, NETWORK)
    answer = await buyer.post("/ivxp/deliver?view=strict", notice)
    assert answer.status == 402
    assert set(answer.body) == {"error", "message", "details"}
    assert answer.body["details"]["retryable"] is True  # type: ignore[index]


@pytest.mark.parametrize("form", ["raw", "sha256:", "0x", "json", "legacy", "object"])
async def test_a_receipt_may_name_any_recorded_digest(
    service: Service, chain: DevChain, form: str
) -> None:
    buyer = payer(chain, service, f"digest {form}")
    answer = (await buyer.request("summary_card", "words to sum up")).require(200)
    order_id = str(answer["order_id"])
    tx_hash = pay(chain, buyer, 500_000)
    (await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))).require(200)
    await delivered_status(buyer, order_id)
    body = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    raw, carried = str(body["content"]), body["deliverable"]["content"]  # type: ignore[index]
    digests = {
        "raw": sha256(raw.encode()).hexdigest(),
        "json": sha256(json.dumps(raw, ensure_ascii=False).encode()).hexdigest(),
        "legacy": sha256(json.dumps(carried, sort_keys=True).encode()).hexdigest(),
        "object": sha256(
            json.dumps(carried, ensure_ascii=False, separators=(",", ":")).encode()
        ).hexdigest(),
    }
    named = digests.get(form) or form + digests["raw"]
    stamp = utc_now()
    text = f"Order: {order_id} | Received: true | Hash: {named} | Timestamp: {stamp}"

    confirmed = await buyer.post(
        "/ivxp/confirm",
        {
            "protocol": "IVXP/1.1",
            "order_id": order_id,
            "timestamp": stamp,
            "signature": buyer.sign(text),
            "signed_message": text,
            "status": "received",
            "content_hash": named,
            "satisfaction_rating": 5,
        },
    )

    body = confirmed.require(200)
    assert (body["status"], body["order_status"]) == ("confirmed", "client_confirmed")
    rich = (await buyer.get(f"/ivxp/status/{order_id}?protocol=1.1")).require(200)
    assert rich["client_satisfaction"] == 5


async def test_a_read_waits_for_the_position_it_names(service: Service) -> None:
    order_id = await service.quote(service.buyer("views after"))
    path = f"/ivxp/status/{order_id}?after_position="
    here = await send(service, "GET", path + str(service.position), b"")
    beyond = await send(service, "GET", path + str(service.position + 1), b"")
    nonsense = await send(service, "GET", path + "x", b"")
    assert here[0] == 200
    assert (beyond[0], beyond[1]["error"]) == (400, "INVALID_REQUEST")
    assert (nonsense[0], nonsense[1]["error"]) == (400, "INVALID_REQUEST")


async def test_a_receipt_that_names_a_head_of_another_history_is_refused(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "receipt head")
    order_id = str((await buyer.request("text_echo", TEXT)).require(200)["order_id"])
    (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(200)
    await delivered_status(buyer, order_id)
    head = service.app[LEDGER].head
    digest = sha256(TEXT.encode()).hexdigest()

    async def receipt(size: int, root: str) -> Answer:
        text = (
            f"Order: {order_id} | Received: true | Hash: {digest} | Head: {size}:{root}"
            f" | Timestamp: {utc_now()}"
        )
        body = {"protocol": "IVXP/1.0", "order_id": order_id, "signed_message": text}
        return await buyer.post("/ivxp/confirm", {**body, "signature": buyer.sign(text)})

    fork = await receipt(head.size, "ab" * 32)
    ahead = await receipt(head.size + 1000, head.root.hex())
    fitting = await receipt(head.size, head.root.hex())

    assert (fork.status, fork.body["error"]) == (409, "FORK")
    assert (ahead.status, ahead.body["error"]) == (409, "AHEAD")
    fitting.require(200)
