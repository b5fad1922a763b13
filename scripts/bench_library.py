"""The library `eventsourcing` used the plain way: one aggregate per order, one save per command."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

CLAIMS: Final = 3
TEXT: Final = "Order: ivxp-00000000-0000-4000-8000-000000000000 | Payment: 0x" + "ab" * 32


class SavedOrder(Aggregate):
    """An order with as much in it as ours."""

    @event("Quoted")
    def __init__(self, service: str, client: str, price: int, terms: str) -> None:
        self.service = service
        self.client = client
        self.price = price
        self.terms = terms
        self.claims: list[str] = []

    def claim(self, tx_hash: str, text: str, signature: str) -> None:
        """Keep a claim, unless it is known or too many are open."""
        if tx_hash in self.claims or len(self.claims) >= CLAIMS:
            raise ValueError("refused")
        self._claimed(tx_hash, text, signature)

    @event("Claimed")
    def _claimed(self, tx_hash: str, text: str, signature: str) -> None:
        del text, signature
        self.claims.append(tx_hash)


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
        for _ in range(CLAIMS):
            loaded: SavedOrder = self._app.repository.get(order.id)
            loaded.claim("0x" + uuid4().hex * 2, TEXT, "0x" + "ab" * 65)
            self._app.save(loaded)
        return 1 + CLAIMS

    def close(self) -> None:
        """Close the file."""
        self._app.close()
