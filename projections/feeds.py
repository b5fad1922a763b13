"""Feeds: which events a party is told of, in order, under positions 1, 2, 3 … without a gap.

Every node numbers them alike, because nothing but the ledger's order and this table decides. A
changed table is another `GENERATION`: the feeds are then built anew, and cursors are carried over
by the ledger positions that they hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ledger.order import Order
from ledger.order_events import ReceiptRecorded
from ledger.service import Placed
from ledger.values import LOG_STREAM, ZERO_ADDRESS, address_of, is_order

GENERATION: Final = 1
"""Changed together with `FEED_TYPES` and the rules below, and only then."""

PROVIDER: Final = "provider"
WORKERS: Final = "workers"
Share = Literal["all", "workers", "parties"]

_ALL: Final[Share] = "all"
_PARTIES: Final[Share] = "parties"

FEED_TYPES: Final[Mapping[str, tuple[str, Share]]] = {
    "quoted": ("order.quoted", _PARTIES),
    "expired": ("order.expired", _PARTIES),
    "paid": ("order.paid", _ALL),
    "processing": ("order.in_progress", _ALL),
    "ready": ("order.ready", _ALL),
    "posted": ("order.posted", _PARTIES),
    "delivered": ("order.delivered", _PARTIES),
    "delivery_failed": ("order.delivery_failed", _ALL),
    "confirmed": ("order.confirmed", _ALL),
    "disputed": ("order.disputed", _ALL),
    "refunded": ("order.refunded", _ALL),
    "notice_accepted": ("order.notice_accepted", _PARTIES),
    "push_attempted": ("order.push_attempted", _PARTIES),
    "download_noted": ("order.download_noted", _PARTIES),
    "acceptance_lapsed": ("order.acceptance_lapsed", _PARTIES),
    "answer_lapsed": ("order.answer_lapsed", _PARTIES),
    "dispute_answered": ("order.dispute_answered", _PARTIES),
    "dispute_withdrawn": ("order.dispute_withdrawn", _PARTIES),
    "dispute_ruled": ("order.dispute_ruled", _PARTIES),
    "content_erased": ("order.content_erased", _PARTIES),
    "command_refused": ("order.command_refused", _PARTIES),
    "payment_claimed": ("payment.claimed", _PARTIES),
    "payment_claim_closed": ("payment.claim_closed", _PARTIES),
    "payment_partial": ("payment.partial", _PARTIES),
    "payment_overpaid": ("payment.overpaid", _PARTIES),
    "payment_late": ("payment.late", _PARTIES),
    "payment_finalized": ("payment.finalized", _PARTIES),
    "payment_orphaned": ("payment.orphaned", _ALL),
    "payment_restored": ("payment.restored", _ALL),
    "refund_recorded": ("payment.refund_recorded", _PARTIES),
    "receipt_recorded": ("receipt.recorded", _PARTIES),
    "payment_unattributed": ("payment.unattributed", _PARTIES),
    "log_opened": ("log.opened", _PARTIES),
    "chain_bound": ("log.chain_bound", _PARTIES),
    "key_added": ("log.key_added", _PARTIES),
    "key_revoked": ("log.key_revoked", _PARTIES),
    "policy_set": ("log.policy_set", _PARTIES),
    "log_closed": ("log.closed", _PARTIES),
}
"""The kind of an event, what it is called in a feed, and whether workers are told of it.

Events of an order go to its client and to the provider, those of the log to the provider alone;
`receipt_recorded` goes to the sender of what was received. Cursors' own events are in no feed.
"""

TYPES: Final = frozenset(name for name, _ in FEED_TYPES.values())


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in one party's feed, before it has its position there."""

    party: str
    position: int
    type: str


def entries_of(placed: Placed, order: Order | None) -> Iterator[Entry]:
    """Return the feeds that an event goes to; `order` is its order after it."""
    event = placed.signed.event
    found = FEED_TYPES.get(event.kind)
    if found is None:
        return
    name, share = found
    for party in _parties(placed, order, share):
        yield Entry(party, placed.position, name)


def _parties(placed: Placed, order: Order | None, share: Share) -> Iterator[str]:
    stream, event = placed.signed.stream, placed.signed.event
    if stream == LOG_STREAM:
        yield PROVIDER
    if order is None or not is_order(stream):
        return
    client = address_of(order.client)
    if isinstance(event, ReceiptRecorded):
        yield PROVIDER if event.sender == "provider" else client
        return
    yield PROVIDER
    if client != ZERO_ADDRESS:
        yield client
    if share == "all":
        yield WORKERS


class FeedWriter:
    """Gives the entries their positions, inside the transaction of the views."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._heads: dict[str, int] = {}

    def write(self, entries: Iterable[Entry]) -> frozenset[str]:
        """Add entries in the ledger's order; return whose feeds they are."""
        rows = [(e.party, self._next(e.party), e.position, e.type) for e in entries]
        self._db.executemany("INSERT INTO feed (party, pos, position, type) VALUES (?,?,?,?)", rows)
        return frozenset(row[0] for row in rows)

    def forget(self) -> None:
        """Trust the table alone: at the start of each transaction, as the last may have failed."""
        self._heads.clear()

    def _next(self, party: str) -> int:
        head = self._heads.get(party)
        if head is None:
            row = self._db.execute(
                "SELECT pos FROM feed WHERE party=? ORDER BY pos DESC LIMIT 1", (party,)
            ).fetchone()
            head = row[0] if row else 0
        self._heads[party] = head + 1
        return head + 1
