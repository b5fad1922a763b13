"""The audit: the ledger replayed from its bytes; what can be recomputed is not believed.

It reads the database file and the guard file, never the service's own objects, so it can run while
the service writes and on a copy without it. One pass goes by position (entries, keys, tree), one by
stream (orders, money, signatures, content); memory does not grow with the number of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger import audit_keys as keys
from ledger import audit_tree as tree
from ledger.audit_content import Content
from ledger.audit_entries import Parts
from ledger.audit_expiry import check_chain
from ledger.audit_fold import Fold
from ledger.audit_held import Judge
from ledger.audit_keys import LogKeys, Trust
from ledger.audit_others import NO_EVIDENCE, Evidence, Others, c16_heads
from ledger.audit_positions import Known, PositionPass, Steps
from ledger.audit_report import Book, Enough, Report
from ledger.audit_source import c00_file, read_guard, snapshot
from ledger.audit_streams import StreamPass
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.values import LOG_STREAM, stream_key

STOP_AFTER: Final = 1000
NO_TRUST: Final = Trust()
ALL_STEPS: Final = Steps()

Progress = Callable[[int, int], None]
"""Called with how many rows were read, and how many there are: each event is read twice."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def audit(
    ledger_file: Path,
    guard_file: Path,
    *,
    trust: Trust = NO_TRUST,
    stop_after: int = STOP_AFTER,
    progress: Progress = no_progress,
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
    trust: Trust = NO_TRUST,
    stop_after: int = STOP_AFTER,
    progress: Progress = no_progress,
    steps: Steps = ALL_STEPS,
    evidence: Evidence = NO_EVIDENCE,
    fold: Fold | None = None,
) -> Report:
    """Check the ledger that a connection shows; None stands for a guard file that is missing.

    Without `evidence` from elsewhere only the provider's own word is checked. `fold` is another
    process that folds the streams of the same snapshot.
    """
    book = Book(stop_after)
    try:
        _Audit(db, guard_note, trust, book, progress, steps, evidence, fold).run()
    except Enough:
        book.report.complete = False
        book.report.notes.append(f"the audit stopped after {stop_after} findings")
    return book.report


class _Audit:
    def __init__(
        self,
        db: sqlite3.Connection,
        guard_note: bytes | None,
        trust: Trust,
        book: Book,
        progress: Progress,
        steps: Steps,
        evidence: Evidence,
        fold: Fold | None,
    ) -> None:
        self._fold = fold
        self._evidence = evidence
        self._db = db
        self._guard_note = guard_note
        self._trust = trust
        self._book = book
        self._progress = progress
        self._steps = steps
        self._size = 0

    def run(self) -> None:
        """Make every check; what cannot be read is a finding, and the rest goes on."""
        log_keys: LogKeys | None = None
        others = Others(self._book, self._evidence)
        unreadable: set[object] = set()
        with self._readable("the table of events"):
            self._size = self._db.execute("SELECT count(*) FROM stored_events").fetchone()[0]
            self._book.report.size = self._size
        with self._readable("the log's own stream"):
            log_keys = keys.keys_of(self._log_events())
        self._trust_roots(log_keys)
        guard = self._guard(log_keys)
        if log_keys is not None:
            others.read(log_keys.genesis.origin, log_keys.every("log"))
        known = Known(
            others.roots,
            others.windows if others.seen else None,
            self._evidence.absent,
            halved=self._fold is not None,
        )
        with self._readable("the log by position"):
            positions = PositionPass(self._db, self._book, self._steps, log_keys, guard, known)
            unreadable = positions.unreadable
            passes = 2 if self._fold is None else 1
            positions.run(lambda done: self._progress(done, passes * self._size))
            self._compare(log_keys, others, positions)
        with self._readable("the log by stream"):
            self._by_stream(unreadable)
        if self._evidence.nodes is not None:
            with self._readable("the money in the log"):
                check_chain(self._db, self._book, self._evidence.nodes, unreadable)
        with self._readable("the file"):
            self._book.note("C00", c00_file(self._db))

    def _log_events(self) -> Iterator[tuple[int, Parts]]:
        query = (
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " ORDER BY originator_version"
        )
        for position, entry in self._db.execute(query, (stream_key(LOG_STREAM),)):
            parts = self._steps.open_entry(entry).parts if type(entry) is bytes else None
            if parts is not None:
                yield position, parts

    def _trust_roots(self, log_keys: LogKeys | None) -> None:
        if log_keys is None:
            self._book.note("C04", ["the ledger does not begin with its genesis"])
            return
        self._book.note("C04", keys.c04_pinned(log_keys, self._trust))
        for name, pinned, said in (
            ("log key", self._trust.log_vkey, log_keys.genesis.log_key),
            ("wallet", self._trust.wallet, log_keys.genesis.wallet),
        ):
            if pinned is None:
                self._book.report.notes.append(f"{name} not pinned; the genesis says {said}")

    def _guard(self, log_keys: LogKeys | None) -> Checkpoint | None:
        """Take the guard's word early: a ledger put back from a backup shows here first."""
        if self._guard_note is None:
            self._book.note("C18", ["the guard file is missing"])
            return None
        if log_keys is None:
            return None
        origin = log_keys.genesis.origin
        try:
            guard = tree.c18_guard_signed(self._guard_note, log_keys.log_keys(), origin)
        except VerificationError as error:
            self._book.note("C18", [error.message])
            return None
        self._book.note("C18", ())
        self._book.note("C19", tree.c19_not_shorter(guard, self._size))
        return guard

    def _compare(self, log_keys: LogKeys | None, others: Others, positions: PositionPass) -> None:
        """Compare the log with what others kept of it."""

        def root_at(size: int) -> bytes:
            try:
                return positions.root_at(size)
            except VerificationError:
                return b""  # tiles are missing, as C05 says: no root is the one that is asked for

        c16_heads(self._db, self._book, positions.unreadable, self._size, root_at)
        if log_keys is None:
            return
        judge = Judge(
            db=self._db,
            wallets=frozenset(log_keys.every("wallet")),
            size=self._size,
            root_at=root_at,
            verify=self._steps.verify,
        )
        others.compare(judge, self._steps.open_entry)

    def _by_stream(self, unreadable: set[object]) -> None:
        folded = None if self._fold is None or unreadable else self._fold.result()
        seen = self._fold_here(unreadable) if folded is None else folded[1]
        if folded is not None:
            self._book.add(folded[0])
        if seen != self._size:
            self._book.note("C00", [f"{seen} events are found by stream, {self._size} by position"])

    def _fold_here(self, unreadable: set[object]) -> int:
        steps = self._steps
        streams = StreamPass(
            self._db,
            self._book,
            steps.verify,
            steps.read_link,
            self._content(),
            signatures=self._fold is not None,
        )
        size = self._size
        return streams.run(unreadable, lambda done: self._progress(size + done, 2 * size))

    def _content(self) -> Content | None:
        if self._evidence.content is not None:
            return Content(self._evidence.content)
        return None if "content" in self._evidence.absent else Content(self._db)

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._book.note("C00", [f"{what} cannot be read: {error}"])
