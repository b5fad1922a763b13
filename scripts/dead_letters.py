"""Dead letters: events that an endpoint took at no attempt, kept until they are replayed."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

BUSY_SECONDS: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS dead_letters (
    event_id TEXT NOT NULL, url TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL, outcome TEXT NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL,
    PRIMARY KEY (event_id, url)
) STRICT, WITHOUT ROWID
"""
_PUT: Final = (
    "INSERT INTO dead_letters VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (event_id, url) DO UPDATE SET"
    " attempts=attempts+excluded.attempts, outcome=excluded.outcome, last_at=excluded.last_at"
)
_ALL: Final = (
    "SELECT event_id, url, type, body, attempts, outcome, first_at, last_at FROM dead_letters"
    " WHERE ?='' OR event_id=? ORDER BY first_at, event_id"
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event that was given up; `body` are the bytes of every attempt."""

    event_id: str
    url: str
    type: str
    body: bytes
    attempts: int
    outcome: str
    first_at: str
    last_at: str


class DeadLetters:
    """The list, in the state file of `listen`. Several processes may have it open."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            # Written before the event is acknowledged: it must not be lost with the power.
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
        except sqlite3.Error:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def put(self, letter: DeadLetter) -> None:
        """Keep a letter; one that is there already gets the new attempts added."""
        row = (letter.event_id, letter.url, letter.type, letter.body)
        self._db.execute(
            _PUT, (*row, letter.attempts, letter.outcome, letter.first_at, letter.last_at)
        )

    def all(self, event_id: str = "") -> list[DeadLetter]:
        """Return the letters, or those of one event, oldest first."""
        return [DeadLetter(*row) for row in self._db.execute(_ALL, (event_id, event_id))]

    def drop(self, letter: DeadLetter) -> None:
        """Forget a letter that arrived after all."""
        query = "DELETE FROM dead_letters WHERE event_id=? AND url=?"
        self._db.execute(query, (letter.event_id, letter.url))
