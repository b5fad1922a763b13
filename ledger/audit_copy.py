"""A ledger file made of what a live service shows: entries and tiles, and the claims that follow.

What it does not show stays out: content, the frontier, and its own table of claims.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ledger.audit_entries import open_entry
from ledger.batch import claims_of
from ledger.values import stream_key

ABSENT: Final = frozenset({"content", "claims", "frontier"})

_SCHEMA: Final = """
    CREATE TABLE stored_events (originator_id TEXT, originator_version INTEGER, topic TEXT,
        state BLOB, PRIMARY KEY (originator_id, originator_version));
    CREATE TABLE tiles (level INTEGER, tile_index INTEGER, hashes BLOB,
        PRIMARY KEY (level, tile_index));
    CREATE TABLE claims (chain TEXT, tx_hash TEXT, ordinal INTEGER, stream TEXT, position INTEGER,
        PRIMARY KEY (chain, tx_hash, ordinal)) WITHOUT ROWID;
"""
_EVENT: Final = (
    "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)"
    " VALUES (?,?,?,?,?)"
)
# The first claim of a transfer stands, so that the second one is found.
_CLAIM: Final = "INSERT OR IGNORE INTO claims VALUES (?,?,?,?,?)"


class LedgerCopy:
    """A fresh file that an audit can read; it belongs to whoever makes it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA synchronous=OFF")  # it is thrown away after the audit
        self._db.execute("BEGIN")
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)

    def add_entries(self, placed: Iterable[tuple[int, bytes]]) -> None:
        """Add entries at their positions.

        One that cannot be read, or repeats another, is left to the audit to name.
        """
        for position, entry in placed:
            parts = open_entry(entry).parts
            stray = (position, f"unreadable {position}", 1, "", entry)
            if parts is None:
                self._db.execute(_EVENT, stray)
                continue
            signed = parts.signed
            row = (position, stream_key(signed.stream), signed.seq, signed.event.kind, entry)
            try:
                self._db.execute(_EVENT, row)
            except sqlite3.IntegrityError:
                self._db.execute(_EVENT, stray)
            for key in claims_of(signed.event):
                self._db.execute(_CLAIM, (*key, signed.stream, position))

    def add_tile(self, level: int, index: int, hashes: bytes) -> None:
        """Add a tile of hashes as it was served."""
        self._db.execute("INSERT INTO tiles VALUES (?,?,?)", (level, index, hashes))

    def close(self) -> None:
        """Make it whole."""
        self._db.execute("COMMIT")
        self._db.close()
