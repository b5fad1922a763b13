"""The client's own file: what it has seen of each log, and how far each purchase is.

One SQLite file; what is written is on the disk when the call returns. It belongs on a disk that is
kept: it holds the evidence, and the transactions that were signed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

BUSY_SECONDS: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS services (
    url TEXT PRIMARY KEY, origin TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS logs (
    origin TEXT PRIMARY KEY, keys TEXT NOT NULL,
    size INTEGER NOT NULL, root TEXT NOT NULL, note TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
    origin TEXT NOT NULL, position INTEGER NOT NULL, leaf TEXT NOT NULL, entry TEXT NOT NULL,
    PRIMARY KEY (origin, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forks (
    origin TEXT PRIMARY KEY, held TEXT NOT NULL, shown TEXT NOT NULL, reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS purchases (
    reference TEXT PRIMARY KEY, version INTEGER NOT NULL, url TEXT NOT NULL, order_id TEXT UNIQUE,
    state TEXT NOT NULL, body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""


class Store:
    """One open file, for one thread. Several processes may have it open."""

    def __init__(self, path: Path | str) -> None:
        # Order ids are secrets, and signed transactions are nobody else's to send.
        Path(path).touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A commit is on the disk when it returns: a signed transaction leaves right after.
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Return what a query finds."""
        return self._connection.execute(query, values).fetchall()

    def write(self, statement: str, *values: object) -> int:
        """Change rows durably and return how many."""
        return self._connection.execute(statement, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes of a block one, which no other process sees or interrupts."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
