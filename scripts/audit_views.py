"""The views compared with what the events make: the one check that needs more than the ledger."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger.audit_report import AuditFinding, Report
from ledger.audit_source import snapshot
from projections.runner import Projector
from scripts.rebuild_views import EntrySource

SHOWN_DIFFERENCES: Final = 20

Row = tuple[object, ...]


def c17_views(db: sqlite3.Connection, views: sqlite3.Connection, report: Report) -> None:
    """C17: the views, at the position they stand at, are what the events up to there make."""
    report.checked["C17"] = 0
    try:
        position = views.execute("SELECT position FROM tracking WHERE name='views'").fetchone()[0]
        if position > report.size:
            found(report, f"the views stand at {position}, the ledger ends at {report.size}")
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "views.db"
            projector = Projector(EntrySource(db, position), path)
            projector.catch_up()
            projector.close()
            with snapshot(path) as fresh:
                _compare(views, fresh, report)
    except (sqlite3.Error, TypeError) as error:
        found(report, f"the views cannot be read: {error}")


def _compare(views: sqlite3.Connection, fresh: sqlite3.Connection, report: Report) -> None:
    stored, made = _tables(views), _tables(fresh)
    for name in sorted(stored.keys() | made.keys()):
        if stored.get(name) != made.get(name):
            found(report, f"table {name!r} has other columns than the events make, or is no view")
            continue
        query = f'SELECT {made[name]} FROM "{name}" ORDER BY {made[name]}'  # noqa: S608 - our own schema
        shown = 0
        for row, where in _merged(views.execute(query), fresh.execute(query)):
            report.checked["C17"] += 1
            if where != "both" and shown < SHOWN_DIFFERENCES:
                shown += 1
                found(report, f"{name}: only {where}: {row}")


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


def found(report: Report, message: str) -> None:
    """Add a finding of C17."""
    report.findings.append(AuditFinding("C17", None, None, message))
