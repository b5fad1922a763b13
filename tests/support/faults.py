"""What fault tests share: seeds, the ledger file as an auditor reads it, in-process ledgers."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson

from ledger.order import Status
from ledger.tiles import Tree
from tests.support.load import Acknowledged
from tests.support.service import Service

ONCE = frozenset(Status) - {Status.DISPUTED}
"""Kinds that an order without disputes, refunds or failures has at most once."""


def seed() -> int:
    """Return this run's seed, which is printed: FAULT_SEED repeats a run."""
    number = int(os.environ.get("FAULT_SEED") or secrets.randbelow(2**32))
    print(f"FAULT_SEED={number}")  # noqa: T201 - a failure is repeated by it
    return number


def copy_of_ledger(data_dir: Path, to: Path) -> Path:
    """Copy the database as a killed process left it, with its write-ahead log."""
    to.mkdir()
    for name in ("ledger.db", "ledger.db-wal"):
        if (data_dir / name).exists():
            shutil.copyfile(data_dir / name, to / name)
    return to / "ledger.db"


class Record:
    """What the ledger file held so far, read entry by entry and compared from round to round."""

    def __init__(self) -> None:
        self.leaves: list[str] = []
        self.streams: list[str] = []
        self.kinds: dict[str, Counter[str]] = {}
        self.roots: dict[int, bytes] = {}
        self._tree = Tree()

    def read(self, path: Path) -> None:
        """Read the file; what was there before must be there now, byte for byte."""
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT rowid, state FROM stored_events ORDER BY rowid")
        entries = [(position, entry) for position, entry in rows]
        connection.close()
        assert [position for position, _ in entries] == list(range(1, len(entries) + 1))
        leaves = [sha256(b"\x00" + entry).hexdigest() for _, entry in entries]
        known = len(self.leaves)
        assert leaves[:known] == self.leaves, "the ledger lost or changed events"
        for leaf, (_, entry) in zip(leaves[known:], entries[known:], strict=True):
            self._add(leaf, orjson.loads(entry)["event"])

    def _add(self, leaf: str, event: dict[str, object]) -> None:
        stream, kind = str(event["stream"]), str(event["kind"])
        kinds = self.kinds.setdefault(stream, Counter())
        kinds[kind] += 1
        assert event["seq"] == kinds.total(), f"{stream} has a gap or a double"
        self.leaves.append(leaf)
        self.streams.append(stream)
        growth = self._tree.append([bytes.fromhex(leaf)])
        self.roots[growth.size] = growth.root

    def present(self, promised: Iterable[Acknowledged]) -> int:
        """Return how many acknowledged steps are where the service said."""
        return sum(self._holds(step) for step in promised)

    def _holds(self, step: Acknowledged) -> bool:
        size, root = step.head.split()
        return (
            step.position <= len(self.leaves)
            and self.leaves[step.position - 1] == step.leaf
            and self.streams[step.position - 1] == f"order/{step.order_id}"
            and self.roots.get(int(size)) == b64decode(root)
        )

    def doubled(self) -> list[str]:
        """Return the kinds that an order has more than once though it may have them once."""
        return [
            f"{stream}: {count} x {kind}"
            for stream, kinds in self.kinds.items()
            for kind, count in kinds.items()
            if count > 1 and kind in ONCE
        ]


def audit(data_dir: Path) -> None:
    """Fail unless the audit of a ledger's folder finds nothing wrong."""


def kill_while_starting(service: Service, *, after_seconds: float) -> None:
    """Start the service and kill it a moment later, wherever it has come to."""
    started = threading.Thread(target=_start, args=(service,))
    started.start()
    time.sleep(after_seconds)
    process = service._process
    if process is not None:
        process.kill()
    started.join()
    service.kill()


def _start(service: Service) -> None:
    # The process ends before it listens, unless it was faster than the kill.
    with suppress(AssertionError):
        service.start()
