"""Append speed beside what it is compared with: `python -m scripts.bench_ledger`.

One process, all contenders in turn in every round, medians over the rounds. Each operation of the
library and of ours is one command on an order: load it, decide, append one event, durable
(`synchronous=FULL`) before it counts. Ours also signs each event, grows the tree, signs and guards
a checkpoint, and makes the inclusion proof of each answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from scripts.bench_library import LibraryOrders
from scripts.bench_ours import OurOrders
from scripts.listening import tune_interpreter

CALLERS: Final = (1, 16, 64, 256)
THREADS: Final = 8
EVENT_BYTES: Final = 1400
BAR_AT_64: Final = 5.0
BAR_AT_1: Final = 0.5

Contender = Callable[[float], float]
"""Runs for about so many seconds and returns operations per second."""


def raw_sqlite(folder: Path, rows_per_transaction: int) -> Contender:
    """Return inserts of event-sized rows, one durable commit per so many rows."""
    db = sqlite3.connect(folder / f"raw{rows_per_transaction}.db", isolation_level=None)
    db.execute("PRAGMA page_size=8192")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t (a TEXT, b INTEGER, c TEXT, d BLOB, PRIMARY KEY (a, b))")
    state, count = b"x" * EVENT_BYTES, 0

    def run(seconds: float) -> float:
        nonlocal count
        begin, first = time.perf_counter(), count
        while time.perf_counter() - begin < seconds:
            db.execute("BEGIN")
            for _ in range(rows_per_transaction):
                count += 1
                db.execute("INSERT INTO t VALUES (?,?,?,?)", (f"{count:032x}", 1, "kind", state))
            db.execute("COMMIT")
        return (count - first) / (time.perf_counter() - begin)

    return run


def library_threads(orders: LibraryOrders, threads: int) -> Contender:
    """Return the library doing the same work, unsigned, from threads."""

    def work(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            done += orders.lifecycle()
        return done

    def run(seconds: float) -> float:
        begin = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            total = sum(pool.map(work, [begin + seconds] * threads))
        return total / (time.perf_counter() - begin)

    return run


def ours(orders: OurOrders, callers: int, loop: asyncio.AbstractEventLoop) -> Contender:
    """Return our ledger with so many concurrent callers."""

    def run(seconds: float) -> float:
        return loop.run_until_complete(orders.run(callers, seconds))

    return run


def main(argv: list[str] | None = None) -> int:
    """Run the rounds, print the table and the bars; exit 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.6, help="per contender and round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="bench-ledger-"))
    try:
        rates = measure(folder, options.rounds, options.seconds)
    finally:
        shutil.rmtree(folder)
    return report(rates, as_json=options.json)


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return operations per second of each contender, one figure per round."""
    loop = uvloop.new_event_loop()  # as the service runs
    tune_interpreter()
    library, our = LibraryOrders(folder), OurOrders(folder)
    contenders: dict[str, Contender] = {
        "raw SQLite, 1 row per commit": raw_sqlite(folder, 1),
        "raw SQLite, 100 rows per commit": raw_sqlite(folder, 100),
        "library, 1 thread": library_threads(library, 1),
        f"library, {THREADS} threads": library_threads(library, THREADS),
        **{f"ours, {n} callers": ours(our, n, loop) for n in CALLERS},
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for contender in contenders.values():
            contender(seconds / 4)
        for number in range(rounds):
            order = list(contenders.items())
            shift = number % len(order)
            for name, contender in order[shift:] + order[:shift]:
                rates[name].append(contender(seconds))
    finally:
        our.close()
        library.close()
        loop.close()
    return rates


def report(rates: dict[str, list[float]], *, as_json: bool) -> int:
    """Print the medians and whether each bar is met."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    at_64 = _ratio(rates, "ours, 64 callers", f"library, {THREADS} threads")
    at_1 = _ratio(rates, "ours, 1 callers", "library, 1 thread")
    met = at_64 >= BAR_AT_64 and at_1 >= BAR_AT_1
    if as_json:
        sys.stdout.write(json.dumps({"median": median, "at_64": at_64, "at_1": at_1}) + "\n")
        return 0 if met else 1
    table = Table("contender", "median op/s", "min", "max")
    for name, values in rates.items():
        table.add_row(name, f"{median[name]:,.0f}", f"{min(values):,.0f}", f"{max(values):,.0f}")
    console = Console()
    console.print(table)
    console.print(f"ours at 64 / library {THREADS} threads: {at_64:.2f} (bar {BAR_AT_64})")
    console.print(f"ours at 1 / library single save: {at_1:.2f} (bar {BAR_AT_1})")
    return 0 if met else 1


def _ratio(rates: dict[str, list[float]], above: str, below: str) -> float:
    """Return the median of the rounds' own ratios: the machine's drift cancels out."""
    return statistics.median(a / b for a, b in zip(rates[above], rates[below], strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
