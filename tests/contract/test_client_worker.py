"""The worker of the client library, against the real service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.client.errors import ServiceError
from api.client.http import HttpClient
from api.client.wallet import LocalWallet
from api.client.worker import GiveUp, Make, PaidOrder, Work, Worker
from api.keys import LEDGER
from ledger.commands import RecheckPayment
from ledger.finding import ChainView, Finding
from ledger.payment_events import PaymentVerified
from tests.contract.callers import (
    OTHER_WORKER,
    PARTY,
    ROLES,
    WORKER,
    Caller,
    found_paid,
    signed_in,
)
from tests.contract.kit import MovableClock, Service, serving
from tests.contract.reading import Time, key_of, meddler_before

BY_HAND, PICTURE = "by_hand", "picture"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text("utf-8")
CATALOG = 'provider = "worked"\n' + "".join(
    f'[[services]]\ntype = "{name}"\nkind = "external"\nprice_usdc = "0.1"\n'
    "estimated_delivery_hours = 2\n"
    for name in (BY_HAND, PICTURE)
)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def time(clock: MovableClock) -> Time:
    # What keeps a lease or an order waits until it is woken.
    return Time(clock, held=lambda seconds: seconds > 10)


@pytest_asyncio.fixture
async def service(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Service]:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    async with serving(
        tmp_path,
        clock=clock,
        catalog=tmp_path / "catalog.toml",
        content_max_bytes=4096,
        work_lease=60,
        **ROLES,
    ) as found:
        yield found


class Desk:
    """Notes what a worker was given, and makes something of it."""

    def __init__(self, act: Callable[[PaidOrder], Work | str | bytes] | None = None) -> None:
        self.given: list[str] = []
        self._act = act or (lambda order: f"made of {order.description}")

    async def __call__(self, order: PaidOrder) -> Work | str | bytes:
        self.given.append(order.order_id)
        return self._act(order)


def worker_at(
    service: Service,
    time: Time,
    make: Make,
    *,
    name: str = WORKER,
    cursor: str = "worker",
    services: tuple[str, ...] = (BY_HAND,),
    url: str | None = None,
) -> Worker:
    http = HttpClient(url or service.url, service.session, sleep=time)
    wallet = LocalWallet(key_of(name))
    return Worker(http, wallet, cursor, services, make, sleep=time, clock=time.clock)


async def ended(service: Service, *orders: str) -> list[str]:
    """Return the last kind of event of each order."""
    return [service.kinds(order)[-1] for order in orders]


async def lag(service: Service, cursor: str = "worker") -> int:
    caller = await signed_in(service, WORKER)
    return int((await caller.get(f"/v1/feeds/workers/cursors/{cursor}")).body["lag"])


async def content_of(service: Service, order_id: str) -> str:
    caller = Caller(service, PARTY)
    return str((await caller.get(f"/ivxp/download/{order_id}")).body["content"])


async def test_paid_orders_are_made_handed_in_and_acknowledged(
    service: Service, time: Time
) -> None:
    orders = [await found_paid(service, BY_HAND, f"words {n}") for n in range(3)]
    desk = Desk()
    worker = worker_at(service, time, desk)

    await worker.run(until_idle=True)

    assert desk.given == orders
    assert await ended(service, *orders) == ["ready"] * 3
    assert await content_of(service, orders[1]) == "made of words 1"
    assert worker.tally.handed_in == 3
    assert await lag(service) == 0


async def test_an_order_is_acknowledged_only_after_it_was_handed_in(
    service: Service, time: Time
) -> None:
    await found_paid(service, BY_HAND)
    before: list[int] = []

    async def make(_order: PaidOrder) -> str:
        caller = await signed_in(service, WORKER)
        before.append((await caller.get("/v1/feeds/workers/cursors/worker")).body["acked"])
        return "made"

    await worker_at(service, time, make).run(until_idle=True)

    assert before == [0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(GiveUp("out of paint"), "out of paint"), (LookupError("a client's words"), "LookupError")],
)
async def test_what_raises_gives_the_order_up_with_a_reason(
    service: Service, time: Time, error: Exception, reason: str
) -> None:
    first, second = [await found_paid(service, BY_HAND) for _ in range(2)]

    def act(order: PaidOrder) -> str:
        if order.order_id == first:
            raise error
        return "made"

    worker = worker_at(service, time, Desk(act))
    await worker.run(until_idle=True)

    assert await ended(service, first, second) == ["delivery_failed", "ready"]
    failed = service.app[LEDGER].read_order(first)[-1].signed.event
    assert failed.detail == reason  # type: ignore[attr-defined]
    assert (worker.tally.given_up, worker.tally.handed_in) == (1, 1)


async def test_bytes_and_media_types_arrive_as_they_were_made(service: Service, time: Time) -> None:
    raw, typed = [await found_paid(service, BY_HAND) for _ in range(2)]
    made: dict[str, Work | bytes] = {
        raw: bytes(range(256)),
        typed: Work("# Words", format="markdown", content_type="text/markdown"),
    }

    await worker_at(service, time, Desk(lambda order: made[order.order_id])).run(until_idle=True)

    caller = Caller(service, PARTY)
    first = (await caller.get(f"/ivxp/download/{raw}")).body
    second = (await caller.get(f"/ivxp/download/{typed}")).body
    assert (first["content_encoding"], first["deliverable"]["format"]) == ("base64", "binary")
    assert (second["content_type"], second["content"]) == ("text/markdown", "# Words")


async def test_what_is_too_long_to_hand_in_is_given_up_and_stops_nobody(
    service: Service, time: Time
) -> None:
    long, short = [await found_paid(service, BY_HAND) for _ in range(2)]
    desk = Desk(lambda order: "x" * (5000 if order.order_id == long else 5))

    await worker_at(service, time, desk).run(until_idle=True)

    assert await ended(service, long, short) == ["delivery_failed", "ready"]


async def test_orders_of_other_services_and_orders_that_are_done_are_passed_over(
    service: Service, time: Time
) -> None:
    other = await found_paid(service, PICTURE)
    done = await found_paid(service, BY_HAND)
    caller = await signed_in(service, OTHER_WORKER)
    assert (await caller.post(f"/v1/work/{done}/deliverable", {"content": "first"})).status == 200
    mine = await found_paid(service, BY_HAND)
    desk = Desk()

    worker = worker_at(service, time, desk)
    await worker.run(until_idle=True)

    assert desk.given == [mine]
    assert await ended(service, other, done, mine) == ["paid", "ready", "ready"]


async def test_a_worker_that_dies_begins_again_at_its_order(service: Service, time: Time) -> None:
    order_id = await found_paid(service, BY_HAND)
    at_work = asyncio.Event()

    async def dies(_order: PaidOrder) -> str:
        at_work.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(worker_at(service, time, dies).run())
    async with asyncio.timeout(20):
        await at_work.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.kinds(order_id)[-1] == "processing"
    desk = Desk()

    await worker_at(service, time, desk).run(until_idle=True)

    assert desk.given == [order_id]
    assert await ended(service, order_id) == ["ready"]


async def test_an_order_that_another_worker_has_is_left_to_it(service: Service, time: Time) -> None:
    taken, free = [await found_paid(service, BY_HAND) for _ in range(2)]
    other = await signed_in(service, OTHER_WORKER)
    assert (await other.post(f"/v1/work/{taken}/start", {})).status == 200
    desk = Desk()

    await worker_at(service, time, desk).run(until_idle=True)

    assert desk.given == [free]
    assert (await other.post(f"/v1/work/{taken}/deliverable", {"content": "x"})).status == 200


async def test_two_workers_share_the_orders_and_make_none_twice(
    service: Service, time: Time
) -> None:
    orders = [await found_paid(service, BY_HAND) for _ in range(8)]
    desk = Desk()
    workers = [
        worker_at(service, time, desk, name=name, cursor=name.replace(" ", "-"))
        for name in (WORKER, OTHER_WORKER)
    ]

    await asyncio.gather(*(worker.run(until_idle=True) for worker in workers))

    assert sorted(desk.given) == sorted(orders)
    assert await ended(service, *orders) == ["ready"] * 8


async def test_a_lost_answer_to_the_hand_in_hands_in_once(service: Service, time: Time) -> None:
    order_id = await found_paid(service, BY_HAND)
    desk = Desk()
    async with meddler_before(service) as meddler:
        meddler.rule = lambda word, n: (
            "drop answer" if word in ("deliverable", "start", "ack") and n < 6 else None
        )
        worker = worker_at(service, time, desk, url=meddler.url)
        await worker.run(until_idle=True)

    assert meddler.seen["deliverable"] == 6
    assert service.kinds(order_id).count("ready") == 1
    assert (desk.given, worker.tally.handed_in) == ([order_id], 1)


async def test_a_paused_order_waits_for_its_payment_to_be_back(
    service: Service, time: Time
) -> None:
    order_id = await found_paid(service, BY_HAND)
    await payment(service, order_id, is_there=False)
    desk = Desk()
    worker = worker_at(service, time, desk)

    await worker.run(until_idle=True)
    assert desk.given == []
    assert await lag(service) == 0

    await payment(service, order_id, is_there=True)
    await worker.run(until_idle=True)

    assert desk.given == [order_id]
    assert await ended(service, order_id) == ["ready"]


async def payment(service: Service, order_id: str, *, is_there: bool) -> None:
    """Record that an order's transfer left the chain, or is back."""
    ledger = service.app[LEDGER]
    events = [placed.signed.event for placed in ledger.read_order(order_id)]
    [paid] = [event for event in events if isinstance(event, PaymentVerified)]
    [transfer] = paid.transfers
    finding = Finding(
        transfer.tx_hash,
        ChainView.MINED,
        paid.transfers if is_there else (),
        depth=3,
        head_number=transfer.block_number + 2,
    )
    receipt = await ledger.execute(order_id, RecheckPayment(finding, {}, ledger.clock()))
    assert receipt.events
    await service.views_have(receipt.stream.position)


async def test_a_wallet_that_is_no_worker_is_told_so(service: Service, time: Time) -> None:
    with pytest.raises(ServiceError) as refused:
        await worker_at(service, time, Desk(), name=PARTY).run(until_idle=True)

    assert refused.value.status == 404


async def test_the_example_on_the_page_runs(service: Service) -> None:
    section = PAGE[PAGE.index("## Worker") :]
    program = re.search(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert program
    order_id = await found_paid(service, BY_HAND, "ten words")
    names: dict[str, Any] = {}
    exec(program[1].replace('"translation"', f'"{BY_HAND}"'), names)  # noqa: S102 - the page's own

    task = asyncio.create_task(names["main"](service.url, key_of(WORKER)))
    await service.recorded(order_id, 4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await content_of(service, order_id) == "TEN WORDS"
