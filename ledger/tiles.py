"""The tree as C2SP tiles: how it grows by a batch, and how its nodes are read back.

A tile holds up to 256 hashes: tile (L, n) holds the nodes of tree level 8 * L from index 256 * n
on. Level-0 tiles are written when full; upper tiles whenever they change. Here nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Final

from ledger.errors import VerificationError
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, node_hash, split_hashes

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
CACHED_NODES: Final = 8192
"""Enough for all nodes of level 8 and above in a tree of a million leaves."""


@dataclass(frozen=True, slots=True)
class TileRow:
    """One tile to write: `hashes` stand end to end, 32 bytes each, 256 of them when it is full."""

    level: int
    index: int
    hashes: bytes


@dataclass(frozen=True, slots=True)
class Growth:
    """One step of the tree, from `old_size` to `size` leaves. It never changes afterwards.

    `frontier` is the compact range end to end, largest subtree first. `tiles` are the rows to write
    in the transaction that writes the leaves.
    """

    old_size: int
    size: int
    root: bytes
    frontier: bytes
    tiles: tuple[TileRow, ...]
    # Per level, from an even index on: the old frontier's node, if any, then the step's own nodes.
    _rows: tuple[list[bytes], ...] = field(repr=False, compare=False)
    # Per level k: the root of the leaves after the last complete node of level k, if there are any.
    _edges: tuple[bytes | None, ...] = field(repr=False, compare=False)

    def inclusion_proof(self, leaf_index: int) -> list[bytes]:
        """Return the proof of a leaf of this step against `size`: siblings from the leaf up."""
        if not self.old_size <= leaf_index < self.size:
            raise ValueError(f"leaf {leaf_index} is not new in this step")
        proof = []
        index, old, size = leaf_index, self.old_size, self.size
        # A left sibling older than the step is a node of the old frontier: its parent also covers
        # new leaves, so no larger old subtree holds it. That is why memory is enough.
        for row, edge in zip(self._rows, self._edges, strict=True):
            sibling = index ^ 1
            if sibling < size:
                proof.append(row[sibling - (old & ~1)])
            elif sibling == size and edge is not None:
                proof.append(edge)
            index, old, size = index >> 1, old >> 1, size >> 1
        return proof


class Tree:
    """The growing tree of the single writer: at most 255 hashes per tile level, and no leaf data.

    `partials[L]` are the hashes of the tile of level L that is not full yet, which is
    `(size >> 8 * L) % 256` of them; levels left out at the end have none. Raises
    `VerificationError` if the counts differ. The caller compares `root` with what it recorded.
    """

    def __init__(self, size: int = 0, partials: Sequence[Sequence[bytes]] = ()) -> None:
        if size < 0:
            raise VerificationError(f"no tree has {size} leaves")
        levels = max(len(partials), -(-size.bit_length() // TILE_HEIGHT))
        self._size = size
        self._partials = [list(hashes) for hashes in partials]
        self._partials += [[] for _ in range(levels - len(partials))]
        self._frontier: list[bytes | None] = []
        for level, hashes in enumerate(self._partials):
            count = (size >> TILE_HEIGHT * level) % TILE_WIDTH
            if len(hashes) != count or any(len(item) != HASH_BYTES for item in hashes):
                raise VerificationError(f"tile level {level} of {size} leaves has {count} hashes")
            self._frontier += _frontier_of(hashes)

    @property
    def size(self) -> int:
        return self._size

    @property
    def root(self) -> bytes:
        return _root_and_edges(self._frontier)[0]

    def fork(self) -> Tree:
        """Return a copy that grows by itself: grow the copy, keep it once its rows are durable."""
        twin = Tree()
        twin._size = self._size
        twin._partials = [list(hashes) for hashes in self._partials]
        twin._frontier = self._frontier
        return twin

    def append(self, leaf_hashes: Sequence[bytes]) -> Growth:
        """Add leaves at the end and return the step; work and memory are those of the batch."""
        if any(len(item) != HASH_BYTES for item in leaf_hashes):
            raise ValueError(f"a leaf hash is {HASH_BYTES} bytes")
        old_size, size = self._size, self._size + len(leaf_hashes)
        rows = self._rows_with(leaf_hashes, size.bit_length())
        # A complete node without a right sibling ends its row.
        frontier = [row[-1] if size >> level & 1 else None for level, row in enumerate(rows)]
        root, edges = _root_and_edges(frontier)
        tiles = self._fill_tiles(rows)
        self._size, self._frontier = size, frontier
        flat = b"".join([item for item in reversed(frontier) if item is not None])
        return Growth(old_size, size, root, flat, tuple(tiles), tuple(rows), tuple(edges))

    def _rows_with(self, leaf_hashes: Sequence[bytes], levels: int) -> list[list[bytes]]:
        """Return per level the complete nodes over new leaves, each row from an even index on."""
        rows: list[list[bytes]] = []
        row = list(leaf_hashes)
        for level in range(levels):
            left = self._frontier[level] if level < len(self._frontier) else None
            if left is not None:
                row.insert(0, left)
            rows.append(row)
            if len(row) <= 1:
                break
            row = _parents(row)
        # Nothing above was completed by this step: there the frontier stands as it was.
        rows += [[] if item is None else [item] for item in self._frontier[len(rows) : levels]]
        return rows

    def _fill_tiles(self, rows: list[list[bytes]]) -> list[TileRow]:
        """Move the new nodes into the tiles that are not full; return the rows to write."""
        written: list[TileRow] = []
        for level, row in enumerate(rows[::TILE_HEIGHT]):
            first = self._size >> TILE_HEIGHT * level
            fresh = row[first & 1 :]  # without the node of the old frontier
            if not fresh:
                break
            if level == len(self._partials):
                self._partials.append([])
            hashes = self._partials[level]
            hashes += fresh
            whole = len(hashes) - len(hashes) % TILE_WIDTH
            # The last level-0 tile can be rebuilt from its entries; an upper one cannot so cheaply.
            for at in range(0, len(hashes) if level else whole, TILE_WIDTH):
                tile = b"".join(hashes[at : at + TILE_WIDTH])
                written.append(TileRow(level, (first + at) // TILE_WIDTH, tile))
            del hashes[:whole]
        return written


class TileNodes:
    """A source of nodes over stored tiles.

    `tile(L, n)` gives a tile's bytes, full or not, or None; `leaf(i)` gives the leaf hash for
    leaves whose level-0 tile is not stored. Nodes of level 8 and above are kept, since a complete
    node never changes; so is the last full tile, since one proof asks for it up to eight times.
    """

    def __init__(
        self,
        tile: Callable[[int, int], bytes | None],
        leaf: Callable[[int], bytes],
        *,
        cached_nodes: int = CACHED_NODES,
    ) -> None:
        self._tile = tile
        self._leaf = leaf
        self._last: tuple[int, int, bytes] | None = None
        self._upper = lru_cache(maxsize=cached_nodes)(self._computed)

    def node(self, level: int, index: int) -> bytes:
        """Return a complete node's hash, or raise `VerificationError` if the tiles lack it."""
        return self._computed(level, index) if level < TILE_HEIGHT else self._upper(level, index)

    def _computed(self, level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        hashes = self._hashes(tile_level, index << height, 1 << height)
        while len(hashes) > 1:
            hashes = _parents(hashes)
        return hashes[0]

    def _hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return the hashes of a tile level from index `first` on; they lie in one tile."""
        index, offset = divmod(first, TILE_WIDTH)
        data = self._tile_bytes(level, index)
        if data is None and level == 0:
            return [self._leaf(at) for at in range(first, first + count)]
        wanted = (data or b"")[offset * HASH_BYTES : (offset + count) * HASH_BYTES]
        if len(wanted) != count * HASH_BYTES:
            raise VerificationError(f"tile {level}/{index} lacks hashes from {offset} on")
        return split_hashes(wanted)

    def _tile_bytes(self, level: int, index: int) -> bytes | None:
        last = self._last
        if last is not None and last[:2] == (level, index):
            return last[2]
        data = self._tile(level, index)
        if data is not None and len(data) == TILE_BYTES:  # only a full tile never changes
            self._last = (level, index, data)
        return data


def _frontier_of(hashes: Sequence[bytes]) -> list[bytes | None]:
    """Return the frontier nodes, lowest first, that the hashes of one partial tile hold."""
    frontier: list[bytes | None] = []
    row = list(hashes)
    for _ in range(TILE_HEIGHT):
        # The last node of an odd row is in the frontier; the others pair up to the next level.
        frontier.append(row.pop() if len(row) & 1 else None)
        row = _parents(row)
    return frontier


def _parents(row: Sequence[bytes]) -> list[bytes]:
    """Return the parents of a row from an even index on; an odd last node has none yet."""
    # This is `node_hash` written out: the call itself would be a fifth of the work.
    pairs = zip(row[::2], row[1::2], strict=False)
    return [sha256(b"\x01" + left + right).digest() for left, right in pairs]


def _root_and_edges(frontier: Sequence[bytes | None]) -> tuple[bytes, list[bytes | None]]:
    """Return the root, and per level the root of what lies right of its complete nodes."""
    edges: list[bytes | None] = []
    seen: bytes | None = None
    for item in frontier:
        edges.append(seen)
        if item is not None:
            seen = item if seen is None else node_hash(item, seen)
    return (EMPTY_ROOT if seen is None else seen), edges
