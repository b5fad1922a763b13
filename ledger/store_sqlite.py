"""SQLite under the store: the library's recorder with our connection and our side tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eventsourcing.persistence import PersistenceError, StoredEvent
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
)

from ledger.answers import sign_of, without
from ledger.entry import SignedEvent
from ledger.money import TransferId
from ledger.schema import (
    ANSWERS_WITH,
    ERASE_CONTENT,
    INSERT_ANSWER,
    INSERT_CLAIM,
    INSERT_CONTENT,
    SCHEMA,
    UPSERT_FRONTIER,
    UPSERT_TILE,
    WIPE_ANSWER,
    WORDS_OF,
)
from ledger.tiles import Growth
from ledger.values import stream_key

STORE_ERRORS: Final = (PersistenceError, sqlite3.Error)
"""What the library and the database raise when they, not the command, failed."""


@dataclass(frozen=True, slots=True)
class ContentRow:
    """A value that may be erased one day, as the content table holds it."""

    content_id: str
    stream: str
    field: str
    salt: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What a request with a key of its own was answered: 2xx only, kept as long as its order.

    `request_id` names route, party and key, `fingerprint` what was asked. `position` is the newest
    event of the stream when it was answered.
    """

    request_id: bytes
    stream: str
    fingerprint: bytes
    body: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Group:
    """The events of one command with their side rows: stored together or not at all."""

    events: tuple[SignedEvent, ...]
    claims: tuple[tuple[TransferId, int], ...] = ()
    """The transfers that are claimed anew, each with the index in `events` of what claims it."""
    content: tuple[ContentRow, ...] = ()
    answer: AnswerRow | None = None
    erased: tuple[str, ...] = ()
    """The content whose rows go with these events: value and salt."""


Grow = Callable[[Sequence[bytes]], Growth]
"""Called inside the transaction with the leaf hashes of the accepted events, in order."""


class _Pool(SQLiteConnectionPool):
    """The library's pool with our connection: full sync, 8 KiB pages, a real statement cache."""

    def _create_connection(self) -> SQLiteConnection:
        connection = connect(self.db_name)
        self.is_journal_mode_wal = True
        return SQLiteConnection(sqlite_conn=connection, max_age=self.max_age)


class Datastore(SQLiteDatastore):
    def __init__(self, path: str, connections: int) -> None:
        super().__init__(path)
        self.pool.close()
        self.pool = _Pool(db_name=path, pool_size=connections, max_overflow=0, pool_timeout=30)


class Recorder(SQLiteApplicationRecorder):
    """Adds our side tables to the library's event table, in the same transaction."""

    def construct_create_table_statements(self) -> list[str]:
        return [*super().construct_create_table_statements(), *SCHEMA]

    def _insert_events(
        self,
        c: SQLiteCursor,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ANN401 - the library's signature
    ) -> Sequence[int]:
        del stored_events  # the groups hold them, with their side rows
        groups: Sequence[Group] = kwargs["groups"]
        first: int = kwargs["first_position"]
        grow: Grow = kwargs["grow"]
        accepted = _insert_groups(c, groups, first)
        kwargs["accepted"].extend(accepted)
        kept = [e for group, ok in zip(groups, accepted, strict=True) if ok for e in group.events]
        if kept:
            _insert_tree(c, grow([event.leaf for event in kept]))
        return range(first, first + len(kept))


def _insert_groups(c: SQLiteCursor, groups: Sequence[Group], first: int) -> list[bool]:
    """Insert all groups at once; if one conflicts, one by one, so that it fails alone."""
    c.execute("SAVEPOINT batch")
    try:
        _insert_rows(c, groups, first)
    except sqlite3.IntegrityError:
        c.execute("ROLLBACK TO batch")
        return _insert_one_by_one(c, groups, first)
    finally:
        c.execute("RELEASE batch")
    return [True] * len(groups)


def _insert_one_by_one(c: SQLiteCursor, groups: Sequence[Group], first: int) -> list[bool]:
    accepted: list[bool] = []
    broken: set[str] = set()
    for group in groups:
        streams = {event.stream for event in group.events}
        # A later command of a stream whose earlier one failed was decided on events that do not
        # exist; its version would fit, its `prev` would not.
        ok = not streams & broken and _insert_alone(c, group, first)
        accepted.append(ok)
        if ok:
            first += len(group.events)
        else:
            broken |= streams
    return accepted


def _insert_alone(c: SQLiteCursor, group: Group, first: int) -> bool:
    c.execute("SAVEPOINT one")
    try:
        _insert_rows(c, [group], first)
    except sqlite3.IntegrityError:
        c.execute("ROLLBACK TO one")
        return False
    finally:
        c.execute("RELEASE one")
    return True


def _insert_rows(c: SQLiteCursor, groups: Iterable[Group], first: int) -> None:
    events: list[tuple[int, str, int, str, bytes]] = []
    claims: list[tuple[str, str, int, str, int]] = []
    content: list[tuple[str, str, str, bytes, bytes]] = []
    answers: list[tuple[bytes, str, bytes, bytes, int]] = []
    erased: list[tuple[str, str]] = []
    for group in groups:
        start = first + len(events)
        for event in group.events:
            position = first + len(events)
            key = stream_key(event.stream)
            events.append((position, key, event.seq, event.event.kind, event.entry))
        claims += [(*each, group.events[by].stream, start + by) for each, by in group.claims]
        content += [(r.content_id, r.stream, r.field, r.salt, r.value) for r in group.content]
        if group.answer is not None:
            at = first + len(events) - 1 if group.events else group.answer.position
            given = group.answer
            answers.append((given.request_id, given.stream, given.fingerprint, given.body, at))
        erased += [(content_id, group.events[0].stream) for content_id in group.erased]
    c.executemany(
        "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)"
        " VALUES (?,?,?,?,?)",
        events,
    )
    if claims:
        c.executemany(INSERT_CLAIM, claims)
    if content:
        c.executemany(INSERT_CONTENT, content)
    if answers:
        c.executemany(INSERT_ANSWER, answers)
    if erased:
        _wipe_answers(c, erased)
        c.executemany(ERASE_CONTENT, erased)


def _wipe_answers(c: SQLiteCursor, erased: Iterable[tuple[str, str]]) -> None:
    """Take words out of the answers that are kept for repeats, before they are erased."""
    for content_id, stream in erased:
        c.execute(WORDS_OF, (content_id, stream))
        for field, value in c.fetchall():
            c.execute(ANSWERS_WITH, (stream, sign_of(field, value)))
            rows = c.fetchall()
            c.executemany(WIPE_ANSWER, [(without(row[1], field, value), row[0]) for row in rows])


def _insert_tree(c: SQLiteCursor, rows: Growth) -> None:
    if rows.tiles:
        c.executemany(UPSERT_TILE, [(t.level, t.index, t.hashes) for t in rows.tiles])
    c.execute(UPSERT_FRONTIER, (rows.size, rows.frontier))


def connect(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection as the ledger needs it; explicit transactions only."""
    uri = f"{Path(path).absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.row_factory = sqlite3.Row
    if not read_only:
        connection.execute("PRAGMA page_size=8192")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # Moving the WAL into the file is the second connection's work, off the commit path.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA recursive_triggers=ON")
        # What is erased is overwritten, not only left to be overwritten one day.
        connection.execute("PRAGMA secure_delete=ON")
    return connection
