"""Workers: what waits for them, taking it, handing it in, giving up, and beginning again."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio

from api.keys import LEDGER, RUNNER
from ledger.commands import StartProcessing
from scripts.devchain import DevChain
from tests.contract.callers import (
    OPERATOR,
    OTHER_WORKER,
    PARTY,
    ROLES,
    WORKER,
    Answer,
    Caller,
    found_paid,
    signed_in,
)
from tests.contract.kit import WAIT_SECONDS, MovableClock, Service, paid_order, payer, serving
from tests.contract.proofs import checked_event

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 4096
BY_HAND, PICTURE, SOLD_BEFORE = "by_hand", "picture", "sold_before"
BYTES = bytes(range(256))


def catalog_of(*types: str) -> str:
    return 'provider = "workers"\n' + "".join(
        f'[[services]]\ntype = "{name}"\nkind = "external"\nprice_usdc = "0.1"\n'
        "estimated_delivery_hours = 2\n"
        for name in types
    )


CALLABLE = """[[services]]
type = "text_echo"
price_usdc = "0.1"
estimated_delivery_hours = 1
handler = "api.offerings.text:text_echo"
[[services]]
type = "breaks"
price_usdc = "0.1"
estimated_delivery_hours = 1
handler = "tests.contract.offerings:raises"
"""


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, clock: MovableClock
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("workers")
    catalog = folder / "catalog.toml"
    catalog.write_text(catalog_of(BY_HAND, PICTURE) + CALLABLE)
    async with serving(
        folder,
        catalog=catalog,
        clock=clock,
        content_max_bytes=LIMIT,
        body_max_bytes=1024,
        work_lease=60,
        **ROLES,
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def worker(service: Service) -> AsyncIterator[Caller]:
    yield await signed_in(service, WORKER)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def other(service: Service) -> AsyncIterator[Caller]:
    yield await signed_in(service, OTHER_WORKER)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def operator(service: Service) -> AsyncIterator[Caller]:
    yield await signed_in(service, OPERATOR)


def path(order_id: str, act: str) -> str:
    return f"/v1/work/{order_id}/{act}"


async def hand_in(caller: Caller, order_id: str, content: str = "done") -> Answer:
    return await caller.post(path(order_id, "deliverable"), {"content": content})


async def begun(service: Service, kind: str = BY_HAND) -> str:
    order_id = await found_paid(service, kind)
    ledger = service.app[LEDGER]
    await ledger.execute(order_id, StartProcessing("worker", ledger.clock()))
    return order_id


async def listed(caller: Caller) -> dict[str, dict[str, object]]:
    """Return everything that waits, read in small pages."""
    found: dict[str, dict[str, object]] = {}
    after = ""
    while True:
        answer = await caller.get(f"/v1/work?limit=2{after}")
        assert answer.status == 200, answer.body
        assert len(answer.body["orders"]) <= 2
        found |= {order["order_id"]: order for order in answer.body["orders"]}
        if "next" not in answer.body:
            return found
        after = f"&after={answer.body['next']}"


def require_proof(service: Service, answer: Answer) -> dict[str, object]:
    """Check that the answer proves where the order stands; return its newest event."""
    block, ledger = answer.body["ledger"], service.app[LEDGER]
    entry = block["entry"].encode()
    assert sha256(b"\x00" + entry).hexdigest() == block["leaf"]
    assert answer.headers["Ledger-Head"].split(" ")[0].isdigit()
    return checked_event(entry, origin=ledger.origin, wallet=ledger.signer.address)


# Looking


async def test_a_worker_sees_what_is_needed_to_work(service: Service, worker: Caller) -> None:
    order_id = await found_paid(service, BY_HAND, "draw a tree \u00e9")

    item = (await listed(worker))[order_id]

    order = await service.app[LEDGER].order(order_id)
    assert order is not None
    assert set(item) == {
        "order_id",
        "status",
        "service",
        "description",
        "price_usdc",
        "waiting_since",
        "deliver_by",
    }
    assert (item["status"], item["service"]) == ("paid", BY_HAND)
    assert (item["description"], item["price_usdc"]) == ("draw a tree \u00e9", 0.1)
    assert str(item["deliver_by"]) > str(item["waiting_since"])


async def test_only_paid_orders_of_external_services_wait(service: Service, worker: Caller) -> None:
    unpaid = await service.quote(service.buyer(PARTY), BY_HAND)
    waiting = [await found_paid(service, BY_HAND), await begun(service, PICTURE)]
    done = await found_paid(service, BY_HAND)
    assert (await hand_in(worker, done)).status == 200
    echo = await found_paid(service, "text_echo")

    found = await listed(worker)

    assert set(waiting) <= set(found)
    assert not {unpaid, done, echo} & set(found)
    assert found[waiting[1]]["status"] == "processing"


async def test_the_list_is_in_the_order_of_payment_and_stays_so_when_work_begins(
    service: Service, worker: Caller, clock: MovableClock
) -> None:
    orders = []
    for _ in range(3):
        clock.offset_ms += 1000
        orders.append(await found_paid(service, BY_HAND))
    assert (await worker.post(path(orders[0], "start"))).status == 200
    assert (await worker.post(path(orders[2], "start"))).status == 200

    found = [order_id for order_id in await listed(worker) if order_id in orders]

    assert found == orders


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=1e2",
        "limit=",
        "limit=\u0661",
        "after=",
        "after=1",
        "after=x.y",
        "after=1.ivxp-",
        "after=1' OR 1=1.ivxp-00000000-0000-4000-8000-000000000000",
        "after=99999999999999999999.ivxp-00000000-0000-4000-8000-000000000000",
    ],
)
async def test_a_place_or_limit_of_another_form_is_refused(worker: Caller, query: str) -> None:
    assert (await worker.get(f"/v1/work?{query}")).outcome == (400, "INVALID_REQUEST")


async def test_an_order_of_a_service_that_is_no_longer_sold_waits_for_the_operator(
    tmp_path: Path,
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(catalog_of(BY_HAND, SOLD_BEFORE))
    async with serving(tmp_path, catalog=catalog, **ROLES) as first:
        order_id = await found_paid(first, SOLD_BEFORE)
    catalog.write_text(catalog_of(BY_HAND))

    async with serving(tmp_path, catalog=catalog, **ROLES) as second:
        worker, operator = await signed_in(second, WORKER), await signed_in(second, OPERATOR)

        assert order_id not in await listed(worker)
        assert (await hand_in(worker, order_id)).outcome == (404, "ORDER_NOT_FOUND")
        assert order_id in await listed(operator)
        assert (await hand_in(operator, order_id)).status == 200


# Taking


async def test_taking_a_paid_order_begins_it_and_a_repeat_prolongs_the_lease(
    service: Service, worker: Caller, clock: MovableClock
) -> None:
    order_id = await found_paid(service, BY_HAND)

    first = await worker.post(path(order_id, "start"))
    clock.offset_ms += 10_000
    second = await worker.post(path(order_id, "start"), {})

    assert (first.status, first.body["status"]) == (200, "processing")
    assert require_proof(service, first)["kind"] == "processing"
    assert second.status == 200
    assert second.body["taken_until"] > first.body["taken_until"]
    assert second.body["ledger"]["entry"] == first.body["ledger"]["entry"]
    assert second.body["description"] == "the work"
    assert service.kinds(order_id) == ["quoted", "paid", "processing"]


@pytest.mark.parametrize("status", ["paid", "processing"])
async def test_of_many_workers_one_takes_an_order(
    service: Service, worker: Caller, other: Caller, status: str
) -> None:
    order_id = await (found_paid(service, BY_HAND) if status == "paid" else begun(service))
    names = [(caller, name) for caller in (worker, other) for name in ("", "a", "b")]

    answers = await asyncio.gather(
        *(caller.post(path(order_id, "start"), {"worker": name}) for caller, name in names)
    )

    assert sorted(a.status for a in answers) == [200] + [409] * 5
    assert {a.outcome[1] for a in answers if a.status == 409} <= {
        "ORDER_TAKEN",
        "INVALID_ORDER_STATE",
    }
    assert service.kinds(order_id) == ["quoted", "paid", "processing"]


async def test_an_order_is_free_again_when_its_lease_has_run_out(
    service: Service, worker: Caller, other: Caller, clock: MovableClock
) -> None:
    order_id = await found_paid(service, BY_HAND)
    assert (await worker.post(path(order_id, "start"))).status == 200
    item = (await listed(other))[order_id]

    refused = await other.post(path(order_id, "start"))
    clock.offset_ms += 60_000

    assert refused.outcome == (409, "ORDER_TAKEN")
    assert refused.body["details"] == {"taken_until": item["taken_until"]}
    assert "taken_until" not in (await listed(other))[order_id]
    assert (await other.post(path(order_id, "start"))).status == 200


@pytest.mark.parametrize("act", ["start", "retry"])
async def test_what_is_not_paid_or_is_done_is_not_taken(
    service: Service, worker: Caller, act: str
) -> None:
    unpaid = await service.quote(service.buyer(PARTY), BY_HAND)
    done = await found_paid(service, BY_HAND)
    assert (await hand_in(worker, done)).status == 200

    for order_id in (unpaid, done):
        assert (await worker.post(path(order_id, act))).outcome == (409, "INVALID_ORDER_STATE")


# Handing in


async def test_handing_in_for_a_paid_order_begins_and_readies_it_in_one_command(
    service: Service, worker: Caller
) -> None:
    order_id = await found_paid(service, BY_HAND)

    answer = await hand_in(worker, order_id, "done \u00e9")

    content = "done \u00e9".encode()
    assert answer.status == 200
    assert require_proof(service, answer)["kind"] == "ready"
    assert (answer.body["order_id"], answer.body["status"]) == (order_id, "ready")
    assert answer.body["content_hash"] == sha256(content).hexdigest()
    assert answer.body["size_bytes"] == len(content)
    assert (answer.body["format"], answer.body["content_type"]) == ("text", "text/plain")
    assert service.kinds(order_id) == ["quoted", "paid", "processing", "ready"]


async def test_handing_in_the_same_again_gets_the_first_answer_and_other_bytes_do_not(
    service: Service, worker: Caller, other: Caller
) -> None:
    order_id = await found_paid(service, BY_HAND)
    first = await hand_in(worker, order_id)
    before = service.position

    again = await hand_in(other, order_id)
    different = await hand_in(worker, order_id, "otherwise")

    ledger = first.body.pop("ledger")
    assert again.body.pop("ledger")["entry"] == ledger["entry"]
    assert (again.status, again.body) == (200, first.body)
    assert different.outcome == (409, "DELIVERABLE_EXISTS")
    assert different.body["details"] == {"content_hash": first.body["content_hash"]}
    assert service.position == before


async def test_the_first_answer_is_given_also_after_the_client_has_collected(
    service: Service, worker: Caller
) -> None:
    order_id = await found_paid(service, BY_HAND)
    first = await hand_in(worker, order_id)
    (await service.buyer(PARTY).get(f"/ivxp/download/{order_id}")).require(200)
    await service.recorded(order_id, 5)

    again = await hand_in(worker, order_id)

    assert again.status == 200
    assert {k: v for k, v in again.body.items() if k != "ledger"} == {
        k: v for k, v in first.body.items() if k != "ledger"
    }
    assert require_proof(service, again)["kind"] == "delivered"


async def test_of_two_workers_that_hand_in_at_once_one_is_the_deliverable(
    service: Service, worker: Caller, other: Caller
) -> None:
    order_id = await found_paid(service, BY_HAND)

    answers = await asyncio.gather(
        hand_in(worker, order_id, "one"), hand_in(other, order_id, "two")
    )

    [winner] = [a for a in answers if a.status == 200]
    assert sorted(a.outcome for a in answers) == [(200, ""), (409, "DELIVERABLE_EXISTS")]
    body = (await service.buyer(PARTY).get(f"/ivxp/download/{order_id}")).require(200)
    assert body["content_hash"] == winner.body["content_hash"]
    assert service.kinds(order_id)[:4] == ["quoted", "paid", "processing", "ready"]


JSON_TEXT = json.dumps({"a": [1, 2.5, None], "b": "\u00e9\n\u2028\U0001f333"}, ensure_ascii=False)
WRAPPED = {
    "text": ({"content": "plain"}, b"plain", "text", "text/plain"),
    "empty": ({"content": ""}, b"", "text", "text/plain"),
    "json": (
        {"content": JSON_TEXT, "format": "json", "content_type": "application/json"},
        JSON_TEXT.encode(),
        "json",
        "application/json",
    ),
    "markdown": (
        {"content": "# t", "format": "markdown", "content_type": "text/markdown"},
        b"# t",
        "markdown",
        "text/markdown",
    ),
    "bytes": (
        {"content_base64": b64encode(BYTES).decode(), "format": "image", "content_type": "image/x"},
        BYTES,
        "image",
        "image/x",
    ),
    "text in base64": (
        {"content_base64": b64encode(b"text").decode()},
        b"text",
        "text",
        "application/octet-stream",
    ),
    "as much as there may be": ({"content": '"' * LIMIT}, b'"' * LIMIT, "text", "text/plain"),
    "as much as there may be in base64": (
        {"content_base64": b64encode(b"\xff" * LIMIT).decode()},
        b"\xff" * LIMIT,
        "text",
        "application/octet-stream",
    ),
}


async def require_collected(
    service: Service, order_id: str, content: bytes, word: str, media_type: str
) -> None:
    body = (await service.buyer(PARTY).get(f"/ivxp/download/{order_id}")).require(200)
    found = str(body["content"])
    encoded = "content_encoding" in body
    assert (b64decode(found, validate=True) if encoded else found.encode()) == content
    assert body["content_hash"] == sha256(content).hexdigest()
    assert body["content_type"] == media_type
    assert body["deliverable"]["format"] == word  # type: ignore[index]


@pytest.mark.parametrize("name", WRAPPED)
async def test_what_is_handed_in_as_json_is_collected_byte_for_byte(
    service: Service, worker: Caller, name: str
) -> None:
    order_id = await found_paid(service, BY_HAND)
    body, content, word, media_type = WRAPPED[name]

    answer = await worker.post(path(order_id, "deliverable"), body)

    assert answer.status == 200, answer.body
    assert answer.body["content_hash"] == sha256(content).hexdigest()
    await require_collected(service, order_id, content, word, media_type)


RAW = {
    "text": ("text/plain; charset=utf-8", "", "r\u00e9sum\u00e9\n".encode(), "text"),
    "markdown": ("text/markdown", "", b"# title", "markdown"),
    "a picture": ("image/png", "", b"\x89PNG\r\n\x1a\n" + BYTES, "image"),
    "bytes": ("application/octet-stream", "", BYTES, "binary"),
    "a named format": ("text/x-python", "?format=code", b"print()", "code"),
    "as much as there may be": ("image/png", "", b"\xff" * LIMIT, "image"),
    "json with another type": ("application/geo+json", "?format=json", b'{"a": 1.0}', "json"),
}


@pytest.mark.parametrize("name", RAW)
async def test_what_is_handed_in_as_it_is_is_collected_byte_for_byte(
    service: Service, worker: Caller, name: str
) -> None:
    order_id = await found_paid(service, PICTURE)
    media_type, query, content, word = RAW[name]

    answer = await worker.call(
        "POST", path(order_id, "deliverable") + query, data=content, Content_Type=media_type
    )

    assert answer.status == 200, answer.body
    await require_collected(service, order_id, content, word, media_type)


REFUSED: dict[str, tuple[dict[str, object], tuple[int, str]]] = {
    "nothing": ({}, (400, "INVALID_REQUEST")),
    "both": ({"content": "a", "content_base64": "YQ=="}, (400, "INVALID_REQUEST")),
    "an object": ({"content": {"a": 1}}, (400, "INVALID_REQUEST")),
    "no base64": ({"content_base64": "a"}, (400, "INVALID_REQUEST")),
    "other base64": ({"content_base64": "-_-_"}, (400, "INVALID_REQUEST")),
    "an empty format": ({"content": "a", "format": ""}, (400, "INVALID_REQUEST")),
    "a long format": ({"content": "a", "format": "f" * 201}, (400, "INVALID_REQUEST")),
    "no media type": ({"content": "a", "content_type": "text"}, (400, "INVALID_REQUEST")),
    "a header more": (
        {"content": "a", "content_type": "text/plain\r\nX: 1"},
        (400, "INVALID_REQUEST"),
    ),
    "too much": ({"content": "a" * (LIMIT + 1)}, (413, "PAYLOAD_TOO_LARGE")),
    "too much in base64": (
        {"content_base64": b64encode(b"a" * (LIMIT + 1)).decode()},
        (413, "PAYLOAD_TOO_LARGE"),
    ),
    "far too much": ({"content": "a" * (4 * LIMIT)}, (413, "PAYLOAD_TOO_LARGE")),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_deliverable_is_refused_and_the_order_waits_on(
    service: Service, worker: Caller, name: str
) -> None:
    order_id = await found_paid(service, BY_HAND)
    body, outcome = REFUSED[name]

    assert (await worker.post(path(order_id, "deliverable"), body)).outcome == outcome
    assert service.kinds(order_id) == ["quoted", "paid"]


@pytest.mark.parametrize(
    ("data", "media_type", "outcome"),
    [
        (b"", "text/plain", (400, "INVALID_REQUEST")),
        (b"a" * (LIMIT + 1), "text/plain", (413, "PAYLOAD_TOO_LARGE")),
        (b"a", "nonsense", (400, "INVALID_REQUEST")),
        (b'{"content": "a", "content": "b"}', "application/json", (400, "INVALID_JSON")),
        (b'{"content": "\\ud800"}', "application/json", (400, "INVALID_JSON")),
        (b"\xff", "application/json", (400, "INVALID_JSON")),
    ],
)
async def test_a_body_of_another_form_is_refused(
    service: Service, worker: Caller, data: bytes, media_type: str, outcome: tuple[int, str]
) -> None:
    order_id = await found_paid(service, BY_HAND)

    answer = await worker.call(
        "POST", path(order_id, "deliverable"), data=data, Content_Type=media_type
    )

    assert answer.outcome == outcome
    assert service.kinds(order_id) == ["quoted", "paid"]


async def test_no_other_route_takes_a_body_of_that_size(service: Service, worker: Caller) -> None:
    order_id = await found_paid(service, BY_HAND)

    for act in ("start", "fail", "retry"):
        answer = await worker.post(path(order_id, act), {"worker": "x" * 2000, "reason": "x"})
        assert answer.outcome == (413, "PAYLOAD_TOO_LARGE")


async def test_nothing_is_handed_in_for_an_order_that_is_not_paid(
    service: Service, worker: Caller
) -> None:
    order_id = await service.quote(service.buyer(PARTY), BY_HAND)

    assert (await hand_in(worker, order_id)).outcome == (409, "INVALID_ORDER_STATE")
    assert service.kinds(order_id) == ["quoted"]


# Giving up and beginning again


async def test_work_that_failed_is_shown_and_begun_again(
    service: Service, worker: Caller, operator: Caller
) -> None:
    order_id = await begun(service)

    failed = await worker.post(path(order_id, "fail"), {"reason": "no ink"})
    again = await worker.post(path(order_id, "fail"), {"reason": "no ink"})

    assert (failed.status, failed.body["status"]) == (200, "delivery_failed")
    assert require_proof(service, failed)["body"] == {
        "reason": "handler_failed",
        "attempts": 1,
        "detail": "no ink",
    }
    assert again.body["ledger"]["entry"] == failed.body["ledger"]["entry"]
    assert order_id not in await listed(worker)

    retried = await operator.post(path(order_id, "retry"))

    assert (retried.status, retried.body["status"]) == (200, "processing")
    assert require_proof(service, retried)["body"] == {"reason": "retry"}
    assert (await operator.post(path(order_id, "retry"))).status == 200
    assert (await hand_in(worker, order_id)).status == 200
    assert service.kinds(order_id)[2:] == ["processing", "delivery_failed", "processing", "ready"]


async def test_handing_in_after_a_failure_begins_again_by_itself(
    service: Service, worker: Caller
) -> None:
    order_id = await begun(service)
    assert (await worker.post(path(order_id, "fail"), {"reason": "no ink"})).status == 200

    assert (await hand_in(worker, order_id)).status == 200
    assert service.kinds(order_id)[3:] == ["delivery_failed", "processing", "ready"]


async def test_a_worker_gives_up_no_order_that_another_has(
    service: Service, worker: Caller, other: Caller
) -> None:
    order_id = await begun(service)
    assert (await worker.post(path(order_id, "start"), {"worker": "a"})).status == 200

    for caller, name in ((other, "a"), (worker, "b")):
        answer = await caller.post(path(order_id, "fail"), {"reason": "x", "worker": name})
        assert answer.outcome == (409, "ORDER_TAKEN")
    answer = await worker.post(path(order_id, "fail"), {"reason": "x", "worker": "a"})
    assert answer.status == 200


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 201}, {"reason": 5}])
async def test_giving_up_needs_a_short_reason(
    service: Service, worker: Caller, body: dict[str, object]
) -> None:
    order_id = await begun(service)

    assert (await worker.post(path(order_id, "fail"), body)).outcome == (400, "INVALID_REQUEST")


async def test_the_operator_begins_again_what_a_handler_failed_at_and_a_worker_does_not(
    service: Service, worker: Caller, operator: Caller
) -> None:
    order_id = await found_paid(service, "breaks")
    await service.recorded(order_id, 4)
    assert service.kinds(order_id)[3] == "delivery_failed"

    assert (await worker.post(path(order_id, "retry"))).outcome == (404, "ORDER_NOT_FOUND")
    assert (await operator.post(path(order_id, "retry"))).status == 200
    await service.recorded(order_id, 6)

    assert service.kinds(order_id)[4:6] == ["processing", "delivery_failed"]


# Payments that came without a notice


async def test_an_order_whose_payment_came_without_a_notice_is_done_by_its_handler(
    service: Service,
) -> None:
    order_id = await found_paid(service, "text_echo", "my words")
    await service.recorded(order_id, 4)
    assert await service.app[RUNNER].wait_for(service.position, WAIT_SECONDS)

    body = (await service.buyer(PARTY).get(f"/ivxp/download/{order_id}")).require(200)

    assert body["content"] == "my words"
    assert service.kinds(order_id)[:4] == ["quoted", "paid", "processing", "ready"]


async def test_such_an_order_is_done_also_if_it_was_paid_before_a_restart(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(catalog_of("text_echo"))
    async with serving(tmp_path, catalog=catalog) as first:
        order_id = await found_paid(first, "text_echo")
    catalog.write_text('provider = "workers"\n' + CALLABLE)

    async with serving(tmp_path, catalog=catalog) as second:
        await second.recorded(order_id, 4)

        assert second.kinds(order_id) == ["quoted", "paid", "processing", "ready"]


async def test_a_worker_serves_a_real_client_from_notice_to_receipt(
    chain: DevChain, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(catalog_of(BY_HAND))
    async with serving(tmp_path, chain, catalog=catalog, **ROLES) as service:
        worker = await signed_in(service, WORKER)
        buyer = payer(chain, service, "workers client")
        order_id = await paid_order(service, chain, buyer, BY_HAND, "draw")
        assert (await listed(worker))[order_id]["status"] == "processing"
        assert (await worker.post(path(order_id, "start"))).status == 200

        assert (await hand_in(worker, order_id, "drawn")).status == 200

        body = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
        (await buyer.confirm(order_id, str(body["content"]))).require(200)
