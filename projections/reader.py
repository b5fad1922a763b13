"""Reading the views: keyed rows for the event loop, lists for the service's loops."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
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

    def work_for(self, order_id: str, kind: WorkKind) -> list[Work]:
        """Return what is to do of one kind for one order."""
        rows = self._db.execute(
            "SELECT order_id, kind, key, since_ms FROM work WHERE order_id=? AND kind=?",
            (order_id, str(kind)),
        )
        return [Work(r[0], WorkKind(r[1]), r[2], r[3]) for r in rows]

    def waiting(
        self, services: Iterable[str], limit: int = 500, after: tuple[int, str] = (-1, "")
    ) -> list[Work]:
        """Return the orders of some services that wait to be produced, oldest first.

        `after` is the `since_ms` and the id of the last order of an earlier list. One look into
        the index per service: a long list of other services' orders costs nothing.
        """
        query = (
            "SELECT since_ms, order_id, key FROM work WHERE kind=? AND key=?"
            " AND (since_ms, order_id) > (?,?) ORDER BY since_ms, order_id LIMIT ?"
        )
        kind = WorkKind.HANDLER
        found = [
            tuple(row)
            for service in services
            for row in self._db.execute(query, (str(kind), service, *after, limit))
        ]
        return [Work(order, kind, key, since) for since, order, key in sorted(found)[:limit]]

    def waited_for(self) -> list[str]:
        """Return the services that an order waits for."""
        rows = self._db.execute(
            "SELECT DISTINCT key FROM work WHERE kind=?", (str(WorkKind.HANDLER),)
        )
        return [row[0] for row in rows]

    def all_work(self, kind: WorkKind) -> Iterator[list[Work]]:
        """Return everything that is to do of one kind in pages, so that nothing old hides it."""
        page = self.work(kind)
        while page:
            yield page
            page = self.work(kind, after=page[-1])

    def open_quotes(self, client: str, now_seconds: int) -> int:
        """Return how many quotes of a client (CAIP-10) can still be paid."""
        row = self._db.execute(
            "SELECT count(*) FROM orders"
            " WHERE client=? AND status='quoted' AND market=0 AND pay_by>=?",
            (client, now_seconds),
        ).fetchone()
        return int(row[0])

    def lacking(self, client: str, micros: int) -> list[str]:
        """Return the unpaid or paused orders of a client that may lack just this much."""
        rows = self._db.execute(
            "SELECT order_id FROM orders WHERE client=? AND market=0 AND (paused=1"
            " OR (status IN ('quoted', 'expired')"
            " AND price_micros - min(pending_micros, held_micros)=?))"
            " ORDER BY created_ms DESC LIMIT 100",
            (client, micros),
        )
        return [row[0] for row in rows]

    def has_open_quote(self, client: str, made_until_ms: int) -> bool:
        """Whether a client has a quote, made until then, that its notice may still have paid."""
        row = self._db.execute(
            "SELECT 1 FROM orders WHERE client=? AND market=0"
            " AND (status='quoted' OR paused=1)"
            " AND created_ms<=? LIMIT 1",
            (client, made_until_ms),
        ).fetchone()
        return row is not None

    def order_ids(self, client: str, limit: int = 1000) -> list[str]:
        """Return the orders of a client, newest first."""
        rows = self._db.execute(
            "SELECT order_id FROM orders WHERE client=? ORDER BY created_ms DESC LIMIT ?",
            (client, limit),
        )
        return [row[0] for row in rows]

    def has_claim(self, tx_hash: str) -> bool:
        """Whether a client's open claim names a transaction."""
        row = self._db.execute(
            "SELECT 1 FROM work WHERE kind=? AND key=? LIMIT 1", (str(WorkKind.CLAIM), tx_hash)
        ).fetchone()
        return row is not None

    def holding(self, client: str) -> list[str]:
        """Return the orders of a client that hold money."""
        rows = self._db.execute(
            "SELECT order_id FROM orders WHERE client=? AND held_micros>0"
            " ORDER BY created_ms DESC LIMIT 100",
            (client,),
        )
        return [row[0] for row in rows]

    def overdue(self, time: int) -> Iterator[list[str]]:
        """Return the quotes without open claims whose `pay_by` lies before a time, in pages."""
        last = (-1, "")
        while True:
            rows = self._db.execute(
                "SELECT pay_by, order_id FROM orders WHERE status='quoted' AND market=0"
                " AND claims_open=0"
                " AND pay_by<? AND (pay_by, order_id) > (?,?) ORDER BY pay_by, order_id LIMIT 500",
                (time, *last),
            ).fetchall()
            if not rows:
                return
            yield [row[1] for row in rows]
            last = (rows[-1][0], rows[-1][1])

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
