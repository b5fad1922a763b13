"""Keeping SQLite's write-ahead log short without slowing the writer."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import structlog

from ledger.store_sqlite import connect

RESTART_BYTES: Final = 32 * 1024 * 1024
PASS_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.5
PAGE_BYTES: Final = 8192

_log = structlog.get_logger(__name__)


class WalKeeper:
    """Moves the WAL into the file from a second connection while the writer goes on.

    A passive pass never catches up under constant load, so after it the writer itself restarts the
    WAL between two batches. A crash anywhere here loses nothing: SQLite replays the WAL.
    """

    def __init__(self, path: Path) -> None:
        self._wal = path.with_name(path.name + "-wal")
        self._path = str(path)
        self._moved = threading.Event()
        self._thread: threading.Thread | None = None
        # The WAL's file keeps its size when it begins anew, so the size tells how full it is only
        # while it grows. Below this size one pass in a while is enough.
        self._full_bytes = RESTART_BYTES
        self._began_at = 0.0
        self.passes = 0
        self.emptier = WalEmptier(path)
        if self._size():
            # What a crash left in it may be content that was erased since.
            self.emptier.start()

    def should_restart(self) -> bool:
        """Say whether the writer should restart the WAL now; starts a pass when it grew.

        Called after a commit, so it raises nothing: that commit happened.
        """
        if self._moved.is_set():
            self._moved.clear()
            self._full_bytes = max(self._full_bytes, self._size())
            return True
        size, now = self._size(), time.monotonic()
        late = size > RESTART_BYTES and now - self._began_at >= PASS_SECONDS
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and (size > self._full_bytes or late):
            self._began_at = now
            self.passes += 1
            self._thread = threading.Thread(target=self._move, name="wal", daemon=True)
            self._thread.start()
        return False

    def close(self) -> None:
        """Wait for a running pass."""
        self.emptier.close()
        if self._thread is not None:
            self._thread.join()

    def _size(self) -> int:
        try:
            return self._wal.stat().st_size
        except OSError:
            return 0

    def _move(self) -> None:
        try:
            connection = connect(self._path)
            try:
                _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            # The next commit starts another pass; until one succeeds the WAL only grows.
            _log.warning("wal not moved", error=str(error))
            return
        # A reader that holds an old snapshot keeps the pass from its end. A restart now would make
        # the writer wait for that reader, so it is left to a later pass. Of a short WAL SQLite
        # itself begins anew.
        left, length = (frames - moved) * PAGE_BYTES, frames * PAGE_BYTES
        if left < RESTART_BYTES // 8 and length > RESTART_BYTES // 2:
            self._moved.set()


class WalEmptier:
    """Cuts the WAL to nothing after an erasure: until then it holds the pages from before.

    A reader with an older snapshot holds it up, and so does the writer; it is tried again until it
    was done, on a connection and thread of its own, so neither has to wait for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._changing = threading.Condition()
        self._wanted = self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Ask for an empty WAL; raises nothing, as the commit before it happened."""
        with self._changing:
            self._wanted = True
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="wal-empty", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is to be emptied; say whether that came in time."""
        with self._changing:
            return self._changing.wait_for(lambda: self._thread is None, seconds)

    def close(self) -> None:
        """Stop trying, and wait for a try that runs."""
        with self._changing:
            self._closing = True
            self._changing.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while self._take():
            done = self._empty()
            with self._changing:
                self._wanted = self._wanted or not done
                if not done:
                    self._changing.wait_for(lambda: self._closing, RETRY_SECONDS)

    def _take(self) -> bool:
        """Take what was asked; without anything left the thread ends, under the same lock."""
        with self._changing:
            if self._wanted and not self._closing:
                self._wanted = False
                return True
            self._thread = None
            self._changing.notify_all()
            return False

    def _empty(self) -> bool:
        try:
            connection = connect(self._path)
            try:
                connection.execute("PRAGMA busy_timeout=0")
                # Most of it is moved while the writer goes on; the cut then takes a moment.
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            _log.warning("wal not emptied", error=str(error))
            return False
        return not busy
