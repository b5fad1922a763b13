import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest
from structlog.testing import capture_logs

from ledger.batch import Task
from ledger.decide import OrderCommand
from ledger.entry import SignedEvent
from ledger.evolve import fold
from ledger.finding import ChainView
from ledger.order_events import QuoteExpired
from ledger.receipt import Receipt
from ledger.service import Ledger, Placed
from projections import runner as runner_module
from projections.feeds import GENERATION
from projections.orders import Row, order_row
from projections.reader import ViewReader
from projections.runner import CursorConflict, Projector, Runner
from projections.schema import TABLES
from projections.work import WorkKind
from tests.support.faults import opened, order_id, quote, seed, task
from tests.unit import builders as b

TABLES_OF_ROWS = sorted(TABLES - {"_sqlite_migrations"})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def views(tmp_path: Path) -> Path:
    return tmp_path / "views.db"


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the views, except when they were migrated."""
    connection = sqlite3.connect(path)
    found = {
        table: sorted(connection.execute(f"SELECT * FROM {table}"))  # noqa: S608 - a fixed name
        for table in TABLES_OF_ROWS
    }
    connection.close()
    return found


def built(ledger: Ledger, path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of views that are built in one go."""
    projector = Projector(ledger, path)
    projector.catch_up()
    projector.close()
    return rows(path)


def random_command(chance: Random, number: int, step: int) -> OrderCommand:
    """Return a command that fits the order now and then; what does not is refused."""
    name = f"{number} {step}"
    paid = b.transfer(chance.choice([b.PRICE, b.PRICE // 2, 2 * b.PRICE]), of=name)
    gone = b.transfer(of=f"{number} {chance.randrange(step + 1)}", fork="x")
    commands: list[OrderCommand] = [
        *(b.accept(b.mined(paid)) for _ in range(3)),
        b.accept(b.seen(chance.choice(b.UNPROVEN), of=name)),
        b.resolve(b.mined(b.transfer(of=f"{number} {chance.randrange(step + 1)}"))),
        b.recheck(b.mined(gone)),
        b.recheck(b.seen(ChainView.NOT_FOUND, of=gone.tx_hash), {100: b.block("other")}),
        b.start(),
        b.start("retry"),
        *(b.hand_in(name) for _ in range(2)),
        b.fail(),
        b.push(chance.choice(["accepted", "refused", "exhausted"])),
        b.collect(),
        b.confirm(),
        b.dispute(),
        b.answer(),
        b.withdraw(),
        b.refund(b.refund_transfer(of=f"back {name}")),
        b.erase(name),
    ]
    return chance.choice(commands)


def random_history(ledger: Ledger, chance: Random, *, orders: int = 12, steps: int = 250) -> None:
    ledger._writer.run([quote(n) for n in range(orders)])
    batch: list[Task] = []
    for step in range(steps):
        number = chance.randrange(orders)
        batch.append(task(number, random_command(chance, number, step)))
        if chance.random() < 0.2:
            ledger._writer.run(batch)
            batch = []
    ledger._writer.run(batch)


@pytest.mark.parametrize("round_number", range(10))
def test_the_order_rows_are_the_folded_orders_after_any_history(
    ledger: Ledger, views: Path, monkeypatch: pytest.MonkeyPatch, round_number: int
) -> None:
    chance = Random(f"{seed()} {round_number}")  # noqa: S311 - a reproducible choice
    monkeypatch.setattr(runner_module, "BATCH", chance.randint(1, 40))
    monkeypatch.setattr(runner_module, "CACHED_ORDERS", 3)

    projector = Projector(ledger, views)
    for _ in range(4):
        random_history(ledger, chance, steps=60)
        projector.catch_up()
    projector.close()

    folded = [folded_row(ledger, number) for number in range(12)]
    connection = sqlite3.connect(views)
    connection.row_factory = sqlite3.Row
    stored = [dict(row) for row in connection.execute("SELECT * FROM orders ORDER BY order_id")]
    history = connection.execute("SELECT position FROM history ORDER BY position").fetchall()
    connection.close()
    assert stored == folded
    assert [row[0] for row in history] == list(range(2, ledger.store.size() + 1))


def folded_row(ledger: Ledger, number: int) -> Row:
    events = ledger.read_order(order_id(number))
    order = fold(placed.signed for placed in events)
    assert order is not None
    return order_row(order, events[-1].position)


def test_views_that_were_deleted_come_back_the_same(ledger: Ledger, views: Path) -> None:
    chance = Random(seed())  # noqa: S311 - a reproducible choice
    projector = Projector(ledger, views)
    for _ in range(20):
        random_history(ledger, chance, steps=20)
        projector.catch_up()
    projector.close()
    before = rows(views)

    for file in views.parent.glob("views.db*"):
        file.unlink()

    assert built(ledger, views) == before


def test_a_failure_between_rows_and_position_applies_nothing(
    ledger: Ledger, views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger._writer.run([quote(n) for n in range(5)])
    projector = Projector(ledger, views)
    projector.catch_up()
    before = rows(views)
    ledger._writer.run([task(n, b.accept(b.mined(b.transfer(of=str(n))))) for n in range(5)])
    real = Projector._write

    def write(self: Projector, *args: object) -> None:
        real(self, *args)  # type: ignore[arg-type]
        raise RuntimeError("in between")

    with monkeypatch.context() as patch:
        patch.setattr(Projector, "_write", write)
        for _ in range(3):
            with pytest.raises(RuntimeError):
                projector.catch_up()
            assert rows(views) == before

    projector.catch_up()
    projector.close()
    assert rows(views) == built(ledger, views.with_name("anew.db"))


KILLED = """
import os, signal, sys
from pathlib import Path
from projections import runner
from projections.runner import Projector
from ledger.entry import read_entry
from ledger.service import Placed
from ledger.store import SqliteStore
from ledger.values import order_stream

class Source:
    def __init__(self, path): self.store = SqliteStore(path)
    def read(self, *, after, limit):
        return [Placed(p, read_entry(e)) for p, e in self.store.read(after=after, limit=limit)]
    def read_order(self, order_id):
        return [Placed(p, read_entry(e)) for p, e in self.store.read_stream(order_stream(order_id))]

real, left = Projector._write, [int(sys.argv[3])]
def write(self, *args):
    real(self, *args)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
runner.BATCH, Projector._write = 10, write
Projector(Source(Path(sys.argv[1])), Path(sys.argv[2])).catch_up()
"""


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_kill_between_rows_and_position_applies_nothing(
    ledger: Ledger, views: Path, batch: int
) -> None:
    random_history(ledger, Random(batch), steps=300)  # noqa: S311 - a reproducible choice
    arguments = [str(ledger.store.path), str(views), str(batch)]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL

    left = rows(views)
    assert left["tracking"] == [("feeds", GENERATION), ("views", 10 * (batch - 1))]
    assert all(int(str(row[0])) <= 10 * (batch - 1) for row in left["history"])

    assert built(ledger, views) == built(ledger, views.with_name("anew.db"))


def test_of_two_projectors_one_loses_cleanly_and_goes_on(ledger: Ledger, views: Path) -> None:
    ledger._writer.run([quote(n) for n in range(5)])
    one, other = Projector(ledger, views), Projector(ledger, views)
    one.catch_up()

    with pytest.raises(CursorConflict):
        other.catch_up()
    assert other.catch_up() == one.position

    ledger._writer.run([task(n, b.accept(b.mined(b.transfer(of=str(n))))) for n in range(5)])
    other.catch_up()
    with pytest.raises(CursorConflict):
        one.catch_up()
    ledger._writer.run([task(n, b.hand_in(str(n))) for n in range(5)])
    assert one.catch_up() == ledger.store.size()
    one.close()
    other.close()
    assert rows(views) == built(ledger, views.with_name("anew.db"))


async def test_two_runners_on_one_file_end_with_the_same_rows(ledger: Ledger, views: Path) -> None:
    runners = [Runner(ledger, views), Runner(ledger, views)]
    for runner in runners:
        runner.start()

    def wake() -> None:
        for runner in runners:
            runner.wake()

    ledger.start(on_commit=wake)
    for number in range(60):
        await ledger.execute(order_id(number), b.issue_quote())
        command = b.accept(b.mined(b.transfer(of=str(number))))
        receipt = await ledger.execute(order_id(number), command)

    assert all([await runner.wait_for(receipt.stream.position, 10) for runner in runners])

    for runner in runners:
        runner.stop()
    assert rows(views) == built(ledger, views.with_name("anew.db"))


async def test_waiting_for_a_position_ends_when_the_views_have_it(
    ledger: Ledger, views: Path
) -> None:
    runner = Runner(ledger, views)
    runner.start()
    ledger.start(on_commit=runner.wake)
    waiting = [asyncio.create_task(runner.wait_for(position, 10)) for position in range(1, 40)]

    await asyncio.gather(*(ledger.execute(order_id(n), b.issue_quote()) for n in range(38)))

    assert await asyncio.gather(*waiting) == [True] * 39
    assert not await runner.wait_for(40, 0.01)
    runner.stop()


class Endless:
    """A ledger that has always one event more: whoever reads it to the end never ends."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._number = 0
        self.going = False

    def read(self, *, after: int, limit: int) -> list[Placed]:
        if self.going:
            self._number += 1
            self._ledger._writer.run([quote(self._number)])
        return self._ledger.read(after=after, limit=limit)

    def read_order(self, order_id: str) -> list[Placed]:
        return self._ledger.read_order(order_id)


async def test_waiting_ends_also_while_there_is_always_more_to_read(
    ledger: Ledger, views: Path
) -> None:
    source = Endless(ledger)
    runner = Runner(source, views)
    runner.start()
    source.going = True
    runner.wake()

    assert await runner.wait_for(ledger.store.size() + 5, 10)

    runner.stop()


class Faulty:
    """A ledger with one event that no fold knows how to take."""

    def __init__(self, ledger: Ledger, position: int) -> None:
        self._ledger = ledger
        self.bad: int | None = position

    def read(self, *, after: int, limit: int) -> list[Placed]:
        events = self._ledger.read(after=after, limit=limit)
        return [self._spoilt(p) if p.position == self.bad else p for p in events]

    def read_order(self, order_id: str) -> list[Placed]:
        return self._ledger.read_order(order_id)

    def _spoilt(self, placed: Placed) -> Placed:
        was = placed.signed
        event = QuoteExpired(scanned_block=1, scanned_block_time=1)
        bad = SignedEvent(was.stream, 1, was.at, event, {}, was.signer, was.entry, was.leaf)
        return Placed(placed.position, bad)


async def test_a_bad_event_stops_the_views_loudly_and_the_ledger_goes_on(
    ledger: Ledger, views: Path
) -> None:
    source = Faulty(ledger, 5)
    runner = Runner(source, views)
    runner.start()
    ledger.start(on_commit=runner.wake)
    with capture_logs() as logs:
        for number in range(1, 9):
            receipt = await ledger.execute(order_id(number), b.issue_quote())
            # Nobody waits for views that cannot go on.
            await runner.wait_for(receipt.stream.position, 5)

    assert isinstance(receipt, Receipt)
    assert [log["event"] for log in logs] == ["views stopped"]
    assert runner.position == 4
    assert rows(views)["tracking"] == [("feeds", GENERATION), ("views", 4)]

    again = Event()
    runner.on_progress = lambda _moved: again.set()
    source.bad = None
    runner.wake()
    assert again.wait(10)
    assert runner.position == receipt.stream.position
    runner.stop()


def test_a_service_starts_on_views_that_cannot_go_on(ledger: Ledger, views: Path) -> None:
    ledger._writer.run([quote(n) for n in range(9)])
    runner = Runner(Faulty(ledger, 5), views)
    with capture_logs() as logs:
        runner.start()
    runner.stop()
    assert logs[0]["event"] == "views stopped"


def test_everything_that_is_to_do_is_listed_however_much_it_is(ledger: Ledger, views: Path) -> None:
    chance = Random(1)  # noqa: S311 - a reproducible choice
    numbers = list(range(1100))
    chance.shuffle(numbers)
    ledger._writer.run([quote(n) for n in numbers])
    ledger._writer.run([task(n, b.accept(b.seen(ChainView.NOT_FOUND, of=str(n)))) for n in numbers])
    projector = Projector(ledger, views)
    projector.catch_up()
    projector.close()
    reader = ViewReader(views)

    pages = list(reader.all_work(WorkKind.CLAIM))

    reader.close()
    assert [len(page) for page in pages] == [500, 500, 100]
    assert {work.order_id for page in pages for work in page} == {order_id(n) for n in numbers}
    since = [work.since_ms for page in pages for work in page]
    assert since == sorted(since)


def test_a_reader_in_the_middle_of_a_batch_sees_all_of_it_or_nothing(
    ledger: Ledger, views: Path
) -> None:
    numbers = range(40)
    projector = Projector(ledger, views)
    projector.catch_up()
    ended: list[int] = []

    def write() -> None:
        for step in range(10):
            ledger._writer.run([quote(40 * step + n) for n in numbers])
            projector.catch_up()
        ended.append(os.getpid())

    writing = Thread(target=write)
    writing.start()
    connection = sqlite3.connect(f"{views.as_uri()}?mode=ro", uri=True)
    while not ended:
        position, count = connection.execute(
            "SELECT (SELECT position FROM tracking WHERE name='views'),"
            " (SELECT count(*) FROM orders)"
        ).fetchone()
        assert position in (1 + count, 0)
    connection.close()
    writing.join()
    projector.close()
