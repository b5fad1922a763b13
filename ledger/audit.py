"""The audit: the ledger replayed from its bytes, with nothing believed that can be recomputed.

It reads the database file and the guard file, never the service's own objects, so it can run while
the service writes and on a copy without it. One pass goes by position (entries, keys, tree), one by
stream (orders, money, signatures, content); memory does not grow with the number of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from ledger import audit_entries as entries
from ledger import audit_keys as keys
from ledger import audit_tree as tree
from ledger.audit_entries import Opened, Verify, open_entry
from ledger.audit_keys import LogKeys, Trust
from ledger.audit_orders import c08_nothing_after_the_end
from ledger.audit_report import AuditFinding, Book, Enough, Report
from ledger.audit_streams import ReadLink, StreamPass, read_link
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.event import TreeHead
from ledger.log_events import LogClosed
from ledger.signing import verify_signature
from ledger.values import LOG_STREAM, UnixMs, stream_key

__all__ = ["AuditFinding", "AuditImpossible", "Report", "Steps", "Trust", "audit", "audit_snapshot"]

STOP_AFTER: Final = 1000
GUARD_BYTES: Final = 1 << 20

Progress = Callable[[int, int], None]
"""Called with how many of the 2 * size rows were read."""


class AuditImpossible(Exception):
    """The ledger cannot be opened at all, so nothing can be said of it."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The costly steps, each a function of its arguments alone.

    Whoever audits many copies of one ledger may give versions that remember.
    """

    open_entry: Callable[[bytes], Opened] = open_entry
    read_link: ReadLink = read_link
    verify: Verify = verify_signature


def audit(
    ledger_file: Path,
    guard_file: Path,
    *,
    trust: Trust = Trust(),
    stop_after: int = STOP_AFTER,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Check a ledger as it stands at one moment. Raises `AuditImpossible` if it cannot be read."""
    # The guard first: the ledger is durable before the guard, so from here it can only be ahead.
    note = read_guard(guard_file)
    with snapshot(ledger_file) as db:
        return audit_snapshot(db, note, trust=trust, stop_after=stop_after, progress=progress)


def audit_snapshot(
    db: sqlite3.Connection,
    guard_note: bytes | None,
    *,
    trust: Trust = Trust(),
    stop_after: int = STOP_AFTER,
    progress: Progress = lambda done, total: None,
    steps: Steps = Steps(),
) -> Report:
    """Check the ledger that a connection of `snapshot` shows."""
    book = Book(stop_after)
    try:
        _Audit(db, guard_note, trust, book, progress, steps).run()
    except Enough:
        book.report.complete = False
        book.report.notes.append(f"stopped after {stop_after} findings")
    return book.report


@contextmanager
def snapshot(ledger_file: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger read-only, in one read transaction; raises `AuditImpossible`."""
    if not ledger_file.is_file():
        msg = f"{ledger_file} is no file"
        raise AuditImpossible(msg)
    try:
        db = _open(ledger_file)
    except sqlite3.Error as error:
        msg = f"{ledger_file} cannot be read as a database: {error}"
        raise AuditImpossible(msg) from error
    try:
        yield db
    finally:
        db.close()


def read_guard(path: Path) -> bytes | None:
    """Return the guard's note, or None without a file; raises `AuditImpossible`.

    The service overwrites it in place: a note is taken once two readings agree.
    """
    try:
        note = b""
        for _ in range(10):
            last, note = note, path.read_bytes()[:GUARD_BYTES]
            if note == last:
                break
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise AuditImpossible(msg) from error
    return note


def _open(ledger_file: Path) -> sqlite3.Connection:
    uri = ledger_file.absolute().as_uri()
    try:
        return _begin(f"{uri}?mode=ro")
    except sqlite3.OperationalError:
        if ledger_file.with_name(ledger_file.name + "-wal").exists():
            raise
        # On a read-only medium SQLite cannot make its lock files; without a WAL none are needed.
        return _begin(f"{uri}?mode=ro&immutable=1")


def _begin(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    # Damaged text is to be seen and reported, not to stop the reading.
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


@dataclass(slots=True)
class _Audit:
    db: sqlite3.Connection
    guard_note: bytes | None
    trust: Trust
    book: Book
    progress: Progress
    steps: Steps
    keys: LogKeys | None = None
    guard: Checkpoint | None = None
    unreadable: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Make every check; what cannot be read is a finding, and the rest goes on."""
        report = self.book.report
        with self._readable("the events"):
            report.size = self.db.execute("SELECT count(*) FROM stored_events").fetchone()[0]
        with self._readable("the log's own stream"):
            self.keys = keys.keys_of(self._log_events())
        self._trust_roots()
        self._open_guard()
        with self._readable("the events by position"):
            self._by_position()
        with self._readable("the events by stream"):
            self._by_stream()
        with self._readable("the file"):
            self.book.note("C00", c00_file(self.db))

    def _log_events(self) -> Iterator[tuple[int, entries.Parts]]:
        query = (
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " ORDER BY originator_version"
        )
        for position, entry in self.db.execute(query, (stream_key(LOG_STREAM),)):
            opened = self.steps.open_entry(entry) if type(entry) is bytes else None
            if opened is not None and opened.parts is not None:
                yield position, opened.parts

    def _trust_roots(self) -> None:
        if self.keys is None:
            self.book.note("C04", ["the ledger does not begin with its genesis"])
            return
        self.book.note("C04", keys.c04_pinned(self.keys, self.trust))
        for name, pinned in (("log key", self.trust.log_vkey), ("wallet", self.trust.wallet)):
            if pinned is None:
                self.book.report.notes.append(f"the {name} is the genesis's own word, not pinned")

    def _open_guard(self) -> None:
        """Take the guard's word early: a shorter ledger is the most likely damage of all."""
        if self.guard_note is None:
            self.book.note("C18", ["the guard file is missing"])
            return
        if self.keys is None:
            return
        try:
            self.guard = tree.c18_guard_signed(
                self.guard_note, self.keys.log_keys(), self.keys.genesis.origin
            )
        except VerificationError as error:
            self.book.note("C18", [error.message])
            return
        self.book.note("C18", ())
        self.book.note("C19", tree.c19_not_shorter(self.guard, self.book.report.size))

    def _by_position(self) -> None:
        replay = _PositionPass(self)
        query = (
            "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
            " ORDER BY rowid"
        )
        for row in self.db.execute(query):
            replay.add(row)
        replay.end()

    def _by_stream(self) -> None:
        size = self.book.report.size
        streams = StreamPass(self.db, self.book, self.steps.verify, self.steps.read_link)
        seen = streams.run(self.unreadable, lambda done: self.progress(size + done, 2 * size))
        if seen != size:
            self.book.note("C00", [f"{seen} events are found by stream, {size} by position"])

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.book.note("C00", [f"{what} cannot be read: {error}"])


class _PositionPass:
    """Checks C01 to C05, C09, C10, C18 to C21 and C30, row by row."""

    def __init__(self, audit: _Audit) -> None:
        self._audit = audit
        self._note = audit.book.note
        self._expected = 0
        self._last_at = UnixMs(0)
        self._last_base: list[TreeHead] = []
        self._closed_at: int | None = None
        self._tree = tree.TreeReplay(audit.db, self._full_tile)
        self._tiles = 0

    def add(self, row: tuple[object, ...]) -> None:
        """Check the next row."""
        self._expected += 1
        position, entry = self._expected, row[4]
        self._note("C30", entries.c30_position(row[0], position), position)
        opened = self._audit.steps.open_entry(entry) if type(entry) is bytes else _NO_BYTES
        self._tree_head()
        if opened.parts is None:
            self._audit.unreadable.add(row[0] if isinstance(row[0], int) else 0)
            check, message = opened.problem or ("C01", "no entry")
            self._note(check, [message], position)
        else:
            self._entry(row[1:4], opened.parts, position)
        self._tree.add(opened.leaf)
        self._audit.progress(position, 2 * self._audit.book.report.size)

    def end(self) -> None:
        """Compare what only the whole log shows."""
        db, note = self._audit.db, self._note
        self._tree_head()
        for level, index, hashes in self._tree.open_tiles():
            note("C05", tree.c05_tile(db, level, index, hashes))
        note("C05", tree.c05_no_other_tiles(db, self._tree.size))
        note("C05", tree.c05_frontier(db, self._tree))

    def _entry(self, columns: tuple[object, ...], parts: entries.Parts, position: int) -> None:
        envelope, verify = parts.envelope, self._audit.steps.verify
        note = partial(self._note, position=position, stream=envelope.stream)
        for check in ("C01", "C02"):
            note(check, ())
        note("C30", entries.c30_columns(columns, envelope))
        note("C04", entries.c04_signature(parts, verify))
        note("C04", keys.c04_genesis(position, parts))
        log_keys = self._audit.keys
        if log_keys is not None:
            note("C03", entries.c03_origin(envelope, log_keys.genesis.origin))
            note("C04", keys.c04_authority(log_keys, parts.sig.by, position))
            note("C04", keys.c04_key_texts(log_keys, parts, verify))
        note("C08", c08_nothing_after_the_end(self._closed_at))
        note("C09", tree.c09_base(envelope.base, position, self._tree))
        note("C21", tree.c21_one_root(self._last_base, envelope.base))
        note("C10", entries.c10_time(parts.at, self._last_at))
        self._last_base = [envelope.base]
        self._last_at = max(self._last_at, parts.at)
        if isinstance(parts.event, LogClosed):
            self._closed_at = position

    def _tree_head(self) -> None:
        """Compare the guard's head when the tree has its size."""
        guard = self._audit.guard
        if guard is not None and guard.size == self._tree.size:
            self._note("C20", tree.c20_signed_root(guard, self._tree.root(guard.size)))

    def _full_tile(self, level: int, index: int, hashes: bytes) -> None:
        self._note("C05", tree.c05_tile(self._audit.db, level, index, hashes))


_NO_BYTES: Final = Opened(bytes(32), problem=("C01", "the entry is not stored as bytes"))


def c00_file(db: sqlite3.Connection) -> Iterator[str]:
    """C00: SQLite finds its pages, indexes and columns in order."""
    for (line,) in db.execute("PRAGMA integrity_check(10)"):
        if line != "ok":
            yield str(line)
