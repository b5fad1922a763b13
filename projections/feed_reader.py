"""Reading feeds and cursors from the views, by key: the cost does not grow with the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path

import orjson

from ledger.cursor_commands import FeedSlice
from ledger.cursor_events import CursorState, Place
from projections.feeds import GENERATION

NOWHERE = Place(pos=0, position=0)


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One event's place in a feed, and what it is called there."""

    pos: int
    position: int
    type: str


@dataclass(frozen=True, slots=True)
class HandOut:
    """One hand-out: to whom, from where to where, and what came of it. Times in Unix ms."""

    token: int
    generation: int
    holder: str
    first: int
    last: int
    attempt: int
    transport: str
    handed_ms: int
    until_ms: int
    acked_through: int | None
    acked_ms: int | None
    ended: str | None
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that a cursor put aside."""

    position: int
    attempts: int
    by: str
    reason: str | None
    parked_ms: int


class FeedReader:
    """A read-only connection to views.db for one thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
        )

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """Read several statements from one snapshot.

        Each type is a statement: between two of them the views could add an earlier event of the
        one and a later event of the other, and only the later one would be seen.
        """
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def head(self, party: str) -> int:
        """Return the newest position of a feed, 0 of an empty one."""
        row = self._db.execute(
            "SELECT pos FROM feed WHERE party=? ORDER BY pos DESC LIMIT 1", (party,)
        ).fetchone()
        return row[0] if row else 0

    def rows(
        self, party: str, after: int, limit: int, types: Collection[str] | None = None
    ) -> list[FeedRow]:
        """Return up to `limit` events after a position, in order; of these types alone if given."""
        with self._one_moment():
            return self._rows(party, after, limit, types)

    def _rows(
        self, party: str, after: int, limit: int, types: Collection[str] | None
    ) -> list[FeedRow]:
        if types is None:
            found = self._db.execute(
                "SELECT pos, position, type FROM feed WHERE party=? AND pos>? ORDER BY pos LIMIT ?",
                (party, after, limit),
            )
            return [FeedRow(*row) for row in found]
        query = (
            "SELECT pos, position, type FROM feed WHERE party=? AND type=? AND pos>?"
            " ORDER BY pos LIMIT ?"
        )
        each = [self._db.execute(query, (party, name, after, limit)).fetchall() for name in types]
        return [FeedRow(*row) for row in islice(merge(*each, key=itemgetter(0)), limit)]

    def slice(
        self, party: str, after: int, limit: int, types: Collection[str] | None
    ) -> tuple[FeedSlice, list[FeedRow]]:
        """Return what a decision on a cursor has to know of its feed, and the same as rows."""
        with self._one_moment():
            head = self.head(party)
            rows = self._rows(party, after, limit, types)
        places = tuple(Place(pos=row.pos, position=row.position) for row in rows)
        whole = len(rows) < limit
        return FeedSlice(GENERATION, after, places, whole, head), rows

    def at(self, party: str, pos: int) -> FeedRow | None:
        """Return the event at a position of a feed."""
        found = self.rows(party, pos - 1, 1)
        return found[0] if found and found[0].pos == pos else None

    def place(self, party: str, pos: int) -> Place | None:
        """Return a position of a feed with the ledger's beside it; zero lies before the first."""
        if pos == 0:
            return NOWHERE
        row = self.at(party, pos)
        return Place(pos=row.pos, position=row.position) if row else None

    def last_until(self, party: str, is_past: Callable[[int], bool]) -> Place:
        """Return the last place before the first one whose ledger position `is_past`.

        Both positions rise together, so that place is found by halving.
        """
        low, high, found = 0, self.head(party), NOWHERE
        while low < high:
            middle = (low + high + 1) // 2
            row = self.at(party, middle)
            if row is None or is_past(row.position):
                high = middle - 1
            else:
                low, found = middle, Place(pos=row.pos, position=row.position)
        return found

    def count_until(self, party: str, position: int) -> Place:
        """Return the last place of a feed up to a position of the ledger."""
        return self.last_until(party, lambda at: at > position)

    def cursors(self, party: str) -> list[tuple[str, int, CursorState]]:
        """Return the name, the opening (Unix ms) and the state of a party's cursors."""
        rows = self._db.execute(
            "SELECT name, opened_ms, state FROM cursors WHERE party=? ORDER BY name", (party,)
        )
        return [(row[0], row[1], CursorState.model_validate(orjson.loads(row[2]))) for row in rows]

    def opened_ms(self, party: str, name: str) -> int:
        """Return when a cursor was opened, in Unix ms; 0 of one that the views do not know."""
        row = self._db.execute(
            "SELECT opened_ms FROM cursors WHERE party=? AND name=?", (party, name)
        ).fetchone()
        return row[0] if row else 0

    def hand_outs(self, party: str, name: str, after: int, limit: int) -> list[HandOut]:
        """Return the hand-outs after one of them, oldest first."""
        rows = self._db.execute(
            "SELECT token, generation, holder, first, last, attempt, transport, handed_ms,"
            " until_ms, acked_through, acked_ms, ended, ended_ms FROM hand_outs"
            " WHERE party=? AND name=? AND token>? ORDER BY token LIMIT ?",
            (party, name, after, limit),
        )
        return [HandOut(*row) for row in rows]

    def parked(self, party: str, name: str, after: int = 0, limit: int = 100) -> list[Parked]:
        """Return what a cursor put aside, by position in the ledger."""
        rows = self._db.execute(
            "SELECT position, attempts, by, reason, parked_ms FROM parked"
            " WHERE party=? AND name=? AND position>? ORDER BY position LIMIT ?",
            (party, name, after, limit),
        )
        return [Parked(*row) for row in rows]

    def parked_count(self, party: str, name: str) -> int:
        """Return how many events a cursor put aside."""
        row = self._db.execute(
            "SELECT count(*) FROM parked WHERE party=? AND name=?", (party, name)
        ).fetchone()
        return int(row[0])
