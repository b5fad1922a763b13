"""Replay a ledger from its bytes and say what does not fit; also while the service runs.

`python -m scripts.audit_replay DATA_DIR` ends with 0 if nothing was found, 1 with findings, and 2
if the ledger could not be read. The keys are believed from the genesis unless they are given.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from ledger.audit import audit_snapshot
from ledger.audit_held import Held, HeldUnreadable, read_held
from ledger.audit_keys import Trust
from ledger.audit_report import CHECKS, AuditFinding, Report
from ledger.audit_source import AuditImpossible, read_guard, snapshot
from projections.runner import Projector
from scripts.rebuild_views import EntrySource

TITLES: Final = dict(sorted({**CHECKS, "C17": "the views are what the events make"}.items()))
EXIT_FINDINGS: Final = 1
EXIT_IMPOSSIBLE: Final = 2
SHOWN_DIFFERENCES: Final = 20
PROGRESS_STEP: Final = 256

Row = tuple[object, ...]


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        report = replay(
            options.data_dir,
            guard=options.guard or default_guard(options.data_dir),
            trust=Trust(options.log_key, options.wallet and options.wallet.lower()),
            views=None if options.no_views else options.views or options.data_dir / "views.db",
            held=[held for path in options.held for held in _held(path)],
        )
    except (AuditImpossible, HeldUnreadable, OSError, sqlite3.Error) as error:
        print(f"audit: could not run: {error}", file=sys.stderr)
        return EXIT_IMPOSSIBLE
    show = print_json if options.json else print_report
    show(report)
    return os.EX_OK if report.ok else EXIT_FINDINGS


def default_guard(data_dir: Path) -> Path:
    """Return where the service keeps the last signed head unless it is told otherwise."""
    return data_dir.absolute().with_name(data_dir.absolute().name + ".guard")


def _held(path: Path) -> list[Held]:
    return read_held(path.read_text(encoding="utf-8"), path.name)


def replay(
    data_dir: Path,
    *,
    guard: Path,
    trust: Trust,
    views: Path | None,
    held: Sequence[Held] = (),
) -> Report:
    """Audit a data folder. What may only lag is read first: views and guard, then the ledger."""
    with ExitStack() as stack:
        opened = _open_views(views, stack)
        note = read_guard(guard)
        db = stack.enter_context(snapshot(data_dir / "ledger.db"))
        progress = stack.enter_context(_progress())
        report = audit_snapshot(db, note, trust=trust, progress=progress, held=held)
        if not held:
            report.notes.append("nothing was held against it: a rewritten log would pass, too")
        if not report.ok:
            report.notes.append("views not compared: the ledger itself has findings")
        elif opened is None:
            report.notes.append("views not compared: there are none, or they were not asked for")
        elif isinstance(opened, AuditImpossible):
            _found(report, str(opened))
        else:
            c17_views(db, opened, report)
    return report


def _open_views(
    views: Path | None, stack: ExitStack
) -> sqlite3.Connection | AuditImpossible | None:
    if views is None or not views.is_file():
        return None
    try:
        return stack.enter_context(snapshot(views))
    except AuditImpossible as error:
        return error


def c17_views(db: sqlite3.Connection, views: sqlite3.Connection, report: Report) -> None:
    """C17: the views, at the position they stand at, are what the events up to there make."""
    report.checked["C17"] = 0
    try:
        position = views.execute("SELECT position FROM tracking WHERE name='views'").fetchone()[0]
        if position > report.size:
            _found(report, f"the views stand at {position}, the ledger ends at {report.size}")
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "views.db"
            projector = Projector(EntrySource(db, position), path)
            projector.catch_up()
            projector.close()
            with snapshot(path) as fresh:
                _compare(views, fresh, report)
    except (sqlite3.Error, TypeError) as error:
        _found(report, f"the views cannot be read: {error}")


def _compare(views: sqlite3.Connection, fresh: sqlite3.Connection, report: Report) -> None:
    stored, made = _tables(views), _tables(fresh)
    for name in sorted(stored.keys() | made.keys()):
        if stored.get(name) != made.get(name):
            _found(report, f"table {name!r} has other columns than the events make, or is no view")
            continue
        query = f'SELECT {made[name]} FROM "{name}" ORDER BY {made[name]}'  # noqa: S608 - our own schema
        found = 0
        for row, where in _merged(views.execute(query), fresh.execute(query)):
            report.checked["C17"] += 1
            if where != "both" and found < SHOWN_DIFFERENCES:
                found += 1
                _found(report, f"{name}: only {where}: {row}")


def _tables(db: sqlite3.Connection) -> dict[str, str]:
    """Return the columns of every table that holds views, quoted for a query."""
    names = db.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
    columns = "SELECT name FROM pragma_table_info(?) ORDER BY cid"
    return {
        name: ", ".join(f'"{column}"' for (column,) in db.execute(columns, (name,)))
        for (name,) in names
        if not name.startswith(("sqlite_", "_sqlite_"))
    }


def _merged(stored: Iterator[Row], made: Iterator[Row]) -> Iterator[tuple[Row, str]]:
    """Walk two sorted tables side by side; say of each row where it stands."""
    left, right = next(stored, None), next(made, None)
    while left is not None or right is not None:
        if left == right and left is not None:
            yield left, "both"
            left, right = next(stored, None), next(made, None)
        elif right is None or (left is not None and _rank(left) < _rank(right)):
            yield left or (), "in the views"
            left = next(stored, None)
        else:
            yield right, "from the events"
            right = next(made, None)


def _rank(row: Row) -> list[tuple[int, object]]:
    """Order rows as SQLite does: nothing, numbers, text, bytes."""
    kinds = {type(None): 0, int: 1, float: 1, str: 2, bytes: 3}
    return [(kinds[type(value)], 0 if value is None else value) for value in row]


def _found(report: Report, message: str) -> None:
    report.findings.append(AuditFinding("C17", None, None, message))


def print_report(report: Report) -> None:
    """Print one line for each check, then every finding under its check, then the verdict."""
    for check, title in TITLES.items():
        findings = [finding for finding in report.findings if finding.check == check]
        made = report.checked.get(check)
        outcome = f"{len(findings)} findings" if findings else "ok" if made else "not checked"
        print(f"{check}  {title:<68} {made or 0:>9}  {outcome}")
        for finding in findings:
            where = "" if finding.position is None else f"position {finding.position}: "
            whose = "" if finding.stream is None else f"{finding.stream}: "
            print(f"     {where}{whose}{finding.message}")
    for note in report.notes:
        print(f"note: {note}")
    count = len(report.findings)
    print("audit: ok" if report.ok else f"audit: {count} finding{'s' if count > 1 else ''}")


def print_json(report: Report) -> None:
    """Print the whole report as one JSON object."""
    print(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and nothing where the output is read by a program."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying")

        def show(done: int, total: int) -> None:
            if done % PROGRESS_STEP == 0:
                bar.update(task, completed=done, total=total)

        yield show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit_replay", description=__doc__)
    parser.add_argument("data_dir", type=Path, help="the service's data folder, or a copy of it")
    parser.add_argument("--guard", type=Path, help="the guard file; default: DATA_DIR.guard")
    parser.add_argument("--log-key", help="the log's verifier key, known from elsewhere")
    parser.add_argument("--wallet", help="the signing wallet's address, known from elsewhere")
    parser.add_argument(
        "--held",
        type=Path,
        action="append",
        default=[],
        help="a file with what somebody kept: answers, signed events, or a checkpoint; repeatable",
    )
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--views", type=Path, help="the views to compare; default: views.db")
    views.add_argument("--no-views", action="store_true", help="compare no views")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    # A damaged ledger may hold text that the terminal cannot show.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text
    raise SystemExit(main())
