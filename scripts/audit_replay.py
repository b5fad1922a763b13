"""Replay a ledger from its bytes and say what does not fit; also while the service runs.

`python -m scripts.audit_replay DATA_DIR` ends with 0 if nothing was found, 1 with findings, and 2
if the ledger could not be read. The keys are believed from the genesis unless they are given. With
the URL of a service instead of a folder, what the service shows is fetched and audited.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from ledger.audit import audit_snapshot
from ledger.audit_copy import ABSENT
from ledger.audit_fold import WORTH_IT, Fold, beside
from ledger.audit_forms import HeldUnreadable
from ledger.audit_keys import Trust
from ledger.audit_others import NO_EVIDENCE, Evidence
from ledger.audit_report import Report
from ledger.audit_source import AuditImpossible, read_guard, snapshot
from scripts.audit_export import c28_reproducible
from scripts.audit_fetch import LiveLog
from scripts.audit_inputs import evidence_of, parser, trust_of
from scripts.audit_live import replay_live
from scripts.audit_order import replay_order
from scripts.audit_print import TITLES, notes_on, print_json, print_report, progress_bar
from scripts.audit_views import c17_views, found

__all__ = ["TITLES", "main", "replay"]

EXIT_FINDINGS: Final = 1
EXIT_IMPOSSIBLE: Final = 2
LEDGER_FILE: Final = "ledger.db"
SQLITE: Final = "sqlite:///"
TOKEN: Final = "LEDGER_TOKEN"  # noqa: S105 - the name of a variable


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__).parse_args(argv)
    try:
        with ExitStack() as stack:
            live = options.ledger.lower().startswith(("http://", "https://"))
            report = (_live if live else _local)(options, stack)
    except (AuditImpossible, HeldUnreadable, OSError, sqlite3.Error) as error:
        print(f"audit: could not run: {error}", file=sys.stderr)
        return EXIT_IMPOSSIBLE
    show = print_json if options.json else print_report
    show(report)
    return os.EX_OK if report.ok else EXIT_FINDINGS


def _local(options: argparse.Namespace, stack: ExitStack) -> Report:
    ledger_file = ledger_path(options.ledger)
    data_dir = ledger_file.parent
    if options.order is not None:
        raise AuditImpossible(
            "--order audits one order of a live service; a folder is audited whole"
        )
    guard = options.guard or default_guard(data_dir)
    report = replay(
        data_dir,
        guard=guard,
        trust=trust_of(options),
        views=None if options.no_views else options.views or data_dir / "views.db",
        evidence=evidence_of(options, stack),
        ledger_file=ledger_file,
    )
    if options.export is not None:
        c28_reproducible(data_dir, guard, options.export, report)
    return report


def ledger_path(text: str) -> Path:
    """Return the ledger's file: of a data folder, a path to it, or a database URL."""
    scheme, sign, _ = text.partition("://")
    if sign and text.startswith(SQLITE):
        return Path(text.removeprefix(SQLITE))
    if sign and scheme.startswith("postgres"):
        raise AuditImpossible("this build has no PostgreSQL store, so it audits none")
    if sign:
        raise AuditImpossible(
            f"{scheme}:// names no ledger: give a folder, a file, or an https URL"
        )
    path = Path(text)
    return path if path.is_file() else path / LEDGER_FILE


def _live(options: argparse.Namespace, stack: ExitStack) -> Report:
    log = LiveLog(options.ledger, options.token or os.environ.get(TOKEN))
    trust = trust_of(options)
    if options.order is not None:
        evidence = evidence_of(options, stack)
        return replay_order(log, options.order, trust=trust, evidence=evidence)
    return replay_live(log, trust=trust, evidence=evidence_of(options, stack, ABSENT))


def default_guard(data_dir: Path) -> Path:
    """Return where the service keeps the last signed head unless it is told otherwise."""
    return data_dir.absolute().with_name(data_dir.absolute().name + ".guard")


def replay(
    data_dir: Path,
    *,
    guard: Path,
    trust: Trust,
    views: Path | None,
    evidence: Evidence = NO_EVIDENCE,
    ledger_file: Path | None = None,
) -> Report:
    """Audit a data folder. What may only lag is read first: views and guard, then the ledger."""
    ledger_file = ledger_file or data_dir / LEDGER_FILE
    with ExitStack() as stack:
        opened = _open_views(views, stack)
        note = read_guard(guard)
        db, fold = stack.enter_context(_opened(ledger_file, evidence))
        progress = stack.enter_context(progress_bar())
        report = audit_snapshot(
            db, note, trust=trust, progress=progress, evidence=evidence, fold=fold
        )
        report.notes += notes_on(evidence)
        if not report.ok:
            report.notes.append("views not compared: the ledger itself has findings")
        elif opened is None:
            report.notes.append("views not compared: there are none, or they were not asked for")
        elif isinstance(opened, AuditImpossible):
            found(report, str(opened))
        else:
            c17_views(db, opened, report)
    return report


@contextmanager
def _opened(
    ledger_file: Path, evidence: Evidence
) -> Iterator[tuple[sqlite3.Connection, Fold | None]]:
    """Open a ledger, with a second process for a large one where there is a second core."""
    with snapshot(ledger_file) as db:
        try:
            size = db.execute("SELECT count(*) FROM stored_events").fetchone()[0]
        except sqlite3.Error:
            size = 0  # what is broken is the audit's to say
        small = size < WORTH_IT or (os.cpu_count() or 1) == 1
        if small or evidence.content is not None:
            yield db, None
            return
    with beside(ledger_file) as found:
        yield found


def _open_views(
    views: Path | None, stack: ExitStack
) -> sqlite3.Connection | AuditImpossible | None:
    if views is None or not views.is_file():
        return None
    try:
        return stack.enter_context(snapshot(views))
    except AuditImpossible as error:
        return error


if __name__ == "__main__":
    # A damaged ledger may hold text that the terminal cannot show.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are text
    raise SystemExit(main())
