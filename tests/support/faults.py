"""What fault tests share: seeds, small ledgers, and the ledger file as an auditor reads it."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import orjson

from ledger.audit import NO_TRUST
from ledger.batch import Task
from ledger.decide import OrderCommand, decide, transfers_of
from ledger.decision import Claimed, Decision
from ledger.order import Order, Status
from ledger.service import Ledger, LedgerConfig
from ledger.store_sqlite import ContentRow
from ledger.tiles import Tree
from ledger.values import UnixMs, order_stream
from scripts.audit_replay import replay
from tests.support.load import Acknowledged
from tests.support.service import Service
from tests.unit.builders import CHAIN, PAYMENT_ADDRESS, PROVIDER, QUOTED_AT, STRANGER, issue_quote

JUDGING = 20_075_888
"""The seed of continuous integration; any other number would do."""
ONCE = frozenset(Status) - {Status.DISPUTED}
"""Kinds that an order without disputes, refunds or failures has at most once."""


def seed() -> int:
    """Return this run's seed, which is printed: FAULT_SEED repeats a run.

    Continuous integration judges a change, so it plays the same every time; all others explore.
    """
    named = os.environ.get("FAULT_SEED") or (JUDGING if os.environ.get("CI") else None)
    number = int(named) if named is not None else secrets.randbelow(2**32)
    print(f"FAULT_SEED={number}")  # noqa: T201 - a failure is repeated by it
    return number


def config_in(folder: Path, clock: Callable[[], UnixMs] = lambda: QUOTED_AT) -> LedgerConfig:
    return LedgerConfig(
        data_dir=folder / "data",
        guard_file=folder / "guard",
        origin="test.example/ivxp/ledger",
        network="base-sepolia",
        wallet_secret=PROVIDER.secret,
        log_seed=sha256(b"log").digest(),
        payment_address=f"{CHAIN}:{PAYMENT_ADDRESS}",
        recovery_address=STRANGER.address,
        dev_chain=True,
        clock=clock,
    )


@contextmanager
def opened(folder: Path, clock: Callable[[], UnixMs] = lambda: QUOTED_AT) -> Iterator[Ledger]:
    """Open a ledger whose writer is driven by `Ledger._writer.run`, until `start` is called."""
    ledger = Ledger(config_in(folder, clock))
    try:
        yield ledger
    finally:
        ledger.close()


def order_id(number: int) -> str:
    return f"ivxp-00000000-0000-4000-8000-{number:012x}"


def task(number: int, command: OrderCommand, content: tuple[ContentRow, ...] = ()) -> Task:
    """Return a command of the order of that number, as `Ledger.execute` makes it."""

    def decide_order(state: Order | None, claimed: Claimed, _at: UnixMs) -> Decision:
        return decide(state, command, claimed)

    stream = order_stream(order_id(number))
    return Task(stream, decide_order, command.now, transfers_of(command), content)


def quote(number: int) -> Task:
    return task(number, issue_quote())


def kinds(ledger: Ledger, number: int) -> list[str]:
    """Return the kinds of an order's events as they are stored."""
    return [p.signed.event.kind for p in ledger.read_order(order_id(number))]


def copy_of(service: Service, to: Path) -> Path:
    """Copy what a killed process left, write-ahead logs and guard included; return the folder."""
    data_dir = to / "data"
    data_dir.mkdir(parents=True)
    for file in service.data_dir.glob("*.db*"):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, data_dir / file.name)
    shutil.copyfile(service.guard, to / "data.guard")
    return data_dir


def audit(data_dir: Path) -> None:
    """Fail unless the audit of a folder, its guard and its views finds nothing wrong."""
    guard = data_dir.with_name(data_dir.name + ".guard")
    report = replay(data_dir, guard=guard, trust=NO_TRUST, views=data_dir / "views.db")
    assert report.ok, report.findings


class Record:
    """What the ledger file held so far, read entry by entry and compared from round to round."""

    def __init__(self) -> None:
        self.leaves: list[str] = []
        self.streams: list[str] = []
        self.kinds: dict[str, Counter[str]] = {}
        self.roots: dict[int, bytes] = {}
        self._tree = Tree()

    def read(self, data_dir: Path) -> None:
        """Read the ledger; what was there before must be there now, byte for byte."""
        connection = sqlite3.connect(data_dir / "ledger.db")
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


def cpu_seconds(service: Service) -> float:
    """Return the processor time that the running process has taken so far."""
    assert service._process is not None
    # The fields come after the program's name, which is in brackets and may hold anything.
    stat = Path(f"/proc/{service._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


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
