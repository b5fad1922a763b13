"""How fast an audit is, and what it holds in memory: `python -m scripts.bench_audit`.

Two processes audit a ledger; beside them, in the same run, two threads do nothing but the one step
that nobody can leave out: recovering the key of a signature. Memory is compared with that of a
smaller ledger, each audit in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from coincurve import PrivateKey, PublicKey
from rich.console import Console
from rich.table import Table

from ledger.audit import audit_snapshot
from ledger.audit_fold import beside
from ledger.audit_source import read_guard
from scripts.bench_making import config_of, make_ledger
from scripts.bench_proofs import peak_mb

SIZES: Final = (10_000, 100_000)
ROUNDS: Final = 3
THREADS: Final = 2
RECOVERIES: Final = 10_000
BAR: Final = 0.8
MORE_MB: Final = 100.0
ROOT: Final = Path(__file__).resolve().parent.parent

Figures = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both sizes, print the table and the bars; exit 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar="EVENTS")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.measure is not None:
        print(json.dumps(measured(options.measure)))
        return 0
    # A polite end takes the same way out as Ctrl-C, so that the folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="bench-audit-"))
    try:
        small, large = (_of_size(folder / str(n), n, options.rounds) for n in options.sizes)
    finally:
        shutil.rmtree(folder)
    return _report(options.sizes, small, large, as_json=options.json)


def _of_size(folder: Path, size: int, rounds: int) -> Figures:
    folder.mkdir()
    make_ledger(folder, size)
    audits, bare = [], []
    for _ in range(rounds):
        bare.append(recoveries_per_second())
        audits.append(_audited_apart(folder))
    shutil.rmtree(folder)
    ratios = [found["per_s"] / rate for found, rate in zip(audits, bare, strict=True)]
    return {
        "per_s": statistics.median(found["per_s"] for found in audits),
        "bare_per_s": statistics.median(bare),
        "ratio": statistics.median(ratios),
        "peak_mb": max(found["peak_mb"] for found in audits),
    }


def _audited_apart(folder: Path) -> Figures:
    """Audit in a fresh process, so that the memory is the audit's alone."""
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.bench_audit", "--measure", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: Figures = json.loads(ended.stdout)
    return found


def measured(folder: Path) -> Figures:
    """Return the rate and the peak memory of one audit by two processes, their start included."""
    config = config_of(folder)
    begin = time.perf_counter()
    note = read_guard(config.guard_file)
    path = config.data_dir / "ledger.db"
    with beside(path) as (db, fold):
        report = audit_snapshot(db, note, fold=fold)
        seconds = time.perf_counter() - begin
    if not report.ok or fold is None:
        raise RuntimeError(f"no sound audit by two processes: {report.findings[:3]}")
    other_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"per_s": report.size / seconds, "peak_mb": peak_mb() + other_mb}


def recoveries_per_second() -> float:
    """Return how many bare key recoveries two threads make."""
    digest = b"\x07" * 32
    signature = PrivateKey(b"\x01" * 32).sign_recoverable(digest, hasher=None)

    def work(_: int) -> None:
        for _ in range(RECOVERIES):
            PublicKey.from_signature_and_message(signature, digest, hasher=None)

    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return THREADS * RECOVERIES / (time.perf_counter() - begin)


def _report(sizes: Sequence[int], small: Figures, large: Figures, *, as_json: bool) -> int:
    more = large["peak_mb"] - small["peak_mb"]
    met = large["ratio"] >= BAR and more <= MORE_MB
    if as_json:
        print(json.dumps({"small": small, "large": large, "met": met}))
        return 0 if met else 1
    table = Table("", *(f"{size:,} events" for size in sizes))
    rows = {
        "per_s": "audited events per second, two processes",
        "bare_per_s": "bare recoveries per second, two threads",
        "ratio": "audit / bare recoveries, median of the rounds",
        "peak_mb": "peak memory of both processes, MB",
    }
    for name, words in rows.items():
        table.add_row(words, f"{small[name]:,.2f}", f"{large[name]:,.2f}")
    console = Console()
    console.print(table)
    console.print(f"audit / bare: {large['ratio']:.2f} (bar {BAR})")
    console.print(f"memory beyond the smaller ledger: {more:.0f} MB (bar {MORE_MB:.0f})")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
