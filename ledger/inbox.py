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
        self._queue: queue.SimpleQueue[list[Task] | None] = queue.SimpleQueue()
        self._gathered: list[Task] = []
        self._waiting = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then stop; what is submitted from now on is refused."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._hand_over()
            self._queue.put(None)
            thread.join()

    def submit(self, task: Task) -> asyncio.Future[Receipt]:
        """Queue a task and return what resolves when it is durable or refused.

        Raises `Overloaded` at once if the queue is full or nobody empties it. Cancelling the
        caller cancels the waiting and no more: what was queued is decided and, if accepted,
        recorded. For one event loop.
        """
        if self._thread is None:
            msg = "the ledger is not writing; nothing was recorded"
            raise Overloaded(msg)
        if self._waiting >= MAX_QUEUE:
            msg = "too many commands are waiting; nothing was recorded"
            raise Overloaded(msg)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Receipt] = loop.create_future()
        task.waiter = waiter
        self._waiting += 1
        # What one round of the loop submits is handed over at once: one wake-up and one batch,
        # not a thread that fights the loop for the interpreter after the first of many.
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered.append(task)
        return waiter

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _loop(self) -> None:
        stopping = False
        while not stopping:
            tasks: list[Task] = []
            item = self._queue.get()
            while item is not None:
                tasks += item
                if len(tasks) >= MAX_BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            stopping = item is None
            for first in range(0, len(tasks), MAX_BATCH):
                batch = tasks[first : first + MAX_BATCH]
                self._answer(batch, self._run_safely(batch))

    def _run_safely(self, tasks: Sequence[Task]) -> Sequence[Answer]:
        try:
            return self._run(tasks)
        except Exception:  # noqa: BLE001 - the thread must outlive a bug; every waiter hears of it
            _log.exception("writer failed")
            # Where the bug struck is not known, so neither is what became of the batch.
            return [OutcomeUnknown("the writer failed; ask again before acting") for _ in tasks]

    def _answer(self, tasks: Sequence[Task], answers: Sequence[Answer]) -> None:
        """Resolve the waiters, with one call into their loop."""
        waiting = [
            (task.waiter, answer)
            for task, answer in zip(tasks, answers, strict=True)
            if task.waiter is not None
        ]
        if waiting:
            try:
                waiting[0][0].get_loop().call_soon_threadsafe(self._resolve, waiting)
            except RuntimeError:  # the loop is closed: nobody waits any more
                _log.info("answers dropped at shutdown", count=len(waiting))

    def _resolve(self, waiting: list[tuple[asyncio.Future[Receipt], Answer]]) -> None:
        self._waiting -= len(waiting)
        for waiter, answer in waiting:
            if waiter.done():
                continue
            if isinstance(answer, Exception):
                waiter.set_exception(answer)
                waiter.exception()  # a cancelled caller never asks; that is no error of ours
            else:
                waiter.set_result(answer)
