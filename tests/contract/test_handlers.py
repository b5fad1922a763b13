"""What becomes of an order whose handler fails, hangs, or makes something unusual."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.keys import LEDGER
from ledger.commands import HandIn
from ledger.errors import StoreUnavailable
from scripts.buyer import Buyer
from scripts.devchain import DevChain
from tests.contract import offerings
from tests.contract.kit import Service, paid_order, payer, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAILING = [
    "raises",
    "exits",
    "stops",
    "returns_text",
    "returns_nothing",
    "hangs",
    "waits",
    "too_large",
    "half_a_pair",
    "no_format",
    "number",
]
MAKING = ["exactly_at_the_limit", "picture", "empty", "later", "counted"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with offering(tmp_path_factory.mktemp("handlers"), chain) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    """Run a service that soon gives up; a handler of its that works may be too slow for it."""
    folder = tmp_path_factory.mktemp("impatient")
    async with offering(folder, chain, handler_timeout=0.3) as running:
        yield running


@asynccontextmanager
async def offering(folder: Path, chain: DevChain, **settings: object) -> AsyncIterator[Service]:
    catalog = folder / "catalog.toml"
    catalog.write_text(catalog_of([*FAILING, *MAKING]))
    async with serving(
        folder, chain, catalog=catalog, content_max_bytes=4096, **settings
    ) as running:
        yield running
    offerings.LET_GO.set()


def catalog_of(names: list[str]) -> str:
    services = "".join(
        f'[[services]]\ntype = "{name}"\nprice_usdc = "0.1"\nestimated_delivery_hours = 1\n'
        f'handler = "tests.contract.offerings:{name}"\n'
        for name in names
    )
    return f'provider = "handlers"\n{services}'


@pytest.mark.parametrize("name", FAILING)
async def test_a_failing_handler_shows_delivery_failed_and_the_service_goes_on(
    impatient: Service, chain: DevChain, name: str
) -> None:
    service = impatient
    buyer = payer(chain, service, f"handlers {name}")
    order_id = await paid_order(service, chain, buyer, name, "the client's words")

    status = await service.status_when(buyer, order_id, {"delivery_failed", "delivered"})

    assert status["status"] == "delivery_failed"
    assert "content_hash" not in status
    for path in (f"/ivxp/download/{order_id}", f"/ivxp/orders/{order_id}/deliverable"):
        answer = await buyer.get(path)
        assert (answer.status, answer.body["error"]) == (404, "DELIVERABLE_NOT_READY")
        assert answer.body["details"] == {"status": "delivery_failed"}
    assert service.kinds(order_id) == ["quoted", "paid", "processing", "delivery_failed"]
    assert "words" not in json.dumps(last_body(service, order_id))


async def test_a_download_before_the_handler_ended_is_not_ready(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "handlers early")
    order_id = await service.quote(buyer, "waits")

    answer = await buyer.get(f"/ivxp/download/{order_id}")

    assert (answer.status, answer.body["error"]) == (404, "DELIVERABLE_NOT_READY")
    assert answer.body["details"] == {"status": "quoted"}


async def test_more_handlers_hang_than_may_run_at_once_and_others_are_served_after_them(
    impatient: Service, chain: DevChain
) -> None:
    service = impatient
    buyer = payer(chain, service, "handlers hanging")
    hanging = [await paid_order(service, chain, buyer, "hangs") for _ in range(10)]

    order_id = await paid_order(service, chain, buyer, "later")

    assert (await service.status_when(buyer, order_id, {"delivered"}))["status"] == "delivered"
    for other in hanging:
        await service.status_when(buyer, other, {"delivery_failed"})


async def test_a_result_is_kept_until_the_store_takes_it(
    service: Service, chain: DevChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, failures = service.app[LEDGER], 3
    execute = ledger.execute

    async def failing(order_id: str, command: Any, *more: Any) -> Any:  # noqa: ANN401
        nonlocal failures
        if isinstance(command, HandIn) and failures:
            failures -= 1
            raise StoreUnavailable("the disk is full")
        return await execute(order_id, command, *more)

    monkeypatch.setattr(ledger, "execute", failing)
    buyer = payer(chain, service, "handlers kept")
    order_id = await paid_order(service, chain, buyer, "counted")

    assert (await service.status_when(buyer, order_id, {"delivered"}))["status"] == "delivered"
    assert failures == 0
    assert offerings.COUNTED.count(order_id) == 1


async def test_a_picture_is_handed_out_in_base64_and_hashed_as_bytes(
    service: Service, chain: DevChain
) -> None:
    buyer, order_id, body = await collected(service, chain, "picture")

    assert body["content_encoding"] == "base64"
    assert b64decode(body["content"], validate=True) == offerings.PICTURE
    assert body["content_hash"] == sha256(offerings.PICTURE).hexdigest()
    assert body["content_type"] == "image/x-test"
    ready = [p.signed.event for p in service.app[LEDGER].read_order(order_id)][3].body()
    assert ready["json_digest"] == sha256(json.dumps(body["content"]).encode()).hexdigest()
    assert ready["size_bytes"] == len(offerings.PICTURE)
    assert (await buyer.get(f"/ivxp/orders/{order_id}/deliverable")).require(200) == body


@pytest.mark.parametrize(
    ("name", "content"), [("exactly_at_the_limit", "x" * 4096), ("empty", ""), ("later", "later")]
)
async def test_content_of_any_allowed_size_is_handed_out_as_it_is(
    service: Service, chain: DevChain, name: str, content: str
) -> None:
    _, _, body = await collected(service, chain, name)

    assert body["content"] == body["deliverable"]["content"] == content
    assert body["content_hash"] == sha256(content.encode()).hexdigest()
    assert "content_encoding" not in body


async def collected(
    service: Service, chain: DevChain, name: str
) -> tuple[Buyer, str, dict[str, Any]]:
    buyer = payer(chain, service, f"handlers {name}")
    order_id = await paid_order(service, chain, buyer, name)
    await service.status_when(buyer, order_id, {"delivered"})
    return buyer, order_id, (await buyer.get(f"/ivxp/download/{order_id}")).require(200)


def last_body(service: Service, order_id: str) -> dict[str, Any]:
    return dict(service.app[LEDGER].read_order(order_id)[-1].signed.event.body())


async def test_work_that_was_under_way_at_the_end_is_done_after_the_next_start(
    chain: DevChain, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(catalog_of(["hangs"]))
    async with serving(tmp_path, chain, catalog=catalog) as first:
        buyer = payer(chain, first, "handlers restart")
        order_id = await paid_order(first, chain, buyer, "hangs")
    catalog.write_text(catalog_of(["hangs"]).replace(":hangs", ":later"))

    async with serving(tmp_path, chain, catalog=catalog) as second:
        await second.status_when(second.buyer("handlers restart"), order_id, {"delivered"})

        assert second.kinds(order_id) == ["quoted", "paid", "processing", "ready"]
