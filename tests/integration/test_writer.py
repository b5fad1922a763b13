import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Self

import pytest

from ledger.batch import Task
from ledger.decision import Claimed, Decision
from ledger.errors import Conflict, LedgerError, Overloaded, PaymentRefused, Rejected
from ledger.inbox import MAX_QUEUE
from ledger.merkle import verify_inclusion
from ledger.receipt import Receipt
from ledger.service import Ledger
from ledger.values import UnixMs, order_stream
from tests.support.faults import kinds, opened, order_id, quote, task
from tests.unit.builders import (
    NOW,
    QUOTED_AT,
    accept,
    collect,
    fail,
    hand_in,
    issue_quote,
    mined,
    start,
    transfer,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path) as ledger:
        yield ledger


def run(ledger: Ledger, *tasks: Task) -> list[Receipt | Exception]:
    return ledger._writer.run(tasks)


def receipts(ledger: Ledger, *tasks: Task) -> list[Receipt]:
    answers = run(ledger, *tasks)
    assert all(isinstance(a, Receipt) for a in answers), answers
    return [a for a in answers if isinstance(a, Receipt)]


def test_a_batch_gets_positions_in_its_order_and_one_head(ledger: Ledger) -> None:
    answers = receipts(ledger, *(quote(n) for n in range(300)))

    assert [a.first_position for a in answers] == list(range(2, 302))
    assert {a.head.size for a in answers} == {301}
    for answer in answers:
        assert answer.growth is not None
        index = answer.first_position - 1
        proof = answer.growth.inclusion_proof(index)
        verify_inclusion(answer.events[0].leaf, index, 301, proof, answer.head.root)


def test_commands_of_one_order_in_one_batch_build_on_each_other(ledger: Ledger) -> None:
    paid = accept(mined(transfer()))

    receipts(ledger, quote(1), task(1, paid), task(1, hand_in()), task(1, collect()))

    assert kinds(ledger, 1) == ["quoted", "paid", "processing", "ready", "delivered"]


def test_a_refused_command_fails_alone(ledger: Ledger) -> None:
    first, refused, last = run(ledger, quote(1), task(2, start()), quote(3))

    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    assert isinstance(refused, LedgerError)
    assert (first.first_position, last.first_position) == (2, 3)


def test_a_bug_in_one_command_fails_alone(ledger: Ledger) -> None:
    def decide(_state: object, _claimed: Claimed, _at: UnixMs) -> Decision:
        raise RuntimeError("a bug")

    broken = Task(order_stream(order_id(2)), decide, NOW)

    first, failed, last = run(ledger, quote(1), broken, quote(3))

    assert isinstance(first, Receipt)
    assert isinstance(failed, RuntimeError)
    assert isinstance(last, Receipt)
    assert ledger.store.size() == 3


def test_a_refused_command_after_an_accepted_one_leaves_the_accepted_one(ledger: Ledger) -> None:
    answers = run(ledger, quote(1), task(1, start()), task(1, accept(mined(transfer()))))

    assert isinstance(answers[0], Receipt)
    assert isinstance(answers[1], Rejected)
    assert isinstance(answers[2], Receipt)
    assert kinds(ledger, 1) == ["quoted", "paid", "processing"]


def test_of_two_orders_in_one_batch_only_one_gets_the_transfer(ledger: Ledger) -> None:
    receipts(ledger, quote(1), quote(2))

    one, other = run(ledger, task(1, accept(mined(transfer()))), task(2, accept(mined(transfer()))))

    assert isinstance(one, Receipt)
    assert isinstance(other, PaymentRefused)
    assert kinds(ledger, 2) == ["quoted", "command_refused"]


def test_an_error_after_an_append_carries_what_was_recorded(ledger: Ledger) -> None:
    receipts(ledger, quote(1))

    [answer] = run(ledger, task(1, accept(mined())))

    assert isinstance(answer, PaymentRefused)
    assert isinstance(answer.receipt, Receipt)
    assert answer.receipt.first_position == 3


def test_a_command_that_finds_its_act_done_writes_nothing(ledger: Ledger) -> None:
    receipts(ledger, quote(1), task(1, accept(mined(transfer()))), task(1, hand_in()))
    [first] = receipts(ledger, task(1, collect()))

    repeats = [receipts(ledger, task(1, collect()))[0] for _ in range(3)]

    assert all(r.events == () for r in repeats)
    assert {r.stream.position for r in repeats} == {first.stream.position}


def test_time_never_goes_back_when_the_clock_does(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        receipts(ledger, quote(1), task(1, accept(mined(transfer()), now=NOW)))
        early = accept(mined(transfer(of="b")), now=UnixMs(NOW - 3_600_000))
        receipts(ledger, quote(2), task(2, early), task(1, fail()))
        times = [p.signed.at for p in ledger.read(after=0, limit=100)]

    assert times == sorted(times)
    with opened(tmp_path, clock=lambda: UnixMs(QUOTED_AT - 3_600_000)) as ledger:
        receipts(ledger, quote(3))
        assert ledger.read(after=0, limit=100)[-1].signed.at == times[-1]


async def test_a_full_queue_refuses_at_once_and_records_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.inbox.MAX_QUEUE", 4)
    assert MAX_QUEUE > 4
    with Held(ledger) as held:
        running = asyncio.create_task(ledger.execute(order_id(0), issue_quote()))
        await asyncio.to_thread(held.reached.wait)
        waiting = [
            asyncio.create_task(ledger.execute(order_id(n), issue_quote())) for n in range(1, 4)
        ]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded):
            await ledger.execute(order_id(9), issue_quote())

        held.go_on()
        assert [r.first_position for r in await asyncio.gather(running, *waiting)] == [2, 3, 4, 5]
    assert kinds(ledger, 9) == []


async def test_a_cancelled_caller_does_not_cancel_the_command(ledger: Ledger) -> None:
    with Held(ledger) as held:
        running = asyncio.create_task(ledger.execute(order_id(0), issue_quote()))
        await asyncio.to_thread(held.reached.wait)
        gone = asyncio.create_task(ledger.execute(order_id(1), issue_quote()))
        await asyncio.sleep(0)
        for caller in (running, gone):
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        held.go_on()
        await ledger.execute(order_id(2), issue_quote())

    assert [kinds(ledger, n) for n in range(3)] == [["quoted"]] * 3


async def test_stopping_finishes_what_is_queued_and_refuses_the_rest(ledger: Ledger) -> None:
    with Held(ledger) as held:
        queued = [asyncio.create_task(ledger.execute(order_id(n), issue_quote())) for n in range(9)]
        await asyncio.sleep(0)
        stopping = Thread(target=ledger.stop)
        stopping.start()
        held.go_on()

        assert len(await asyncio.gather(*queued)) == 9
        await asyncio.to_thread(stopping.join)
        with pytest.raises(Overloaded):
            await ledger.execute(order_id(9), issue_quote())


async def test_many_callers_are_served_in_few_batches(ledger: Ledger) -> None:
    ledger.start()
    committed: list[int] = []
    ledger._writer.on_commit = lambda: committed.append(ledger.head.size)

    answers = await asyncio.gather(
        *(ledger.execute(order_id(n), issue_quote()) for n in range(1000))
    )

    assert sorted(a.first_position for a in answers) == list(range(2, 1002))
    assert len(committed) < 100


async def test_the_same_command_from_many_callers_is_obeyed_once(ledger: Ledger) -> None:
    ledger.start()
    await ledger.execute(order_id(1), issue_quote())
    command = accept(mined(transfer()))

    answers = await asyncio.gather(
        *(ledger.execute(order_id(1), command) for _ in range(100)), return_exceptions=True
    )

    assert kinds(ledger, 1) == ["quoted", "paid", "processing"]
    assert sum(isinstance(a, Receipt) for a in answers) == 1
    assert sum(isinstance(a, Conflict) for a in answers) == 99


class Held:
    """Starts a ledger whose writer stops before its first commit until it is told to go on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._append = ledger.store.append
        self._go = Event()
        self.reached = Event()

    def __enter__(self) -> Self:
        self._ledger.store.append = self._wait  # type: ignore[method-assign]
        self._ledger.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()

    def go_on(self) -> None:
        self._go.set()

    def _wait(self, *args: object, **kwargs: object) -> list[bool]:
        self.reached.set()
        self._go.wait()
        return self._append(*args, **kwargs)  # type: ignore[arg-type]
