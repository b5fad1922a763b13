"""The durable inbox: each event's effect once, whatever is handed out twice.

What is guaranteed: an effect that writes through the connection it is given is committed in one
transaction with the event's id, so it is there exactly once after any crash, redelivery or change
of numbering. What is not: anything the effect does elsewhere (a mail, a payment, another file) may
happen again, because the process can end between that and the commit. Over HTTP nobody can promise
more than at least once; this file is where "once" is decided.

Readers that share a cursor have to share the file: it belongs to the effect, not to the reader.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from api.client.errors import ClientError
from api.client.event import Event

Effect = Callable[[sqlite3.Connection, Event], None]
"""What an event leads to. It writes through the connection, and neither commits nor rolls back."""

BUSY_SECONDS: Final = 30.0
"""How long a reader waits for another one's effect to be committed."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS inbox_events (
    consumer TEXT NOT NULL, event_id TEXT NOT NULL,
    generation INTEGER NOT NULL, pos INTEGER NOT NULL,
    PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS inbox_places ON inbox_events (consumer, generation, pos);
"""
_STORED: Final = "SELECT 1 FROM inbox_events WHERE consumer=? AND event_id=?"
_STORE: Final = "INSERT INTO inbox_events (consumer, event_id, generation, pos) VALUES (?,?,?,?)"
_PLACE: Final = (
    "SELECT generation, pos FROM inbox_events WHERE consumer=?"
    " ORDER BY generation DESC, pos DESC LIMIT 1"
)
# The texts are the inbox's own, so that no statement an effect prepares is found under them.
_BEGIN: Final = "BEGIN IMMEDIATE /* inbox */"
_COMMIT: Final = "COMMIT /* inbox */"
_ROLLBACK: Final = "ROLLBACK /* inbox */"


class InboxFailed(ClientError):
    """The file could not be read or written. That is nothing against the event."""


class TwoEventsAtOnePlace(InboxFailed):
    """Another event stood at this position of the feed: the service told two stories."""


class Inbox:
    """One SQLite file with what was applied; what an effect writes belongs in the same file.

    `consumer` names the effect: two effects of one feed, or the same effect of two feeds, in one
    file need two names. `schema` is run once when the file is opened.
    """

    def __init__(self, path: Path | str, *, consumer: str = "main", schema: str = "") -> None:
        self.consumer: Final = consumer
        self._lock = threading.Lock()
        self._in_effect = False
        self._db = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            # A commit is on the disk when it returns: the acknowledgement leaves right after it.
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA};{schema};COMMIT;")
            self._db.set_authorizer(self._authorize)
        except sqlite3.Error:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def apply(self, event: Event, effect: Effect) -> bool:
        """Run the effect unless the event was applied before; return whether it ran.

        An effect that raises leaves nothing behind, and the event is still to be applied. What
        goes wrong beside it is `InboxFailed`.
        """
        with self._lock:
            # Taking the write lock first: of two readers with the same event one waits here, and
            # finds it stored.
            self._execute(_BEGIN)
            try:
                new = self._store(event)
                if new:
                    self._run(effect, event)
                # A crash before this commit leaves neither effect nor id, and the event comes
                # again; one after it leaves both, and the event is skipped when it comes again.
                self._execute(_COMMIT if new else _ROLLBACK)
            except BaseException:
                if self._db.in_transaction:
                    self._execute(_ROLLBACK)
                raise
        return new

    def place(self) -> tuple[int, int] | None:
        """Return the furthest (generation, position) that was applied; None of an empty inbox."""
        with self._lock:
            row = self._execute(_PLACE, self.consumer).fetchone()
        return (row[0], row[1]) if row else None

    def has(self, event_id: str) -> bool:
        """Whether an event was applied."""
        with self._lock:
            return self._is_stored(event_id)

    def _is_stored(self, event_id: str) -> bool:
        return self._execute(_STORED, self.consumer, event_id).fetchone() is not None

    def _store(self, event: Event) -> bool:
        if self._is_stored(event.event_id):
            return False
        try:
            self._execute(_STORE, self.consumer, event.event_id, event.generation, event.pos)
        except InboxFailed as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise TwoEventsAtOnePlace(
                    f"another event was applied from position {event.pos}"
                ) from error
            raise
        return True

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise InboxFailed(f"the inbox: {error}") from error

    def _run(self, effect: Effect, event: Event) -> None:
        self._in_effect = True
        try:
            returned: object = effect(self._db, event)  # type: ignore[func-returns-value]  # checked
        finally:
            self._in_effect = False
        if returned is not None:
            # A coroutine function would seem to work and do nothing.
            raise TypeError("an effect is a plain function that returns nothing")

    def _authorize(self, action: int, *_: str | None) -> int:
        """Refuse that an effect ends the transaction which makes it one with the event's id."""
        ends = self._in_effect and action == sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_DENY if ends else sqlite3.SQLITE_OK
