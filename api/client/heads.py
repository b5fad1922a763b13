"""What a client has seen of each log: its keys, the newest head, every entry, and any fork.

A head only grows here, and only after it was proven to continue the kept one. That is the whole
worth of it: a provider that shows somebody another past finds this record in its way.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

from api.client.errors import AnswerRefused, ForkedLog
from api.client.store import Store
from ledger.checkpoint import Checkpoint
from ledger.values import UnixMs


@dataclass(frozen=True, slots=True)
class Head:
    """The newest head that was kept: size, root (32 bytes), and the signed note."""

    size: int
    root: bytes
    note: str

    @property
    def header(self) -> str:
        """The value of a `Ledger-Head` header."""
        return f"{self.size} {b64encode(self.root).decode()}"


class Heads:
    """The record of all logs in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def origin_of(self, url: str) -> str | None:
        """Return which log the service at a URL writes, if it was met before."""
        rows = self._store.rows("SELECT origin FROM services WHERE url=?", url)
        return str(rows[0][0]) if rows else None

    def meet(self, url: str, checkpoint: Checkpoint, note: str, keys: str) -> None:
        """Keep what is trusted from now on: the log of a URL, its keys, its first head."""
        origin = checkpoint.origin
        row = (origin, keys, checkpoint.size, checkpoint.root.hex(), note)
        with self._store.transaction():
            # Another process may have met the same log just now: its record stands.
            self._store.write("INSERT OR IGNORE INTO logs VALUES (?,?,?,?,?)", *row)
            self._store.write("INSERT OR IGNORE INTO services VALUES (?,?)", url, origin)

    def keys(self, origin: str) -> str | None:
        """Return the key events of a log as they were kept, in JSON; None of an unknown log."""
        rows = self._store.rows("SELECT keys FROM logs WHERE origin=?", origin)
        return str(rows[0][0]) if rows else None

    def keep_keys(self, origin: str, keys: str) -> None:
        """Keep the key events of a log, which were proven to carry on the kept ones."""
        self._store.write("UPDATE logs SET keys=? WHERE origin=?", keys, origin)

    def head(self, origin: str) -> Head:
        """Return the newest head of a log that was met."""
        [(size, root, note)] = self._store.rows(
            "SELECT size, root, note FROM logs WHERE origin=?", origin
        )
        return Head(int(str(size)), bytes.fromhex(str(root)), str(note))

    def advance(self, kept: Head, new: Checkpoint, note: str) -> bool:
        """Keep a head that continues the kept one; False if that is not the newest any more."""
        changed = self._store.write(
            "UPDATE logs SET size=?, root=?, note=? WHERE origin=? AND size=? AND root=?",
            new.size,
            new.root.hex(),
            note,
            new.origin,
            kept.size,
            kept.root.hex(),
        )
        return changed == 1

    def keep_entry(self, origin: str, position: int, leaf: bytes, entry: bytes) -> None:
        """Keep an entry that was proven to stand at a position."""
        row = (origin, position, leaf.hex(), entry.decode())
        self._store.write("INSERT OR IGNORE INTO entries VALUES (?,?,?,?)", *row)
        if self.entry(origin, position) != entry:
            raise AnswerRefused(f"another entry was proven to stand at position {position}")

    def entry(self, origin: str, position: int) -> bytes | None:
        """Return the entry at a position, if this client was handed it."""
        query = "SELECT entry FROM entries WHERE origin=? AND position=?"
        rows = self._store.rows(query, origin, position)
        return str(rows[0][0]).encode() if rows else None

    def entries(self, origin: str) -> list[tuple[int, str, str]]:
        """Return every entry that was handed over: position, leaf and text."""
        query = "SELECT position, leaf, entry FROM entries WHERE origin=? ORDER BY position"
        rows = self._store.rows(query, origin)
        return [(int(str(position)), str(leaf), str(text)) for position, leaf, text in rows]

    def fork(self, origin: str) -> ForkedLog | None:
        """Return the evidence of a fork, if there was one."""
        query = "SELECT held, shown, reason FROM forks WHERE origin=?"
        rows = self._store.rows(query, origin)
        return ForkedLog(origin, *(str(part) for part in rows[0])) if rows else None

    def record_fork(self, fork: ForkedLog, at: UnixMs) -> ForkedLog:
        """Keep the evidence of a fork for good, the first one of a log; return what to raise."""
        row = (fork.origin, fork.held, fork.shown, fork.reason, at)
        self._store.write("INSERT OR IGNORE INTO forks VALUES (?,?,?,?,?)", *row)
        return fork
