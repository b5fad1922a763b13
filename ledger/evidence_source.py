"""An evidence bundle from a data folder: one snapshot of the ledger's file, which is only read.

Nothing is signed here that the service did not sign before: the final head is one that it let out,
as the guard file and the cosigned checkpoint remember them, or a smaller one of the same history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from ledger.audit_source import read_guard, snapshot
from ledger.checkpoint import Checkpoint, LogKey, verify_checkpoint
from ledger.entry import read_entry
from ledger.errors import InvalidInput, Misconfigured, NotFound, VerificationError
from ledger.evidence import Bundle, Wanted, assemble
from ledger.log import LogState, fold_log
from ledger.merkle import leaf_hash, root_at
from ledger.signing import Signer, load_secret
from ledger.store_sqlite import ContentRow
from ledger.tiles import TileNodes
from ledger.values import LOG_STREAM, is_order_id, order_stream, stream_key

WITNESSED_NOTE: Final = "witnessed.note"


class SnapshotStore:
    """The ledger's file at one moment, read as the service's own store is."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def read_stream(self, stream: str) -> list[tuple[int, bytes]]:
        """Return the (position, entry) pairs of one stream, in its order."""
        return self._db.execute(
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " ORDER BY originator_version",
            (stream_key(stream),),
        ).fetchall()

    def read_kinds(self, stream: str, kinds: Sequence[str]) -> list[tuple[int, bytes]]:
        """Return those of some kinds only."""
        return self._db.execute(
            "SELECT rowid, state FROM stored_events WHERE originator_id=?"
            " AND topic IN (SELECT value FROM json_each(?)) ORDER BY originator_version",
            (stream_key(stream), orjson.dumps(list(kinds)).decode()),
        ).fetchall()

    def content(self, content_id: str) -> ContentRow | None:
        """Return a content row, or None if it never was or was erased."""
        query = "SELECT content_id, stream, field, salt, value FROM content WHERE content_id=?"
        row = self._db.execute(query, (content_id,)).fetchone()
        return ContentRow(*row) if row else None

    def nodes(self) -> TileNodes:
        """Return the tree's nodes, read from the stored tiles and the newest entries."""
        return TileNodes(self._tile, self._leaf)

    def _tile(self, level: int, index: int) -> bytes | None:
        query = "SELECT hashes FROM tiles WHERE level=? AND tile_index=?"
        row = self._db.execute(query, (level, index)).fetchone()
        return row[0] if row else None

    def _leaf(self, index: int) -> bytes:
        query = "SELECT state FROM stored_events WHERE rowid=?"
        row = self._db.execute(query, (index + 1,)).fetchone()
        if row is None:
            raise VerificationError(f"the ledger holds no event at position {index + 1}")
        return leaf_hash(row[0])


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a ledger lies and where its keys come from; sources are file:PATH or env:NAME."""

    data_dir: Path
    guard: Path
    signer: str
    log_key: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle, and the keys that whoever checks it should know from elsewhere."""

    bundle: Bundle
    origin: str
    wallet: str
    log_key: str


def export(
    folder: Folder,
    order_id: str,
    *,
    size: int | None = None,
    redact: frozenset[str] = frozenset(),
    policies: tuple[str, ...] = (),
) -> Exported:
    """Return the bundle of an order; raises a `LedgerError` that says what is in the way."""
    # The notes first: the ledger is durable before they are, so from here it can only be ahead.
    notes = _notes(folder)
    with snapshot(folder.data_dir / "ledger.db") as db:
        store = SnapshotStore(db)
        state = _state(store)
        signer = Signer(load_secret(folder.signer, may_create=False))
        if signer.address not in state.wallets:
            raise Misconfigured(f"{signer.address} is no wallet of this log")
        head, note = _final_head(folder, store, state, notes, (order_id, size))
        wanted = Wanted(order_id, head.size, note, redact, policies)
        bundle = assemble(store, signer, wanted)
        vkey = next(key for key in sorted(state.log_keys) if _checked(note, key, head.origin))
        return Exported(bundle, head.origin, signer.address, vkey)


def _notes(folder: Folder) -> list[str]:
    """Return the notes that the service let out, the best one to prove with first."""
    raw = [read_guard(folder.data_dir / WITNESSED_NOTE), read_guard(folder.guard)]
    if raw[1] is None:
        msg = f"{folder.guard} is missing: without it nobody knows which heads were signed"
        raise Misconfigured(msg)
    try:
        return [note.decode() for note in raw if note is not None]
    except UnicodeDecodeError as error:
        raise VerificationError("the guard file is not UTF-8") from error


def _state(store: SnapshotStore) -> LogState:
    state = fold_log(read_entry(entry) for _, entry in store.read_stream(LOG_STREAM))
    if state is None:
        raise VerificationError("the ledger does not begin with its genesis")
    return state


def _final_head(
    folder: Folder,
    store: SnapshotStore,
    state: LogState,
    notes: list[str],
    asked: tuple[str, int | None],
) -> tuple[Checkpoint, str]:
    """Return the head to prove against: of the size that was asked, else with the whole order."""
    order_id, size = asked
    heads = [(_opened(note, state), note) for note in notes if not _outdated(note, state)]
    if not heads:
        raise VerificationError("no key that the log has now signed a head that is remembered")
    newest = max((head for head, _ in heads), key=lambda head: head.size)
    if root_at(newest.size, store.nodes()) != newest.root:
        raise VerificationError("the ledger is not the one whose head was signed")
    rows = store.read_stream(order_stream(order_id)) if is_order_id(order_id) else []
    if not rows:
        raise NotFound("no order has this id")
    if size is None:
        last = min(rows[-1][0], newest.size)
        return next((head, note) for head, note in heads if head.size >= last)
    if size > newest.size:
        raise InvalidInput(f"size: the newest signed head is of {newest.size}")
    known = next(((head, note) for head, note in heads if head.size == size), None)
    return known or _smaller(folder, store, state, size)


def _smaller(
    folder: Folder, store: SnapshotStore, state: LogState, size: int
) -> tuple[Checkpoint, str]:
    """Sign a head of the signed history's past, as the service does for anybody who asks."""
    origin, root = state.genesis.origin, root_at(size, store.nodes())
    log_key = LogKey(origin, load_secret(folder.log_key, may_create=False))
    if log_key.vkey not in state.log_keys:
        raise Misconfigured(f"{log_key.vkey} is no key of this log")
    return Checkpoint(origin, size, root), log_key.sign_checkpoint(origin, size, root)


def _outdated(note: str, state: LogState) -> bool:
    """Whether a key signed the note that was revoked since, and none that holds: it is let be.

    The head that was cosigned last may be such a one, until the witnesses have signed another.
    """
    origin = state.genesis.origin
    held = any(_checked(note, key, origin) for key in state.log_keys)
    return not held and any(_checked(note, key, origin) for key in _revoked_log_keys(state))


def _revoked_log_keys(state: LogState) -> list[str]:
    return sorted(key for key in state.revoked if "+" in key)


def _opened(note: str, state: LogState) -> Checkpoint:
    for key in sorted(state.log_keys):
        head = _checked(note, key, state.genesis.origin)
        if head is not None:
            return head
    raise VerificationError("no key of the log signed the head that is remembered")


def _checked(note: str, vkey: str, origin: str) -> Checkpoint | None:
    with suppress(VerificationError):
        return verify_checkpoint(note, vkey, origin)
    return None
