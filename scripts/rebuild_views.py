"""Make views.db anew from the ledger, while the service is stopped.

`python -m scripts.rebuild_views DATA_DIR` builds a fresh file beside the old one and puts it in its
place. Nothing is lost if it is interrupted: the views are only what the ledger makes of itself.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ledger.audit_source import AuditImpossible, snapshot
from ledger.entry import read_entry
from ledger.service import Placed
from ledger.values import order_stream, stream_key
from projections.runner import Projector

EXIT_REFUSED: Final = 2


class Refused(Exception):
    """The views cannot be rebuilt now."""


class EntrySource:
    """The events of one snapshot, up to a position, as a projector reads them."""

    def __init__(self, db: sqlite3.Connection, last: int | None = None) -> None:
        self._db = db
        self._last = 2**62 if last is None else last

    def read(self, *, after: int, limit: int) -> list[Placed]:
        """Return up to `limit` events after a position, in order."""
        query = (
            "SELECT rowid, state FROM stored_events WHERE rowid>? AND rowid<=?"
            " ORDER BY rowid LIMIT ?"
        )
        return self._placed(query, (after, self._last, limit))

    def read_order(self, order_id: str) -> list[Placed]:
        """Return the events of an order, in order."""
        query = (
            "SELECT rowid, state FROM stored_events WHERE originator_id=? AND rowid<=?"
            " ORDER BY originator_version"
        )
        return self._placed(query, (stream_key(order_stream(order_id)), self._last))

    def _placed(self, query: str, values: tuple[str | int, ...]) -> list[Placed]:
        return [Placed(at, read_entry(entry)) for at, entry in self._db.execute(query, values)]


def rebuild(data_dir: Path) -> int:
    """Replace views.db by a fresh one and return the number of events; raises `Refused`."""
    views = data_dir / "views.db"
    fresh = data_dir / "views.db.new"
    with _stopped_service(data_dir), snapshot(data_dir / "ledger.db") as db:
        _remove(fresh)
        projector = Projector(EntrySource(db), fresh)
        try:
            events = projector.catch_up()
        finally:
            projector.close()
        _sync(fresh)
        if views.with_name("views.db-wal").exists():
            # Left by a crash; beside the new file it would be taken for the new one's. A crash
            # between these steps leaves no views, and the service builds them at its start.
            _remove(views)
        fresh.replace(views)
        _sync(data_dir)
    return events


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.rebuild_views", description=__doc__)
    parser.add_argument("data_dir", type=Path, help="the service's data folder")
    options = parser.parse_args(argv)
    started = time.monotonic()
    try:
        events = rebuild(options.data_dir)
    except (Refused, AuditImpossible) as error:
        print(f"rebuild refused: {error}", file=sys.stderr)
        return EXIT_REFUSED
    seconds = max(time.monotonic() - started, 1e-9)
    print(
        f"views rebuilt from {events} events in {seconds:.1f} s ({events / seconds:.0f} events/s)"
    )
    return os.EX_OK


@contextmanager
def _stopped_service(data_dir: Path) -> Iterator[None]:
    """Hold the lock that the service holds while it runs."""
    if not (data_dir / "ledger.db").is_file():
        msg = f"{data_dir} holds no ledger"
        raise Refused(msg)
    handle = os.open(data_dir / "ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        msg = "the service runs; stop it first"
        raise Refused(msg) from error
    try:
        yield
    finally:
        os.close(handle)


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            database.with_name(database.name + suffix).unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    raise SystemExit(main())
