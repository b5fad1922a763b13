"""A thousand orders at once through random outcomes: the chain, the events and the views agree."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import pytest
from aiohttp import web

from api.ivxp.negotiation import View
from api.ivxp.views import status_body
from ledger.audit_source import snapshot
from ledger.entry import read_entry
from ledger.evolve import fold
from ledger.log_events import PaymentUnattributed
from ledger.order import Order
from ledger.values import LOG_STREAM, UnixMs, order_stream, stream_key
from projections.orders import order_row, view_of
from scripts.buyer import Buyer, utc_now
from scripts.devchain import DevChain
from tests.support import faults
from tests.support.chain import TRANSFER_TOPIC, account_named, funded_account
from tests.support.service import Service, running

ORDERS = 1000
WALLETS = 20
AT_ONCE = 40
PRICE = 100_000
NETWORK = "base-sepolia"
PATIENCE_SECONDS = 150
CATALOG = (
    'provider = "P"\n[[services]]\ntype = "text_echo"\nprice_usdc = "0.1"\n'
    'estimated_delivery_hours = 1\nhandler = "api.offerings.text:text_echo"\n'
    '[[services]]\ntype = "broken"\nprice_usdc = "0.1"\n'
    'estimated_delivery_hours = 1\nhandler = "tests.contract.offerings:raises"\n'
)


@dataclass
class Market:
    """The service, the chain, and what every order was made to become."""

    service: Service
    chain: DevChain
    session: aiohttp.ClientSession
    good: str
    bad: str
    ends: dict[str, frozenset[str]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    treasury: str = account_named("thousand treasury").address

    async def pay(self, buyer: Buyer, micros: int) -> str:
        return await asyncio.to_thread(
            self.chain.transfer, buyer.private_key, self.treasury, micros
        )

    async def status(self, order_id: str, query: str = "") -> dict[str, object]:
        url = f"{self.service.url}/ivxp/status/{order_id}{query}"
        async with self.session.get(url) as response:
            assert response.status == 200, await response.text()
            return dict(await response.json())

    async def until(self, order_id: str, words: set[str]) -> str:
        """Ask until the order shows one of the words of 1.1; the answer itself takes the time."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                word = str((await self.status(order_id, "?protocol=1.1"))["status"])
                if word in words:
                    return word
                await asyncio.sleep(0.05)


Outcome = Callable[[Market, Buyer, Random], Awaitable[tuple[str, frozenset[str]]]]


async def quoted(buyer: Buyer, kind: str = "text_echo") -> str:
    return str((await buyer.request(kind, "the words")).require(200)["order_id"])


async def notify(buyer: Buyer, order_id: str, tx_hash: str, chance: Random, **extra: object) -> int:
    """Give notice on one of the three routes, sometimes twice; return the last status code."""
    route, again = chance.choice(["deliver", "payment", "delivery"]), chance.random() < 0.2
    notice = buyer.notice(order_id, tx_hash, NETWORK) | extra
    path = "/ivxp/deliver"
    if route != "deliver":
        signed = {
            "message": notice["signed_message"],
            "sig": notice["signature"],
            "signer": buyer.address,
        }
        notice = {
            "protocol": "IVXP/1.0",
            "order_id": order_id,
            "payment": {"tx_hash": tx_hash, "network": NETWORK},
            "signature": signed,
            **extra,
        }
        path = f"/ivxp/orders/{order_id}/{route}"
    answer = await buyer.post(path, notice)
    if again and answer.status == 200:
        repeat = await buyer.post(path, notice)
        assert repeat.status == (409 if route == "deliver" else 200), repeat.body
    return answer.status


async def never(m: Market, buyer: Buyer, _chance: Random) -> tuple[str, frozenset[str]]:
    return await quoted(buyer), frozenset({"expired"})


async def partial(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await quoted(buyer)
    tx_hash = await m.pay(buyer, chance.randrange(1, PRICE))
    assert await notify(buyer, order_id, tx_hash, chance) == 402
    return order_id, frozenset({"expired"})


async def unknown(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await quoted(buyer)
    assert await notify(buyer, order_id, "0x" + chance.randbytes(32).hex(), chance) == 402
    return order_id, frozenset({"quoted", "expired"})


async def bought(m: Market, buyer: Buyer, chance: Random, kind: str = "text_echo") -> str:
    order_id = await quoted(buyer, kind)
    over = chance.choice([0, 0, 0, 1, 50_000])
    assert await notify(buyer, order_id, await m.pay(buyer, PRICE + over), chance) == 200
    return order_id


async def in_two(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await quoted(buyer)
    # Each its own parts: of two orders that lack the same, the watcher may choose either.
    part = chance.randrange(1, PRICE // 2)
    first, second = await m.pay(buyer, part), await m.pay(buyer, PRICE - part)
    assert await notify(buyer, order_id, first, chance) == 402
    assert await notify(buyer, order_id, second, chance) == 200
    return order_id, frozenset({"ready", "delivered"})


async def collected(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await bought(m, buyer, chance)
    await m.until(order_id, {"ready", "delivered"})
    (await buyer.get(f"/ivxp/download/{order_id}")).require(200)
    return order_id, frozenset({"delivered"})


async def confirmed(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await bought(m, buyer, chance)
    await m.until(order_id, {"ready", "delivered"})
    content = str((await buyer.get(f"/ivxp/download/{order_id}")).require(200)["content"])
    (await buyer.confirm(order_id, content, rating=chance.randint(1, 5))).require(200)
    return order_id, frozenset({"client_confirmed"})


async def disputed(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id, _ = await collected(m, buyer, chance)
    text = (
        f"Dispute delivery: {order_id} | Reason: other | Hash: none | Statement: none"
        f" | Timestamp: {utc_now()}"
    )
    inner = {"message": text, "signature": buyer.sign(text)}
    body = {"protocol": "IVXP/1.0", "order_id": order_id, "dispute": inner}
    (await buyer.post(f"/ivxp/orders/{order_id}/dispute", body)).require(200)
    return order_id, frozenset({"disputed"})


async def broken(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    return await bought(m, buyer, chance, "broken"), frozenset({"delivery_failed"})


async def pushed(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id, works = await quoted(buyer), chance.random() < 0.5
    tx_hash = await m.pay(buyer, PRICE)
    endpoint = m.good if works else m.bad
    assert await notify(buyer, order_id, tx_hash, chance, delivery_endpoint=endpoint) == 200
    return order_id, frozenset({"posted" if works else "delivery_failed"})


async def refunded(m: Market, buyer: Buyer, chance: Random) -> tuple[str, frozenset[str]]:
    order_id = await quoted(buyer, "broken")
    assert await notify(buyer, order_id, await m.pay(buyer, PRICE), chance) == 200
    await m.until(order_id, {"delivery_failed"})
    key = "0x" + bytes(account_named("thousand treasury").key).hex()
    await asyncio.to_thread(m.chain.transfer, key, buyer.address, PRICE)
    # A wallet with several orders of this price leaves it open which one is meant: nobody guesses.
    return order_id, frozenset({"refunded", "delivery_failed"})


OUTCOMES: dict[str, tuple[Outcome, int]] = {
    "never paid": (never, 20),
    "partly paid": (partial, 10),
    "unknown transaction": (unknown, 5),
    "paid in two": (in_two, 8),
    "collected": (collected, 17),
    "confirmed": (confirmed, 20),
    "disputed": (disputed, 6),
    "handler failed": (broken, 5),
    "pushed": (pushed, 7),
    "refunded": (refunded, 2),
}


@asynccontextmanager
async def receivers() -> AsyncIterator[tuple[str, str]]:
    """Run an endpoint that takes every push, and one that refuses each."""

    async def takes(_request: web.Request) -> web.Response:
        return web.json_response({"status": "received"})

    async def refuses(_request: web.Request) -> web.Response:
        return web.json_response({}, status=500)

    app = web.Application()
    app.router.add_post("/good", takes)
    app.router.add_post("/bad", refuses)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/good", f"http://{host}:{port}/bad"
    finally:
        await runner.cleanup()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_orders_end_as_the_chain_the_events_and_the_views_say(
    tmp_path: Path,
) -> None:
    seed = faults.seed()
    (tmp_path / "catalog.toml").write_text(CATALOG)
    with DevChain(slots_in_an_epoch=2) as chain:
        treasury = account_named("thousand treasury").address
        settings = {
            "payment_address": treasury,
            "catalog": str(tmp_path / "catalog.toml"),
            "push_allow_private": "true",
            "push_schedule": "0,0.1",
            "scan_interval": "0.5",
            "max_connections_per_address": "0",
        }
        with running(tmp_path, chain.rpc_url, **settings) as service:
            async with (
                receivers() as (good, bad),
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            ):
                market = Market(service, chain, session, good, bad)
                seconds = await trade(market, seed)
                await settle(market)
                shown = await every_view(market)
            service.stop()
        compare(tmp_path, market, shown)
        books(tmp_path, chain, treasury)
        audit(tmp_path)
    print(  # noqa: T201 - the figures are the result
        f"{ORDERS} orders in {seconds:.0f} s, {ORDERS / seconds:.0f} orders/s:"
        f" {dict(market.outcomes.most_common())}"
    )


async def trade(market: Market, seed: int) -> float:
    """Drive every order to where it shall end, many at once; return how long it took."""
    chance = Random(seed)  # noqa: S311 - a reproducible choice
    chain = market.chain
    keys = [
        "0x" + bytes(funded_account(chain, f"thousand {n}", 10**9).key).hex()
        for n in range(WALLETS)
    ]
    chain.fund(market.treasury, 0)
    names = list(OUTCOMES)
    weights = [weight for _, weight in OUTCOMES.values()]
    gate, began = asyncio.Semaphore(AT_ONCE), time.monotonic()

    async def one(number: int, name: str) -> None:
        own = Random(f"{seed} {number}")  # noqa: S311 - a reproducible choice
        buyer = Buyer(market.session, market.service.url, keys[number % WALLETS])
        async with gate:
            order_id, ends = await OUTCOMES[name][0](market, buyer, own)
        market.ends[order_id] = ends
        market.outcomes[name] += 1

    chosen = chance.choices(names, weights, k=ORDERS)
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(chosen):
            group.create_task(one(number, name))
    return time.monotonic() - began


async def settle(market: Market) -> None:
    """Let the time to pay end on the chain, bury everything, and wait until every order rests."""
    market.chain.increase_time(2 * 3600)
    market.chain.mine(80)
    async with asyncio.timeout(PATIENCE_SECONDS):
        open_orders = set(market.ends)
        while open_orders:
            for order_id in sorted(open_orders):
                word = str((await market.status(order_id, "?protocol=1.1"))["status"])
                if word in market.ends[order_id]:
                    open_orders.discard(order_id)
            if open_orders:
                await asyncio.to_thread(market.chain.mine, 1)


async def every_view(market: Market) -> dict[str, list[dict[str, object]]]:
    """Return what the service shows of each order, in the three views."""
    found = {}
    for order_id in market.ends:
        queries = ("", "?view=strict", "?protocol=1.1&view=strict")
        found[order_id] = [await market.status(order_id, query) for query in queries]
    return found


def folded(folder: Path, order_id: str) -> Order:
    with snapshot(folder / "data" / "ledger.db") as db:
        rows = db.execute(
            "SELECT state FROM stored_events WHERE originator_id=? ORDER BY originator_version",
            (stream_key(order_stream(order_id)),),
        ).fetchall()
    order = fold(read_entry(row[0]) for row in rows)
    assert order is not None
    return order


def compare(folder: Path, market: Market, shown: dict[str, list[dict[str, object]]]) -> None:
    """Find in every view what the fold of the order's events makes."""
    for order_id, (plain, strict, rich) in shown.items():
        view = view_of(order_row(folded(folder, order_id), 0))
        now = UnixMs(view.updated_ms)
        assert strict == status_body(view, View(strict=True), now)
        assert rich == status_body(view, View(rich=True, strict=True), now)
        assert plain.items() >= strict.items()
        assert str(rich["status"]) in market.ends[order_id]


def books(folder: Path, chain: DevChain, treasury: str) -> None:
    """Find recorded what the chain shows, to the micro-unit."""
    topic = "0x" + "0" * 24 + treasury[2:].lower()
    topics = {"in": [TRANSFER_TOPIC, None, topic], "out": [TRANSFER_TOPIC, topic]}
    span = {"fromBlock": "0x0", "toBlock": "latest", "address": chain.usdc_address}
    logs = {way: chain.rpc("eth_getLogs", [{**span, "topics": t}]) for way, t in topics.items()}
    came = sum(int(log["data"], 16) for log in logs["in"])
    went = sum(int(log["data"], 16) for log in logs["out"])
    received = refunded_sum = nobody = 0
    with snapshot(folder / "data" / "ledger.db") as db:
        events = [read_entry(row[0]) for row in db.execute("SELECT state FROM stored_events")]
    streams = {e.stream for e in events if e.stream.startswith("order/")}
    for stream in streams:
        order = fold(e for e in events if e.stream == stream)
        assert order is not None
        received += order.money.received
        refunded_sum += order.money.refunded
    for event in (e.event for e in events if e.stream == LOG_STREAM):
        if isinstance(event, PaymentUnattributed):
            nobody += sum(t.amount for t in event.transfers)
    assert received + nobody == came
    assert refunded_sum <= went


def audit(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.audit_replay", str(folder / "data")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
