"""The library `eventsourcing` used the plain way: one aggregate per order, one save per command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class SavedOrder(Aggregate):
    """An order with as much in it as ours, and the same five commands."""

    @event("Quoted")
    def __init__(self, service: str, client: str, price: int, terms: str) -> None:
        self.service = service
        self.client = client
        self.price = price
        self.terms = terms
        self.status = "quoted"

    def pay(self, tx_hash: str, block_hash: str, amount: int) -> None:
        """Record a transfer that reaches the price."""
        self._require("quoted")
        if amount < self.price:
            raise ValueError("below the price")
        self._paid(tx_hash, block_hash, amount)

    def start(self) -> None:
        """Begin work."""
        self._require("paid")
        self._started("worker")

    def hand_in(self, raw: str, json_digest: str) -> None:
        """Record the deliverable."""
        self._require("processing")
        self._ready(raw, json_digest)

    def collect(self) -> None:
        """Record that it was handed out."""
        self._require("ready")
        self._collected("bearer")

    @event("Paid")
    def _paid(self, tx_hash: str, block_hash: str, amount: int) -> None:
        self.payment = (tx_hash, block_hash, amount)
        self.status = "paid"

    @event("Started")
    def _started(self, reason: str) -> None:
        self.reason = reason
        self.status = "processing"

    @event("Ready")
    def _ready(self, raw: str, json_digest: str) -> None:
        self.deliverable = (raw, json_digest)
        self.status = "ready"

    @event("Collected")
    def _collected(self, by: str) -> None:
        self.collected_by = by
        self.status = "delivered"

    def _require(self, status: str) -> None:
        if self.status != status:
            raise ValueError(f"not {status}")


class LibraryOrders:
    """An application on a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self._app: Application[UUID] = Application(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(folder / "library.db"),
                "SQLITE_LOCK_TIMEOUT": "30",
            }
        )

    def lifecycle(self) -> int:
        """Run the commands of one order; return how many."""
        order = SavedOrder("echo", "eip155:84532:0x" + "cc" * 20, 1_000_000, "t" * 400)
        self._app.save(order)
        tx_hash = "0x" + uuid4().hex * 2
        self._change(order.id, lambda o: o.pay(tx_hash, "0x" + "0b" * 32, 1_000_000))
        self._change(order.id, lambda o: o.start())
        self._change(order.id, lambda o: o.hand_in("ab" * 32, "cd" * 32))
        self._change(order.id, lambda o: o.collect())
        return 5

    def close(self) -> None:
        """Close the file."""
        self._app.close()

    def _change(self, order_id: UUID, command: Callable[[SavedOrder], None]) -> None:
        order: SavedOrder = self._app.repository.get(order_id)
        command(order)
        self._app.save(order)
