"""A thousand orders at once on a real service and a real chain: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from scripts.audit_replay import main as audit_replay
from scripts.devchain import DevChain
from tests.faults.crowd import (
    CATALOG,
    FATES,
    LOOK_SECONDS,
    PRICE,
    Crowd,
    Mined,
    Story,
    fund,
    live,
    receiver,
    stories_of,
)
from tests.support.chain import TRANSFER_TOPIC, account_named
from tests.support.faults import Record, seed
from tests.support.service import Service

ORDERS = 1000
BLOCK_SECONDS = 1
TWO_HOURS = 7200
PLAIN_WORDS = {
    "client_confirmed": "delivered",
    "delivered": "delivered",
    "posted": "delivered",
    "disputed": "delivered",
    "refunded": "delivery_failed",
    "delivery_failed": "delivery_failed",
    "expired": "quoted",
}


@pytest.fixture
def own() -> Iterator[DevChain]:
    """Run a chain that makes its blocks by the clock, as real ones do."""
    with DevChain(slots_in_an_epoch=2, block_time_seconds=BLOCK_SECONDS) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path, own: DevChain) -> Iterator[Service]:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    service = Service(
        tmp_path,
        own.rpc_url,
        catalog=str(tmp_path / "catalog.toml"),
        payment_address=account_named("thousand: treasury").address,
        operators=account_named("thousand: operator").address,
        workers=account_named("thousand: worker").address,
        push_allow_private="true",
        push_schedule="0,1",
        push_per_host="16",
        scan_interval="0.5",
        loop_interval="0.2",
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
async def crowd(service: Service, own: DevChain) -> AsyncIterator[Crowd]:
    treasury = await asyncio.to_thread(fund, own)
    connector = aiohttp.TCPConnector(limit=0)
    async with receiver() as url, aiohttp.ClientSession(connector=connector) as session:
        found = Crowd(service.url, session, own, treasury, Mined(own), url)
        await found.sign_in()
        yield found


class Books:
    """What the service's files hold after it has stopped."""

    def __init__(self, service: Service) -> None:
        self.ledger = sqlite3.connect(service.data_dir / "ledger.db")
        self.views = sqlite3.connect(service.data_dir / "views.db")

    def sums(self) -> Counter[str]:
        """Return the sums of the money table over all orders."""
        names = ("received", "applied", "pending", "late", "orphaned", "refunded", "held")
        wanted = ", ".join(f"sum({name}_micros)" for name in names)
        row = self.views.execute(f"SELECT {wanted} FROM orders").fetchone()  # noqa: S608 - fixed
        return Counter(dict(zip(names, row, strict=True)))

    def row(self, order_id: str) -> dict[str, Any]:
        self.views.row_factory = sqlite3.Row
        query = "SELECT * FROM orders WHERE order_id=?"
        return dict(self.views.execute(query, (order_id,)).fetchone())

    def claims(self) -> int:
        return int(self.ledger.execute("SELECT count(*) FROM claims").fetchone()[0])

    def close(self) -> None:
        self.ledger.close()
        self.views.close()


def moved(chain: DevChain, *, sender: str | None = None, to: str | None = None) -> list[int]:
    """Return what every transfer on the chain moved from or to an address."""
    ends = [None if end is None else "0x" + "0" * 24 + end[2:].lower() for end in (sender, to)]
    query = {
        "address": chain.usdc_address,
        "topics": [TRANSFER_TOPIC, *ends],
        "fromBlock": "0x0",
    }
    return [int(log["data"], 16) for log in chain.rpc("eth_getLogs", [query])]


async def expire(crowd: Crowd, chain: DevChain) -> None:
    """Let the time to pay end for all; those who are late pay now."""
    await asyncio.to_thread(chain.increase_time, TWO_HOURS)
    await asyncio.gather(*(crowd.until(story, "expired") for story in unpaid(crowd)))
    watching = asyncio.create_task(crowd.mined.watch())
    await asyncio.gather(*(pay_late(crowd, s) for s in crowd.stories if s.fate == "late"))
    watching.cancel()


def unpaid(crowd: Crowd) -> list[Story]:
    return [story for story in crowd.stories if FATES[story.fate][1] == "expired"]


async def pay_late(crowd: Crowd, story: Story) -> None:
    answer = await crowd.tell(story, await crowd.pay(story, PRICE))
    assert answer.require(410)["error"] == "ORDER_EXPIRED"
    story.late = PRICE


async def settled(crowd: Crowd) -> None:
    """Wait until the service has nothing left to write."""
    size, same = -1, 0
    while same < 5:
        body = (await crowd.buyer("thousand: operator").get("/health")).require(200)
        same = same + 1 if (body["position"], body["lag"]) == (size, 0) else 0
        size = int(str(body["position"]))
        await asyncio.sleep(LOOK_SECONDS)


async def require_words(crowd: Crowd, story: Story) -> None:
    """Every view of an order has the word of its fate."""
    rich = FATES[story.fate][1]
    queries = {"": PLAIN_WORDS[rich], "?view=strict": PLAIN_WORDS[rich], "?protocol=1.1": rich}
    for query, word in queries.items():
        answer = await story.buyer.get(f"/ivxp/orders/{story.order_id}{query}")
        assert (story.fate, answer.require(200)["status"]) == (story.fate, word)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_thousand_orders_of_twenty_buyers_end_as_they_should(
    service: Service, own: DevChain, crowd: Crowd
) -> None:
    number = seed()
    began = time.monotonic()
    await live(crowd, stories_of(Random(number), crowd, ORDERS))  # noqa: S311 - reproducible
    lived = time.monotonic() - began
    await expire(crowd, own)
    await settled(crowd)
    for story in crowd.stories:
        await require_words(crowd, story)
    treasury = crowd.treasury.address
    arrived, returned = moved(own, to=treasury), moved(own, sender=treasury)
    assert service.stop() == 0

    books, record = Books(service), Record()
    record.read(service.data_dir)
    for story in crowd.stories:
        row = books.row(story.order_id)
        money = (row["received_micros"], row["late_micros"], row["refunded_micros"])
        assert (story.fate, *money) == (story.fate, story.received, story.late, story.refunded)
    sums = books.sums()
    assert sums["received"] == sum(arrived) == sums["applied"] + sums["pending"] + sums["late"]
    assert sums["refunded"] == sum(returned) == sums["received"] - sums["held"]
    assert books.claims() == len(arrived) + len(returned)
    assert record.kinds["log"]["payment_unattributed"] == 0
    assert record.doubled() == []
    assert audit_replay([str(service.data_dir), "--rpc", own.rpc_url]) == 0
    books.close()
    events, orders = len(record.leaves), len(crowd.stories)
    fates = Counter(story.fate for story in crowd.stories)
    print(  # noqa: T201 - the figures are the result
        f"{orders} orders, {events} events, {crowd.requests.total()} requests in {lived:.0f} s:"
        f" {orders / lived:.0f} orders/s, {events / lived:.0f} events/s;"
        f" {time.monotonic() - began:.0f} s in all; {dict(fates.most_common())}"
    )
