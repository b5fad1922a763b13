"""Checks of the tree: recomputed leaf by leaf, compared with tiles, frontier, bases and guard.

Written for itself, not with the code that grows the tree, so that one mistake is not made twice.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ledger.checkpoint import Checkpoint, verify_checkpoint
from ledger.errors import VerificationError
from ledger.event import TreeHead
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, root_at
from ledger.tiles import TileNodes

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
KEPT_ROOTS: Final = 1024
"""How many sizes back a root is answered from memory; a writer's batch is shorter."""

_TILE: Final = "SELECT hashes FROM tiles WHERE level=? AND tile_index=?"

Subtrees = tuple[bytes, ...]


class TreeReplay:
    """The tree of the leaves seen so far. Memory does not grow with them.

    `full` is called with each tile as it fills: level, index and its 256 hashes end to end.
    """

    def __init__(self, db: sqlite3.Connection, full: Callable[[int, int, bytes], None]) -> None:
        self.size = 0
        self._db = db
        self._full = full
        self._subtrees: Subtrees = ()
        self._tiles: list[list[bytes]] = []
        self._recent: deque[Subtrees] = deque([()], KEPT_ROOTS)

    def add(self, leaf: bytes) -> None:
        """Append one leaf hash."""
        subtrees, node, height, size = list(self._subtrees), leaf, 0, self.size
        self._tile(0, leaf)
        while size & 1:
            node = node_hash(subtrees.pop(), node)
            height, size = height + 1, size >> 1
            if height % TILE_HEIGHT == 0:
                self._tile(height // TILE_HEIGHT, node)
        self.size += 1
        self._subtrees = (*subtrees, node)
        self._recent.append(self._subtrees)

    @property
    def frontier(self) -> bytes:
        """The roots of the complete subtrees, largest first."""
        return b"".join(self._subtrees)

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` leaves; raises `VerificationError` if unknown."""
        back = self.size - size
        if 0 <= back < len(self._recent):
            return _root(self._recent[-1 - back])
        if not 0 <= size <= self.size:
            msg = f"the log has no size {size}"
            raise VerificationError(msg)
        return root_at(size, TileNodes(self._stored_tile, self._leaf))

    def open_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the upper tiles that are not full; of level 0 only full ones are stored."""
        for level, hashes in enumerate(self._tiles):
            if level and hashes:
                index = (self.size >> TILE_HEIGHT * level) // TILE_WIDTH
                yield level, index, b"".join(hashes)

    def _tile(self, level: int, node: bytes) -> None:
        if level == len(self._tiles):
            self._tiles.append([])
        hashes = self._tiles[level]
        hashes.append(node)
        if len(hashes) == TILE_WIDTH:
            # This leaf is not counted in `size` yet: the nodes before it fill whole tiles.
            self._full(level, (self.size >> TILE_HEIGHT * level) // TILE_WIDTH, b"".join(hashes))
            hashes.clear()

    def _stored_tile(self, level: int, index: int) -> bytes | None:
        row = self._db.execute(_TILE, (level, index)).fetchone()
        return row[0] if row and type(row[0]) is bytes else None

    def _leaf(self, index: int) -> bytes:
        # Only asked for leaves of the last tile, which is in memory.
        return self._tiles[0][index % TILE_WIDTH]


def _root(subtrees: Sequence[bytes]) -> bytes:
    root = subtrees[-1] if subtrees else EMPTY_ROOT
    for left in subtrees[-2::-1]:
        root = node_hash(left, root)
    return root


def c05_tile(db: sqlite3.Connection, level: int, index: int, hashes: bytes) -> Iterator[str]:
    """C05: a stored tile holds exactly the recomputed hashes."""
    row = db.execute(_TILE, (level, index)).fetchone()
    if row is None:
        yield f"tile {level}/{index} is missing"
    elif row[0] != hashes:
        yield f"tile {level}/{index} is not that of the entries"


def c05_no_other_tiles(db: sqlite3.Connection, size: int) -> Iterator[str]:
    """C05: there are no tiles but those that a tree of this size has."""
    for level, index in db.execute("SELECT level, tile_index FROM tiles"):
        known = isinstance(level, int) and isinstance(index, int) and 0 <= level < HASH_BYTES
        if not known or not 0 <= index < _stored_tiles(level, size):
            yield f"tile {level!r}/{index!r} belongs to no tree of {size} leaves"


def _stored_tiles(level: int, size: int) -> int:
    nodes = size >> TILE_HEIGHT * level
    return nodes // TILE_WIDTH if level == 0 else -(-nodes // TILE_WIDTH)


def c05_frontier(db: sqlite3.Connection, tree: TreeReplay) -> Iterator[str]:
    """C05: the frontier is one row, of the ledger's size, with the recomputed subtrees."""
    rows = db.execute("SELECT id, size, nodes FROM frontier").fetchall()
    wanted = [(1, tree.size, tree.frontier)] if tree.size else []
    if [tuple(row) for row in rows] != wanted:
        yield f"the frontier is not that of {tree.size} entries"


def c09_base(base: TreeHead, position: int, tree: TreeReplay) -> Iterator[str]:
    """C09: the base is the root of an earlier size of this log."""
    if base.size >= position:
        yield f"the base of size {base.size} is not older than the event"
        return
    try:
        root = tree.root(base.size).hex()
    except VerificationError as error:
        yield f"the root of size {base.size} cannot be made: {error.message}"
        return
    if base.root != root:
        yield f"the base names another root of size {base.size} than the entries make"


def c18_guard_signed(note: bytes, log_keys: Sequence[str], origin: str) -> Checkpoint:
    """C18: one of the log's keys signed the guard's note for this origin."""
    try:
        text = note.decode()
    except UnicodeDecodeError as error:
        msg = "the guard file is not UTF-8"
        raise VerificationError(msg) from error
    problem = VerificationError("no key of the log may sign heads")
    for key in log_keys:
        try:
            return verify_checkpoint(text, key, origin)
        except VerificationError as error:
            problem = error
    raise problem


def c19_not_shorter(guard: Checkpoint, size: int) -> Iterator[str]:
    """C19: the ledger holds every event that a signed head counted."""
    if guard.size > size:
        yield f"a head of size {guard.size} was signed, but the ledger ends at {size}"


def c20_signed_root(guard: Checkpoint, root: bytes) -> Iterator[str]:
    """C20: the entries make the root that was signed."""
    if guard.root != root:
        yield f"the root of size {guard.size} is not the one that was signed"


def c21_two_roots(source: str, known: bytes, root: bytes, size: int) -> Iterator[str]:
    """C21: two heads of one size, whoever holds them, have one root."""
    if known != root:
        yield f"{source}: two roots of size {size} were signed: {known.hex()} and {root.hex()}"


def c21_one_root(known: TreeHead | None, head: TreeHead) -> Iterator[str]:
    """C21: no two heads of one size have different roots."""
    if known is not None and known.size == head.size and known.root != head.root:
        yield f"two roots of size {head.size} were signed"
