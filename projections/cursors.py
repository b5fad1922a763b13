"""The cursors' views: where each stands, what was handed out to whom, and what was put aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, assert_never

import orjson

from ledger.cursor_events import (
    CursorAcknowledged,
    CursorAct,
    CursorLeased,
    CursorOpened,
    CursorParked,
    CursorReleased,
    CursorReplayed,
    CursorSought,
)
from ledger.service import Placed
from ledger.values import UnixMs, cursor_of_stream

_LEASED: Final = (
    "INSERT INTO hand_outs (party, name, token, generation, holder, first, last, attempt,"
    " transport, handed_ms, until_ms, replays) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
)
_PROLONGED: Final = "UPDATE hand_outs SET until_ms=? WHERE party=? AND name=? AND token=?"
_ACKED: Final = (
    "UPDATE hand_outs SET acked_through=max(?, ifnull(acked_through, 0)), acked_ms=?"
    " WHERE party=? AND name=? AND token=?"
)
_ENDED: Final = (
    "UPDATE hand_outs SET ended=?, ended_ms=?"
    " WHERE party=? AND name=? AND token=? AND ended IS NULL"
)
_REPLAYS: Final = "SELECT replays FROM hand_outs WHERE party=? AND name=? AND token=?"
_TAKEN_OUT: Final = (
    "DELETE FROM parked WHERE party=? AND name=?"
    " AND position=(SELECT position FROM feed WHERE party=? AND pos=?)"
)


def write_cursors(db: sqlite3.Connection, events: Iterable[Placed]) -> None:
    """Bring the views up to these events of cursors, in order."""
    for placed in events:
        event, key = placed.signed.event, cursor_of_stream(placed.signed.stream)
        if isinstance(event, CursorAct):
            _write(db, key, event, placed.signed.at)


def _write(db: sqlite3.Connection, key: tuple[str, str], event: CursorAct, at: UnixMs) -> None:
    state = orjson.dumps(event.state.model_dump(mode="json", exclude_none=True)).decode()
    if isinstance(event, CursorOpened):
        db.execute(
            "INSERT INTO cursors (party, name, opened_ms, state) VALUES (?,?,?,?)",
            (*key, at, state),
        )
        return
    db.execute("UPDATE cursors SET state=? WHERE party=? AND name=?", (state, *key))
    match event:
        case CursorLeased():
            _leased(db, key, event, at)
        case CursorAcknowledged():
            db.execute(_ACKED, (event.through, at, *key, event.token))
            _replayed(db, key, event.token, event.through)
        case CursorReleased():
            ended = "released" if event.at is None else "refused"
            db.execute(_ENDED, (ended, at, *key, event.token))
        case CursorParked():
            if not event.blocked:
                _parked(db, key, event, at)
        case CursorSought():
            if event.by == "owner":
                # What lies after the new place comes in its turn, whether it was parked or not.
                db.execute(
                    "DELETE FROM parked WHERE party=? AND name=? AND position>?",
                    (*key, event.state.acked.position),
                )
            db.execute(
                "UPDATE hand_outs SET ended='moved', ended_ms=? WHERE party=? AND name=?"
                " AND token=(SELECT max(token) FROM hand_outs WHERE party=? AND name=?)"
                " AND ended IS NULL AND ifnull(acked_through, 0)<last",
                (at, *key, *key),
            )
        case CursorReplayed():
            pass  # it is handed out by the next fetch, and stays parked until it is acknowledged
        case _:
            assert_never(event)


def _leased(db: sqlite3.Connection, key: tuple[str, str], event: CursorLeased, at: UnixMs) -> None:
    if event.extends is not None:
        db.execute(_PROLONGED, (event.until, *key, event.extends))
        return
    state, replays = event.state, None
    if event.replays is not None:
        replays = orjson.dumps(event.replays).decode()
    last = max(event.replays) if event.replays else event.to
    row = (state.seq, state.generation, event.holder, event.first, last, event.attempt)
    db.execute(_LEASED, (*key, *row, event.transport, at, event.until, replays))
    if state.settings.mode == "auto":
        db.execute(_ACKED, (last, at, *key, state.seq))
        _replayed(db, key, state.seq, last)


def _replayed(db: sqlite3.Connection, key: tuple[str, str], token: int, through: int) -> None:
    """Take out of the parked events what was handed out again and is done now, one by one."""
    row = db.execute(_REPLAYS, (*key, token)).fetchone()
    if row is None or row[0] is None:
        return
    done = [(*key, key[0], pos) for pos in orjson.loads(row[0]) if pos <= through]
    db.executemany(_TAKEN_OUT, done)


def _parked(db: sqlite3.Connection, key: tuple[str, str], event: CursorParked, at: UnixMs) -> None:
    row = (event.place.position, event.attempts, event.by, event.reason, at)
    db.execute(
        "INSERT OR REPLACE INTO parked (party, name, position, attempts, by, reason, parked_ms)"
        " VALUES (?,?,?,?,?,?,?)",
        (*key, *row),
    )
