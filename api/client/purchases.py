"""How far each purchase is, kept so that a crash at any moment pays nothing twice.

Every step is written before the next one has an effect outside: the key before the request, the
signed transaction before it is sent, the signed notice before it is given.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from api.client.errors import Interleaved
from api.client.payer import SignedTransfer
from api.client.store import Store

State = Literal[
    "asked", "quoted", "signed", "sent", "accepted", "received", "confirmed", "disputed"
]
"""What was done last. `sent` says that a node took the transaction, not that it was mined."""

OPEN: Final = ("asked", "quoted", "signed", "sent", "accepted", "received")


@dataclass(frozen=True, slots=True)
class Purchase:
    """One purchase: what was asked for, under which key, and what was signed for it."""

    reference: str
    url: str
    request: dict[str, object]
    key: str
    budget_micros: int
    arbiter: str | None = None
    state: State = "asked"
    order_id: str | None = None
    quote_position: int = 0
    pay_by: int = 0
    payment: SignedTransfer | None = None
    notice: dict[str, object] | None = None
    content_hash: str | None = None
    version: int = 0

    @property
    def order(self) -> str:
        """The order's id; there is one from the quote on."""
        if self.order_id is None:
            raise LookupError("the purchase has no order yet")
        return self.order_id


class Purchases:
    """All purchases of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, reference: str) -> Purchase | None:
        """Return a purchase by the name that its buyer gave it."""
        rows = self._store.rows("SELECT body FROM purchases WHERE reference=?", reference)
        return _read(rows[0][0]) if rows else None

    def of_order(self, order_id: str) -> Purchase:
        """Return the purchase of an order, or raise `LookupError`."""
        rows = self._store.rows("SELECT body FROM purchases WHERE order_id=?", order_id)
        if not rows:
            raise LookupError("no purchase here has this order id")
        return _read(rows[0][0])

    def in_state(self, *states: str) -> list[Purchase]:
        """Return the purchases that stand so, in the order of their references."""
        marks = ",".join("?" * len(states))
        query = f"SELECT body FROM purchases WHERE state IN ({marks}) ORDER BY reference"  # noqa: S608
        return [_read(row[0]) for row in self._store.rows(query, *states)]

    def begin(self, purchase: Purchase) -> Purchase:
        """Keep a new purchase, or return the one that has this reference."""
        first = replace(purchase, version=1)
        statement = "INSERT OR IGNORE INTO purchases VALUES (?,?,?,?,?,?)"
        self._store.write(statement, first.reference, *_row(first))
        return self.find(first.reference) or first

    def put(self, purchase: Purchase) -> Purchase:
        """Keep the next step of a purchase, or raise `Interleaved` if another one was kept.

        Of two processes that work on one purchase only one gets to sign a payment.
        """
        following = replace(purchase, version=purchase.version + 1)
        changed = self._store.write(
            "UPDATE purchases SET version=?, url=?, order_id=?, state=?, body=?"
            " WHERE reference=? AND version=?",
            *_row(following),
            purchase.reference,
            purchase.version,
        )
        if changed != 1:
            raise Interleaved(f"the purchase {purchase.reference!r} was carried on elsewhere")
        return following


def _row(purchase: Purchase) -> tuple[object, ...]:
    body = json.dumps(asdict(purchase))
    return (purchase.version, purchase.url, purchase.order_id, purchase.state, body)


def _read(body: object) -> Purchase:
    values = json.loads(str(body))
    payment = values.pop("payment")
    return Purchase(**values, payment=SignedTransfer(**payment) if payment else None)
