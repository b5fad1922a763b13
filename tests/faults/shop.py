"""One provider on one chain, seen from outside: over HTTP, in its files, and on the chain."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_account.signers.local import LocalAccount

from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.faults.handlers import FOLDER
from tests.support.chain import TRANSFER_TOPIC, funded_account
from tests.support.service import Service

NETWORK = "base-sepolia"
PRICE = 100_000
PURSE = 10**9
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.02

CATALOG = """
provider = "Fault tests"

[[services]]
type = "text_echo"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
handler = "api.offerings.text:text_echo"

[[services]]
type = "held"
price_usdc = "0.10"
estimated_delivery_hours = 0.1
handler = "tests.faults.handlers:held"
"""


@dataclass(frozen=True, slots=True)
class Bought:
    """An order with the payment that was made for it, and the notice of it."""

    order_id: str
    tx_hash: str
    raw: str
    notice: dict[str, object]


class Shop:
    """Drives one service as a buyer and looks at what it recorded."""

    def __init__(
        self, service: Service, chain: DevChain, payee: LocalAccount, buyer: Buyer
    ) -> None:
        self.service = service
        self.chain = chain
        self.payee = payee
        self.buyer = buyer

    async def buy(self, offering: str = "text_echo", *, micros: int = PRICE) -> Bought:
        """Take a quote and pay; the payment is in the newest block, and nobody told of it."""
        order_id = await self.quote(offering)
        return self.paid(order_id, self.pay(micros))

    def pay(self, micros: int) -> str:
        return self.chain.transfer(self.buyer.private_key, self.payee.address, micros)

    async def quote(self, offering: str = "text_echo") -> str:
        answer = await self.buyer.request(offering, "some words")
        return str(answer.require(200)["order_id"])

    def paid(self, order_id: str, tx_hash: str) -> Bought:
        notice = self.buyer.notice(order_id, tx_hash, NETWORK)
        return Bought(order_id, tx_hash, self.chain.raw_transaction(tx_hash), notice)

    def refund(self, micros: int) -> None:
        """Send money back to the buyer from the payment address."""
        self.chain.transfer(self.payee.key, self.buyer.address, micros)

    def replace_lost_payment(self) -> None:
        """Use the payer's nonce of a payment that left the chain: it can never come back."""
        self.chain.send(self.buyer.private_key, to=self.buyer.address)

    async def deliver(self, order: Bought) -> Answer:
        return await self.buyer.deliver(order.notice)

    async def status(self, order: Bought) -> dict[str, Any]:
        return (await self.buyer.get(f"/ivxp/status/{order.order_id}")).require(200)

    async def outcome(self, order: Bought) -> str | None:
        """Return the word of the status answer that says what became of the payment."""
        payment = (await self.status(order)).get("payment", {})
        found: str | None = payment.get("outcome")
        return found

    async def download(self, order: Bought) -> Answer:
        return await self.buyer.get(f"/ivxp/download/{order.order_id}")

    async def finish(self, order: Bought) -> None:
        """Take the deliverable and sign for it."""
        await until(lambda: self.is_word(order, "delivered"), "delivered")
        content = (await self.download(order)).require(200)["content"]
        (await self.buyer.confirm(order.order_id, str(content))).require(200)

    async def finish_all(self, orders: Sequence[Bought]) -> None:
        """Take and sign for many deliverables, once all of them are there."""

        async def made() -> bool:
            return self.recorded("ready", orders) == len(orders)

        # One look for all of them: asking the service for each would keep it from its work.
        await until(made, "all are made")
        await asyncio.gather(*(self.finish(order) for order in orders))

    async def is_word(self, order: Bought, word: str) -> bool:
        found: str = (await self.status(order))["status"]
        return found == word

    async def is_outcome(self, order: Bought, outcome: str | None) -> bool:
        return await self.outcome(order) == outcome

    def kinds(self, order: Bought) -> Counter[str]:
        """Return how often the order has each kind of event."""
        key = order.order_id.removeprefix("ivxp-").replace("-", "")
        return Counter(
            str(kind)
            for (kind,) in self._rows(
                "ledger.db", "SELECT topic FROM stored_events WHERE originator_id=?", key
            )
        )

    def recorded(self, kind: str, orders: Sequence[Bought]) -> int:
        """Return how many events of a kind the orders have together."""
        marks = ",".join("?" * len(orders))
        [(count,)] = self._rows(
            "ledger.db",
            f"SELECT count(*) FROM stored_events WHERE topic=? AND originator_id IN ({marks})",  # noqa: S608 - marks only
            kind,
            *(order.order_id.removeprefix("ivxp-").replace("-", "") for order in orders),
        )
        return int(str(count))

    def size(self) -> int:
        """Return how many events the ledger holds."""
        [(size,)] = self._rows("ledger.db", "SELECT max(rowid) FROM stored_events")
        return int(str(size))

    def work(self) -> int:
        """Return how much the views say is still to do."""
        [(count,)] = self._rows("views.db", "SELECT count(*) FROM work")
        return int(str(count))

    def money(self) -> dict[str, int]:
        """Return the sums of the money table over all orders, in micro-USDC."""
        names = ("received", "held", "refunded", "orphaned", "applied", "pending", "late")
        sums = ", ".join(f"coalesce(sum({name}_micros), 0)" for name in names)
        [row] = self._rows("views.db", f"SELECT {sums} FROM orders")  # noqa: S608 - fixed names
        return dict(zip(names, (int(str(value)) for value in row), strict=True))

    def on_chain(self, *, to: str, sender: str | None = None) -> int:
        """Return the sum of the Transfer logs to an address on the canonical chain."""
        topics = [TRANSFER_TOPIC, sender and _topic(sender), _topic(to)]
        logs = self.chain.rpc(
            "eth_getLogs",
            [{"address": self.chain.usdc_address, "topics": topics, "fromBlock": "0x0"}],
        )
        return sum(int(log["data"], 16) for log in logs)

    async def balances(self, *, orphaned: int) -> None:
        """Check that the money table becomes, to the micro-unit, what the chain shows."""

        async def agrees() -> bool:
            money = self.money()
            return (
                money["received"] == self.on_chain(to=self.payee.address)
                and money["refunded"]
                == self.on_chain(to=self.buyer.address, sender=self.payee.address)
                and money["orphaned"] == orphaned
                and money["held"] == money["received"] - money["refunded"]
                and money["received"] == money["applied"] + money["pending"] + money["late"]
            )

        await until(agrees, "the money table agrees with the chain")

    def _rows(self, file: str, query: str, *values: object) -> list[tuple[object, ...]]:
        path = self.service.data_dir / file
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


class Bench:
    """The folder in which held handlers note their starts and wait to be let go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def starts(self, order: Bought) -> int:
        started = self._folder / f"{order.order_id}.started"
        return len(started.read_text().splitlines()) if started.exists() else 0

    def let_go(self, order: Bought) -> None:
        (self._folder / f"{order.order_id}.go").touch()

    async def has_started(self, order: Bought, times: int) -> None:
        async def started() -> bool:
            return self.starts(order) == times

        await until(started, f"{times} starts of the handler")


def bench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return the bench that handlers of services started from now on use."""
    held = folder / "held"
    held.mkdir()
    monkeypatch.setenv(FOLDER, str(held))
    return Bench(held)


@asynccontextmanager
async def shop(
    folder: Path, chain: DevChain, rpc_url: str, name: str, **settings: str
) -> AsyncIterator[Shop]:
    """Run a service of its own payment address, and a buyer with a full purse."""
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG)
    payee = funded_account(chain, f"payee {name}", 0)
    key = "0x" + funded_account(chain, f"buyer {name}", PURSE).key.hex()
    wanted = {
        "loop_interval": "0.05",
        "scan_interval": "0.1",
        "catalog": str(catalog),
        "payment_address": payee.address,
    }
    service = Service(folder, rpc_url, **{**wanted, **settings})
    await asyncio.to_thread(service.start)
    try:
        async with aiohttp.ClientSession() as session:
            yield Shop(service, chain, payee, Buyer(session, service.url, key))
    finally:
        service.stop()


def _topic(address: str) -> str:
    return "0x" + "0" * 24 + address[2:].lower()


async def until(reached: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return once a condition holds; fail if it does not in time."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await reached():  # noqa: ASYNC110 - another process sets no event of ours
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        pytest.fail(f"not within {PATIENCE_SECONDS} s: {what}")
