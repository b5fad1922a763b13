"""The streams folded in a second process, while the first one reads the log by position.

Both see the same moment: events are only ever added, and content goes only with an event, so two
snapshots of one size are one. If they cannot be had, or anything goes wrong in the second process,
the audit folds the streams itself, after the first pass.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from ledger.audit_content import Content
from ledger.audit_report import Book, Enough, Report
from ledger.audit_source import AuditImpossible, snapshot
from ledger.audit_streams import StreamPass
from ledger.errors import LedgerError
from ledger.signing import verify_signature

WORTH_IT: Final = 20_000
"""Below so many events the second process would not be up before the first one is done."""

ATTEMPTS: Final = 5
START_SECONDS: Final = 60
_COUNT: Final = "SELECT count(*) FROM stored_events"
_AGAIN: Final = "again"
_GO: Final = "go"


class Fold:
    """The other process's side of an audit; `result` waits for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def result(self) -> tuple[Report, int] | None:
        """Return what it found and how many events it saw, or None if it could not."""
        try:
            found = self._connection.recv()
        except (EOFError, OSError):
            return None
        return found if isinstance(found, tuple) else None


@contextmanager
def beside(
    ledger_file: Path, *, content: bool, stop_after: int
) -> Iterator[tuple[sqlite3.Connection, Fold | None]]:
    """Give a snapshot, and a fold of that very snapshot in another process if that can be had."""
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, ledger_file, content, stop_after)
        process = context.Process(target=_child, args=arguments, daemon=True)
        process.start()
        theirs.close()
        stack.callback(process.join)
        stack.callback(process.terminate)
        stack.callback(ours.close)
        db, same = _same_moment(ours, ledger_file, stack)
        yield db, Fold(ours) if same else None


def _same_moment(
    ours: Connection, ledger_file: Path, stack: ExitStack
) -> tuple[sqlite3.Connection, bool]:
    """Open the ledger when it has the size that the other process sees."""
    for _ in range(ATTEMPTS):
        size = ours.recv() if ours.poll(START_SECONDS) else None
        attempt = ExitStack()
        db = attempt.enter_context(snapshot(ledger_file))
        if db.execute(_COUNT).fetchone()[0] == size:
            stack.push(attempt)
            ours.send(_GO)
            return db, True
        attempt.close()
        if size is None:
            break
        ours.send(_AGAIN)
    return stack.enter_context(snapshot(ledger_file)), False


def _child(theirs: Connection, ledger_file: Path, content: bool, stop_after: int) -> None:  # noqa: FBT001 - positional for the other process
    with theirs:
        try:
            said = _AGAIN
            while said == _AGAIN:
                with snapshot(ledger_file) as db:
                    theirs.send(db.execute(_COUNT).fetchone()[0])
                    said = theirs.recv()
                    if said == _GO:
                        theirs.send(_folded(db, content=content, stop_after=stop_after))
        except (EOFError, OSError, AuditImpossible):
            return  # the first process has ended, or does it all by itself


def _folded(db: sqlite3.Connection, *, content: bool, stop_after: int) -> tuple[Report, int] | None:
    book = Book(stop_after)
    table = Content(db) if content else None
    streams = StreamPass(db, book, verify_signature, content=table, signatures=True)
    try:
        seen = streams.run(frozenset(), lambda _: None)
    except (Enough, sqlite3.Error, LedgerError, ValueError, KeyError, TypeError):
        # An entry that is none, or a broken page: the first process finds it and goes around it.
        return None
    return book.report, seen
