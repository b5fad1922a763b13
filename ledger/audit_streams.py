"""One stream after the other, each folded from its first event: memory holds one at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Final

from ledger import audit_money as money
from ledger import audit_orders as orders
from ledger import audit_parties as parties
from ledger.audit_content import (
    Content,
    StreamContent,
    c15_deliverable,
    c27_commitments_name_content,
    c27_erased,
    c27_opens,
)
from ledger.audit_entries import Verify, c04_event_signature
from ledger.audit_report import Book, Problems
from ledger.entry import SignedEvent, read_entry
from ledger.event import Event
from ledger.evolve import evolve
from ledger.log_events import LogEvent
from ledger.order import Order
from ledger.order_events import OrderEvent, OrderQuoted
from ledger.values import LOG_STREAM, ZERO_LEAF

# Through the index of streams, so that each stream is read whole and only one is held.
_STREAMS: Final = (
    "SELECT originator_id, rowid, state FROM stored_events"
    " ORDER BY originator_id, originator_version"
)


_PREV: Final = b'"prev":"'


@dataclass(frozen=True, slots=True)
class Link:
    """An event and the leaf hash of the one before it in its stream, in hex."""

    signed: SignedEvent
    prev: str


ReadLink = Callable[[bytes], Link]
Note = Callable[[str, Problems], None]


def read_link(entry: bytes) -> Link:
    """Read bytes that were found to be an entry.

    No field after the event's own `prev` holds an object, and inside a text a quote is escaped: the
    last `"prev":"` is that field.
    """
    at = entry.rindex(_PREV) + len(_PREV)
    return Link(read_entry(entry), entry[at : at + len(ZERO_LEAF)].decode())


def is_of_the_fold(position: int) -> bool:
    """Whether the pass by stream checks this event's signature, where two passes share them."""
    return position % 2 == 0


@dataclass(slots=True)
class _Stream:
    """How far one stream was folded: an order into its state, the log into the kinds it holds."""

    key: object
    name: str
    content: StreamContent
    seq: int = 0
    leaf: str = ZERO_LEAF
    position: int = 0
    order: Order | None = None
    kinds: set[str] = field(default_factory=set)


class StreamPass:
    """Checks C06, C07, C08, C12 to C16, C27 and C29 over every stream."""

    def __init__(
        self,
        db: sqlite3.Connection,
        book: Book,
        verify: Verify,
        read: ReadLink = read_link,
        content: Content | None = None,
        *,
        signatures: bool = False,
    ) -> None:
        """`content` is the table beside the log, or None where the auditor was given none.

        With `signatures` this pass checks those of every second event, and the other pass the rest.
        """
        self._signatures = signatures
        self._db = db
        self._book = book
        self._verify = verify
        self._read = read
        self._claims = money.Claims(db)
        self._content = content

    def run(self, unreadable: Container[object], progress: Callable[[int], None]) -> int:
        """Fold every stream and return the number of rows seen.

        `unreadable` are the positions where no entry was found: what follows them in their streams
        is judged as it stands.
        """
        count, stream = 0, None
        for key, position, entry in self._db.execute(_STREAMS):
            count += 1
            progress(count)
            if position in unreadable:
                continue
            link = self._read(entry)
            if self._signatures and is_of_the_fold(position):
                problems = c04_event_signature(entry, self._verify)
                self._book.note("C04", problems, position, link.signed.stream)
            if stream is None or stream.key != key:
                self._end(stream)
                name = link.signed.stream
                stream = _Stream(key, name, StreamContent(name))
            if stream.name == link.signed.stream:  # else C30 has said so
                self._add(stream, position, link)
        self._end(stream)
        self._book.note("C12", self._claims.c12_no_other_claims())
        if self._content is not None:
            self._book.note("C27", self._content.c27_no_other_rows())
        return count

    def _add(self, stream: _Stream, position: int, link: Link) -> None:
        signed, event = link.signed, link.signed.event
        note = partial(self._book.note, position=position, stream=stream.name)
        stream.seq += 1
        note("C06", orders.c06_sequence(signed, stream.seq, position, stream.position))
        note("C07", orders.c07_previous(link.prev, stream.leaf))
        note("C27", c27_commitments_name_content(signed))
        stream.seq, stream.leaf, stream.position = signed.seq, signed.leaf.hex(), position
        order = stream.order
        note("C12", self._claims.c12_claims(order, event, stream.name, position))
        if stream.name == LOG_STREAM:
            self._log_step(stream, event, note)
        else:
            self._order_step(stream, signed, note)
        stream.content.add(signed)

    def _log_step(self, stream: _Stream, event: Event, note: Note) -> None:
        if not isinstance(event, LogEvent):
            note("C08", [f"{event.kind} has no place in the log's own stream"])
            return
        note("C08", orders.c08_log_event(stream.kinds, event))
        stream.kinds.add(event.kind)

    def _order_step(self, stream: _Stream, signed: SignedEvent, note: Note) -> None:
        event, order = signed.event, stream.order
        if not isinstance(event, OrderEvent) or (order is None and type(event) is not OrderQuoted):
            note("C08", [f"{event.kind} has no place here in the stream {stream.name!r}"])
            return
        if order is not None:
            known = frozenset(stream.content.fields)
            note("C08", _legal(order, signed, known))
            note("C13", _paid(order, event))
            note("C14", orders.c14_expiry(order, event))
            note("C29", money.c29_refund(order, event))
            self._party(order, event, note)
        stream.order = evolve(order, signed)

    def _party(self, order: Order, event: Event, note: Note) -> None:
        text = parties.text_of(event)
        if text is not None:
            note("C16", parties.c16_signature(text, self._verify))
            note("C16", parties.c16_signer(order, event, text))
            note("C16", parties.c16_text(order, event))

    def _end(self, stream: _Stream | None) -> None:
        """Compare the stream's content with what its events recorded."""
        if stream is None or self._content is None:
            return
        content = stream.content
        note = partial(self._book.note, stream=stream.name)
        for content_id, name in content.fields.items():
            row, erased = self._content.row(content_id), content_id in content.erased
            note("C27", c27_erased(content_id, held=row is not None, erased=erased))
            ready = content.ready.get(content_id)
            if row is not None and ready is not None:
                note("C15", c15_deliverable(ready, row, content))
            elif row is not None:
                committed = content.commitments.get(content_id)
                note("C27", c27_opens(row, name, committed, stream.name))


def _legal(order: Order, signed: SignedEvent, known: frozenset[str]) -> Iterator[str]:
    event, at = signed.event, signed.at
    return chain(
        orders.c08_next_status(order, event),
        orders.c08_work(order, event),
        orders.c08_delivery(order, event),
        orders.c08_dispute(order, event, at),
        orders.c08_acceptance(order, event, at),
        orders.c08_refund(order, event),
        orders.c08_claims(order, event),
        orders.c08_erasure(order, event, known),
    )


def _paid(order: Order, event: Event) -> Iterator[str]:
    return chain(
        money.c13_transfers(order, event),
        money.c13_amounts(order, event),
        money.c13_reorganisations(order, event),
    )
