"""The whole service in this process, moved by hand: its clock, its chain, and each of its loops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from aiohttp import web
from aiohttp.test_utils import TestServer

from api.app import make_app
from api.chain_link import bind_chain
from api.egress import ANYWHERE, Egress
from api.keys import BACKGROUND, LEDGER, RUNNER, VIEWS
from api.workers.chain_loop import follow_chain
from api.workers.claims import resolve_claims
from api.workers.loop import WorkLoop
from api.workers.payments import watch_payments
from api.workers.push import Pusher
from api.workers.retention import erase_overdue
from api.workers.windows import close_lapsed
from ledger.order import Order
from ledger.service import Ledger
from ledger.values import UnixMs
from projections.orders import OrderView
from scripts.devchain import BASE_SEPOLIA, USDC
from tests.contract.kit import RECOVERY_ADDRESS, make_settings
from tests.model.node import Block, ScriptedChain, Tx, authorization_log, transfer_log
from tests.model.people import Arbiter, Client, Staff, Wallet
from tests.model.wire import Wire, node_of, post, wired

TOKEN = USDC[BASE_SEPOLIA][1].lower()
START_S = 1_800_000_000
EPOCH = 4
"""A block is safe when so many lie above it, and final after twice as many."""
CONFIRMATIONS = 2
PAY_WITHIN_S = 600
PUSH_DELAYS_S = (0, 60)
LEASE_S = 100
PRICES = {"work": 100_000, "more": 250_000}
WAIT_SECONDS = 20

CATALOG = """
provider = "Model"

[[services]]
type = "work"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
kind = "external"

[[services]]
type = "more"
price_usdc = "0.25"
estimated_delivery_hours = 0.1
kind = "external"
"""
DELIVER_WITHIN_S = PAY_WITHIN_S + 360

ACCEPT_WITHIN_S = 1200
ANSWER_WITHIN_S = 900
KEEP_FOR_S = 86_400

Loop = Literal["claims", "payments", "scan", "push", "windows", "retention"]


@dataclass
class HandClock:
    """The present time, which stands still until it is moved."""

    now: UnixMs = field(default=UnixMs(START_S * 1000))

    def __call__(self) -> UnixMs:
        return self.now

    def pass_ms(self, milliseconds: int) -> None:
        self.now = UnixMs(self.now + milliseconds)


async def _for_ever(_loop: WorkLoop) -> None:
    await asyncio.Event().wait()


@contextmanager
def loops_by_hand() -> Iterator[None]:
    """Let no loop of the service run by itself: a test takes each of its turns."""
    with (
        patch.object(WorkLoop, "run", _for_ever),
        patch.object(Pusher, "start_for", lambda _pusher, _order_ids: None),
    ):
        yield


@dataclass
class Receiver:
    """Takes pushes. What it answers stands in the path; what it got is kept by order."""

    url: str = ""
    got: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/{status}", self._take)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield

    async def _take(self, request: web.Request) -> web.Response:
        order_id = (await request.json())["order_id"]
        self.got[order_id] = self.got.get(order_id, 0) + 1
        return web.Response(status=int(request.match_info["status"]))


@dataclass
class Provider:
    """One folder with a ledger, one chain, and the service on both while it is up."""

    folder: Path
    clock: HandClock = field(default_factory=HandClock)
    receiver: Receiver = field(default_factory=Receiver)
    chain: ScriptedChain = field(
        default_factory=lambda: ScriptedChain(BASE_SEPOLIA, EPOCH, START_S)
    )
    read_up_to: int = 0
    """The position up to which `news` told everything."""

    def __post_init__(self) -> None:
        self.treasury = Wallet("treasury", self.clock)
        self.operator = Staff("operator", self.clock)
        self.worker = Staff("worker", self.clock)
        self.arbiter = Arbiter("arbiter", self.clock)
        for _ in range(3 * EPOCH):
            self.chain.mine(0)
        self._up = AsyncExitStack()
        self._whole = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Provider]:
        """Be there for the length of a block."""
        (self.folder / "catalog.toml").write_text(CATALOG)
        async with self._whole:
            self._node_url = await self._whole.enter_async_context(node_of(self.chain))
            await self._whole.enter_async_context(self.receiver.serving())
            await self.start()
            self._whole.push_async_callback(self.stop)
            yield self

    async def start(self) -> None:
        """Start the service on what lies in the folder."""
        settings = make_settings(
            self.folder,
            rpc_urls=self._node_url,
            payment_address=self.treasury.address,
            recovery_address=RECOVERY_ADDRESS,
            catalog=self.folder / "catalog.toml",
            min_confirmations=CONFIRMATIONS,
            payment_timeout=PAY_WITHIN_S,
            push_allow_private=True,
            push_schedule=",".join(map(str, PUSH_DELAYS_S)),
            work_lease=LEASE_S,
            acceptance_window=ACCEPT_WITHIN_S,
            answer_window=ANSWER_WITHIN_S,
            content_retention=KEEP_FOR_S,
            arbiter=self.arbiter.address,
            operators=self.operator.address,
            workers=self.worker.address,
        )
        app = make_app(settings, clock=self.clock)
        server = await self._up.enter_async_context(TestServer(app))
        self.url = str(server.make_url("")).rstrip("/")
        self.wire: Wire = await self._up.enter_async_context(wired(self.url))
        egress = Egress(ANYWHERE, timeout_seconds=settings.push_timeout)
        await self._up.enter_async_context(egress)
        self._pusher = Pusher(app, egress)
        self.app = app

    async def stop(self) -> None:
        """Stop the service; the folder stays."""
        await self._up.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def sign_in(self, staff: Staff) -> None:
        said = await self.wire.ask(post("/v1/auth/challenge", {"address": staff.address}))
        message = said.body["message"]
        proof = {"message": message, "signature": staff.sign(message)}
        staff.token = (await self.wire.ask(post("/v1/auth/token", proof))).body["token"]

    # Its inside.

    @property
    def ledger(self) -> Ledger:
        return self.app[LEDGER]

    async def turn(self, loop: Loop) -> None:
        """Let one loop of the service take one turn, to its end."""
        await bind_chain(self.app)
        match loop:
            case "claims":
                await resolve_claims(self.app)
            case "payments":
                await watch_payments(self.app)
            case "scan":
                await follow_chain(self.app)
            case "windows":
                await close_lapsed(self.app)
            case "retention":
                await erase_overdue(self.app)
            case "push":
                await self._pusher.start_due()
                await _ended(self._pusher._tasks._tasks)
        await self.settled()

    async def settled(self) -> None:
        """Wait until nothing runs in the background and the views show everything."""
        await _ended(self.app[BACKGROUND]._tasks)
        assert await self.app[RUNNER].wait_for(self.ledger.head.size, WAIT_SECONDS)

    def news(self) -> list[dict[str, Any]]:
        """Return the events since the last time, as they stand in the ledger, with positions."""
        found = []
        while page := self.ledger.store.read(after=self.read_up_to, limit=100):
            for position, entry in page:
                found.append({**json.loads(entry)["event"], "position": position})
                self.read_up_to = position
        return found

    def row(self, order_id: str) -> OrderView | None:
        return self.app[VIEWS].order(order_id)

    async def order(self, order_id: str) -> Order | None:
        return await self.ledger.order(order_id)

    # Its chain.

    def mine(self, *txs: Tx, blocks: int = 1) -> Block:
        """Mine blocks by the clock, the transactions in the first; the clock follows the chain."""
        block = self.chain.mine(self.clock() // 1000, txs)
        for _ in range(blocks - 1):
            self.chain.mine(0)
        self.clock.now = max(self.clock.now, UnixMs(self.chain.head.time * 1000))
        return block

    def transfer(self, payer: Wallet, *micros: int, to: Wallet | None = None) -> Tx:
        """Return a transaction with one transfer, or several with one for somebody else between."""
        payee = (to or self.treasury).address
        logs = [transfer_log(TOKEN, payer.address, payee, each) for each in micros]
        if len(logs) > 1:
            logs.insert(1, transfer_log(TOKEN, payer.address, RECOVERY_ADDRESS, 1))
        return Tx(self.chain.new_hash("tx"), payer.address, TOKEN, tuple(logs))

    def authorized(self, payer: Wallet, micros: int, nonce: str) -> Tx:
        """Return a transaction of a relayer who uses the payer's authorization."""
        used = authorization_log(TOKEN, payer.address, nonce)
        paid = transfer_log(TOKEN, payer.address, self.treasury.address, micros)
        return Tx(self.chain.new_hash("tx"), RECOVERY_ADDRESS, TOKEN, (used, paid))

    def reverted(self, payer: Wallet) -> Tx:
        return Tx(self.chain.new_hash("tx"), payer.address, TOKEN, reverted=True)

    def client(self, name: str) -> Client:
        return Client(name, self.clock)


async def _ended(tasks: set[asyncio.Task[object]]) -> None:
    while tasks:
        await asyncio.wait(list(tasks))
