"""The audit: the ledger replayed from its bytes; what can be recomputed is not believed.

It reads the database file and the guard file, never the service's own objects, so it can run while
the service writes and on a copy without it. One pass goes by position (entries, keys, tree), one by
stream (orders, money, signatures, content); memory does not grow with the number of events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ledger import audit_keys as keys
from ledger import audit_tree as tree
from ledger.audit_entries import Parts
from ledger.audit_held import Held, Judge
from ledger.audit_keys import LogKeys, Trust
from ledger.audit_positions import PositionPass, Steps
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
    held: Sequence[Held] = (),
) -> Report:
    """Check the ledger that a connection shows; None stands for a guard file that is missing.

    `held` is what others kept of the log; without it only the provider's own word is checked.
    """
    book = Book(stop_after)
    try:
        _Audit(db, guard_note, trust, book, progress, steps, held).run()
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
        held: Sequence[Held],
    ) -> None:
        self._held = held
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
        unreadable: set[object] = set()
        with self._readable("the table of events"):
            self._size = self._db.execute("SELECT count(*) FROM stored_events").fetchone()[0]
            self._book.report.size = self._size
        with self._readable("the log's own stream"):
            log_keys = keys.keys_of(self._log_events())
        self._trust_roots(log_keys)
        guard = self._guard(log_keys)
        with self._readable("the log by position"):
            positions = PositionPass(self._db, self._book, self._steps, log_keys, guard)
            unreadable = positions.unreadable
            positions.run(lambda done: self._progress(done, 2 * self._size))
            self._compare_held(log_keys, positions)
        with self._readable("the log by stream"):
            self._by_stream(unreadable)
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

    def _compare_held(self, log_keys: LogKeys | None, positions: PositionPass) -> None:
        """Compare the log with what others kept of it."""
        if log_keys is None or not self._held:
            return
        judge = Judge(
            db=self._db,
            origin=log_keys.genesis.origin,
            log_keys=log_keys.every("log"),
            wallets=frozenset(log_keys.every("wallet")),
            size=self._size,
            root_at=positions.root_at,
            verify=self._steps.verify,
        )
        roots: dict[int, bytes] = {}
        for held in self._held:
            self._judge(judge, held, roots)

    def _judge(self, judge: Judge, held: Held, roots: dict[int, bytes]) -> None:
        note = self._book.note
        try:
            checkpoint = judge.checkpoint_of(held)
        except VerificationError as error:
            note("C18", [f"{held.source}: {error.message}"])
            checkpoint = None
        heads = [] if checkpoint is None else [(checkpoint.size, checkpoint.root)]
        if held.root is not None:
            heads.append((held.root.size, bytes.fromhex(held.root.root)))
        for size, root in heads:
            note("C19", judge.c19_not_larger(held, size))
            note("C20", judge.c20_root(held, size, root))
            note("C21", tree.c21_two_roots(held.source, roots.setdefault(size, root), root, size))
        note("C26", judge.c26_order_head(held))
        if held.entry is None:
            return
        parts = self._steps.open_entry(held.entry).parts
        if parts is None:
            note("C24", [f"{held.source}: the event that is held cannot be read"])
            return
        foreign = list(judge.signed_by_us(held, parts))
        note("C24", foreign)
        if not foreign:
            note("C23", judge.c23_acknowledged(held))
            note("C24", judge.c24_in_the_log(held, parts))
            note("C25", judge.c25_base(held, parts))

    def _by_stream(self, unreadable: set[object]) -> None:
        streams = StreamPass(self._db, self._book, self._steps.verify, self._steps.read_link)
        size = self._size
        seen = streams.run(unreadable, lambda done: self._progress(size + done, 2 * size))
        if seen != size:
            self._book.note("C00", [f"{seen} events are found by stream, {size} by position"])

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._book.note("C00", [f"{what} cannot be read: {error}"])
