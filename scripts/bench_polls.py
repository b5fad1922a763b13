"""What a poll costs as the ledger grows: `python -m scripts.bench_polls`.

A reader polls its cursor in ledgers of several sizes; beside it, in the same run and on the same
events, stands the design that many markets have: a flag on every row, a select of the rows whose
flag is not set, an update that sets it. Both hand out the same number of events per poll.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from api.feeds.acts import acknowledge
from api.feeds.desk import Desk
from api.feeds.handing import Wish, hand_out
from api.feeds.models import AckRequest
from ledger.cursor_commands import OpenCursor, Seek
from ledger.cursor_events import CursorSettings
from ledger.service import Ledger
from ledger.values import cursor_stream
from projections.feed_reader import NOWHERE, FeedReader
from projections.feeds import GENERATION, PROVIDER
from projections.runner import Runner
from scripts.bench_making import config_of, make_ledger

SIZES: Final = (10_000, 100_000, 1_000_000)
POLLS: Final = 400
BATCH: Final = 20
MISSED_OF: Final = 100
"""One row in so many was never fetched in time: its reader was away for longer than the window."""
WINDOW_MS: Final = 300_000
WORSE: Final = 1.5
SEED: Final = 20_261_122
ROOT: Final = Path(__file__).resolve().parent.parent

Figures = dict[str, float]

NAMES: Final = {
    "auto_ms": "cursor, automatic: claim and acknowledge, p50 ms",
    "lease_ms": "cursor, lease: fetch, p50 ms",
    "ack_ms": "cursor, lease: acknowledge, p50 ms",
    "empty_ms": "cursor: nothing new, p50 ms",
    "flags_ms": "flags: select and update, p50 ms",
    "flags_empty_ms": "flags: nothing new, p50 ms",
}
OURS: Final = ("auto_ms", "lease_ms", "ack_ms", "empty_ms")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every size and print the table; exit 1 if a poll of ours grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="EVENTS")
    parser.add_argument("--ledgers", type=Path, help="a folder that holds ledgers by their sizes")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure is not None:
        print(json.dumps(measured(options.measure)))
        return 0
    # A polite end takes the same way out as Ctrl-C, so that the folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="bench-polls-"))
    try:
        found = [_of_size(folder / str(size), size, options.ledgers) for size in options.sizes]
    finally:
        shutil.rmtree(folder)
    return _report(options.sizes, found)


def _of_size(folder: Path, size: int, ledgers: Path | None) -> Figures:
    """Measure in a fresh process, on a copy of a ledger that is there or on a new one."""
    if ledgers is not None and (ledgers / str(size)).is_dir():
        shutil.copytree(ledgers / str(size), folder)
    else:
        folder.mkdir()
        make_ledger(folder, size)
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.bench_polls", "--measure", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shutil.rmtree(folder)
    found: Figures = json.loads(ended.stdout)
    return found


def measured(folder: Path) -> Figures:
    """Return the figures of one ledger."""
    config = config_of(folder)
    ledger = Ledger(config)
    views = config.data_dir / "views.db"
    runner = Runner(ledger, views)
    runner.start()
    ledger.start(on_commit=runner.wake)
    feeds = FeedReader(views)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            ours = loop.run(_cursors(Desk(ledger, runner, feeds)))
        return {**ours, **_flags(folder / "flags.db", feeds)}
    finally:
        feeds.close()
        ledger.stop()
        runner.stop()
        ledger.close()


async def _cursors(desk: Desk) -> Figures:
    rng, head = random.Random(SEED), desk.feeds.head(PROVIDER)  # noqa: S311 - the same each time
    starts = [rng.randrange(head - BATCH) for _ in range(POLLS)]
    auto, lease, empty = (PROVIDER, "auto"), (PROVIDER, "lease"), (PROVIDER, "empty")
    for key, mode in ((auto, "auto"), (lease, "ack"), (empty, "ack")):
        await _open(desk, key, mode)
    wish = Wish(holder="bench", limit=BATCH)
    times: dict[str, list[float]] = {name: [] for name in OURS}
    for start in starts:
        await _move(desk, auto, start)
        times["auto_ms"].append(await _timed(lambda: hand_out(desk, auto, wish)))
        await _move(desk, lease, start)
        times["lease_ms"].append(await _timed(lambda: hand_out(desk, lease, wish)))
        times["ack_ms"].append(await _timed(lambda: _ack(desk, lease)))
    await _move(desk, empty, head)
    for _ in starts:
        times["empty_ms"].append(await _timed(lambda: hand_out(desk, empty, wish)))
    return {name: statistics.median(each) for name, each in times.items()}


async def _timed(act: Callable[[], Awaitable[object]]) -> float:
    begin = time.perf_counter()
    await act()
    return 1000 * (time.perf_counter() - begin)


async def _open(desk: Desk, key: tuple[str, str], mode: str) -> None:
    settings = CursorSettings(
        start="earliest",
        mode="auto" if mode == "auto" else "ack",
        lease_ms=30_000,
        max_batch=BATCH,
        max_attempts=10,
        backoff_ms=0,
        backoff_max_ms=0,
        on_poison="block",
    )
    command = OpenCursor(settings, GENERATION, NOWHERE, desk.ledger.clock())
    await desk.ledger.act_on_cursor(cursor_stream(*key), command)


async def _move(desk: Desk, key: tuple[str, str], to: int) -> None:
    place = desk.feeds.place(key[0], to) or NOWHERE
    await desk.act(key, lambda _state, _feed, now: Seek(place, "bench", now))


async def _ack(desk: Desk, key: tuple[str, str]) -> None:
    state = await desk.state(key)
    through = state.lease.to.pos if state.lease is not None else 0
    said = AckRequest(lease_token=state.token, through=through)
    await acknowledge(desk, key, said)


def _flags(path: Path, feeds: FeedReader) -> Figures:
    """Measure flags on rows: the same events, one row each, in a durable SQLite file."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(
        "CREATE TABLE message (id INTEGER PRIMARY KEY, agent TEXT NOT NULL, body TEXT NOT NULL,"
        " delivered INTEGER NOT NULL, created_ms INTEGER NOT NULL)"
    )
    db.execute("CREATE INDEX message_delivered ON message (delivered)")
    head, now = feeds.head(PROVIDER), 10**12
    with_missed = (
        (n, "agent", "x" * 900, 0 if n % MISSED_OF == 0 else 1, now - 10**9)
        for n in range(1, head + 1)
    )
    db.execute("BEGIN")
    db.executemany("INSERT INTO message VALUES (?,?,?,?,?)", with_missed)
    db.execute("COMMIT")
    times = [_flag_poll(db, head + 1 + n * BATCH, now, BATCH) for n in range(POLLS)]
    empty = [_flag_poll(db, 0, now, 0) for _ in range(POLLS)]
    db.close()
    return {
        "flags_ms": statistics.median(times),
        "flags_empty_ms": statistics.median(empty),
    }


def _flag_poll(db: sqlite3.Connection, first: int, now: int, new: int) -> float:
    rows = ((first + n, "agent", "x" * 900, 0, now) for n in range(new))
    db.executemany("INSERT INTO message VALUES (?,?,?,?,?)", rows)
    begin = time.perf_counter()
    found = db.execute(
        "SELECT id, body FROM message WHERE agent=? AND delivered=0 AND created_ms>=?",
        ("agent", now - WINDOW_MS),
    ).fetchall()
    if found:
        marks = ",".join("?" * len(found))
        ids = [row[0] for row in found]
        db.execute(f"UPDATE message SET delivered=1 WHERE id IN ({marks})", ids)  # noqa: S608
    return 1000 * (time.perf_counter() - begin)


def _report(sizes: Sequence[int], found: Sequence[Figures]) -> int:
    table = Table("", *(f"{size:,} events" for size in sizes), "ratio")
    for name, words in NAMES.items():
        ratio = found[-1][name] / found[0][name]
        table.add_row(words, *(f"{each[name]:.3f}" for each in found), f"{ratio:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{POLLS} polls of {BATCH} events at random places, seed {SEED}; of the flags one row in"
        f" {MISSED_OF} was missed by a reader that was away, and stays"
    )
    grown = [NAMES[name] for name in OURS if found[-1][name] > WORSE * found[0][name]]
    for words in grown:
        console.print(f"missed: {words}: more than {WORSE} times")
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
