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
