"""The log by position: the tree over all entries, and what the order of the events must show.

Of each entry only the leaf hash is made and the first fields are read, whose form is judged in the
pass by stream: so this pass is short, and one process makes it for all.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ledger import audit_entries as entries
from ledger import audit_tree as tree
from ledger.audit_report import Book, Problems
from ledger.audit_witness import Windows
from ledger.checkpoint import Checkpoint
from ledger.errors import InvalidInput
from ledger.event import TreeHead
from ledger.merkle import leaf_hash
from ledger.values import parse_iso

_EVENTS: Final = "SELECT rowid, state FROM stored_events ORDER BY rowid"
_PROGRESS_STEP: Final = 256
_FIRST_FIELDS: Final = re.compile(
    rb'\{"event":\{"actor":"[a-z]+","at":"([0-9T:.Z-]{24})",'
    rb'"base":\{"root":"([0-9a-f]{64})","size":(0|[1-9][0-9]{0,14})\},'
)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the log from elsewhere: heads that were signed, and when it was seen."""

    roots: Mapping[int, bytes] = field(default_factory=dict)
    windows: Windows | None = None
    absent: frozenset[str] = frozenset()


NOTHING_KNOWN: Final = Known()


class PositionPass:
    """Checks C05, C09 to C11, C20, C21 and the places of C30, row by row."""

    def __init__(
        self,
        db: sqlite3.Connection,
        book: Book,
        guard: Checkpoint | None,
        known: Known = NOTHING_KNOWN,
    ) -> None:
        self._db = db
        self._book = book
        self._guard = guard
        self._known = known
        self._tree = tree.TreeReplay(db, self._full_tile)
        self._last_at = ""
        self._base: list[bytes] = []
        self._head: TreeHead | None = None
        self._made = 0

    def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` events, from the rows that were checked."""
        return self._tree.root(size)

    def run(self, progress: Callable[[int], None]) -> None:
        """Check every row, then what only the whole log shows."""
        try:
            for position, (stored_at, entry) in enumerate(self._db.execute(_EVENTS), start=1):
                self._row(position, stored_at, entry)
                if position % _PROGRESS_STEP == 0:
                    progress(position)
        finally:
            for check in ("C09", "C10", "C21"):
                self._book.made(check, self._made)
            self._book.made("C30", self._tree.size)
        self._signed_head()
        for level, index, hashes in self._tree.open_tiles():
            self._book.note("C05", tree.c05_tile(self._db, level, index, hashes))
        self._book.note("C05", tree.c05_no_other_tiles(self._db, self._tree.size))
        if "frontier" not in self._known.absent:
            self._book.note("C05", tree.c05_frontier(self._db, self._tree))

    def _row(self, position: int, stored_at: int, entry: object) -> None:
        if stored_at != position:
            self._book.found("C30", entries.c30_position(stored_at, position), position, None)
        if self._guard is not None and self._guard.size == position - 1:
            self._signed_head()
        if type(entry) is not bytes:  # the pass by stream says so
            self._tree.add(bytes(32))
            return
        fields = _FIRST_FIELDS.match(entry)
        if fields is not None:
            at, *base = fields.groups()
            self._made += 1
            self._time(position, at.decode(), entry)
            if base != self._base:
                self._new_base(position, TreeHead(size=int(base[1]), root=base[0].decode()), entry)
                self._base = base
        self._tree.add(leaf_hash(entry))

    def _time(self, position: int, at: str, entry: bytes) -> None:
        """Judge an event's time by those before it and around it."""
        if at < self._last_at:
            self._say("C10", entries.c10_time(at, self._last_at), position, entry)
        else:
            self._last_at = at
        if self._known.windows is not None:
            self._book.made("C11", 1)
            self._say("C11", _seen(self._known.windows, position, at), position, entry)

    def _new_base(self, position: int, base: TreeHead, entry: bytes) -> None:
        """Judge the tree that an event names; a later event that names it too adds nothing."""
        self._say("C09", tree.c09_base(base, position, self._tree), position, entry)
        self._say("C21", tree.c21_one_root(self._head, base), position, entry)
        held = self._known.roots.get(base.size)
        if held is not None:
            two = tree.c21_two_roots("held", held, bytes.fromhex(base.root), base.size)
            self._say("C21", two, position, entry)
        self._head = base

    def _signed_head(self) -> None:
        """Compare the guard's head once, when the tree has just its size."""
        guard = self._guard
        if guard is not None and guard.size == self._tree.size:
            self._book.note("C20", tree.c20_signed_root(guard, self._tree.root(guard.size)))

    def _full_tile(self, level: int, index: int, hashes: bytes) -> None:
        self._book.note("C05", tree.c05_tile(self._db, level, index, hashes))

    def _say(self, check: str, problems: Problems, position: int, entry: bytes) -> None:
        found = list(problems)
        if found:
            parts = entries.open_entry(entry).parts
            stream = parts.signed.stream if parts is not None else None
            self._book.found(check, found, position, stream)


def _seen(windows: Windows, position: int, at: str) -> Problems:
    try:
        return windows.c11_in_its_window(position, parse_iso(at))
    except InvalidInput:
        return []  # no moment, as C01 says
