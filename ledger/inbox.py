"""The bounded queue before the writer, and the one thread that empties it in batches."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ledger.batch import Task
from ledger.errors import OutcomeUnknown, Overloaded
from ledger.receipt import Answer, Receipt

MAX_BATCH: Final = 256
MAX_QUEUE: Final = 4096

_log = structlog.get_logger(__name__)


class Inbox:
    """Takes tasks from the event loop and hands them, in order, to `run` in its own thread."""

    def __init__(self, run: Callable[[Sequence[Task]], Sequence[Answer]]) -> None:
        self._run = run
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then stop; what is submitted from now on is refused."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    async def submit(self, task: Task) -> Receipt:
        """Queue a task and wait until it is durable or refused.

        Raises `Overloaded` at once if the queue is full or nobody empties it. Cancelling the
        caller does not cancel the task: what was queued is decided and, if accepted, recorded.
        """
        if self._thread is None:
            msg = "the ledger is not writing; nothing was recorded"
            raise Overloaded(msg)
        if self._queue.qsize() >= MAX_QUEUE:
            msg = "too many commands are waiting; nothing was recorded"
            raise Overloaded(msg)
        task.waiter = asyncio.get_running_loop().create_future()
        self._queue.put(task)
        receipt: Receipt = await asyncio.shield(task.waiter)
        return receipt

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            tasks: list[Task] = []
            item = self._queue.get()
            while item is not None:
                tasks.append(item)
                if len(tasks) == MAX_BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            stopping = item is None
            if tasks:
                _answer(tasks, self._run_safely(tasks))

    def _run_safely(self, tasks: Sequence[Task]) -> Sequence[Answer]:
        try:
            return self._run(tasks)
        except Exception:  # noqa: BLE001 - the thread must outlive a bug; every waiter hears of it
            _log.exception("writer failed")
            # Where the bug struck is not known, so neither is what became of the batch.
            return [OutcomeUnknown("the writer failed; ask again before acting") for _ in tasks]


def _answer(tasks: Sequence[Task], answers: Sequence[Answer]) -> None:
    """Resolve the waiters, with one call into their loop."""
    waiting = [(t.waiter, a) for t, a in zip(tasks, answers, strict=True) if t.waiter is not None]
    if waiting:
        try:
            waiting[0][0].get_loop().call_soon_threadsafe(_resolve, waiting)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _log.info("answers dropped at shutdown", count=len(waiting))


def _resolve(waiting: list[tuple[asyncio.Future[Receipt], Answer]]) -> None:
    for waiter, answer in waiting:
        if waiter.done():
            continue
        if isinstance(answer, Exception):
            waiter.set_exception(answer)
            waiter.exception()  # a cancelled caller never asks; that is no error of ours
        else:
            waiter.set_result(answer)
