"""A provider that writes its history anew: every key, every table and the guard are its own.

What it changes is a list of events; all that follows from them is made to fit, as a careful forger
would: sequence, links, bases, signatures, tiles, frontier, claims and content.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import orjson

from ledger.batch import claims_of, content_of
from ledger.checkpoint import LogKey
from ledger.entry import Beacon, Draft, Seal, read_entry, seal
from ledger.event import Event, TreeHead
from ledger.signing import Signer
from ledger.tiles import Tree
from ledger.values import ZERO_LEAF, UnixMs, stream_key


@dataclass(frozen=True, slots=True)
class Told:
    """One event as the provider tells it, without what is computed."""

    stream: str
    at: UnixMs
    event: Event
    commit: dict[str, str]
    beacon: Beacon | None
    salt: bytes
    base_size: int


History = list[Told]
Change = Callable[[History], None]
"""Changes a history in place."""


def history_of(db: sqlite3.Connection) -> History:
    """Return the events of a ledger in order."""
    told = []
    for (entry,) in db.execute("SELECT state FROM stored_events ORDER BY rowid"):
        signed, raw = read_entry(entry), orjson.loads(entry)["event"]
        told.append(
            Told(
                signed.stream,
                signed.at,
                signed.event,
                dict(signed.commit),
                signed.beacon,
                bytes.fromhex(raw["salt"]),
                raw["base"]["size"],
            )
        )
    return told


def without(history: History, gone: Callable[[Told], bool]) -> None:
    """Drop events, and let the bases name the trees that are left."""
    kept, left = [], [0]
    for told in history:
        left.append(left[-1] + (not gone(told)))
        if not gone(told):
            kept.append(replace(told, base_size=left[told.base_size]))
    history[:] = kept


@dataclass(frozen=True, slots=True)
class Provider:
    """Everything that a provider signs with."""

    origin: str
    wallet: Signer
    log_key: LogKey

    def rewrite(self, db: sqlite3.Connection, history: History) -> bytes:
        """Make this the whole history of a ledger's copy and return the guard's signed note."""
        for table in ("stored_events", "tiles", "frontier", "claims"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names
        tree, roots = Tree(), [Tree().root]
        heads: dict[str, tuple[int, str]] = {}
        for position, told in enumerate(history, start=1):
            seq, leaf = heads.get(told.stream, (0, ZERO_LEAF))
            base = TreeHead(size=told.base_size, root=roots[told.base_size].hex())
            place = Seal(self.origin, told.stream, seq + 1, leaf, told.at, base, told.salt)
            signed = seal(Draft(told.event, told.commit, told.beacon), place, self.wallet)
            heads[told.stream] = (seq + 1, signed.leaf.hex())
            roots.append(tree.append([signed.leaf]).root)
            row = (position, stream_key(told.stream), seq + 1, told.event.kind, signed.entry)
            db.execute(
                "INSERT INTO stored_events"
                " (rowid, originator_id, originator_version, topic, state) VALUES (?,?,?,?,?)",
                row,
            )
            for key in claims_of(told.event):
                values = (*key, told.stream, position)
                db.execute("INSERT OR IGNORE INTO claims VALUES (?,?,?,?,?)", values)
        return self.fit_tree(db)

    def fit_tree(self, db: sqlite3.Connection) -> bytes:
        """Make tiles and frontier those of the rows and return the signed head."""
        rows = db.execute("SELECT state FROM stored_events ORDER BY rowid")
        growth = Tree().append([read_entry(entry).leaf for (entry,) in rows])
        db.execute("DELETE FROM tiles")
        db.execute("DELETE FROM frontier")
        tiles = [(tile.level, tile.index, tile.hashes) for tile in growth.tiles]
        db.executemany("INSERT INTO tiles (level, tile_index, hashes) VALUES (?,?,?)", tiles)
        values = (growth.size, growth.frontier)
        db.execute("INSERT INTO frontier (id, size, nodes) VALUES (1,?,?)", values)
        return self.log_key.sign_checkpoint(self.origin, growth.size, growth.root).encode()


@contextmanager
def unprotected(db: sqlite3.Connection) -> Iterator[None]:
    """Take the triggers off the tables, and put them back: they are a belt, not the proof."""
    query = "SELECT name, sql FROM sqlite_master WHERE type='trigger'"
    triggers = db.execute(query).fetchall()
    with db:
        for name, _ in triggers:
            db.execute(f'DROP TRIGGER "{name}"')
        yield
        for _, statement in triggers:
            db.execute(statement)


def drop_unnamed_content(db: sqlite3.Connection, history: Iterable[Told]) -> None:
    """Delete the content that no event of a history names any more."""
    named = {content_id for told in history for content_id in content_of(told.event).values()}
    for (content_id,) in db.execute("SELECT content_id FROM content").fetchall():
        if content_id not in named:
            db.execute("DELETE FROM content WHERE content_id=?", (content_id,))
