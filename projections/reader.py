"""Reading the views: keyed rows for the event loop, lists for the service's loops."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from projections.orders import OrderView, view_of
from projections.work import Work, WorkKind


class ViewReader:
    """A read-only connection to views.db for one thread. Point reads take microseconds."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
        )
        self._db.row_factory = sqlite3.Row

    def order(self, order_id: str) -> OrderView | None:
        """Return the view of an order, or None if the views have none."""
        row = self._db.execute("SELECT * FROM orders WHERE order_id=?", (order_id,)).fetchone()
        return view_of(row) if row else None

    def work(self, kind: WorkKind, limit: int = 500, after: Work | None = None) -> list[Work]:
        """Return what is to do of one kind, oldest first; `after` continues an earlier list."""
        last = (after.since_ms, after.order_id, after.key) if after else (-1, "", "")
        rows = self._db.execute(
            "SELECT order_id, kind, key, since_ms FROM work"
            " WHERE kind=? AND (since_ms, order_id, key) > (?,?,?)"
            " ORDER BY since_ms, order_id, key LIMIT ?",
            (str(kind), *last, limit),
        )
        return [Work(r[0], WorkKind(r[1]), r[2], r[3]) for r in rows]

    def all_work(self, kind: WorkKind) -> Iterator[list[Work]]:
        """Return everything that is to do of one kind in pages, so that nothing old hides it."""
        page = self.work(kind)
        while page:
            yield page
            page = self.work(kind, after=page[-1])

    def open_quotes(self, client: str, now_seconds: int) -> int:
        """Return how many quotes of a client (CAIP-10) can still be paid."""
        row = self._db.execute(
            "SELECT count(*) FROM orders WHERE client=? AND status='quoted' AND pay_by>=?",
            (client, now_seconds),
        ).fetchone()
        return int(row[0])

    def counts(self) -> dict[str, int]:
        """Return how many orders stand in each status."""
        rows = self._db.execute("SELECT status, count(*) FROM orders GROUP BY status")
        return {row[0]: row[1] for row in rows}

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
