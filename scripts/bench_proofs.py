"""What a large ledger costs beside a small one: `python -m scripts.bench_proofs`.

Append rate, proofs, start-up and memory at two sizes, each in a process of its own, side by side.
Nothing may grow with the ledger but the file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ledger.service import Ledger
from scripts.bench_making import config_of, grow, make_ledger

SIZES: Final = (10_000, 1_000_000)
APPENDED: Final = 10_000
BEFORE: Final = 5_000
"""Events appended before the clock runs: a service that has just started is not the question."""
PROOFS: Final = 4_000
OPENINGS: Final = 5
SEED: Final = 20260101
WORSE: Final = 1.5
P99_MS: Final = 2.0
START_MS: Final = 100.0
ROUNDS: Final = 5
ROOT: Final = Path(__file__).resolve().parent.parent

Figures = dict[str, float]

NAMES: Final = {
    "append_per_s": "appended events per second",
    "inclusion_p50_ms": "inclusion proof, p50, ms",
    "inclusion_p99_ms": "inclusion proof, p99, ms",
    "inclusion_p50_cpu_ms": "  of it this thread's work, p50",
    "inclusion_p99_cpu_ms": "  of it this thread's work, p99",
    "consistency_p50_ms": "consistency proof, p50, ms",
    "consistency_p99_ms": "consistency proof, p99, ms",
    "consistency_p50_cpu_ms": "  of it this thread's work, p50",
    "consistency_p99_cpu_ms": "  of it this thread's work, p99",
    "start_ms": "start-up of the writer, ms",
    "rss_started_mb": "memory after the start, MB",
    "rss_mb": "peak memory, MB",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both sizes and print the table; exit 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar="EVENTS")
    parser.add_argument("--ledgers", type=Path, help="a folder that holds ledgers by their sizes")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.measure is not None:
        print(json.dumps(measured(options.measure)))
        return 0
    # A polite end takes the same way out as Ctrl-C, so that the folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="bench-proofs-"))
    try:
        small, large = _rounds(folder, options.sizes, options.ledgers)
    finally:
        shutil.rmtree(folder)
    missed = bars(small, large)
    if options.json:
        print(json.dumps({"small": small, "large": large, "missed": missed}))
    else:
        _print(options.sizes, small, large, missed)
    return 1 if missed else 0


def _rounds(folder: Path, sizes: Sequence[int], ledgers: Path | None) -> list[Figures]:
    """Measure every size in turn, several times, and return the best of each.

    What else the machine does only ever adds to a time, so the least is what the work costs.
    """
    for size in sizes:
        if ledgers is None or not (ledgers / str(size)).is_dir():
            _make(folder / str(size), size)
    found: list[list[Figures]] = [[] for _ in sizes]
    for _ in range(ROUNDS):
        for size, rounds in zip(sizes, found, strict=True):
            made = folder / str(size)
            rounds.append(_on_a_copy(made if made.is_dir() else (ledgers or folder) / str(size)))
    return [_best(rounds) for rounds in found]


def _on_a_copy(ledger: Path) -> Figures:
    """Measure in a fresh process: memory is that of its work alone."""
    with tempfile.TemporaryDirectory(prefix="bench-proofs-") as folder:
        shutil.copytree(ledger, folder, dirs_exist_ok=True)
        ended = subprocess.run(
            [sys.executable, "-m", "scripts.bench_proofs", "--measure", folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: Figures = json.loads(ended.stdout)
    return found


def _best(rounds: Sequence[Figures]) -> Figures:
    """Return the highest rate, the shortest times, and the most memory."""
    most = {"append_per_s", "rss_started_mb", "rss_mb"}
    return {
        name: (max if name in most else min)(figures[name] for figures in rounds)
        for name in rounds[0]
    }


def _make(folder: Path, size: int) -> None:
    folder.mkdir()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"writing {size:,} events", total=size)
        make_ledger(folder, size, lambda done: bar.update(task, completed=done))


def measured(folder: Path) -> Figures:
    """Return the figures of one ledger, in this process."""
    config = config_of(folder)
    starts = []
    for _ in range(OPENINGS):
        begin = time.perf_counter()
        ledger = Ledger(config)
        ledger.start()
        starts.append(time.perf_counter() - begin)
        ledger.close()
    ledger = Ledger(config)
    ledger.start()
    started_mb = rss_mb()
    try:
        proofs = _proofs(ledger)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(grow(ledger, ledger.head.size + BEFORE))
            begin, before = time.perf_counter(), ledger.head.size
            runner.run(grow(ledger, before + APPENDED))
        rate = (ledger.head.size - before) / (time.perf_counter() - begin)
    finally:
        ledger.close()
    figures = {"append_per_s": rate}
    for name, (by_clock, by_work) in proofs.items():
        for percent in (50, 99):
            figures[f"{name}_p{percent}_ms"] = _quantile(by_clock, percent)
            figures[f"{name}_p{percent}_cpu_ms"] = _quantile(by_work, percent)
    return {
        **figures,
        "start_ms": 1000 * statistics.median(starts),
        "rss_started_mb": started_mb,
        "rss_mb": peak_mb(),
    }


def _proofs(ledger: Ledger) -> dict[str, tuple[list[float], list[float]]]:
    """Return how long proofs of random events take once the tree's upper nodes are known."""
    proofs, size = ledger.proofs, ledger.head.size
    rng = random.Random(SEED)  # noqa: S311 - the same events each time
    places = [rng.randint(1, size) for _ in range(PROOFS)]
    return {
        "inclusion": _timed(lambda at: proofs.inclusion(at, size), places),
        "consistency": _timed(lambda at: proofs.consistency(at, size), places),
    }


def _timed(act: Callable[[int], object], places: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return milliseconds of the clock and of this thread's own work, for each place.

    Every place is asked for once before: what is measured is a service that has been asked.
    """
    for place in places:
        act(place)
    by_clock, by_work = [], []
    for place in places:
        begin, worked = time.perf_counter(), time.thread_time()
        act(place)
        by_work.append(1000 * (time.thread_time() - worked))
        by_clock.append(1000 * (time.perf_counter() - begin))
    return by_clock, by_work


def _quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


def rss_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb() -> float:
    """Return the most memory that this program held.

    Not from `getrusage`: that remembers what the process held that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def bars(small: Figures, large: Figures) -> list[str]:
    """Return the bars that were missed, in words."""
    missed = []
    if large["append_per_s"] * WORSE < small["append_per_s"]:
        missed.append("the append rate")
    grows = ("inclusion_p50_ms", "consistency_p50_ms", "rss_started_mb", "rss_mb")
    missed += [
        f"{NAMES[name]}: more than {WORSE} times"
        for name in grows
        if large[name] > WORSE * small[name]
    ]
    slow = ("inclusion_p99_ms", "consistency_p99_ms")
    missed += [f"{NAMES[name]}: above {P99_MS}" for name in slow if large[name] > P99_MS]
    if large["start_ms"] > START_MS:
        missed.append(f"{NAMES['start_ms']}: above {START_MS}")
    return missed


def _print(sizes: Sequence[int], small: Figures, large: Figures, missed: list[str]) -> None:
    table = Table("", *(f"{size:,} events" for size in sizes), "ratio")
    for name, words in NAMES.items():
        ratio = large[name] / small[name]
        table.add_row(words, f"{small[name]:,.2f}", f"{large[name]:,.2f}", f"{ratio:.2f}")
    console = Console()
    console.print(table)
    console.print(f"best of {ROUNDS} rounds in turn; the same random events, seed {SEED}")
    for words in missed:
        console.print(f"missed: {words}")


if __name__ == "__main__":
    raise SystemExit(main())
