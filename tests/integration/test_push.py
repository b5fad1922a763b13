"""Pushes from the payment to the receiver: accepted, tried again, given up, and across crashes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.handler import Produced
from api.keys import LEDGER, RUNNER, VIEWS
from api.push_body import push_body
from ledger.commands import HandIn, RecordPush
from ledger.errors import Misconfigured, StoreUnavailable
from ledger.order import Order, Pushes, PushTarget, Status, changed
from ledger.values import UnixMs
from projections.orders import order_row
from projections.work import Push, WorkKind, push_to_come, pushes_made, work_of
from scripts.buyer import Buyer, utc_now
from scripts.devchain import DevChain
from tests.contract.kit import (
    NETWORK,
    WAIT_SECONDS,
    MovableClock,
    Service,
    delivered_status,
    make_settings,
    pay,
    payer,
    serving,
)
from tests.support import service as process
from tests.support.faults import audit, copy_of
from tests.unit import builders as b

CATALOG = Path("catalog.toml").read_text()
ENDINGS = {"posted", "push_attempted", "delivery_failed", "delivered", "confirmed"}
PAID_KINDS = ["quoted", "paid", "processing", "ready"]
PROVIDER = {"name": "A provider", "wallet_address": b.PROVIDER.address}

# Receivers, written from the wire contract and from nothing of ours


class Receiver:
    """Remembers what came, and answers as told: the statuses in turn, then as its kind does."""

    path = "/ivxp/callback"
    max_bytes = 2**20

    def __init__(self, *first: int, hold: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.answers: list[int] = []
        self.url = ""
        self._first = list(first)
        self._hold = asyncio.Event()
        if not hold:
            self._hold.set()
        self._came = asyncio.Condition()

    async def open(self, stack: AsyncExitStack) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        server = await stack.enter_async_context(TestServer(app))
        self.url = str(server.make_url(self.path))

    async def came(self, count: int) -> None:
        """Wait until that many pushes came."""
        async with asyncio.timeout(WAIT_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.bodies) >= count)

    def let_go(self) -> None:
        """Answer what was held back."""
        self._hold.set()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.raw_path != self.path or request.method != "POST":
            return web.json_response({"error": "Not found"}, status=404)
        raw = await request.read()
        async with self._came:
            self.bodies.append(raw)
            self._came.notify_all()
        await self._hold.wait()
        status, body = 413, {"error": "too large"}
        if self._first:
            status = self._first.pop(0)
        elif len(raw) <= self.max_bytes:
            status, body = self.judged(json.loads(raw))
        self.answers.append(status)
        return web.json_response(body, status=status)

    def judged(self, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Answer as the callback server of the TypeScript SDK."""
        deliverable = body.get("deliverable")
        if not isinstance(body.get("order_id"), str) or not isinstance(deliverable, dict):
            return 400, {"error": "Invalid payload"}
        if not all(
            isinstance(deliverable.get(n), str) for n in ("content", "content_hash", "format")
        ):
            return 400, {"error": "Invalid payload"}
        said = deliverable["content_hash"].removeprefix("sha256:")
        if said != hashlib.sha256(deliverable["content"].encode()).hexdigest():
            return 400, {"error": "content_hash mismatch"}
        return 200, {"status": "received"}


class OldReceiver(Receiver):
    """Answers as the receiver beside the older Python client."""

    path = "/ivxp/receive"

    def judged(self, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        if body.get("protocol") != "IVXP/1.0" or body.get("message_type") != "service_delivery":
            return 400, {"error": "bad message"}
        try:
            order_id, deliverable = body["order_id"], body["deliverable"]
            _ = deliverable["type"]
            if deliverable["format"] == "markdown":
                _ = deliverable["content"]["body"] + ""
            else:
                _ = deliverable["content"]
        except (KeyError, TypeError):
            return 500, {"error": "crashed"}
        return 200, {"status": "received", "order_id": order_id, "timestamp": utc_now()}


class PlainReceiver(Receiver):
    """Answers as a receiver of the flat body that providers push by themselves."""

    path = "/hook"

    def judged(self, body: dict[str, Any]) -> tuple[int, dict[str, str]]:
        names = ("order_id", "content", "content_type", "content_hash")
        if not all(isinstance(body.get(name), str) for name in names):
            return 400, {"error": "fields"}
        raw = body["content"].encode()
        if body.get("content_encoding") == "base64":
            raw = b64decode(body["content"])
        return (200 if hashlib.sha256(raw).hexdigest() == body["content_hash"] else 400), {}


@asynccontextmanager
async def receiving(*receivers: Receiver) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in receivers:
            await each.open(stack)
            stack.callback(each.let_go)
        yield


# A service that pushes, and buyers who want pushes


@asynccontextmanager
async def pushing(
    folder: Path,
    chain: DevChain,
    *receivers: Receiver,
    clock: MovableClock | None = None,
    **changes: object,
) -> AsyncIterator[Service]:
    settings: dict[str, Any] = {"push_allow_private": True, "push_schedule": "0,10,20", **changes}
    async with (
        receiving(*receivers),
        serving(folder, chain, clock=clock or MovableClock(), **settings) as service,
    ):
        yield service


async def bought(
    service: Service,
    chain: DevChain,
    buyer: Buyer,
    *,
    explicit: str | None = None,
    contact: str | None = None,
    kind: str = "text_echo",
    text: str = "hello",
) -> str:
    """Return the id of a paid order whose client named these endpoints."""
    agent = {"name": "buyer", "wallet_address": buyer.address}
    if contact is not None:
        agent["contact_endpoint"] = contact
    wanted = {"type": kind, "description": text, "budget_usdc": 100}
    quote = await buyer.post(
        "/ivxp/request",
        {"protocol": "IVXP/1.0", "client_agent": agent, "service_request": wanted},
    )
    order_id, price = str(quote.require(200)["order_id"]), quote.body["quote"]
    assert isinstance(price, dict)
    tx_hash = pay(chain, buyer, round(price["price_usdc"] * 1_000_000))
    notice = buyer.notice(order_id, tx_hash, NETWORK)
    if explicit is not None:
        notice["delivery_endpoint"] = explicit
    (await buyer.deliver(notice)).require(200)
    return order_id


def endings(service: Service, order_id: str) -> list[str]:
    """Return what became of the deliverable: kinds, and of attempts the outcome."""
    events = [placed.signed.event for placed in service.app[LEDGER].read_order(order_id)]
    return [str(getattr(e, "outcome", e.kind)) for e in events if e.kind in ENDINGS]


async def until_ended(service: Service, order_id: str, count: int) -> None:
    """Wait until so many things became of the deliverable, whatever becomes of the payment."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            position = service.app[RUNNER].position
            if len(endings(service, order_id)) >= count:
                await service.views_have(service.position)
                return
            await service.app[RUNNER].wait_for(position + 1, WAIT_SECONDS)


async def word(buyer: Buyer, order_id: str) -> str:
    return str((await buyer.get(f"/ivxp/status/{order_id}")).require(200)["status"])


async def until_recorded(service: Service, order_id: str, *wanted: str) -> None:
    await until_ended(service, order_id, len(wanted))
    assert endings(service, order_id) == list(wanted)


RECEIVERS = [Receiver, OldReceiver, PlainReceiver]


@pytest.mark.parametrize("make", RECEIVERS)
@pytest.mark.parametrize("kind", ["text_echo", "summary_card", "picture"])
async def test_every_receiver_of_the_contract_takes_the_first_push(
    tmp_path: Path, chain: DevChain, make: Callable[[], Receiver], kind: str
) -> None:
    receiver = make()
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        CATALOG
        + '[[services]]\ntype = "picture"\nprice_usdc = "0.1"\nestimated_delivery_hours = 1\n'
        'handler = "tests.contract.offerings:picture"\n'
    )
    async with pushing(tmp_path, chain, receiver, catalog=catalog) as service:
        buyer = payer(chain, service, "push first")
        order_id = await bought(service, chain, buyer, explicit=receiver.url, kind=kind)
        await until_recorded(service, order_id, "posted")
        await service.status_when(buyer, order_id, {"delivered"})

    assert receiver.answers == [200]
    [body] = [json.loads(raw) for raw in receiver.bodies]
    assert (body["order_id"], body["status"]) == (order_id, "delivered")


async def test_a_push_is_tried_again_on_schedule_until_it_is_accepted(
    tmp_path: Path, chain: DevChain
) -> None:
    clock, receiver = MovableClock(), Receiver(500, 302)
    async with pushing(tmp_path, chain, receiver, clock=clock) as service:
        buyer = payer(chain, service, "push again")
        order_id = await bought(service, chain, buyer, explicit=receiver.url)
        await until_recorded(service, order_id, "refused")
        assert await word(buyer, order_id) == "processing"
        clock.offset_ms += 10_000
        await until_recorded(service, order_id, "refused", "refused")
        clock.offset_ms += 10_000
        # Half of the third delay is over: the loop makes its rounds and pushes nothing.
        other = await bought(service, chain, buyer, explicit=receiver.url)
        await until_recorded(service, other, "posted")
        assert len(receiver.bodies) == 3
        clock.offset_ms += 10_000
        await until_recorded(service, order_id, "refused", "refused", "posted")
        await service.status_when(buyer, order_id, {"delivered"})

    first, second, _, third = receiver.bodies
    assert first == second == third


async def test_a_status_that_http_does_not_know_is_a_refusal_without_a_status(
    tmp_path: Path, chain: DevChain
) -> None:
    receiver = Receiver(999, 600)
    async with pushing(tmp_path, chain, receiver, push_schedule="0,0,0") as service:
        buyer = payer(chain, service, "push 999")
        order_id = await bought(service, chain, buyer, explicit=receiver.url)
        await until_recorded(service, order_id, "refused", "refused", "posted")
        events = [placed.signed.event for placed in service.app[LEDGER].read_order(order_id)]

    said = [e.body().get("response_status") for e in events if e.kind in ENDINGS]
    assert said == [None, None, 200]


async def test_an_exhausted_push_fails_the_delivery_and_the_client_can_still_fetch_and_sign(
    tmp_path: Path, chain: DevChain
) -> None:
    clock, receiver = MovableClock(), Receiver(500, 500, 500)
    async with pushing(tmp_path, chain, receiver, clock=clock) as service:
        buyer = payer(chain, service, "push exhausted")
        order_id = await bought(service, chain, buyer, explicit=receiver.url)
        for made in range(1, 4):
            await until_ended(service, order_id, made)
            clock.offset_ms += 20_000
        assert endings(service, order_id) == ["refused", "refused", "delivery_failed"]
        failed = service.app[LEDGER].read_order(order_id)[-1].signed.event.body()
        assert failed == {"reason": "push_exhausted", "attempts": 3, "detail": "refused 500"}
        await service.status_when(buyer, order_id, {"delivery_failed"})

        content = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)["content"]
        assert content == "hello"
        await until_ended(service, order_id, 4)
        (await buyer.confirm(order_id, str(content))).require(200)
        assert await word(buyer, order_id) == "delivered"
        assert endings(service, order_id)[2:] == ["delivery_failed", "delivered", "confirmed"]

    assert len(receiver.bodies) == 3


async def test_a_dead_contact_endpoint_leaves_the_order_ready(
    tmp_path: Path, chain: DevChain
) -> None:
    clock, receiver = MovableClock(), Receiver(500, 404)
    async with pushing(tmp_path, chain, receiver, clock=clock) as service:
        buyer = payer(chain, service, "push contact")
        # Nobody listens at the second one.
        contacts = (receiver.url, "http://127.0.0.1:9/ivxp/callback")
        orders = [await bought(service, chain, buyer, contact=url) for url in contacts]
        for made in range(1, 4):
            for order_id in orders:
                await until_ended(service, order_id, made)
                assert await word(buyer, order_id) == "delivered"
            clock.offset_ms += 20_000
        shown = [service.app[VIEWS].order(order_id) for order_id in orders]
        assert endings(service, orders[0]) == ["refused", "refused", "accepted"]
        assert endings(service, orders[1]) == ["unreachable", "unreachable", "exhausted"]

    assert [view.status for view in shown if view] == [Status.READY, Status.READY]


async def test_the_endpoint_of_the_notice_outranks_that_of_the_quote(
    tmp_path: Path, chain: DevChain
) -> None:
    contact, explicit = Receiver(), Receiver()
    async with pushing(tmp_path, chain, contact, explicit) as service:
        buyer = payer(chain, service, "push both")
        order_id = await bought(service, chain, buyer, contact=contact.url, explicit=explicit.url)
        await until_recorded(service, order_id, "posted")

    assert (len(contact.bodies), len(explicit.bodies)) == (0, 1)


async def test_a_private_endpoint_is_given_up_at_once_unless_it_is_only_a_contact(
    tmp_path: Path, chain: DevChain
) -> None:
    receiver = Receiver()
    async with pushing(tmp_path, chain, receiver, push_allow_private=False) as service:
        buyer = payer(chain, service, "push private")
        secure = "https://127.0.0.1:8443/ivxp/callback"
        explicit = await bought(service, chain, buyer, explicit=receiver.url)
        contact = await bought(service, chain, buyer, contact=secure)
        await until_recorded(service, explicit, "delivery_failed")
        await until_recorded(service, contact, "blocked")
        assert await word(buyer, explicit) == "delivery_failed"
        assert await word(buyer, contact) == "delivered"
        assert service.app[VIEWS].work(WorkKind.PUSH) == []

    assert receiver.bodies == []


async def test_a_download_does_not_end_a_push_and_a_receipt_does(
    tmp_path: Path, chain: DevChain
) -> None:
    clock, receiver = MovableClock(), Receiver(500, 500)
    async with pushing(tmp_path, chain, receiver, clock=clock) as service:
        buyer = payer(chain, service, "push and pull")
        fetched, signed = [
            await bought(service, chain, buyer, explicit=receiver.url) for _ in range(2)
        ]
        for order_id in (fetched, signed):
            await until_recorded(service, order_id, "refused")
            content = (await buyer.get(f"/ivxp/download/{order_id}")).require(200)["content"]
            await until_ended(service, order_id, 2)
        (await buyer.confirm(signed, str(content))).require(200)
        clock.offset_ms += 10_000
        await until_recorded(service, fetched, "refused", "delivered", "accepted")
        assert service.app[VIEWS].work(WorkKind.PUSH) == []
        assert endings(service, signed) == ["refused", "delivered", "confirmed"]

    assert len(receiver.bodies) == 3


async def test_a_slow_receiver_delays_no_other_and_gets_two_pushes_at_once(
    tmp_path: Path, chain: DevChain
) -> None:
    slow, quick = Receiver(hold=True), Receiver()
    async with pushing(tmp_path, chain, slow, quick, push_timeout=20) as service:
        buyer = payer(chain, service, "push slow")
        # Two names of this machine are two hosts to the service.
        waiting = [await bought(service, chain, buyer, explicit=slow.url) for _ in range(6)]
        await slow.came(2)
        url = quick.url.replace("127.0.0.1", "localhost")
        order_id = await bought(service, chain, buyer, explicit=url)
        began = time.monotonic()
        await until_recorded(service, order_id, "posted")
        took = time.monotonic() - began
        assert len(slow.bodies) == 2
        slow.let_go()
        for each in waiting:
            await until_recorded(service, each, "posted")

    print(f"posted beside six slow ones in {took:.2f} s")  # noqa: T201 - the figure
    assert took < 5
    assert len(slow.bodies) == 6


async def test_a_push_that_waited_for_its_turn_is_not_made_if_it_is_no_longer_wanted(
    tmp_path: Path, chain: DevChain
) -> None:
    receiver = Receiver(hold=True)
    async with pushing(tmp_path, chain, receiver, push_timeout=20, push_per_host=1) as service:
        buyer = payer(chain, service, "push turn")
        first = await bought(service, chain, buyer, explicit=receiver.url)
        await receiver.came(1)
        signed = await bought(service, chain, buyer, explicit=receiver.url)
        await service.status_when(buyer, signed, {"processing"})
        content = (await buyer.get(f"/ivxp/download/{first}")).require(200)["content"]
        await until_under_way(service, 2)
        (await buyer.confirm(signed, str(content))).require(200)
        last = await bought(service, chain, buyer, explicit=receiver.url)
        receiver.let_go()
        await until_recorded(service, last, "posted")
        assert endings(service, signed) == ["confirmed"]

    assert [json.loads(raw)["order_id"] for raw in receiver.bodies] == [first, last]


async def until_under_way(service: Service, count: int) -> None:
    """Wait until so many pushes are made or wait for their turn."""
    async with asyncio.timeout(WAIT_SECONDS):
        while sum(task.get_name() == "push" for task in asyncio.all_tasks()) < count:
            await service.app[RUNNER].wait_for(service.app[RUNNER].position + 1, 0.05)


async def test_an_outcome_that_cannot_be_recorded_is_kept_and_not_posted_again(
    tmp_path: Path, chain: DevChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    async with pushing(tmp_path, chain, receiver) as service:
        ledger = service.app[LEDGER]
        execute, refused = ledger.execute, 0

        async def failing(order_id: str, command: Any, *more: Any) -> Any:  # noqa: ANN401
            nonlocal refused
            if type(command).__name__ == "RecordPush" and refused < 5:
                refused += 1
                raise StoreUnavailable("the disk is full")
            return await execute(order_id, command, *more)

        monkeypatch.setattr(ledger, "execute", failing)
        buyer = payer(chain, service, "push unrecorded")
        order_id = await bought(service, chain, buyer, explicit=receiver.url)
        await until_recorded(service, order_id, "posted")

    assert refused == 5
    assert len(receiver.bodies) == 1


async def test_a_restart_goes_on_where_the_schedule_was(tmp_path: Path, chain: DevChain) -> None:
    clock, receiver = MovableClock(), Receiver(500, 500)
    async with receiving(receiver):
        async with pushing(tmp_path, chain, clock=clock) as service:
            buyer = payer(chain, service, "push restart")
            order_id = await bought(service, chain, buyer, explicit=receiver.url)
            await until_recorded(service, order_id, "refused")
        async with pushing(tmp_path, chain, clock=clock) as service:
            buyer = service.buyer("push restart")
            assert await word(buyer, order_id) == "processing"
            clock.offset_ms += 10_000
            await until_recorded(service, order_id, "refused", "refused")
        # Views are disposable: what is due is known from the events.
        (tmp_path / "data" / "views.db").unlink()
        clock.offset_ms += 20_000
        async with pushing(tmp_path, chain, clock=clock) as service:
            await until_recorded(service, order_id, "refused", "refused", "posted")

    assert receiver.answers == [500, 500, 200]


async def test_a_stop_during_a_push_records_nothing_and_the_push_comes_again(
    tmp_path: Path, chain: DevChain
) -> None:
    receiver = Receiver(hold=True)
    async with receiving(receiver):
        async with pushing(tmp_path, chain) as service:
            buyer = payer(chain, service, "push stop")
            order_id = await bought(service, chain, buyer, explicit=receiver.url)
            await receiver.came(1)
        receiver.let_go()
        async with pushing(tmp_path, chain) as service:
            await until_recorded(service, order_id, "posted")

    assert receiver.bodies[0] == receiver.bodies[1]


@pytest.mark.slow
async def test_a_kill_between_the_answer_and_its_event_repeats_the_push_and_nothing_else(
    tmp_path: Path, chain: DevChain
) -> None:
    receiver = Receiver(hold=True)
    running = process.Service(
        tmp_path, chain.rpc_url, push_allow_private="true", push_schedule="0,1,1"
    )
    await asyncio.to_thread(running.start)
    try:
        async with receiving(receiver), kit_of(running, tmp_path) as service:
            buyer = payer(chain, service, "push kill")
            order_id = await bought(service, chain, buyer, explicit=receiver.url)
            await receiver.came(1)
            running.kill()
            receiver.let_go()  # the receiver has it; nobody hears its answer
            await asyncio.to_thread(running.start)
            await receiver.came(2)
            buyer = Buyer(service.session, running.url, buyer.private_key)
            await delivered_status(buyer, order_id)
    finally:
        running.stop()

    copy = copy_of(running, tmp_path / "copy")
    audit(copy)
    kinds = [kind for kind in stored_kinds(copy, order_id) if kind != "payment_finalized"]
    assert kinds == [*PAID_KINDS, "posted"]
    assert len(receiver.bodies) == 2
    assert receiver.bodies[0] == receiver.bodies[1]


@asynccontextmanager
async def kit_of(running: process.Service, folder: Path) -> AsyncIterator[Service]:
    """Talk to a service in another process with the helpers for one in this."""
    async with aiohttp.ClientSession() as session:
        yield Service(web.Application(), running.url, session, folder)


def stored_kinds(data_dir: Path, order_id: str) -> list[str]:
    ledger = sqlite3.connect(data_dir / "ledger.db")
    rows = ledger.execute("SELECT state FROM stored_events ORDER BY rowid").fetchall()
    ledger.close()
    events = [json.loads(entry)["event"] for (entry,) in rows]
    return [event["kind"] for event in events if event["stream"] == f"order/{order_id}"]


# What is still to come, from the events alone


ENDPOINT, CONTACT = b.content_id("endpoint"), b.content_id("contact")


def wanting(order: Order, *, explicit: bool = True, contact: bool = False) -> Order:
    """Return the order as if its client had named endpoints."""
    terms = order.terms.model_copy(update={"contact_endpoint_id": CONTACT if contact else None})
    return changed(order, terms=terms, delivery_endpoint_id=ENDPOINT if explicit else None)


def pending(order: Order) -> bool:
    return bool(order_row(order, 1)["push_pending"])


def pushes(order: Order) -> list[tuple[str, int]]:
    return [(w.key, w.since_ms) for w in work_of(order) if w.kind is WorkKind.PUSH]


def test_a_ready_order_waits_for_the_push_to_the_endpoint_that_was_named() -> None:
    ready_at = b.ready_order().status_at[Status.READY]

    assert push_to_come(wanting(b.ready_order(), explicit=False)) is None
    for contact in (False, True):
        order = wanting(b.ready_order(), contact=contact)
        assert push_to_come(order) == Push("delivery_endpoint", ENDPOINT, 0, ready_at)
        assert pending(order)
    order = wanting(b.ready_order(), explicit=False, contact=True)
    assert push_to_come(order) == Push("contact_endpoint", CONTACT, 0, ready_at)
    assert not pending(order)


@pytest.mark.parametrize(
    "build",
    [
        b.quoted_order,
        b.paid_order,
        b.processing_order,
        b.failed_handler_order,
        b.posted_order,
        b.failed_push_order,
        b.confirmed_order,
        b.disputed_undelivered_order,
        b.refunded_order,
    ],
)
def test_no_push_comes_without_a_deliverable_or_after_the_end(build: Callable[[], Order]) -> None:
    order = wanting(build(), contact=True)

    assert (push_to_come(order), pushes(order), pending(order)) == (None, [], False)


@pytest.mark.parametrize("build", [b.delivered_order, b.disputed_order])
def test_a_download_or_a_dispute_does_not_end_the_pushes(build: Callable[[], Order]) -> None:
    assert pending(wanting(build()))


@pytest.mark.parametrize(
    ("outcome", "over"),
    [
        ("refused", False),
        ("unreachable", False),
        ("accepted", True),
        ("blocked", True),
        ("exhausted", True),
    ],
)
@pytest.mark.parametrize("target", ["delivery_endpoint", "contact_endpoint"])
def test_each_outcome_counts_and_three_of_them_end_the_pushes_to_their_target(
    target: PushTarget,
    outcome: Literal["refused", "unreachable", "accepted", "blocked", "exhausted"],
    *,
    over: bool,
) -> None:
    order = wanting(b.ready_order(), explicit=target == "delivery_endpoint", contact=True)
    later = UnixMs(b.NOW + 5_000)
    command = RecordPush(target, outcome, None, later)

    order = b.obey(order, command)

    assert order.pushes[target] == Pushes(1, later, over)
    assert pushes(order) == ([] if over else [(f"{target}:2", later)])
    assert pending(order) is (not over and target == "delivery_endpoint")


def test_pushes_to_one_target_do_not_count_for_the_other() -> None:
    order = wanting(b.ready_order(), explicit=False, contact=True)
    order = b.obey(order, b.push("exhausted", target="contact_endpoint"))
    order = changed(order, delivery_endpoint_id=ENDPOINT)

    assert [key for key, _ in pushes(order)] == ["delivery_endpoint:1"]
    order = b.obey(order, b.push("unreachable"))
    assert [key for key, _ in pushes(order)] == ["delivery_endpoint:2"]


def test_erasing_the_content_or_the_endpoint_ends_the_pushes() -> None:
    for name in ("deliverable", "endpoint"):
        order = b.obey(wanting(b.ready_order()), b.erase(name))
        assert (push_to_come(order), pending(order)) == (None, False)


def test_a_payment_off_the_chain_holds_a_push_back_and_does_not_forget_it() -> None:
    order = b.obey(wanting(b.ready_order()), b.orphan())

    assert order.paused
    assert (pushes(order), pending(order)) == ([], True)


def test_an_entry_of_the_list_says_how_many_pushes_were_made() -> None:
    order = b.obey(wanting(b.ready_order()), b.push("refused", status=500))

    [entry] = [w for w in work_of(order) if w.kind is WorkKind.PUSH]
    assert pushes_made(entry) == 1


# The body


def handed_in(content: str | bytes, form: str = "text") -> tuple[Order, bytes]:
    made = Produced(content, form, "text/plain")
    order = b.processing_order()
    return b.obey(order, HandIn(made.deliverable(order.terms.service), b.NOW)), made.raw


def body_of(content: str | bytes, form: str = "text", path: str = "/hook") -> dict[str, Any]:
    order, raw = handed_in(content, form)
    body: dict[str, Any] = json.loads(push_body(order, raw, provider=PROVIDER, path=path))
    return body


@pytest.mark.parametrize("make", RECEIVERS)
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
@pytest.mark.parametrize(
    "content", ["", "words", "# Title\n\u2028 \U0001f600 \x00", bytes(range(256)), b"\xff"]
)
def test_one_body_suits_every_receiver(
    make: Callable[[], Receiver], form: str, content: str | bytes
) -> None:
    receiver = make()

    assert receiver.judged(body_of(content, form, receiver.path))[0] == 200


def test_the_body_has_every_field_of_the_contract() -> None:
    body = body_of("words")

    assert set(body) == {
        *("protocol", "message_type", "timestamp", "order_id", "status", "provider_agent"),
        *("deliverable", "content", "content_type", "content_hash", "delivered_at"),
    }
    assert set(body["deliverable"]) == {"type", "format", "content", "content_hash"}
    assert body["deliverable"]["content"] == body["content"] == "words"
    assert body["content_hash"] == hashlib.sha256(b"words").hexdigest()


def test_markdown_is_an_object_only_for_receivers_of_the_older_client() -> None:
    for path in ("/ivxp/receive", "/deep/ivxp/receive", "/ivxp/receive/"):
        body = body_of("# A", "markdown", path)
        assert body["deliverable"]["content"] == {
            "title": b.terms().service,
            "body": "# A",
            "sources": [],
        }
        assert body["content"] == "# A"
    for path in ("/", "/ivxp/callback", "/ivxp/receiver", "/ivxp/receive/other"):
        assert body_of("# A", "markdown", path)["deliverable"]["content"] == "# A"


def test_bytes_travel_in_base64_and_the_top_hash_is_that_of_the_bytes() -> None:
    body = body_of(b"\xff\x00")

    assert (body["content"], body["content_encoding"]) == ("/wA=", "base64")
    assert body["content_hash"] == hashlib.sha256(b"\xff\x00").hexdigest()
    assert body["deliverable"]["content_hash"] == hashlib.sha256(b"/wA=").hexdigest()


def test_every_attempt_sends_the_same_bytes() -> None:
    order, raw = handed_in("words")
    again = b.obey(wanting(order), b.push("refused", status=500))

    sent = [push_body(o, raw, provider=PROVIDER, path="/") for o in (order, again)]

    assert sent[0] == sent[1]


# Settings


def test_the_schedule_is_a_list_of_seconds(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, push_schedule="0, 1.5,60")

    assert settings.push_delays == (0, 1.5, 60)
    assert make_settings(tmp_path).push_delays == (0, 10, 60, 300, 1800)


@pytest.mark.parametrize("text", ["soon", "1,", "-1", "0,nan", "inf", "0,700000", "1;2"])
def test_a_schedule_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match="LEDGER_PUSH_SCHEDULE"):
        make_settings(tmp_path, push_schedule=text)
