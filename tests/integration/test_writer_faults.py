import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from eventsourcing.persistence import OperationalError

from ledger.errors import (
    Conflict,
    LedgerError,
    OutcomeUnknown,
    PaymentRefused,
    Rejected,
    StoreUnavailable,
    VerificationError,
)
from ledger.guard import Guard
from ledger.merkle import root_at
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.store import SqliteStore
from ledger.store_sqlite import Recorder
from ledger.writer import Writer
from tests.support.faults import config_in, kinds, opened, order_id, quote, task
from tests.unit.builders import accept, hand_in, issue_quote, mined, start, transfer

Append = Callable[..., Sequence[int] | None]

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("let go", flush=True)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path) as ledger:
        [answer] = ledger._writer.run([quote(0)])
        assert isinstance(answer, Receipt)
        yield ledger
        assert_sound(ledger)


def assert_sound(ledger: Ledger) -> None:
    """Check that positions are gapless and that the signed head is the root of what is stored."""
    store, head = ledger.store, ledger.head
    assert [p.position for p in ledger.read(after=0, limit=10_000)] == list(
        range(1, store.size() + 1)
    )
    assert head.size == store.load_tree().size
    assert head.root == root_at(head.size, store.nodes())


def fail_once(monkeypatch: pytest.MonkeyPatch, *, happens: bool, error: Exception) -> None:
    """Let the next append fail, before it happened or after."""
    real: Append = Recorder.insert_events
    armed = [True]

    def insert_events(self: Recorder, *args: Any, **kwargs: Any) -> Sequence[int] | None:  # noqa: ANN401
        if not armed:
            return real(self, *args, **kwargs)
        armed.clear()
        if happens:
            real(self, *args, **kwargs)
        raise error

    monkeypatch.setattr(Recorder, "insert_events", insert_events)


def reopening_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SqliteStore.reopen
    armed = [True]

    def reopen(self: SqliteStore) -> None:
        if armed:
            armed.clear()
            raise sqlite3.OperationalError("unable to open database file")
        real(self)

    monkeypatch.setattr(SqliteStore, "reopen", reopen)


ERRORS = [
    OperationalError("disk I/O error"),
    OperationalError("database or disk is full"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.DatabaseError("database disk image is malformed"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_an_append_that_failed_and_did_not_happen_is_known_not_to_have(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_once(monkeypatch, happens=False, error=error)

    answers = ledger._writer.run([quote(1), quote(2)])

    assert [type(a) for a in answers] == [StoreUnavailable] * 2
    assert ledger.store.size() == 2
    assert isinstance(ledger._writer.run([quote(1)])[0], Receipt)


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_an_append_that_failed_but_happened_is_answered_as_done(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_once(monkeypatch, happens=True, error=error)

    answers = ledger._writer.run([quote(1), quote(2)])

    assert [a.first_position for a in answers if isinstance(a, Receipt)] == [3, 4]
    assert ledger.head.size == 4
    assert isinstance(ledger._writer.run([quote(3)])[0], Receipt)


@pytest.mark.parametrize("happens", [False, True], ids=["did not happen", "happened"])
def test_an_append_that_nobody_can_ask_about_is_unknown_until_the_next_command(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, happens: bool
) -> None:
    fail_once(monkeypatch, happens=happens, error=OperationalError("disk I/O error"))
    reopening_fails_once(monkeypatch)

    [unknown] = ledger._writer.run([quote(1)])
    assert isinstance(unknown, OutcomeUnknown)

    again, other = ledger._writer.run([quote(1), quote(2)])
    assert isinstance(again, Conflict if happens else Receipt)
    assert isinstance(other, Receipt)
    assert kinds(ledger, 1) == ["quoted"]


def test_nobody_is_answered_from_a_batch_that_did_not_happen(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid = accept(mined(transfer()))
    fail_once(monkeypatch, happens=False, error=OperationalError("disk I/O error"))

    # The second finds the first's act done and the third is refused by it, inside the batch only.
    answers = ledger._writer.run([task(0, paid), task(0, paid), task(0, issue_quote())])

    assert [type(a) for a in answers] == [StoreUnavailable] * 3
    assert kinds(ledger, 0) == ["quoted"]


def test_an_open_transaction_of_a_failed_commit_is_not_carried_on(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("eventsourcing.sqlite.SQLiteConnection.commit", commit)
        [answer] = ledger._writer.run([quote(1)])
    assert isinstance(answer, StoreUnavailable)

    assert isinstance(ledger._writer.run([quote(2)])[0], Receipt)
    assert kinds(ledger, 1) == []


def test_a_full_database_refuses_and_writes_again_when_there_is_room(ledger: Ledger) -> None:
    with ledger.store._writing.get_connection(commit=True) as connection:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        cursor.execute(f"PRAGMA max_page_count={cursor.fetchone()[0] + 1}")

    answers = ledger._writer.run([quote(n) for n in range(1, 200)])

    assert {type(a) for a in answers} == {StoreUnavailable}
    assert ledger.store.size() == 2
    # The limit went with the connection that failed.
    assert isinstance(ledger._writer.run([quote(1)])[0], Receipt)


@pytest.mark.parametrize("round_number", range(5))
def test_a_lock_held_by_another_process_is_waited_for_in_bounded_time(
    ledger: Ledger, round_number: int
) -> None:
    with ledger.store._writing.get_connection(commit=True) as connection:
        connection.cursor().execute("PRAGMA busy_timeout=50")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ledger.store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        answers = ledger._writer.run([quote(1), quote(2)])
        assert kinds(ledger, 0) == ["quoted"]
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "let go\n"

    assert [type(a) for a in answers] == [StoreUnavailable] * 2
    assert isinstance(ledger._writer.run([quote(1)])[0], Receipt)


def before_next_append(ledger: Ledger, meanwhile: Callable[[], object]) -> None:
    """Let something happen after the next batch was decided and before it is stored."""
    real, armed = ledger.store.append, [True]

    def append(*args: Any, **kwargs: Any) -> list[bool]:  # noqa: ANN401
        if armed:
            armed.clear()
            meanwhile()
        return real(*args, **kwargs)

    ledger.store.append = append  # type: ignore[method-assign]


def test_a_group_that_conflicts_fails_alone_and_takes_its_stream_with_it(ledger: Ledger) -> None:
    ledger._writer.run([quote(n) for n in (1, 2, 3)])
    stolen = transfer(of="b")

    def claim() -> None:
        other = sqlite3.connect(ledger.store.path)
        with other:
            other.execute("INSERT INTO claims VALUES (?,?,?,'order/another',1)", stolen.key)
        other.close()

    before_next_append(ledger, claim)
    answers = ledger._writer.run(
        [
            task(1, accept(mined(transfer(of="a")))),
            task(2, accept(mined(stolen))),
            task(2, hand_in()),
            task(2, start()),
            task(3, accept(mined(transfer(of="c")))),
            task(3, hand_in()),
        ]
    )

    assert [type(a) for a in answers] == [
        *(Receipt, PaymentRefused, Rejected, Rejected),
        *(Receipt, Receipt),
    ]
    assert kinds(ledger, 1) == ["quoted", "paid", "processing"]
    assert kinds(ledger, 2) == ["quoted", "command_refused"]
    assert kinds(ledger, 3) == ["quoted", "paid", "processing", "ready"]
    assert [a.first_position for a in answers if isinstance(a, Receipt)] == [6, 8, 10]
    for answer in answers:
        if isinstance(answer, Receipt):
            stored = ledger.store.entry_at(answer.first_position)
            assert stored == answer.events[0].entry
            assert answer.stream.position == answer.first_position + len(answer.events) - 1


def foreign_writer(ledger: Ledger, folder: Path) -> Writer:
    """Return a writer of the same file in the way of another process, past the file's lock."""
    config = config_in(folder)
    guard = Guard(
        folder / "other guard",
        log_vkeys=frozenset({ledger.log_key.vkey}),
        origin=config.origin,
        clock=lambda: 0.0,
    )
    return Writer(
        SqliteStore(ledger.store.path),
        signer=ledger.signer,
        log_key=ledger.log_key,
        guard=guard,
        origin=config.origin,
    )


def test_events_of_another_writer_are_found_and_built_upon(ledger: Ledger, tmp_path: Path) -> None:
    other = foreign_writer(ledger, tmp_path)
    before_next_append(ledger, lambda: other.run([quote(1), quote(7)]))

    answers = ledger._writer.run([quote(1), quote(2), task(2, start()), task(7, issue_quote())])

    assert isinstance(answers[0], Conflict)
    assert isinstance(answers[1], Receipt)
    assert answers[1].first_position == 5
    assert isinstance(answers[2], Rejected)
    assert isinstance(answers[3], Conflict)
    assert ledger.head.size == 5
    other._store.close()


def test_a_row_that_came_past_the_tree_stops_the_writing(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger._writer.run([quote(0)])
        head = ledger.head

        def insert() -> None:
            other = sqlite3.connect(ledger.store.path)
            with other:
                other.execute("INSERT INTO stored_events VALUES ('00', 1, 'paid', x'00')")
            other.close()

        before_next_append(ledger, insert)
        answers = ledger._writer.run([quote(1), quote(2)])
        assert [type(a) for a in answers] == [StoreUnavailable] * 2
        assert [type(a) for a in ledger._writer.run([quote(3)])] == [StoreUnavailable]
        assert ledger.head == head


@pytest.mark.parametrize(
    "refusal", [VerificationError("it lies behind"), OSError("the disk is gone")], ids=type
)
def test_no_head_leaves_unless_the_guard_has_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    head = ledger.head

    def advance(*_: object) -> None:
        raise refusal

    with monkeypatch.context() as patch:
        patch.setattr(Guard, "advance", advance)
        first, refused = ledger._writer.run([quote(1), task(9, start())])
        assert isinstance(first, OutcomeUnknown)
        assert isinstance(refused, LedgerError)
        assert [type(a) for a in ledger._writer.run([quote(2)])] == [StoreUnavailable]
        assert ledger.head == head

    repeated, later = ledger._writer.run([quote(1), quote(2)])
    assert isinstance(repeated, Conflict)
    assert isinstance(later, Receipt)
    assert later.first_position == 4
    assert kinds(ledger, 1) == ["quoted"]


def test_a_store_that_cannot_be_read_refuses_and_is_read_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "load", load)
        ledger._writer.cache.clear()
        answers = ledger._writer.run([quote(1), quote(2)])
    assert [type(a) for a in answers] == [StoreUnavailable] * 2

    assert isinstance(ledger._writer.run([quote(1)])[0], Receipt)


async def test_a_bug_in_the_writer_leaves_the_thread_alive_and_the_outcome_unknown(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.start()

    def put(*_: object) -> None:
        raise RuntimeError("a bug after the commit")

    with monkeypatch.context() as patch:
        patch.setattr("ledger.stream.HeadCache.put", put)
        with pytest.raises(OutcomeUnknown):
            await ledger.execute(order_id(1), issue_quote())

    with pytest.raises(Conflict):
        await ledger.execute(order_id(1), issue_quote())
    assert (await ledger.execute(order_id(2), issue_quote())).first_position == 4
