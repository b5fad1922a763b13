"""One stream after the other: every entry opened once, judged by itself and folded in its place.

Memory holds one stream at a time, and the signatures that wait to be judged together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, get_args

from ledger import audit_entries as entries
from ledger import audit_keys as keys
from ledger import audit_market as market
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
from ledger.audit_cursors import c08_cursor
from ledger.audit_entries import Opened, Parts, open_entry
from ledger.audit_keys import LogKeys
from ledger.audit_money import Claims
from ledger.audit_receipts import c08_receipt
from ledger.audit_report import Book, Problems
from ledger.audit_rules import rules_of
from ledger.audit_signatures import AT_ONCE, JudgeAll, Verify, wrong_signatures
from ledger.audit_span import Folded, Span
from ledger.audit_texts import c04_key_words, c16_said_once
from ledger.cursor_events import CursorAct, CursorState
from ledger.deal_events import OrderProposed
from ledger.entry import SignedEvent
from ledger.evolve import evolve
from ledger.log_events import LogEvent
from ledger.order import Order
from ledger.order_events import ContentErased, OrderEvent, OrderQuoted, ReceiptRecorded
from ledger.signing import verify_signature
from ledger.values import LOG_STREAM, ZERO_LEAF, is_cursor

_NO_BYTES: Final = Opened(bytes(32), problem=("C01", "the entry is not stored as bytes"))
_PROGRESS_STEP: Final = 256

_OF_LOG: Final = frozenset(get_args(LogEvent))
_OF_ORDER: Final = frozenset(get_args(OrderEvent))
_BEGINS_AN_ORDER: Final = (OrderQuoted, OrderProposed)

_OF_EVERY_ENTRY: Final = ("C01", "C02", "C04", "C08", "C30")
_OF_EVERY_STEP: Final = ("C06", "C07", "C12", "C27")
_OF_EVERY_CHANGE: Final = ("C13", "C14", "C29")

Found = Callable[[str, Problems], None]
"""Keeps what a check found of the event at hand."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The costly steps, each a function of its arguments alone.

    Whoever audits many copies of one ledger may give versions that remember.
    """

    open_entry: Callable[[bytes], Opened] = open_entry
    verify: Verify = verify_signature
    wrong_signatures: JudgeAll = wrong_signatures


ALL_STEPS: Final = Steps()


@dataclass(slots=True)
class _Stream:
    """How far one stream was folded: an order or a cursor into its state, the log into kinds."""

    key: object
    name: str
    content: StreamContent
    seq: int = 0
    leaf: str = ZERO_LEAF
    position: int = 0
    order: Order | None = None
    cursor: CursorState | None = None
    kinds: set[str] = field(default_factory=set)


class StreamPass:
    """Checks C01 to C04, C06 to C08, C12 to C16, C27, C29 and C30 over whole streams."""

    def __init__(
        self,
        db: sqlite3.Connection,
        book: Book,
        log_keys: LogKeys | None,
        content: Content | None = None,
        steps: Steps = ALL_STEPS,
        *,
        whole: bool = True,
    ) -> None:
        """`content` is the table beside the log, or None where the auditor was given none.

        `whole` is False where the file holds one order alone.
        """
        self.folded = Folded()
        self._db = db
        self._book = book
        self._keys = log_keys
        self._closed_at = log_keys.closed_at if log_keys is not None else None
        self._steps = steps
        self._claims = Claims(db)
        self._lookup = market.Lookup(db, steps.open_entry, whole=whole)
        self._content = content
        self._waiting: list[tuple[int, Parts]] = []
        self._entries = self._steps_made = self._changes = 0

    def run(self, span: Span, progress: Callable[[int], None]) -> Folded:
        """Judge the streams of a span.

        What follows an entry that is none in its stream is judged as it stands.
        """
        stream: _Stream | None = None
        try:
            for position, key, version, topic, entry in span.rows(self._db):
                self.folded.seen += 1
                if self.folded.seen % _PROGRESS_STEP == 0:
                    progress(self.folded.seen)
                parts = self._opened(position, entry)
                if parts is None:
                    continue
                self._alone(position, (key, version, topic), parts)
                if stream is None or stream.key != key:
                    self._end(stream)
                    name = parts.signed.stream
                    stream = _Stream(key, name, StreamContent(name))
                if stream.name == parts.signed.stream:  # else C30 has said so
                    self._add(stream, position, parts)
            self._end(stream)
            self._judge_signatures()
        finally:
            self._count()
        return self.folded

    def _opened(self, position: int, entry: object) -> Parts | None:
        opened = self._steps.open_entry(entry) if type(entry) is bytes else _NO_BYTES
        if opened.parts is None:
            self.folded.unreadable.add(position)
            check, message = opened.problem or ("C01", "no entry")
            self._book.note(check, [message], position)
        return opened.parts

    def _alone(self, position: int, row: tuple[object, object, object], parts: Parts) -> None:
        """Judge an entry by its row, its key and its place in the log.

        Nearly always nothing is wrong; so it is only asked, and said where something is.
        """
        signed, log_keys = parts.signed, self._keys
        found = partial(self._book.found, position=position, stream=signed.stream)
        self._entries += 1
        self._waiting.append((position, parts))
        if len(self._waiting) == AT_ONCE:
            self._judge_signatures()
        if problems := entries.c30_columns(row, signed):
            found("C30", problems)
        if problems := keys.c04_genesis(position, signed):
            found("C04", problems)
        if problems := orders.c08_nothing_after_the_end(self._closed_at, position):
            found("C08", problems)
        if log_keys is None:
            return
        if problems := entries.c03_origin(parts, log_keys.genesis.origin):
            found("C03", problems)
        if problems := keys.c04_authority(log_keys, signed.signer, position):
            found("C04", problems)
        if type(signed.event) in _OF_LOG:
            found("C04", keys.c04_key_texts(log_keys, parts, self._steps.verify))
            found("C04", c04_key_words(log_keys, signed.event, position))

    def _judge_signatures(self) -> None:
        waiting, self._waiting = self._waiting, []
        for index, message in self._steps.wrong_signatures([p.claim() for _, p in waiting]):
            position, parts = waiting[index]
            self._book.found("C04", [message], position, parts.signed.stream)

    def _add(self, stream: _Stream, position: int, parts: Parts) -> None:
        """Judge an entry by the events before it in its stream, and fold it."""
        signed = parts.signed
        found = partial(self._book.found, position=position, stream=stream.name)
        self._steps_made += 1
        if problems := orders.c06_sequence(signed, stream.seq + 1, position, stream.position):
            found("C06", problems)
        if problems := orders.c07_previous(parts.prev, stream.leaf):
            found("C07", problems)
        if problems := self._claims.c12_claims(stream.order, signed.event, stream.name, position):
            found("C12", problems)
        if problems := c27_commitments_name_content(signed):
            found("C27", problems)
        if stream.name == LOG_STREAM:
            self._log_step(stream, signed, found)
        elif is_cursor(stream.name):
            self._cursor_step(stream, signed, position, found)
        elif market.is_market(stream.name):
            self._market_step(stream, signed, position, found)
        else:
            self._order_step(stream, signed, position, found)
        stream.seq, stream.leaf, stream.position = signed.seq, signed.leaf.hex(), position
        stream.content.add(signed)

    def _log_step(self, stream: _Stream, signed: SignedEvent, found: Found) -> None:
        event = signed.event
        if type(event) not in _OF_LOG:
            found("C08", [f"{event.kind} has no place in the log's own stream"])
            return
        found("C08", orders.c08_log_event(stream.kinds, event))
        stream.kinds.add(event.kind)

    def _cursor_step(
        self, stream: _Stream, signed: SignedEvent, position: int, found: Found
    ) -> None:
        event = signed.event
        if not isinstance(event, CursorAct):
            found("C08", [f"{event.kind} has no place here in the stream {stream.name!r}"])
            return
        found("C08", c08_cursor(stream.cursor, event, signed.seq, position, signed.at))
        stream.cursor = event.state

    def _market_step(
        self, stream: _Stream, signed: SignedEvent, position: int, found: Found
    ) -> None:
        event, content = signed.event, stream.content
        found("C08", market.c08_market(stream.name, event, stream.kinds))
        found("C08", market.c08_its_agent(event, position, self._lookup))
        if isinstance(event, ContentErased):
            found("C08", market.c08_erased(event, content.fields, content.erased))
        stream.kinds.add(event.kind)

    def _order_step(
        self, stream: _Stream, signed: SignedEvent, position: int, found: Found
    ) -> None:
        event, kind, order = signed.event, type(signed.event), stream.order
        if kind not in _OF_ORDER or (order is None and kind not in _BEGINS_AN_ORDER):
            found("C08", [f"{event.kind} has no place here in the stream {stream.name!r}"])
            return
        stream.order = evolve(order, signed)
        if order is None:
            found("C08", market.c08_its_agent(event, position, self._lookup))
            found("C08", market.c08_its_conversation(event, position, self._lookup))
            return
        self._changes += 1
        if problems := orders.c08_next_status(order, event):
            found("C08", problems)
        for check, rule in rules_of(kind):
            found(check, rule(order, signed))
        if kind is ContentErased:
            known = frozenset(stream.content.fields)
            found("C08", orders.c08_erasure(order, event, known))
        if isinstance(event, ReceiptRecorded):
            found("C08", c08_receipt(order, signed, self._lookup.at(event.position)))
        text = parties.text_of(event)
        if text is not None:
            self._book.made("C16", 4)
            found("C16", parties.c16_signature(text, self._steps.verify))
            found("C16", parties.c16_signer(order, event, text))
            found("C16", parties.c16_text(order, event))
            found("C16", c16_said_once(order, signed))

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

    def _count(self) -> None:
        """Say how often the checks were made that every event goes through."""
        made = dict.fromkeys(_OF_EVERY_ENTRY, self._entries)
        made["C03"] = self._entries if self._keys is not None else 0
        made |= dict.fromkeys(_OF_EVERY_STEP, self._steps_made)
        made |= dict.fromkeys(_OF_EVERY_CHANGE, self._changes)
        for check, times in made.items():
            self._book.made(check, times)
        self.folded.claims = self._claims.matched
        self.folded.content = self._content.matched if self._content is not None else 0
