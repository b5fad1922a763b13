"""A part of the streams judged in a second process, while the first one judges the rest.

Both see the same moment: events are only ever added, and content goes only with an event, so two
snapshots of one size are one. If they cannot be had, or the second process ends early, the first
one does all of the work.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Final

from ledger.audit_content import Content
from ledger.audit_keys import LogKeys
from ledger.audit_report import Book, Enough, Report
from ledger.audit_source import AuditImpossible, snapshot
from ledger.audit_span import Folded, Span
from ledger.audit_streams import StreamPass

WORTH_IT: Final = 20_000
"""Below so many events an audit takes about a second by itself."""

ATTEMPTS: Final = 5
START_SECONDS: Final = 60
_COUNT: Final = "SELECT count(*) FROM stored_events"
_AGAIN: Final = "again"


@dataclass(frozen=True, slots=True)
class Part:
    """What the other process is asked to judge, and by which keys."""

    span: Span
    log_keys: LogKeys | None
    content: bool
    stop_after: int


class Fold:
    """The other process's side of an audit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, part: Part) -> None:
        """Set it to work."""
        try:
            self._connection.send(part)
        except OSError:
            return  # it has ended: there will be no result

    def result(self) -> tuple[Report, Folded] | None:
        """Wait for it; return what it found and left behind, or None if it could not."""
        try:
            found = self._connection.recv()
        except (EOFError, OSError):
            return None
        return found if isinstance(found, tuple) else None


@contextmanager
def beside(ledger_file: Path) -> Iterator[tuple[sqlite3.Connection, Fold | None]]:
    """Give a snapshot, and another process with that very snapshot if that can be had."""
    with ExitStack() as stack:
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(  # type: ignore[attr-defined]  # every real context has it
            target=_child, args=(theirs, ours, ledger_file), daemon=True
        )
        process.start()
        theirs.close()
        stack.callback(process.join)
        stack.callback(process.terminate)
        stack.callback(ours.close)
        db, same = _same_moment(ours, ledger_file, stack)
        yield db, Fold(ours) if same else None


def _context() -> BaseContext:
    """Copy this process where it is alone in itself: a copy is there at once."""
    alone = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context("fork" if alone else "spawn")


def _same_moment(
    ours: Connection, ledger_file: Path, stack: ExitStack
) -> tuple[sqlite3.Connection, bool]:
    """Open the ledger when it has the size that the other process sees."""
    for attempt in range(ATTEMPTS):
        size = ours.recv() if ours.poll(START_SECONDS) else None
        opened = ExitStack()
        db = opened.enter_context(snapshot(ledger_file))
        if db.execute(_COUNT).fetchone()[0] == size:
            stack.push(opened)
            return db, True
        opened.close()
        if size is None or attempt == ATTEMPTS - 1:
            break
        ours.send(_AGAIN)
    return stack.enter_context(snapshot(ledger_file)), False


def _child(theirs: Connection, ours: Connection, ledger_file: Path) -> None:
    ours.close()  # else a copied process would wait for itself when the first one ends
    with theirs:
        try:
            said: object = _AGAIN
            while said == _AGAIN:
                with snapshot(ledger_file) as db:
                    theirs.send(db.execute(_COUNT).fetchone()[0])
                    said = theirs.recv()
                    if isinstance(said, Part):
                        theirs.send(_judged(db, said))
        except (EOFError, OSError, AuditImpossible):
            return  # the first process has ended, or does it all by itself


def _judged(db: sqlite3.Connection, part: Part) -> tuple[Report, Folded]:
    book = Book(part.stop_after)
    streams = StreamPass(db, book, part.log_keys, Content(db) if part.content else None)
    try:
        streams.run(part.span, lambda _: None)
    except Enough:
        pass  # the first process comes to its limit by these findings
    except sqlite3.Error as error:
        book.note("C00", [f"the log by stream cannot be read: {error}"])
    return book.report, streams.folded
