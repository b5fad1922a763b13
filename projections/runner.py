"""Catch up: read events in batches and write the rows and the position in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog
from sqlite_utils import Database

from ledger.evolve import evolve, fold
from ledger.order import Order
from ledger.service import Placed
from ledger.values import is_cursor, is_order, order_of_stream
from projections.cursors import write_cursors
from projections.feeds import GENERATION, Entry, FeedWriter, Scene, entries_of
from projections.market import Cast, write_deals, write_market
from projections.orders import Row, history_row, order_row
from projections.schema import open_views, rebuild
from projections.work import work_of

BATCH: Final = 500
POLL_SECONDS: Final = 0.2
CACHED_ORDERS: Final = 5_000

_log = structlog.get_logger(__name__)


class EventSource(Protocol):
    """What the runner needs of the ledger."""

    def read(self, *, after: int, limit: int) -> list[Placed]: ...

    def read_order(self, order_id: str) -> list[Placed]: ...


class CursorConflict(Exception):
    """Another process moved the views' position; this one must read it anew."""


def feed_key(party: str) -> str:
    """Return what `moved` calls a party's feed."""
    return f"feed/{party}"


class Projector:
    """Applies events to views.db. For one thread."""

    def __init__(self, source: EventSource, path: Path) -> None:
        self._source = source
        self._db: Database = open_views(path)
        if self._stored("feeds") != GENERATION:
            rebuild(self._db, GENERATION)
        self._feeds = FeedWriter(self._db.conn)
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._cast = Cast(self._db.conn)
        self.position: int = self._stored("views")
        self.moved: frozenset[str] = frozenset()
        """What the newest batch moved: orders by their ids, feeds by `feed_key`."""

    def step(self) -> bool:
        """Apply the next batch of events; return False if there is none."""
        events = self._source.read(after=self.position, limit=BATCH)
        if events:
            self._apply(events)
        return bool(events)

    def catch_up(self) -> int:
        """Apply every event after the position; return the new position."""
        while self.step():
            pass
        return self.position

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _apply(self, events: list[Placed]) -> None:
        rows: dict[str, Row] = {}
        history: list[Row] = []
        told: list[Entry] = []
        for placed in events:
            scene = self._scene(placed)
            if scene.order is not None:
                rows[scene.order.id] = order_row(scene.order, placed.position)
                history.append(history_row(placed))
            told += entries_of(placed, scene)
        feeds = self._store(events, rows, history, told)
        moved = frozenset(rows) | {feed_key(party) for party in feeds}
        self.position, self.moved = events[-1].position, moved

    def _store(
        self, events: list[Placed], rows: dict[str, Row], history: list[Row], told: list[Entry]
    ) -> frozenset[str]:
        """Write a batch, all of it or nothing; return whose feeds grew."""
        self._feeds.forget()
        with self._db.atomic():
            # The position moves first: it takes the write lock, and losing the race ends here. A
            # crash before the commit leaves the views as they were, one after it all of the batch.
            self._advance(events[-1].position)
            self._write(rows, history)
            feeds = self._feeds.write(told)
            write_cursors(self._db.conn, (p for p in events if is_cursor(p.signed.stream)))
            write_market(self._db.conn, events)
        return feeds

    def _write(self, rows: dict[str, Row], history: list[Row]) -> None:
        if not rows:
            return
        self._db.table("orders").upsert_all(rows.values(), pk="order_id")
        self._db.table("history").insert_all(history, pk="position")
        write_deals(self._db.conn, (self._orders[order_id] for order_id in rows))
        work = [
            {"order_id": w.order_id, "kind": str(w.kind), "key": w.key, "since_ms": w.since_ms}
            for order_id in rows
            for w in work_of(self._orders[order_id])
        ]
        self._db.conn.executemany("DELETE FROM work WHERE order_id=?", [(o,) for o in rows])
        if work:
            self._db.table("work").insert_all(work, pk=("order_id", "kind", "key"))
        while len(self._orders) > CACHED_ORDERS:
            self._orders.popitem(last=False)

    def _scene(self, placed: Placed) -> Scene:
        """Return what an event belongs to."""
        if is_order(placed.signed.stream):
            return Scene(order=self._evolved(placed))
        return self._cast.scene(placed)

    def _evolved(self, placed: Placed) -> Order:
        signed = placed.signed
        order_id = order_of_stream(signed.stream)
        known = self._orders.get(order_id)
        if known is not None and known.version == signed.seq - 1:
            order = evolve(known, signed)
        elif signed.seq == 1:
            order = evolve(None, signed)
        else:
            order = self._folded(order_id, placed.position)
        self._orders[order_id] = order
        self._orders.move_to_end(order_id)
        return order

    def _folded(self, order_id: str, up_to: int) -> Order:
        events = self._source.read_order(order_id)
        order = fold(p.signed for p in events if p.position <= up_to)
        if order is None:
            msg = f"the order of the event at position {up_to} has no events"
            raise LookupError(msg)
        return order

    def _advance(self, position: int) -> None:
        moved = self._db.conn.execute(
            "UPDATE tracking SET position=? WHERE name='views' AND position=?",
            (position, self.position),
        )
        if moved.rowcount != 1:
            self.position = self._stored("views")
            msg = f"the views stand at {self.position} already"
            raise CursorConflict(msg)

    def _stored(self, name: str) -> int:
        query = "SELECT position FROM tracking WHERE name=?"
        return int(self._db.conn.execute(query, (name,)).fetchone()[0])


class Runner:
    """Runs a projector in its own thread: woken after each commit, and by a poll all the same."""

    def __init__(self, source: EventSource, path: Path) -> None:
        self._source = source
        self._path = path
        self._wake = threading.Event()
        self._stopping = False
        self._waiters: list[tuple[int, asyncio.Future[bool]]] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="views", daemon=True)
        self._failed_at: int | None = None
        self.position = 0
        self.on_progress: Callable[[frozenset[str]], None] = lambda _moved: None
        """Called in the runner's thread after each batch, with what it moved."""

    def start(self) -> None:
        """Catch up once, then follow in a thread."""
        self._projector = self._opened()
        self.position = self._projector.position
        self._follow()
        self._thread.start()

    def _opened(self) -> Projector:
        """Open the views; a file that is no database is put aside and the views are rebuilt."""
        try:
            return Projector(self._source, self._path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked or unreadable for now, not damaged
            _log.exception("views damaged; rebuilding")
            self._path.replace(self._path.with_name(self._path.name + ".damaged"))
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return Projector(self._source, self._path)

    def stop(self) -> None:
        """Stop following."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._projector.close()

    def wake(self) -> None:
        """Say that there may be new events; from any thread."""
        self._wake.set()

    async def wait_for(self, position: int, timeout_seconds: float) -> bool:
        """Wait until the views have a position; return False if they do not in time.

        While they cannot go on at all, nobody waits for them.
        """
        if self.position >= position:
            return True
        if self._failed_at is not None:
            return False
        reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters.append((position, reached))
        if self.position >= position:
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                return await reached
        except TimeoutError:
            return False

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.wait(POLL_SECONDS)
            # Cleared before reading: a commit during the reading wakes the next round.
            self._wake.clear()
            self._follow()

    def _follow(self) -> None:
        """Apply what there is, telling after each batch: under load there is always more."""
        try:
            while not self._stopping and self._projector.step():
                self._reached(self._projector.position, self._projector.moved)
        except CursorConflict:
            # What the other process did is done; the next round goes on after it.
            self._reached(self._projector.position)
            self._wake.set()
        except Exception:  # noqa: BLE001 - the views stop at a bad event, loudly; the ledger goes on
            if self._failed_at != self._projector.position:
                self._failed_at = self._projector.position
                _log.exception("views stopped", position=self._failed_at)
            self._give_up()
        else:
            self._failed_at = None

    def _reached(self, position: int, moved: frozenset[str] = frozenset()) -> None:
        self.position, self._failed_at = position, None
        self._release()
        self.on_progress(moved)

    def _release(self) -> None:
        with self._lock:
            done = [w for w in self._waiters if w[0] <= self.position]
            self._waiters = [w for w in self._waiters if w[0] > self.position and not w[1].done()]
        _tell(done, reached=True)

    def _give_up(self) -> None:
        with self._lock:
            left, self._waiters = self._waiters, []
        _tell(left, reached=False)


def _tell(waiters: list[tuple[int, asyncio.Future[bool]]], *, reached: bool) -> None:
    for _, waiter in waiters:
        if not waiter.done():
            waiter.get_loop().call_soon_threadsafe(_set, waiter, reached)


def _set(waiter: asyncio.Future[bool], reached: bool) -> None:  # noqa: FBT001 - a callback
    if not waiter.done():
        waiter.set_result(reached)
