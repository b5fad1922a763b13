import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.sqlite import SQLiteCursor
from eventsourcing.tests.persistence import ApplicationRecorderTestCase

from ledger.content import plain
from ledger.errors import Misconfigured, VerificationError
from ledger.merkle import leaf_hash
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.store import SqliteStore
from ledger.store_sqlite import Datastore, Group, Recorder, connect
from ledger.tiles import Tree
from ledger.values import order_stream
from tests.support.faults import config_in, opened, order_id, quote, task
from tests.unit.builders import accept, content_id, hand_in, mined, transfer


class LibraryRecorder(Recorder):
    """Our recorder as the library calls its own: stored events in, notification ids out."""

    def __init__(self, datastore: Datastore) -> None:
        super().__init__(datastore)
        self._tree = Tree()

    def _insert_events(
        self,
        c: SQLiteCursor,
        stored_events: Sequence[StoredEvent],
        **_: Any,  # noqa: ANN401 - the library's signature
    ) -> Sequence[int]:
        accepted: list[bool] = []
        c.execute("SELECT MAX(rowid) FROM stored_events")
        group = Group(tuple(_event_of(stored) for stored in stored_events))
        ids = super()._insert_events(
            c,
            (),
            groups=[group],
            first_position=(c.fetchone()[0] or 0) + 1,
            grow=self._tree.append,
            accepted=accepted,
        )
        if not all(accepted):
            raise IntegrityError
        return list(ids)


def _event_of(stored: StoredEvent) -> Any:  # noqa: ANN401 - a stand-in for a signed event
    assert isinstance(stored.originator_id, UUID)
    return SimpleNamespace(
        stream=f"order/ivxp-{stored.originator_id}",
        seq=stored.originator_version,
        event=SimpleNamespace(kind=stored.topic),
        entry=stored.state,
        leaf=leaf_hash(stored.state),
    )


def _join_readers() -> None:
    for thread in threading.enumerate():
        if "read_continuously" in thread.name:
            thread.join()


class TestOurRecorderIsARecorderOfTheLibrary(ApplicationRecorderTestCase[Recorder]):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "library.db"

    def create_recorder(self) -> Recorder:
        datastore = Datastore(str(self.path), connections=1)
        self.addCleanup(datastore.close)
        # The library's own test does not wait for its readers; cleanups run last one first.
        self.addCleanup(_join_readers)
        recorder = LibraryRecorder(datastore)
        recorder.create_table()
        return recorder


# The base class is abstract: left in this module's names it would be collected as well.
del ApplicationRecorderTestCase


def filled(folder: Path, orders: int = 3) -> Path:
    with opened(folder) as ledger:
        ledger._writer.run([quote(n) for n in range(orders)])
        return ledger.store.path


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET state=x'00' WHERE rowid=2",
        "UPDATE OR REPLACE stored_events SET originator_version=1 WHERE rowid=2",
        "DELETE FROM stored_events WHERE rowid=2",
        "DELETE FROM stored_events",
        """REPLACE INTO stored_events (rowid, originator_id, originator_version, topic, state)
            VALUES (2, 'a', 1, 'paid', x'00')""",
        """INSERT OR REPLACE INTO stored_events SELECT originator_id, originator_version,
            'paid', x'00' FROM stored_events WHERE rowid=2""",
        """INSERT INTO stored_events SELECT originator_id, originator_version, topic, state
            FROM stored_events WHERE rowid=2 ON CONFLICT DO UPDATE SET state=x'00'""",
    ],
)
def test_an_event_can_be_neither_changed_nor_taken_away(tmp_path: Path, statement: str) -> None:
    path = filled(tmp_path)
    connection = connect(str(path))
    before = connection.execute("SELECT rowid, * FROM stored_events").fetchall()

    with pytest.raises(sqlite3.DatabaseError):
        connection.execute(statement)

    assert connection.execute("SELECT rowid, * FROM stored_events").fetchall() == before
    connection.close()


def test_the_connection_that_writes_syncs_every_commit(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ledger.db")
    with store._writing.get_connection(commit=True) as connection:
        cursor, pragmas = connection.cursor(), {}
        for name in ("journal_mode", "synchronous", "recursive_triggers", "page_size"):
            cursor.execute(f"PRAGMA {name}")
            pragmas[name] = cursor.fetchone()[0]
    store.close()
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "recursive_triggers": 1,
        "page_size": 8192,
    }


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Misconfigured, match="another process"):
        Ledger(config_in(tmp_path))
    with opened(tmp_path):
        pass


def test_a_reopened_ledger_holds_the_same_events_and_head(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger._writer.run([quote(n) for n in range(700)])
        head, entries = ledger.head, ledger.store.read(after=0, limit=1000)

    with opened(tmp_path) as ledger:
        assert ledger.head == head
        assert ledger.store.read(after=0, limit=1000) == entries
        [answer] = ledger._writer.run([quote(700)])
        assert isinstance(answer, Receipt)
        assert answer.first_position == 702


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE frontier SET size = size - 1",
        "UPDATE frontier SET nodes = zeroblob(length(nodes))",
        "UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 1",
        "DELETE FROM tiles WHERE level = 1",
        "INSERT INTO stored_events VALUES ('00', 1, 'paid', x'00')",
    ],
)
def test_a_ledger_whose_tree_does_not_fit_its_events_is_not_opened(
    tmp_path: Path, damage: str
) -> None:
    path = filled(tmp_path, orders=300)
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()

    with pytest.raises(VerificationError):
        Ledger(config_in(tmp_path))


def test_a_ledger_that_lost_its_newest_events_is_not_opened(tmp_path: Path) -> None:
    filled(tmp_path / "earlier")
    with opened(tmp_path) as ledger:
        ledger._writer.run([quote(n) for n in range(9)])
        path = ledger.store.path

    path.write_bytes((tmp_path / "earlier/data/ledger.db").read_bytes())

    with pytest.raises(VerificationError, match="signed"):
        Ledger(config_in(tmp_path))


def test_a_ledger_without_its_guard_is_not_opened(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "guard").unlink()
    with pytest.raises(Misconfigured, match="missing"):
        Ledger(config_in(tmp_path))


def test_claims_and_content_are_stored_with_their_event_or_not_at_all(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        paid, stream = transfer(), order_stream(order_id(1))
        kept, lost = (plain(stream, content_id(name), name.encode()) for name in ("a", "b"))
        ledger._writer.run([quote(1), task(1, accept(mined(paid)))])
        ledger._writer.run([task(1, hand_in("a"), (kept,)), task(1, hand_in("b"), (lost,))])

        assert ledger.store.content(kept.content_id) == kept
        assert ledger.store.content(lost.content_id) is None
        assert ledger.store.claimed([paid.key]) == {paid.key: stream}
