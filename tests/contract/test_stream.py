"""Following an order: what readers of every kind get, in one piece and in order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api.keys import FOLLOWERS, LEDGER
from ledger.commands import FailHandler, StartProcessing
from scripts.devchain import DevChain
from tests.contract.callers import ROLES, found_paid
from tests.contract.kit import (
    NETWORK,
    WAIT_SECONDS,
    Service,
    delivered_status,
    paid_order,
    pay,
    payer,
    serving,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

Frame = tuple[str, int, dict[str, Any]]


def parsed(frame: bytes) -> Frame:
    lines = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
    return lines["event"], int(lines["id"]), json.loads(lines["data"])


async def frames(response: aiohttp.ClientResponse) -> list[Frame]:
    """Return the events of a stream that ends, without its comments."""
    async with asyncio.timeout(WAIT_SECONDS):
        whole = await response.content.read()
    assert whole.startswith(b": connected\n\n")
    return [parsed(part) for part in whole.split(b"\n\n") if part and not part.startswith(b":")]


async def followed(service: Service, order_id: str, **headers: str) -> list[Frame]:
    url = f"{service.url}/ivxp/stream/{order_id}"
    async with service.session.get(url, headers=headers) as response:
        assert response.status == 200
        return await frames(response)


async def test_a_live_reader_sees_every_status_and_then_the_end(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "stream live")
    order_id = await service.quote(buyer)
    url = f"{service.url}/ivxp/stream/{order_id}"
    async with service.session.get(url) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Accel-Buffering"] == "no"
        (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(200)
        told = await frames(response)

    words = [data["ledger_status"] for kind, _, data in told if kind == "status_update"]
    assert words == ["quoted", "paid", "processing", "ready"]
    assert told[-1][0] == "completed"
    assert told[-1][2]["deliverableUrl"] == f"/ivxp/download/{order_id}"
    positions = [position for _, position, _ in told]
    assert positions == sorted(positions)


async def test_the_end_is_told_only_after_the_status_says_so(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "stream order")
    for _ in range(5):
        order_id = await service.quote(buyer)
        url = f"{service.url}/ivxp/stream/{order_id}"
        async with service.session.get(url) as response:
            (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(200)
            async for chunk in response.content.iter_any():
                if b"event: completed" in chunk:
                    status = (await buyer.get(f"/ivxp/orders/{order_id}")).require(200)
                    assert status["status"] == "delivered"
                    break


async def test_every_event_arrives_in_one_chunk(service: Service, chain: DevChain) -> None:
    buyer = payer(chain, service, "stream chunks")
    order_id = await service.quote(buyer)
    url = f"{service.url}/ivxp/stream/{order_id}"
    chunks = []
    async with service.session.get(url) as response:
        (await buyer.deliver(buyer.notice(order_id, pay(chain, buyer), NETWORK))).require(200)
        async for data, _ in response.content.iter_chunks():
            chunks.append(data)
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)
    assert all(b"\r" not in chunk for chunk in chunks)


async def test_a_late_reader_gets_the_whole_story(service: Service, chain: DevChain) -> None:
    buyer = payer(chain, service, "stream late")
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)

    told = await followed(service, order_id)

    assert [kind for kind, _, _ in told][-1] == "completed"
    assert told[0][2]["status"] == "quoted"


async def test_a_reader_that_was_away_goes_on_where_it_stopped(
    service: Service, chain: DevChain
) -> None:
    buyer = payer(chain, service, "stream again")
    order_id = await paid_order(service, chain, buyer)
    await delivered_status(buyer, order_id)
    whole = await followed(service, order_id)

    for index, (_, position, _) in enumerate(whole[:-1]):
        rest = await followed(service, order_id, **{"Last-Event-ID": str(position)})
        assert rest == whole[index + 1 :], position


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 16])
async def test_a_last_event_id_of_another_form_is_refused(service: Service, last: str) -> None:
    order_id = await service.quote(service.buyer("stream id"))
    url = f"{service.url}/ivxp/stream/{order_id}"
    async with service.session.get(url, headers={"Last-Event-ID": last}) as response:
        assert (response.status, (await response.json())["error"]) == (400, "INVALID_REQUEST")


async def test_an_unknown_order_has_no_stream(service: Service) -> None:
    async with service.session.get(f"{service.url}/ivxp/stream/ivxp-none") as response:
        assert (response.status, (await response.json())["error"]) == (404, "ORDER_NOT_FOUND")


async def test_a_failed_handler_ends_the_stream_as_failed(tmp_path: Path, chain: DevChain) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        'provider = "P"\n[[services]]\ntype = "by_hand"\nprice_usdc = "0.1"\n'
        'estimated_delivery_hours = 1\nkind = "external"\n'
    )
    async with serving(tmp_path, chain, catalog=catalog, **ROLES) as service:
        order_id = await found_paid(service, "by_hand")
        ledger = service.app[LEDGER]
        await ledger.execute(order_id, StartProcessing("worker", ledger.clock()))
        await ledger.execute(order_id, FailHandler(1, "broken", ledger.clock()))
        told = await followed(service, order_id)

    assert told[-1][0] == "failed"
    assert told[-1][2]["reason"] == "handler_failed"


async def opens(service: Service, url: str) -> bool:
    async with service.session.get(url) as response:
        return response.status == 200


async def test_too_many_streams_are_refused_and_ended_ones_make_room(
    tmp_path: Path, chain: DevChain
) -> None:
    async with serving(tmp_path, chain, max_streams=2) as service:
        order_id = await service.quote(service.buyer("stream cap"))
        url = f"{service.url}/ivxp/stream/{order_id}"
        one = await service.session.get(url)
        two = await service.session.get(url)
        async with service.session.get(url) as three:
            assert (three.status, (await three.json())["retryable"]) == (503, True)
        one.close()
        two.close()
        async with asyncio.timeout(WAIT_SECONDS):
            while not await opens(service, url):  # each question takes its time
                pass


async def test_streams_end_with_the_service(tmp_path: Path, chain: DevChain) -> None:
    async with serving(tmp_path, chain) as service:
        order_id = await service.quote(service.buyer("stream end"))
        async with service.session.get(f"{service.url}/ivxp/stream/{order_id}") as response:
            service.app[FOLLOWERS].close()
            told = await frames(response)
    assert [kind for kind, _, _ in told] == ["status_update"]
