"""The store: append a batch in one transaction, load a stream, read after a position.

Only the store modules know the library `eventsourcing`; its words (originator, notification,
topic) stop here. The signed entry is the stored state, its kind the topic, its place the rowid.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import orjson

from ledger.entry import read_entry
from ledger.errors import VerificationError
from ledger.merkle import frontier_root, leaf_hash, split_hashes
from ledger.money import TransferId
from ledger.order_events import ContentErased
from ledger.store_sqlite import (
    AnswerRow,
    ContentRow,
    Datastore,
    Group,
    Grow,
    Recorder,
    connect,
)
from ledger.stream import StreamHead, head_of
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH, TileNodes, Tree
from ledger.values import UnixMs, is_conversation, is_cursor, stream_key
from ledger.wal import WalKeeper

CACHED_LEAVES: Final = 4 * TILE_WIDTH
BUSY_MS: Final = 5000
"""How long a statement waits for another connection's lock: the library's default."""


class _OwnConnection:
    """A thread's own connection: closed when its thread ends, never while it is in use."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection

    def __del__(self) -> None:
        self.connection.close()


class SqliteStore:
    """The store in one SQLite file. `append` is for one thread; reading is for any."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = Datastore(str(path), connections=1)
        self._recorder = Recorder(self._writing)
        self._recorder.create_table()
        self._local = threading.local()
        self._wal = WalKeeper(path)
        # A leaf never changes; those of the open tile are asked for with every proof.
        self._leaf = lru_cache(maxsize=CACHED_LEAVES)(self._read_leaf)

    def append(self, groups: Sequence[Group], *, first_position: int, grow: Grow) -> list[bool]:
        """Store the groups in one durable transaction and say which were accepted.

        Any exception means that the outcome is unknown: `reopen` and compare. A crash before the
        commit leaves nothing of the batch, one after it leaves all of it; nobody has to repair.
        """
        accepted: list[bool] = []
        self._recorder.insert_events(
            (), groups=groups, first_position=first_position, grow=grow, accepted=accepted
        )
        if any(group.erased for group in groups):
            self._wal.emptier.start()
        if self._wal.should_restart():
            self._restart_wal()
        return accepted

    def reopen(self) -> None:
        """Drop the writing connection and open a new one, after a commit of unknown outcome."""
        self._leaf.cache_clear()
        self._writing.close()
        self._writing = Datastore(str(self.path), connections=1)
        self._recorder = Recorder(self._writing)

    def size(self) -> int:
        """Return the number of events, which is the highest position."""
        row = self._reader().execute("SELECT MAX(rowid) FROM stored_events").fetchone()
        return row[0] or 0

    def read(self, *, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` (position, entry) pairs after a position, in order."""
        rows = self._reader().execute(
            "SELECT rowid, state FROM stored_events WHERE rowid>? ORDER BY rowid LIMIT ?",
            (after, limit),
        )
        return [(row[0], row[1]) for row in rows]

    def entry_at(self, position: int) -> bytes | None:
        """Return the entry at a position."""
        found = self.read(after=position - 1, limit=1)
        return found[0][1] if found and found[0][0] == position else None

    def read_stream(self, stream: str, limit: int = -1) -> list[tuple[int, bytes]]:
        """Return the (position, entry) pairs of a stream in its order: the first ones, or all."""
        rows = self._reader().execute(
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " ORDER BY originator_version LIMIT ?",
            (stream_key(stream), limit),
        )
        return [(row[0], row[1]) for row in rows]

    def _newest(self, stream: str) -> list[tuple[int, bytes]]:
        rows = self._reader().execute(
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " ORDER BY originator_version DESC LIMIT 1",
            (stream_key(stream),),
        )
        return [(row[0], row[1]) for row in rows]

    def _ends(self, stream: str) -> list[tuple[int, bytes]]:
        """Return the first event of a stream, its erasures, and the newest event."""
        first = self.read_stream(stream, 1)
        between = self.read_kinds(stream, (ContentErased.kind,))
        return sorted({*first, *between, *self._newest(stream)})

    def newest_position(self, stream: str) -> int:
        """Return where the newest event of a stream stands, 0 of one without events."""
        row = (
            self._reader()
            .execute(
                "SELECT rowid FROM stored_events WHERE originator_id=?"
                " ORDER BY originator_version DESC LIMIT 1",
                (stream_key(stream),),
            )
            .fetchone()
        )
        return row[0] if row else 0

    def read_kinds(self, stream: str, kinds: Sequence[str]) -> list[tuple[int, bytes]]:
        """Return the (position, entry) pairs of some kinds of one stream, in its order."""
        rows = self._reader().execute(
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " AND topic IN (SELECT value FROM json_each(?)) ORDER BY originator_version",
            (stream_key(stream), orjson.dumps(list(kinds)).decode()),
        )
        return [(row[0], row[1]) for row in rows]

    def load(self, stream: str) -> StreamHead:
        """Return a stream folded; of one without events, the empty head.

        A cursor's events hold all of it, and a conversation is what its first event says, what was
        erased, and where it ends: however long their history, little of it is read.
        """
        if is_cursor(stream):
            return head_of(stream, self._newest(stream))
        whole = not is_conversation(stream)
        return head_of(stream, self.read_stream(stream) if whole else self._ends(stream))

    def load_tree(self) -> Tree:
        """Return the growing tree as the newest batch left it.

        Raises `VerificationError` if events, tiles and frontier do not fit together: then nothing
        may be signed, and the audit says what is damaged.
        """
        size, nodes = self.frontier()
        if size != self.size():
            msg = f"the ledger holds {self.size()} events, its tree {size}"
            raise VerificationError(msg)
        first = size - size % TILE_WIDTH
        leaves = [leaf_hash(entry) for _, entry in self.read(after=first, limit=TILE_WIDTH)]
        partials, level = [leaves], 1
        while size >> TILE_HEIGHT * level:
            width = size >> TILE_HEIGHT * level
            tile = self.tile(level, width // TILE_WIDTH) if width % TILE_WIDTH else b""
            partials.append(split_hashes(tile or b""))
            level += 1
        tree = Tree(size, partials)
        if size and tree.root != frontier_root(size, nodes):
            msg = "the ledger's tiles and its frontier make different roots"
            raise VerificationError(msg)
        return tree

    def last_at(self) -> UnixMs:
        """Return the time of the newest event, 0 of an empty ledger."""
        size = self.size()
        entry = self.entry_at(size) if size else None
        return read_entry(entry).at if entry else UnixMs(0)

    def nodes(self) -> TileNodes:
        """Return the tree's nodes, read from the stored tiles and the newest entries."""
        return TileNodes(self.tile, self._leaf)

    def claimed(self, keys: Iterable[TransferId]) -> dict[TransferId, str]:
        """Return which of these transfers are claimed, and by which stream."""
        query = "SELECT stream FROM claims WHERE chain=? AND tx_hash=? AND ordinal=?"
        reader = self._reader()
        rows = ((key, reader.execute(query, key).fetchone()) for key in keys)
        return {key: row[0] for key, row in rows if row}

    def content(self, content_id: str) -> ContentRow | None:
        """Return a content row, or None if it never was or was erased."""
        query = "SELECT content_id, stream, field, salt, value FROM content WHERE content_id=?"
        row = self._reader().execute(query, (content_id,)).fetchone()
        return ContentRow(*row) if row else None

    def answer(self, request_id: bytes) -> AnswerRow | None:
        """Return what a request with a key of its own was answered, or None."""
        query = (
            "SELECT request_id, stream, fingerprint, body, position FROM answers WHERE request_id=?"
        )
        row = self._reader().execute(query, (request_id,)).fetchone()
        return AnswerRow(*row) if row else None

    def frontier(self) -> tuple[int, bytes]:
        """Return the stored tree size and its frontier."""
        row = self._reader().execute("SELECT size, nodes FROM frontier").fetchone()
        return (row[0], row[1]) if row else (0, b"")

    def tile(self, level: int, index: int) -> bytes | None:
        """Return the stored hashes of a tile; level-0 tiles are stored only when full."""
        query = "SELECT hashes FROM tiles WHERE level=? AND tile_index=?"
        row = self._reader().execute(query, (level, index)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Close the writing connection; the WAL is folded into the file.

        A reader that another thread is using now is left to that thread: it ends with it.
        """
        self._wal.close()
        self._restart_wal()
        self._local.__dict__.pop("own", None)
        self._writing.close()

    def _read_leaf(self, index: int) -> bytes:
        entry = self.entry_at(index + 1)
        if entry is None:
            msg = f"no event at position {index + 1}"
            raise VerificationError(msg)
        return leaf_hash(entry)

    def _reader(self) -> sqlite3.Connection:
        """Return this thread's own reading connection: no pool, no waiting, no shared state."""
        own: _OwnConnection | None = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = _OwnConnection(connect(str(self.path), read_only=True))
        return own.connection

    def _restart_wal(self) -> None:
        """Let the WAL begin anew. Most of it was moved already, so this is short."""
        with self._writing.get_connection(commit=True) as connection:
            cursor = connection.cursor()
            # A reader that has just begun would hold the writer up; a later commit tries again.
            cursor.execute("PRAGMA busy_timeout=0")
            cursor.execute("PRAGMA wal_checkpoint(RESTART)")
            cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
