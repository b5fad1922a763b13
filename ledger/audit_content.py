"""Checks of the content beside the log: every row opens what its event recorded."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ledger.audit_report import CLEAN, Problems
from ledger.batch import content_of
from ledger.content import DELIVERABLE, commitment, digests_of
from ledger.deal_events import OrderProposed
from ledger.entry import SignedEvent
from ledger.order_events import ContentErased, DeliverableReady, OrderQuoted
from ledger.store_sqlite import ContentRow

SALT_BYTES: Final = 32

_ROW: Final = "SELECT content_id, stream, field, salt, value FROM content WHERE content_id=?"


@dataclass(slots=True)
class StreamContent:
    """What the events of one stream refer to, by content id, and what they say was erased."""

    stream: str
    service: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    commitments: dict[str, str] = field(default_factory=dict)
    ready: dict[str, DeliverableReady] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)

    def add(self, signed: SignedEvent) -> None:
        """Take in one more event of the stream."""
        for name, content_id in content_of(signed.event).items():
            self.fields.setdefault(content_id, name)
            if name in signed.commit:
                self.commitments.setdefault(content_id, signed.commit[name])
        match signed.event:
            case OrderQuoted() | OrderProposed():
                self.service = signed.event.service
            case DeliverableReady():
                self.ready[signed.event.content_id] = signed.event
            case ContentErased():
                self.erased.update(signed.event.content_ids)
            case _:
                return


def c27_commitments_name_content(signed: SignedEvent) -> Problems:
    """C27: a commitment belongs to content that its own event refers to."""
    if not signed.commit:
        return CLEAN
    loose = signed.commit.keys() - content_of(signed.event).keys()
    return [f"a commitment of {name!r} without content" for name in loose]


class Content:
    """The content table, asked one id at a time; `matched` counts the rows that were accounted."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.matched = 0

    def row(self, content_id: str) -> ContentRow | None:
        """Return a row as it lies."""
        row = self.db.execute(_ROW, (content_id,)).fetchone()
        if row is None:
            return None
        self.matched += 1
        return ContentRow(*row)


def c27_no_other_rows(db: sqlite3.Connection, matched: int) -> Iterator[str]:
    """C27: no row lies in the table that no event refers to."""
    rows = db.execute("SELECT count(*) FROM content").fetchone()[0]
    if rows != matched:
        yield f"the table holds {rows} rows, the events refer to {matched}"


def c15_deliverable(
    ready: DeliverableReady, row: ContentRow, content: StreamContent
) -> Iterator[str]:
    """C15: the stored deliverable has the recorded size and every recorded hash."""
    yield from _place(row, content.stream, DELIVERABLE)
    if type(row.value) is not bytes or row.salt != b"":
        yield "the deliverable's row has another form"
        return
    if len(row.value) != ready.size_bytes:
        yield f"the deliverable has {len(row.value)} bytes, not {ready.size_bytes}"
    digests = digests_of(row.value, ready.format, content.service)
    if digests.raw != ready.raw:
        yield "the deliverable's bytes have another hash"
    if digests.json_digest != ready.json_digest:
        yield "the deliverable as JSON has another hash"
    if ready.legacy_digest not in (None, digests.legacy_digest):
        yield "the deliverable has another legacy hash"
    if ready.object_digest not in (None, digests.object_digest):
        yield "the deliverable as an object has another hash"


def c27_opens(
    row: ContentRow, field_name: str, committed: str | None, stream: str
) -> Iterator[str]:
    """C27: salt and value open the commitment that the event carries."""
    yield from _place(row, stream, field_name)
    if type(row.salt) is not bytes or type(row.value) is not bytes or len(row.salt) != SALT_BYTES:
        yield f"the row of {field_name} has another form"
    elif committed is None:
        yield f"no event commits to the content of {field_name}"
    elif commitment(row) != committed:
        yield f"the content of {field_name} does not open its commitment"


def c27_erased(content_id: str, *, held: bool, erased: bool) -> Iterator[str]:
    """C27: content is held until an event says that it was erased, and not after."""
    if held and erased:
        yield f"content {content_id} was erased and is still held"
    if not held and not erased:
        yield f"content {content_id} is missing, and no event says that it was erased"


def _place(row: ContentRow, stream: str, field_name: str) -> Iterator[str]:
    if (row.stream, row.field) != (stream, field_name):
        yield f"the row belongs to {row.field!r} of {row.stream!r}"
