"""Where an audit reads from: one snapshot of the database file, and the guard file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

GUARD_BYTES: Final = 1 << 20
GUARD_READINGS: Final = 10


class AuditImpossible(Exception):
    """The ledger cannot be opened at all, so nothing can be said of it."""


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


def c00_file(db: sqlite3.Connection) -> Iterator[str]:
    """C00: SQLite finds its pages, indexes and columns in order."""
    for (line,) in db.execute("PRAGMA integrity_check(10)"):
        if line != "ok":
            yield str(line)
