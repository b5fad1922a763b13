"""Which streams a pass reads, and what it leaves behind: so that two processes can share them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Final

# Through the index of streams, so that each stream is read whole and only one is held.
_ROWS: Final = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events{}"
    " ORDER BY originator_id, originator_version"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The streams from one key on to before another one; None is no bound."""

    first: str | None = None
    end: str | None = None

    def rows(self, db: sqlite3.Connection) -> sqlite3.Cursor:
        """Read the events of these streams, stream by stream."""
        bounds = {"originator_id >= ?": self.first, "originator_id < ?": self.end}
        given = {text: key for text, key in bounds.items() if key is not None}
        where = f" WHERE {' AND '.join(given)}" if given else ""
        return db.execute(_ROWS.format(where), tuple(given.values()))


EVERY_STREAM: Final = Span()


@dataclass(slots=True)
class Folded:
    """What a pass leaves behind besides its findings; `unreadable` are positions of no entry."""

    seen: int = 0
    unreadable: set[object] = field(default_factory=set)
    claims: int = 0
    content: int = 0

    def add(self, other: Folded) -> None:
        """Take over what another pass leaves behind."""
        self.seen += other.seen
        self.unreadable |= other.unreadable
        self.claims += other.claims
        self.content += other.content
