"""The audit of a service that runs elsewhere: its log fetched into a file, and replayed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger.audit import audit_snapshot
from ledger.audit_copy import LedgerCopy
from ledger.audit_keys import Trust
from ledger.audit_others import Evidence
from ledger.audit_report import Report
from ledger.audit_source import snapshot
from scripts.audit_fetch import LiveLog
from scripts.audit_print import notes_on, progress_bar

PREFIX: Final = "ivxp-ledger-audit-"
NOT_SHOWN: Final = "not checked, as a live service does not show it: frontier, views"


def replay_live(log: LiveLog, *, trust: Trust, evidence: Evidence) -> Report:
    """Fetch the whole log as of its newest checkpoint, and audit it."""
    note, size = log.checkpoint()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, progress_bar() as show:
        path = Path(folder) / "ledger.db"
        _fetch(log, path, size, show)
        with snapshot(path) as db:
            report = audit_snapshot(db, note, trust=trust, progress=show, evidence=evidence)
    report.notes += [*notes_on(evidence), NOT_SHOWN]
    return report


def _fetch(log: LiveLog, path: Path, size: int, show: Callable[[int, int], None]) -> None:
    copy = LedgerCopy(path)
    try:
        for position, entry in log.entries(size):
            copy.add_entries([(position, entry)])
            show(position, size)
        for tile in log.tiles(size):
            copy.add_tile(*tile)
    finally:
        copy.close()
