"""Checks of money: what an event says against its quote, its own transfers and the claims table.

What the chain itself shows is not asked here: these checks need no network.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from ledger.audit_report import CLEAN, Problems
from ledger.batch import claims_of
from ledger.entry import SignedEvent
from ledger.event import Event, Transfer
from ledger.money import Bucket, TransferId
from ledger.order import Order, Status
from ledger.payment_events import (
    PaymentFinalized,
    PaymentLate,
    PaymentOrphaned,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.values import ZERO_ADDRESS, address_of

Incoming = PaymentVerified | PaymentPartial | PaymentOverpaid | PaymentLate | PaymentRestored

_CLAIM: Final = "SELECT stream, position FROM claims WHERE chain=? AND tx_hash=? AND ordinal=?"


class Claims:
    """The claims table, asked one key at a time; `matched` counts the rows that were accounted."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.matched = 0

    def c12_claims(self, order: Order | None, event: Event, stream: str, position: int) -> Problems:
        """C12: each transfer that an event claims has its row, and no other event claims it.

        An orphaned transfer may be claimed again by its own order: the first claim stays.
        """
        keys = claims_of(event)
        return self._wrong(keys, order, stream, position) if keys else CLEAN

    def _wrong(
        self, keys: Sequence[TransferId], order: Order | None, stream: str, position: int
    ) -> Iterator[str]:
        if len(set(keys)) != len(keys):
            yield "the event names a transfer twice"
        for key in dict.fromkeys(keys):
            row = self._db.execute(_CLAIM, key).fetchone()
            if row is None:
                yield f"the claim of {_name(key)} is missing"
            elif (row[0], row[1]) == (stream, position):
                self.matched += 1
            elif row[0] != stream or not _orphaned(order, key) or not _earlier(row[1], position):
                yield f"{_name(key)} is claimed by {row[0]!r} at position {row[1]!r}"


def c12_no_other_claims(db: sqlite3.Connection, matched: int) -> Iterator[str]:
    """C12: the table holds no claim that no event made."""
    rows = db.execute("SELECT count(*) FROM claims").fetchone()[0]
    if rows != matched:
        yield f"the table holds {rows} claims, the events make {matched}"


def c13_transfers(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C13: transfers come from the client to the quote's address on the quote's chain, in time."""
    event = signed.event
    if not isinstance(event, Incoming):
        return
    senders = {transfer.sender for transfer in event.transfers}
    client, terms = address_of(order.client), order.terms
    if len(senders) != 1 or client not in (ZERO_ADDRESS, *senders):
        yield f"the transfers come from {sorted(senders)}, not from {client}"
    for transfer in event.transfers:
        if (transfer.chain, transfer.recipient) != (terms.chain, terms.payment_address):
            yield f"{_name(transfer.key)} went to {transfer.recipient} on {transfer.chain}"
        if transfer.amount <= 0:
            yield f"{_name(transfer.key)} moves nothing"
    times = [transfer.block_time for transfer in event.transfers]
    if isinstance(event, PaymentVerified | PaymentPartial) and max(times) > terms.pay_by:
        yield f"a transfer of {max(times)} is counted as in time; the quote says {terms.pay_by}"
    early = min(times) <= terms.pay_by and order.status is not Status.REFUNDED
    if isinstance(event, PaymentLate) and early:
        yield f"a transfer of {min(times)} is counted as late; the quote says {terms.pay_by}"


def c13_amounts(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C13: sums, dues and excess follow from the price and from the transfers."""
    event = signed.event
    price, money, paid = order.terms.price, order.money, Status.PAID in order.status_at
    match event:
        case PaymentVerified():
            total = money.counted + _sum(event.transfers)
            said = (event.price, event.total, event.overpaid)
            if said != (price, total, total - price) or total < price:
                yield f"{total} for a price of {price} is recorded as {said}"
            if event.payer != f"{order.terms.chain}:{event.transfers[0].sender}":
                yield f"the payer is not {event.payer}"
        case PaymentPartial():
            due = price - money.counted - _sum(event.transfers)
            if paid or event.amount_due != due or due <= 0:
                yield f"{due} is due, not {event.amount_due}"
        case PaymentOverpaid():
            beyond = money.covered + _sum(event.transfers) - price
            if not paid or order.paused or event.overpaid != beyond:
                yield f"{beyond} is beyond the price, not {event.overpaid}"
        case PaymentLate():
            if paid or event.refund_due != _sum(event.transfers):
                yield f"{_sum(event.transfers)} arrived late, not {event.refund_due}"
        case _:
            return


def c13_reorganisations(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C13: only counted transfers leave the chain or become final, only orphaned ones return."""
    event = signed.event
    placed = order.money.placed
    match event:
        case PaymentOrphaned() | PaymentFinalized():
            for item in event.transfers:
                known = placed.get(item.key)
                if known is None or known.bucket is Bucket.ORPHANED:
                    yield f"{event.kind} names {_name(item.key)}, which does not count"
        case PaymentRestored():
            if Status.PAID not in order.status_at:
                yield "restored although the order was never paid"
            for transfer in event.transfers:
                before = placed.get(transfer.key)
                if before is None and not order.paused:
                    yield f"{_name(transfer.key)} stands in although nothing is missing"
                if before is not None and _other(before.transfer, transfer):
                    yield f"{_name(transfer.key)} returned with another sender or amount"
        case _:
            return


def c29_refund(order: Order, signed: SignedEvent) -> Iterator[str]:
    """C29: a refund goes from the quote's payment address to the client, and sums up."""
    event = signed.event
    if not isinstance(event, RefundRecorded):
        return
    way = (order.terms.chain, order.terms.payment_address, address_of(order.client))
    for transfer in event.transfers:
        if (transfer.chain, transfer.sender, transfer.recipient) != way:
            yield f"{_name(transfer.key)} is no transfer from the payment address to the client"
    if event.amount != _sum(event.transfers):
        yield f"the transfers sum to {_sum(event.transfers)}, not to {event.amount}"


def _orphaned(order: Order | None, key: TransferId) -> bool:
    placed = order.money.placed.get(key) if order else None
    return placed is not None and placed.bucket is Bucket.ORPHANED


def _earlier(position: object, than: int) -> bool:
    return isinstance(position, int) and position < than


def _other(before: Transfer, now: Transfer) -> bool:
    """Whether a transfer that returned is none of this order; another block may change its sum."""
    same_block = before.block_hash == now.block_hash
    return before.sender != now.sender or (same_block and before.amount != now.amount)


def _sum(transfers: tuple[Transfer, ...]) -> int:
    return sum(transfer.amount for transfer in transfers)


def _name(key: TransferId) -> str:
    return f"{key[1]}#{key[2]}"
