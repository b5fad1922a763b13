import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from ledger.content import plain
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.values import order_stream
from ledger.wal import RESTART_BYTES
from tests.support.faults import opened, order_id, quote, task
from tests.support.ledger_files import LedgerFiles, Story, Teller, opening
from tests.unit.builders import accept, content_id, hand_in, mined, transfer

WAIT_SECONDS = 20
SECRET = b"a most unusual sentence about seventeen purple umbrellas"
WRITTEN_BYTES = 120 * 2**20
CONTENT_BYTES = 2**20


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path) as ledger:
        yield ledger


class Pressure:
    """Writes deliverables without a pause, and notes how long the log and the batches get."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._wal = ledger.store.path.with_name("ledger.db-wal")
        self._numbers = count()
        self.longest_bytes = 0
        self.slowest_seconds = 0.0

    def write(self, size_bytes: int) -> None:
        for number in (next(self._numbers) for _ in range(size_bytes // CONTENT_BYTES)):
            content = bytes([number % 256]) * CONTENT_BYTES
            row = plain(order_stream(order_id(number)), content_id(str(number)), content)
            began = time.monotonic()
            answers = self._ledger._writer.run(
                [
                    quote(number),
                    task(number, accept(mined(transfer(of=str(number))))),
                    task(number, hand_in(str(number)), (row,)),
                ]
            )
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            self.longest_bytes = max(self.longest_bytes, self._wal.stat().st_size)
            assert all(isinstance(answer, Receipt) for answer in answers), answers


@pytest.mark.slow
def test_the_write_ahead_log_begins_anew_under_constant_load(ledger: Ledger) -> None:
    pressure = Pressure(ledger)

    pressure.write(WRITTEN_BYTES)

    print(  # noqa: T201 - the figures are the result
        f"{WRITTEN_BYTES >> 20} MiB written, WAL at most {pressure.longest_bytes / 2**20:.0f} MiB,"
        f" slowest commit {pressure.slowest_seconds * 1000:.0f} ms"
    )
    assert pressure.longest_bytes < 2 * RESTART_BYTES
    # The file keeps its length, yet a short log in it is not moved after every commit.
    passes = ledger.store._wal.passes
    assert passes < 20


@pytest.mark.slow
def test_a_long_reader_keeps_the_log_growing_but_never_the_writer_waiting(ledger: Ledger) -> None:
    pressure = Pressure(ledger)
    pressure.write(8 * 2**20)
    reader = sqlite3.connect(ledger.store.path, isolation_level=None)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM stored_events").fetchone()

    pressure.write(WRITTEN_BYTES)
    assert reader.execute("SELECT count(*) FROM stored_events").fetchone() == before
    assert pressure.slowest_seconds < 3
    assert pressure.longest_bytes > WRITTEN_BYTES

    reader.execute("COMMIT")
    reader.close()
    grown = pressure.longest_bytes
    pressure.write(WRITTEN_BYTES // 2)
    assert pressure.longest_bytes < grown + RESTART_BYTES


async def with_content(teller: Teller) -> Story:
    """Return an order whose deliverable is the secret."""
    await opening(teller)
    story = await teller.quote()
    await story.pay()
    await story.hand_in(SECRET)
    await story.collect()
    return story


def holding(folder: Path) -> list[str]:
    """Return the ledger's files that hold the secret."""
    return sorted(p.name for p in folder.glob("ledger.db*") if SECRET in p.read_bytes())


def test_what_was_erased_goes_from_the_write_ahead_log_too(tmp_path: Path) -> None:
    files = LedgerFiles(tmp_path)
    ledger = files.open()
    ledger.start()
    try:
        story = asyncio.run(with_content(Teller(ledger)))
        assert holding(files.data_dir) != []

        asyncio.run(story.erase())

        assert ledger.store._wal.emptier.wait(WAIT_SECONDS)
        assert holding(files.data_dir) == []
    finally:
        ledger.close()


def test_a_reader_or_a_crash_holds_the_emptying_up_and_no_more(tmp_path: Path) -> None:
    files = LedgerFiles(tmp_path)
    ledger = files.open()
    ledger.start()
    reader = sqlite3.connect(files.database, isolation_level=None)
    try:
        story = asyncio.run(with_content(Teller(ledger)))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM stored_events").fetchone()
        asyncio.run(story.erase())
        assert holding(files.data_dir) != []
        shutil.copytree(files.data_dir, tmp_path / "crashed" / "data")

        reader.execute("COMMIT")

        assert ledger.store._wal.emptier.wait(WAIT_SECONDS)
        assert holding(files.data_dir) == []
    finally:
        reader.close()
        ledger.close()
    crashed = LedgerFiles(tmp_path / "crashed")
    assert holding(crashed.data_dir) != []
    shutil.copy(files.guard, crashed.guard)
    with_it = crashed.open()
    try:
        assert with_it.store._wal.emptier.wait(WAIT_SECONDS)
        assert holding(crashed.data_dir) == []
    finally:
        with_it.close()
