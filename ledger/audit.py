"""The audit: the ledger replayed from its bytes; what can be recomputed is not believed.

It reads the database file and the guard file, never the service's own objects, so it can run while
the service writes and on a copy without it. Every entry is opened once, in a pass by stream, which
two processes may share; a short pass by position makes the tree of all entries. Memory does not
grow with the number of events.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger import audit_keys as keys
from ledger import audit_texts as texts
from ledger import audit_tree as tree
from ledger.audit_content import Content, c27_no_other_rows
from ledger.audit_entries import Parts
from ledger.audit_expiry import check_chain
from ledger.audit_fold import Fold, Part
from ledger.audit_held import Judge
from ledger.audit_keys import LogKeys, Trust
from ledger.audit_money import c12_no_other_claims
from ledger.audit_others import NO_EVIDENCE, Evidence, Others, c16_heads
from ledger.audit_positions import Known, PositionPass
from ledger.audit_report import Book, Enough, Report
from ledger.audit_source import c00_file, read_guard, snapshot
from ledger.audit_span import EVERY_STREAM, Folded, Span
from ledger.audit_streams import ALL_STEPS, Steps, StreamPass
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.values import LOG_STREAM, stream_key

STOP_AFTER: Final = 1000
OWN_PART: Final = 0.46
"""How many of the streams the first of two processes judges: it alone reads by position, too."""

COLLECT_AFTER: Final = 100_000
NO_TRUST: Final = Trust()

Progress = Callable[[int, int], None]
"""Called now and then with how many rows were read, and how many there are to be read."""


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
    process that judges a part of the streams of the same snapshot.
    """
    book = Book(stop_after)
    try:
        with _rare_collections():
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
        self._folded = Folded()

    def run(self) -> None:
        """Make every check; what cannot be read is a finding, and the rest goes on."""
        log_keys: LogKeys | None = None
        others = Others(self._book, self._evidence)
        with self._readable("the table of events"):
            self._size = self._db.execute("SELECT count(*) FROM stored_events").fetchone()[0]
            self._book.report.size = self._size
        with self._readable("the log's own stream"):
            log_keys = keys.keys_of(self._log_events())
        with self._readable("the log's first keys"):
            self._trust_roots(log_keys)
        guard = self._guard(log_keys)
        if log_keys is not None:
            genesis = log_keys.genesis
            others.read(genesis.origin, log_keys.every("log"), genesis.continues)
        mine = self._divided(log_keys)
        with self._readable("the log by stream"):
            self._judge(mine, log_keys)
        known = Known(others.roots, others.windows if others.seen else None, self._evidence.absent)
        positions = PositionPass(self._db, self._book, guard, known)
        with self._readable("the log by position"):
            done = self._folded.seen
            positions.run(lambda more: self._progress(done + more, done + self._size))
        with self._readable("the file"):
            self._book.note("C00", c00_file(self._db))
        with self._readable("the log by stream"):
            self._rest(mine, log_keys)
        with self._readable("the log compared with what others hold"):
            self._compare(log_keys, others, positions)
        if self._evidence.nodes is not None:
            with self._readable("the money in the log"):
                check_chain(self._db, self._book, self._evidence.nodes, self._folded.unreadable)

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
        heads = [
            self._guard_note or b"",
            *((h.checkpoint or "").encode() for h in self._evidence.held),
        ]
        notes = [head.decode("utf-8", "replace") for head in heads]
        has_signed = texts.signed_in(self._db, log_keys)
        self._book.note("C04", texts.c04_pinned(log_keys, self._trust, notes, has_signed))
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

        c16_heads(self._db, self._book, self._folded.unreadable, self._size, root_at)
        if log_keys is None:
            return
        judge = Judge(
            db=self._db,
            wallets=frozenset(log_keys.every("wallet")),
            size=self._size,
            root_at=root_at,
            verify=self._steps.verify,
            origin=log_keys.genesis.origin,
        )
        others.compare(judge, self._steps.open_entry)

    def _divided(self, log_keys: LogKeys | None) -> Span:
        """Give the other process its part of the streams, and return the part that is left."""
        if self._fold is None:
            return EVERY_STREAM
        query = "SELECT originator_id FROM stored_events ORDER BY originator_id LIMIT 1 OFFSET ?"
        row = self._db.execute(query, (int(self._size * OWN_PART),)).fetchone()
        if row is None or type(row[0]) is not str:
            self._fold = None
            return EVERY_STREAM
        content = "content" not in self._evidence.absent
        rest = Span(first=row[0])
        self._fold.begin(Part(rest, log_keys, content, self._book.stop_after))
        return Span(end=row[0])

    def _judge(self, span: Span, log_keys: LogKeys | None) -> None:
        streams = StreamPass(self._db, self._book, log_keys, self._content(), self._steps)
        before = self._folded.seen
        try:
            streams.run(span, lambda done: self._progress(before + done, 2 * self._size))
        finally:
            self._folded.add(streams.folded)

    def _rest(self, mine: Span, log_keys: LogKeys | None) -> None:
        """Take over what the other process found, or do its part; then what needs every stream."""
        if self._fold is not None:
            found = self._fold.result()
            if found is None:
                self._judge(Span(first=mine.end), log_keys)
            else:
                self._folded.add(found[1])
                self._book.add(found[0])
        seen, size = self._folded.seen, self._size
        if seen != size:
            self._book.note("C00", [f"{seen} events are found by stream, {size} by position"])
        self._book.note("C12", c12_no_other_claims(self._db, self._folded.claims))
        content = self._content()
        if content is not None:
            self._book.note("C27", c27_no_other_rows(content.db, self._folded.content))

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


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles seldom: an audit makes many objects, and hardly one of them is in a cycle."""
    thresholds = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
