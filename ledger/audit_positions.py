"""The log by position: every entry, its key, its row, and the tree over all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from ledger import audit_entries as entries
from ledger import audit_keys as keys
from ledger import audit_tree as tree
from ledger.audit_entries import Opened, Parts, Verify, open_entry
from ledger.audit_keys import LogKeys
from ledger.audit_orders import c08_nothing_after_the_end
from ledger.audit_report import Book
from ledger.audit_streams import ReadLink, is_of_the_fold, read_link
from ledger.audit_witness import Windows
from ledger.checkpoint import Checkpoint
from ledger.event import TreeHead
from ledger.log_events import LogClosed
from ledger.signing import verify_signature
from ledger.values import UnixMs

_EVENTS: Final = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events"
    " ORDER BY rowid"
)
_NO_BYTES: Final = Opened(bytes(32), problem=("C01", "the entry is not stored as bytes"))


@dataclass(frozen=True, slots=True)
class Steps:
    """The costly steps, each a function of its arguments alone.

    Whoever audits many copies of one ledger may give versions that remember.
    """

    open_entry: Callable[[bytes], Opened] = open_entry
    read_link: ReadLink = read_link
    verify: Verify = verify_signature


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the log from elsewhere: heads that were signed, and when it was seen."""

    roots: Mapping[int, bytes] = field(default_factory=dict)
    windows: Windows | None = None
    absent: frozenset[str] = frozenset()
    halved: bool = False
    """Whether the pass by stream checks the signatures of every second event."""


NOTHING_KNOWN: Final = Known()


class PositionPass:
    """Checks C01 to C05, C09 to C11, C20, C21 and C30, row by row.

    `unreadable` collects the positions where no entry was found.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        book: Book,
        steps: Steps,
        log_keys: LogKeys | None,
        guard: Checkpoint | None,
        known: Known = NOTHING_KNOWN,
    ) -> None:
        self.unreadable: set[object] = set()
        self._db = db
        self._note = book.note
        self._steps = steps
        self._keys = log_keys
        self._guard = guard
        self._known = known
        self._tree = tree.TreeReplay(db, self._full_tile)
        self._last_at = UnixMs(0)
        self._heads: list[TreeHead] = []
        self._closed_at: int | None = None

    def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` events, from the rows that were checked."""
        return self._tree.root(size)

    def run(self, progress: Callable[[int], None]) -> None:
        """Check every row, then what only the whole log shows."""
        for position, row in enumerate(self._db.execute(_EVENTS), start=1):
            self._row(row, position)
            progress(position)
        self._signed_head()
        for level, index, hashes in self._tree.open_tiles():
            self._note("C05", tree.c05_tile(self._db, level, index, hashes))
        self._note("C05", tree.c05_no_other_tiles(self._db, self._tree.size))
        if "frontier" not in self._known.absent:
            self._note("C05", tree.c05_frontier(self._db, self._tree))

    def _row(self, row: tuple[object, ...], position: int) -> None:
        stored_at, *columns, entry = row
        self._note("C30", entries.c30_position(stored_at, position), position)
        self._signed_head()
        opened = self._steps.open_entry(entry) if type(entry) is bytes else _NO_BYTES
        if opened.parts is None:
            self.unreadable.add(stored_at)
            check, message = opened.problem or ("C01", "no entry")
            self._note(check, [message], position)
        else:
            self._entry(columns, opened.parts, position)
        self._tree.add(opened.leaf)

    def _entry(self, columns: list[object], parts: Parts, position: int) -> None:
        envelope, verify = parts.envelope, self._steps.verify
        note = partial(self._note, position=position, stream=envelope.stream)
        for by_open_entry in ("C01", "C02"):
            note(by_open_entry, ())
        note("C30", entries.c30_columns(columns, envelope))
        if not (self._known.halved and is_of_the_fold(position)):
            note("C04", entries.c04_signature(parts, verify))
        note("C04", keys.c04_genesis(position, parts))
        if self._keys is not None:
            note("C03", entries.c03_origin(envelope, self._keys.genesis.origin))
            note("C04", keys.c04_authority(self._keys, parts.sig.by, position))
            note("C04", keys.c04_key_texts(self._keys, parts, verify))
        note("C08", c08_nothing_after_the_end(self._closed_at))
        note("C09", tree.c09_base(envelope.base, position, self._tree))
        note("C21", tree.c21_one_root(self._heads, envelope.base))
        held = self._known.roots.get(envelope.base.size)
        if held is not None:
            root = bytes.fromhex(envelope.base.root)
            note("C21", tree.c21_two_roots("held", held, root, envelope.base.size))
        if self._known.windows is not None:
            note("C11", self._known.windows.c11_in_its_window(position, parts.at))
        note("C10", entries.c10_time(parts.at, self._last_at))
        self._heads = [envelope.base]
        self._last_at = max(self._last_at, parts.at)
        if isinstance(parts.event, LogClosed):
            self._closed_at = position

    def _signed_head(self) -> None:
        """Compare the guard's head once, when the tree has just its size."""
        guard = self._guard
        if guard is not None and guard.size == self._tree.size:
            self._note("C20", tree.c20_signed_root(guard, self._tree.root(guard.size)))

    def _full_tile(self, level: int, index: int, hashes: bytes) -> None:
        self._note("C05", tree.c05_tile(self._db, level, index, hashes))
