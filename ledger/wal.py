"""Keeping SQLite's write-ahead log short without slowing the writer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from ledger.store_sqlite import connect

RESTART_BYTES: Final = 32 * 1024 * 1024


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

    def should_restart(self) -> bool:
        """Say whether the writer should restart the WAL now; starts a pass when it grew."""
        if self._moved.is_set():
            self._moved.clear()
            return True
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and self._wal.stat().st_size > RESTART_BYTES:
            self._thread = threading.Thread(target=self._move, name="wal", daemon=True)
            self._thread.start()
        return False

    def close(self) -> None:
        """Wait for a running pass."""
        if self._thread is not None:
            self._thread.join()

    def _move(self) -> None:
        connection = connect(self._path)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()
        self._moved.set()
