"""A client by the documents: strict answers, every receipt that one of them names, the 1.1 view."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio

from scripts.devchain import DevChain
from tests.clients import documents
from tests.clients.documents import DocumentClient
from tests.clients.wallet import Wallet, micros_of
from tests.contract.client_shop import BY_HAND, Pauses, hand_in, poor_wallet, shop, wallet
from tests.contract.kit import NETWORK, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRICT: list[dict[str, Any]] = [
    {"query": "?view=strict"},
    {"headers": (("IVXP-View", "strict"),)},
    {"headers": (("ivxp-view", "strict"),), "query": "?utm=1"},
]
RICH: list[dict[str, Any]] = [
    {"query": "?protocol=IVXP/1.1"},
    {"query": "?protocol=IVXP%2F1.1"},
    {"headers": (("IVXP-Version", "1.1"),)},
]
NONCE = "0123456789abcdef"
WORDS = 'words, "quoted"\nand 世界'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with shop(tmp_path_factory.mktemp("documents"), chain) as running:
        yield running


def client(service: Service, buyer: Wallet, **view: Any) -> DocumentClient:  # noqa: ANN401 - passed on
    return DocumentClient(service.session, service.url, buyer, **view)


async def delivered(
    service: Service, speaker: DocumentClient, kind: str = "text_echo"
) -> tuple[str, dict[str, Any]]:
    """Return the id of a delivered order and its download in the default view."""
    plain = replace(speaker, query="", headers=())
    quote = (await plain.post("/ivxp/request", plain.request(kind, WORDS, 5))).json()
    terms, order_id = quote["quote"], str(quote["order_id"])
    tx_hash = await plain.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))
    accepted = await plain.post("/ivxp/deliver", plain.notice(order_id, tx_hash, NETWORK, NONCE))
    assert accepted.status == 200, accepted.body
    pause = Pauses(service)
    while (await plain.get(f"/ivxp/status/{order_id}")).json()["status"] != "delivered":
        await pause(1)
    return order_id, (await plain.get(f"/ivxp/download/{order_id}")).json()


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        *zip(STRICT, ["text_echo", "word_count", "summary_card"], strict=True),
        (STRICT[0], "picture"),
        (STRICT[0], "raw_echo"),
    ],
)
async def test_a_whole_order_in_strict_answers(
    service: Service, chain: DevChain, view: dict[str, Any], kind: str
) -> None:
    speaker = client(service, wallet(chain, "documents strict"), **view)
    documents.catalog((await speaker.get("/ivxp/catalog")).json())
    quoted = await speaker.post("/ivxp/request", speaker.request(kind, WORDS, 5))
    quote = documents.quote(quoted.json())
    order_id, terms = quote["order_id"], quote["quote"]
    assert documents.status((await speaker.get(f"/ivxp/status/{order_id}")).json())
    tx_hash = await speaker.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))
    notice = speaker.notice(order_id, tx_hash, NETWORK, NONCE)
    documents.accepted((await speaker.post("/ivxp/deliver", notice)).json())

    pause, word = Pauses(service), ""
    while word != "delivered":
        word = documents.status((await speaker.get(f"/ivxp/orders/{order_id}")).json())["status"]
        if word != "delivered":
            await pause(1)
    for path in (f"/ivxp/download/{order_id}", f"/ivxp/orders/{order_id}/deliverable"):
        answer = await speaker.get(path)
        download = documents.download(answer.json())
        content = download["deliverable"]["content"]
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        assert isinstance(content, str)
        assert download["content_hash"] == f"sha256:{sha256(text.encode()).hexdigest()}"
        assert "IVXP-View" in (answer.header("Vary") or "")

    receipt = speaker.receipt(order_id, download["content_hash"], rating=5)
    answer = await speaker.post(f"/ivxp/orders/{order_id}/confirm", receipt)
    assert answer.status == 200, answer.body
    assert answer.json().keys() == {"status", "order_id", "confirmed_at"}


async def test_the_notice_by_the_sdks_paths_is_strict_as_well(
    service: Service, chain: DevChain
) -> None:
    speaker = client(service, wallet(chain, "documents paths"), query="?view=strict")
    quote = (await speaker.post("/ivxp/request", speaker.request("text_echo", WORDS, 5))).json()
    order_id, terms = quote["order_id"], quote["quote"]
    tx_hash = await speaker.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))
    wire = speaker.notice(order_id, tx_hash, NETWORK, NONCE)
    body = {
        "protocol": "IVXP/1.0",
        "order_id": order_id,
        "payment": {"tx_hash": tx_hash, "network": NETWORK},
        "signature": {
            "message": wire["signed_message"],
            "sig": wire["signature"],
            "signer": speaker.wallet.address,
        },
    }
    for tail in ("payment", "delivery", "payment"):
        answer = await speaker.post(f"/ivxp/orders/{order_id}/{tail}", body)
        assert documents.accepted(answer.json())["order_id"] == order_id


async def test_refusals_have_a_code_and_a_message(service: Service, chain: DevChain) -> None:
    speaker = client(service, poor_wallet(chain, "documents refused"))
    request = speaker.request("text_echo", WORDS, 5)
    quote = (await speaker.post("/ivxp/request", request)).json()
    order_id = quote["order_id"]
    notice = speaker.notice(order_id, "0x" + "ab" * 32, NETWORK, NONCE)
    wanted: list[tuple[str, Any, int, str]] = [
        ("request", {**request, "protocol": "IVXP/9"}, 400, "PROTOCOL_VERSION_UNSUPPORTED"),
        ("request", {**request, "timestamp": "now"}, 400, "INVALID_TIMESTAMP"),
        ("request", speaker.request("nothing", "", 5), 400, "INVALID_REQUEST"),
        ("request", speaker.request("nothing", "x", 5), 400, "SERVICE_TYPE_NOT_SUPPORTED"),
        ("request", speaker.request("text_echo", "x", 0.01), 400, "BUDGET_TOO_LOW"),
        ("deliver", {**notice, "order_id": "ivxp-x"}, 404, "ORDER_NOT_FOUND"),
        ("deliver", {**notice, "signature": "0x" + "ab" * 65}, 401, "SIGNATURE_INVALID"),
        ("deliver", {**notice, "nonce": "another-nonce-123"}, 401, "SIGNATURE_INVALID"),
        ("deliver", notice, 402, "PAYMENT_NOT_VERIFIED"),
    ]
    for path, body, status, code in wanted:
        answer = await speaker.post(f"/ivxp/{path}", body)
        assert (answer.status, documents.error(answer)["error"]) == (status, code)


@pytest.mark.parametrize("spelled", ["", "sha256:", "0x"])
@pytest.mark.parametrize("rating", [None, 1, 5])
@pytest.mark.parametrize("protocol", ["IVXP/1.0", "IVXP/1.1"])
async def test_the_documents_receipt_is_taken_in_every_spelling(
    delivered_once: tuple[DocumentClient, str, str],
    spelled: str,
    rating: int | None,
    protocol: str,
) -> None:
    """Of one order: the first is recorded, every other one is a repeat and gets its answer."""
    speaker, order_id, digest = delivered_once
    receipt = speaker.receipt(order_id, spelled + digest, rating=rating, protocol=protocol)

    answer = await speaker.post(f"/ivxp/orders/{order_id}/confirm", receipt)

    assert answer.status == 200, answer.body
    assert answer.json()["status"] == "confirmed"
    rich = protocol == "IVXP/1.1"
    assert answer.json().get("order_status") == ("client_confirmed" if rich else None)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def delivered_once(service: Service, chain: DevChain) -> tuple[DocumentClient, str, str]:
    speaker = client(service, wallet(chain, "documents receipts"))
    order_id, download = await delivered(service, speaker)
    return speaker, order_id, download["content_hash"]


@pytest.mark.parametrize("shape", ["documents 1.0", "documents 1.1", "oldest", "sdk"])
@pytest.mark.parametrize(
    ("rating", "path"), [(4, "/ivxp/orders/{}/confirm"), (None, "/ivxp/confirm")]
)
async def test_a_receipt_of_every_shape_is_the_first_one_and_can_be_repeated(
    service: Service, chain: DevChain, shape: str, rating: int | None, path: str
) -> None:
    speaker = client(service, wallet(chain, f"documents {shape}"))
    order_id, download = await delivered(service, speaker)
    receipt = receipt_of(speaker, shape, order_id, download["content_hash"], rating)

    first = await speaker.post(path.format(order_id), receipt)
    again = await speaker.post(path.format(order_id), receipt)
    rich = await replace(speaker, query="?protocol=IVXP/1.1").get(f"/ivxp/status/{order_id}")

    assert (first.status, again.status) == (200, 200)
    members = ("status", "order_id", "confirmed_at")
    assert [first.json()[name] for name in members] == [again.json()[name] for name in members]
    assert service.kinds(order_id).count("confirmed") == 1
    status = documents.rich_status(rich.json())
    assert status["status"] == "client_confirmed"
    assert status["status_details"]["confirmed_at"] == first.json()["confirmed_at"]
    assert status.get("client_satisfaction") == rating


def receipt_of(
    speaker: DocumentClient, shape: str, order_id: str, digest: str, rating: int | None
) -> dict[str, Any]:
    if shape == "oldest":
        return speaker.old_receipt(order_id, digest, rating)
    if shape.startswith("documents"):
        protocol = f"IVXP/{shape.split()[1]}"
        return speaker.receipt(order_id, digest, rating=rating, protocol=protocol)
    receipt = speaker.receipt(order_id, digest)
    text = f"Confirm delivery: {order_id} | Timestamp: {receipt['timestamp']}"
    confirmation: dict[str, Any] = {
        "message": text,
        "signature": speaker.wallet.sign(text),
        "signer": speaker.wallet.address,
    }
    if rating is not None:
        confirmation["satisfaction_rating"] = rating
    kept = {name: receipt[name] for name in ("protocol", "message_type", "timestamp", "order_id")}
    return {**kept, "confirmation": confirmation}


@pytest.mark.parametrize("digest", ["raw", "documented", "old provider's"])
async def test_every_hash_that_a_client_may_have_computed_is_taken(
    service: Service, chain: DevChain, digest: str
) -> None:
    speaker = client(service, wallet(chain, "documents hashes"))
    order_id, download = await delivered(service, speaker, "summary_card")
    content, inner = download["content"], download["deliverable"]["content"]
    hashed = {
        "raw": content,
        "documented": json.dumps(content, ensure_ascii=False),
        "old provider's": json.dumps(inner, sort_keys=True),
    }[digest]

    receipt = speaker.receipt(order_id, sha256(hashed.encode()).hexdigest())
    answer = await speaker.post("/ivxp/confirm", receipt)

    assert answer.status == 200, answer.body


async def test_a_receipt_for_other_content_or_by_another_wallet_is_refused(
    service: Service, chain: DevChain
) -> None:
    speaker = client(service, wallet(chain, "documents owner"))
    order_id, download = await delivered(service, speaker)
    stranger = client(service, poor_wallet(chain, "documents stranger"))
    digest, path = download["content_hash"], f"/ivxp/orders/{order_id}/confirm"
    unsatisfied = speaker.receipt(order_id, digest)
    unsatisfied["confirmation"]["received"] = False
    wanted: list[tuple[Any, int, str]] = [
        (speaker.receipt(order_id, "ab" * 32), 409, "CONTENT_HASH_MISMATCH"),
        (speaker.receipt(order_id, digest, rating=6), 400, "INVALID_REQUEST"),
        (stranger.receipt(order_id, digest), 401, "SIGNATURE_INVALID"),
        (stranger.old_receipt(order_id, digest, 5), 401, "SIGNATURE_INVALID"),
        (unsatisfied, 400, "NOT_A_RECEIPT"),
    ]
    for receipt, status, code in wanted:
        answer = await speaker.post(path, receipt)
        assert (answer.status, documents.error(answer)["error"]) == (status, code)
    assert "confirmed" not in service.kinds(order_id)


@pytest.mark.parametrize("view", RICH)
async def test_the_view_of_1_1_has_the_rich_words(
    service: Service, chain: DevChain, view: dict[str, Any]
) -> None:
    speaker = client(service, wallet(chain, "documents rich"), **view)
    plain = replace(speaker, query="", headers=())
    quote = (await plain.post("/ivxp/request", plain.request(BY_HAND, WORDS, 5))).json()
    order_id, terms = quote["order_id"], quote["quote"]
    words = []

    async def look() -> None:
        await service.views_have(service.position)
        for path in (f"/ivxp/status/{order_id}", f"/ivxp/orders/{order_id}"):
            answer = await speaker.get(path)
            words.append(documents.rich_status(answer.json())["status"])
            assert "IVXP-Version" in (answer.header("Vary") or "")

    await look()
    tx_hash = await plain.wallet.pay(terms["payment_address"], micros_of(terms["price_usdc"]))
    await plain.post("/ivxp/deliver", plain.notice(order_id, tx_hash, NETWORK, NONCE))
    await look()
    await hand_in(service, order_id, WORDS)
    await look()
    digest = (await plain.get(f"/ivxp/download/{order_id}")).json()["content_hash"]
    receipt = plain.receipt(order_id, digest, rating=3, protocol="IVXP/1.1")
    await plain.post(f"/ivxp/orders/{order_id}/confirm", receipt)
    await look()

    assert words[::2] == words[1::2] == ["quoted", "processing", "ready", "client_confirmed"]
    # Who asks for nothing sees the five words, whatever the ledger knows.
    assert (await plain.get(f"/ivxp/status/{order_id}")).json()["status"] == "delivered"


async def test_an_answer_names_the_protocol_of_the_request(
    service: Service, chain: DevChain
) -> None:
    speaker = client(service, poor_wallet(chain, "documents protocol"))
    request = speaker.request("text_echo", WORDS, 5)
    for protocol in ("IVXP/1.0", "IVXP/1.1"):
        answer = await speaker.post("/ivxp/request", {**request, "protocol": protocol})
        assert answer.json()["protocol"] == protocol
    assert (await speaker.get("/ivxp/catalog")).json()["protocol"] == "IVXP/1.0"


async def test_a_view_that_does_not_exist_is_refused(service: Service, chain: DevChain) -> None:
    speaker = client(service, poor_wallet(chain, "documents no view"))
    quote = (await speaker.post("/ivxp/request", speaker.request("text_echo", WORDS, 5))).json()
    for query in ("?protocol=IVXP/2.0", "?view=loose"):
        answer = await replace(speaker, query=query).get(f"/ivxp/status/{quote['order_id']}")
        assert answer.status == 400
        assert documents.error(answer)
