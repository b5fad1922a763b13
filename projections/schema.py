"""The tables of views.db and their migrations. Delete the file and it is rebuilt, same answers."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sqlite_utils import Database, Migrations

migrations: Final = Migrations("views")

VIEWS: Final = (
    "orders",
    "history",
    "work",
    "feed",
    "cursors",
    "hand_outs",
    "parked",
    "agents",
    "conversations",
    "messages",
    "deals",
    "records",
)
TABLES: Final = frozenset({"tracking", "_sqlite_migrations", *VIEWS})


@migrations()
def m001_tracking(db: Database) -> None:
    """Hold how far the views have read: one row."""
    db.create_table("tracking", {"name": str, "position": int}, pk="name", strict=True)
    db.table("tracking").insert({"name": "views", "position": 0})


@migrations()
def m002_orders(db: Database) -> None:
    """Hold one row per order: what status and download answers need, and the money."""
    columns = {
        "order_id": str,
        "status": str,
        "service": str,
        "client": str,
        "price_micros": int,
        "created_ms": int,
        "updated_ms": int,
        "pay_by": int,
        "version": int,
        "position": int,
        "paused": int,
        "claims_open": int,
        "dispute_open": int,
        "push_pending": int,
        "rating": int,
        "content_id": str,
        "content_hash": str,
        "json_digest": str,
        "format": str,
        "content_type": str,
        "content_held": int,
        "received_micros": int,
        "applied_micros": int,
        "pending_micros": int,
        "late_micros": int,
        "orphaned_micros": int,
        "refunded_micros": int,
        "held_micros": int,
        "status_at": str,
    }
    table = db.create_table("orders", columns, pk="order_id", strict=True)
    table.create_index(["client", "status"])
    table.create_index(["status"])


@migrations()
def m003_history(db: Database) -> None:
    """Hold one row per event of an order, by position."""
    columns = {
        "position": int,
        "order_id": str,
        "seq": int,
        "kind": str,
        "at_ms": int,
        "actor": str,
        "signer": str,
        "leaf": str,
    }
    db.create_table("history", columns, pk="position", strict=True).create_index(["order_id"])


@migrations()
def m004_work(db: Database) -> None:
    """Hold what the service's own loops still have to do."""
    columns = {"order_id": str, "kind": str, "key": str, "since_ms": int}
    table = db.create_table("work", columns, pk=("order_id", "kind", "key"), strict=True)
    table.create_index(["kind", "since_ms"])


@migrations()
def m005_waiting(db: Database) -> None:
    """Find what waits of some services without reading past all others."""
    db.execute(
        "UPDATE work SET key=(SELECT service FROM orders WHERE orders.order_id=work.order_id)"
        " WHERE kind='handler'"
    )
    db.table("work").create_index(["kind", "key", "since_ms", "order_id"])


@migrations()
def m006_disputes(db: Database) -> None:
    """Show how a dispute stands, and a window that lapsed. The rows are made anew."""
    orders = db.table("orders")
    orders.add_column("acceptance_lapsed", int)
    orders.add_column("dispute", str)
    for name in ("orders", "history", "work"):
        db.table(name).delete_where()
    db.execute("UPDATE tracking SET position=0")


@migrations()
def m007_feeds(db: Database) -> None:
    """Give every party's events numbers, and show the cursors. The rows are made anew."""
    db.execute(
        "CREATE TABLE feed (party TEXT NOT NULL, pos INTEGER NOT NULL, position INTEGER NOT NULL,"
        " type TEXT NOT NULL, PRIMARY KEY (party, pos)) STRICT, WITHOUT ROWID"
    )
    # Of the types that a filter lets through, each is one look into this index.
    db.execute("CREATE INDEX feed_by_type ON feed (party, type, pos)")
    db.execute(
        "CREATE TABLE cursors (party TEXT NOT NULL, name TEXT NOT NULL, opened_ms INTEGER NOT NULL,"
        " state TEXT NOT NULL, PRIMARY KEY (party, name)) STRICT, WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE hand_outs (party TEXT NOT NULL, name TEXT NOT NULL, token INTEGER NOT NULL,"
        " generation INTEGER NOT NULL, holder TEXT NOT NULL, first INTEGER NOT NULL,"
        " last INTEGER NOT NULL, attempt INTEGER NOT NULL, transport TEXT NOT NULL,"
        " handed_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, replays TEXT,"
        " acked_through INTEGER, acked_ms INTEGER, ended TEXT, ended_ms INTEGER,"
        " PRIMARY KEY (party, name, token)) STRICT, WITHOUT ROWID"
    )
    db.execute(
        "CREATE TABLE parked (party TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,"
        " attempts INTEGER NOT NULL, by TEXT NOT NULL, reason TEXT, parked_ms INTEGER NOT NULL,"
        " PRIMARY KEY (party, name, position)) STRICT, WITHOUT ROWID"
    )
    db.table("tracking").insert({"name": "feeds", "position": 0})


@migrations()
def m008_market(db: Database) -> None:
    """Show the marketplace. No earlier event belongs in these tables, so nothing is made anew."""
    db.execute(
        "CREATE TABLE agents (agent TEXT PRIMARY KEY, owner TEXT NOT NULL,"
        " profile_id TEXT NOT NULL, services_id TEXT, listed INTEGER NOT NULL,"
        " registered_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
        " position INTEGER NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX agents_of ON agents (owner, position)")
    db.execute("CREATE INDEX agents_listed ON agents (position) WHERE listed=1")
    db.execute(
        "CREATE TABLE conversations (conversation TEXT PRIMARY KEY, agent TEXT NOT NULL,"
        " agent_wallet TEXT NOT NULL, client_wallet TEXT NOT NULL, client_type TEXT NOT NULL,"
        " started_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, asked_ms INTEGER,"
        " answered_ms INTEGER) STRICT"
    )
    # A list of either side is read in its order, and cut without looking at the rest.
    for side in ("client", "agent"):
        db.execute(
            f"CREATE INDEX conversations_of_{side}"
            f" ON conversations ({side}_wallet, last_ms DESC, conversation)"
        )
    db.execute(
        "CREATE TABLE messages (position INTEGER PRIMARY KEY, conversation TEXT NOT NULL,"
        " message TEXT NOT NULL, sender TEXT NOT NULL, text_id TEXT NOT NULL, attachments_id TEXT,"
        " order_id TEXT, at_ms INTEGER NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX messages_in ON messages (conversation, position)")
    db.execute(
        "CREATE TABLE deals (order_id TEXT PRIMARY KEY, conversation TEXT NOT NULL,"
        " agent TEXT NOT NULL, agent_wallet TEXT NOT NULL, client_wallet TEXT NOT NULL,"
        " word TEXT NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
        " amount_micros INTEGER NOT NULL, payout_micros INTEGER NOT NULL, paid_ms INTEGER,"
        " delivered_ms INTEGER, rating INTEGER) STRICT"
    )
    for side in ("client", "agent"):
        newest = "created_ms DESC, order_id"
        db.execute(f"CREATE INDEX deals_of_{side} ON deals ({side}_wallet, {newest})")
        db.execute(f"CREATE INDEX deals_of_{side}_by_word ON deals ({side}_wallet, word, {newest})")
    db.execute("CREATE INDEX deals_in ON deals (conversation, delivered_ms, order_id)")
    db.execute("CREATE INDEX deals_paid ON deals (paid_ms, order_id)")
    db.execute(
        "CREATE TABLE records (agent TEXT PRIMARY KEY, wallet TEXT NOT NULL,"
        " orders INTEGER NOT NULL, delivered INTEGER NOT NULL, amount_micros INTEGER NOT NULL,"
        " payout_micros INTEGER NOT NULL, reviews INTEGER NOT NULL, ratings INTEGER NOT NULL,"
        " answers INTEGER NOT NULL, answers_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE INDEX records_of ON records (wallet)")
    db.table("orders").add_column("market", int, not_null_default=0)


def rebuild(db: Database, generation: int) -> None:
    """Empty the views, to be made anew with the feeds of this generation."""
    with db.atomic():
        for name in VIEWS:
            db.table(name).delete_where()
        db.execute("UPDATE tracking SET position=0 WHERE name='views'")
        db.execute("UPDATE tracking SET position=? WHERE name='feeds'", (generation,))


def open_views(path: Path) -> Database:
    """Open views.db for the one thread that writes it, migrated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Opened in one thread, used in the runner's: one after the other, never at once.
    db = Database(sqlite3.connect(path, check_same_thread=False))
    db.conn.execute("PRAGMA journal_mode=WAL")
    # A view can be rebuilt: losing its newest rows in a power cut costs a catch-up, no truth.
    db.conn.execute("PRAGMA synchronous=NORMAL")
    migrations.apply(db)
    return db
