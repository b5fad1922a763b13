"""The record of a witness: the newest checkpoint that it cosigned of each log, in one SQLite file.

The record is what a witness is worth. Lost, or put back from a backup, it would let the witness
cosign a second history; so it is made once and never silently again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ledger.errors import Misconfigured

BUSY_SECONDS: Final = 5.0
"""How long to wait for another process that writes the same record."""

_TABLE: Final = (
    "CREATE TABLE cosigned (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,"
    " at INTEGER NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID"
)
_SELECT: Final = "SELECT size, root, at, note FROM cosigned WHERE origin=?"
_UPSERT: Final = (
    "INSERT INTO cosigned (origin, size, root, at, note) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (origin) DO UPDATE SET size=excluded.size, root=excluded.root, at=excluded.at,"
    " note=excluded.note"
)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint as it was cosigned, at a Unix second; `note` has the log's signatures too."""

    size: int
    root: bytes
    at: int
    note: str


class WitnessState:
    """One open record. For one thread at a time; `sqlite3.Error` passes."""

    def __init__(self, path: Path) -> None:
        """Open a record that exists, or raise `Misconfigured`."""
        try:
            self._connection = _connect(path)
        except sqlite3.Error as error:
            raise Misconfigured(f"{path} cannot be opened as a witness's state: {error}") from error

    @staticmethod
    def look(path: Path) -> tuple[bool, bool]:
        """Return whether there is a record, and whether anything was cosigned in it.

        A file without a record is what a crash leaves while one is made.
        """
        if not path.exists():
            return False, False
        with WitnessState(path) as state:
            return state._look()

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty record; durable on return. There must be none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with WitnessState(path) as state:
            state._connection.execute(_TABLE)

    def _look(self) -> tuple[bool, bool]:
        query = "SELECT count(*) FROM sqlite_schema WHERE name='cosigned'"
        [(made,)] = self._connection.execute(query).fetchall()
        if not made:
            return False, False
        [(used,)] = self._connection.execute("SELECT count(*) FROM cosigned").fetchall()
        return True, bool(used)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def known(self, origin: str) -> Cosigned | None:
        """Return the newest checkpoint that was cosigned of a log; None of none."""
        row = self._connection.execute(_SELECT, (origin,)).fetchone()
        return Cosigned(*row) if row is not None else None

    def advance(self, origin: str, decide: Callable[[Cosigned | None], Cosigned]) -> Cosigned:
        """Record what `decide` makes of the newest one, and return it; durable on return.

        Nobody else, in this process or another, reads or writes in between. If `decide` raises,
        nothing changes.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            new = decide(self.known(origin))
            self._connection.execute(_UPSERT, (origin, new.size, new.root, new.at, new.note))
            # A crash before this commit leaves the old checkpoint, and the new signature has not
            # left this process. After it the new one stands, whether or not anybody got its
            # signature: the log asks again, and goes on from what is recorded. Where the commit
            # fails, nobody can say which; the next read asks the file.
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # where the commit failed, it may be over already
                self._connection.execute("ROLLBACK")
            raise
        return new


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # A commit is on the disk when it returns, also where a file system allows no WAL. Never
        # less: the answer follows at once.
        connection.execute("PRAGMA synchronous=EXTRA")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
