"""The one writer: a bounded queue, one thread, one transaction per batch of commands.

batch: load → decide → evolve → sign → one transaction → commit → one checkpoint → answers.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from ledger.batch import Batch, Planned, Task, conflict
from ledger.checkpoint import LogKey
from ledger.errors import (
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    VerificationError,
)
from ledger.guard import Guard
from ledger.merkle import EMPTY_ROOT
from ledger.receipt import Answer, Receipt, SignedHead
from ledger.signing import Signer
from ledger.store import SqliteStore
from ledger.store_sqlite import STORE_ERRORS
from ledger.stream import HeadCache
from ledger.tiles import Growth, Tree
from ledger.values import UnixMs

MAX_BATCH: Final = 256
MAX_QUEUE: Final = 4096
MAX_REDOS: Final = 3

_log = structlog.get_logger(__name__)


class Writer:
    """Owns every write. `submit` from the event loop; `run` directly only before `start`."""

    def __init__(
        self, store: SqliteStore, *, signer: Signer, log_key: LogKey, guard: Guard, origin: str
    ) -> None:
        self.cache: Final = HeadCache()
        self._store = store
        self._signer = signer
        self._log_key = log_key
        self._guard = guard
        self._origin = origin
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._broken = False
        self._last_at = UnixMs(0)
        self.on_commit: Callable[[], None] = lambda: None
        self._reload()

    @property
    def head(self) -> SignedHead:
        """The newest signed head; safe to read from any thread."""
        return self._head

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then stop."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    async def submit(self, task: Task) -> Receipt:
        """Queue a task and wait until it is durable or refused.

        Raises `Overloaded` at once if the queue is full. Cancelling the caller does not cancel the
        task: what was queued is decided and, if accepted, recorded.
        """
        if self._queue.qsize() >= MAX_QUEUE:
            msg = "too many commands are waiting; nothing was recorded"
            raise Overloaded(msg)
        task.waiter = asyncio.get_running_loop().create_future()
        self._queue.put(task)
        receipt: Receipt = await asyncio.shield(task.waiter)
        return receipt

    def run(self, tasks: Sequence[Task]) -> list[Answer]:
        """Decide and store a batch; one answer per task, in the order of the tasks."""
        answers: dict[Task, Answer] = {}
        todo = list(tasks)
        for _ in range(MAX_REDOS):
            todo = self._attempt(todo, answers)
            if not todo:
                break
        answers.update({task: conflict() for task in todo})
        return [answers[task] for task in tasks]

    def _attempt(self, tasks: list[Task], answers: dict[Task, Answer]) -> list[Task]:
        """Run the tasks once; return those that lost a race and must be decided again."""
        try:
            if self._broken:
                self._reload()
            batch = self._decided(tasks)
        except (*STORE_ERRORS, VerificationError) as error:
            self._broken = True
            _log.error("store unreadable", error=str(error))
            unread = StoreUnavailable("the store cannot be read; nothing was recorded")
            answers.update(dict.fromkeys(tasks, unread))
            return []
        answers.update(batch.refused)
        redo, growth = self._store_batch(batch, answers)
        if growth is not None:
            self._publish(growth)
        for planned in batch.planned:
            if planned.task not in answers and planned.task not in redo:
                answers[planned.task] = self._receipt(planned, growth)
        return redo

    def _decided(self, tasks: list[Task]) -> Batch:
        batch = Batch(
            store=self._store,
            cache=self.cache,
            signer=self._signer,
            origin=self._origin,
            base=self._head.tree_head,
            next_position=self._tree.size + 1,
            last_at=self._last_at,
        )
        for task in tasks:
            batch.decide(task)
        return batch

    def _store_batch(
        self, batch: Batch, answers: dict[Task, Answer]
    ) -> tuple[list[Task], Growth | None]:
        groups = batch.groups()
        if not groups:
            return [], None
        tree, grown = self._tree.fork(), list[Growth]()

        def grow(leaves: Sequence[bytes]) -> Growth:
            grown.append(tree.append(leaves))
            return grown[-1]

        writers = [p for p in batch.planned if p.events]
        try:
            # A crash before this commit leaves nothing of the batch, and nobody was answered. A
            # crash after it leaves all of it without answers or checkpoint: the clients repeat,
            # the repeats find their acts done, and the next start signs the new head.
            accepted = self._store.append(groups, first_position=self._tree.size + 1, grow=grow)
        except STORE_ERRORS as error:
            _log.error("commit outcome unknown", error=str(error))
            if not self._resolve_unknown(writers, answers):
                return [], None
            accepted = [True] * len(groups)
        if not all(accepted):
            return self._after_conflict(batch, writers, accepted, tree, grown)
        self._keep(batch, tree)
        return [], grown[-1]

    def _keep(self, batch: Batch, tree: Tree) -> None:
        self._tree, self._last_at = tree, batch.last_at
        for planned in batch.planned:
            self.cache.put(planned.head)

    def _after_conflict(
        self,
        batch: Batch,
        writers: list[Planned],
        accepted: list[bool],
        tree: Tree,
        grown: list[Growth],
    ) -> tuple[list[Task], Growth | None]:
        """Return the tasks that lost a race, to be decided again on their streams as stored."""
        redo = [p.task for p, ok in zip(writers, accepted, strict=True) if not ok]
        lost = {task.stream for task in redo}
        redo += [p.task for p in batch.planned if not p.events and p.task.stream in lost]
        self._tree, self._last_at = tree, batch.last_at
        # Positions after a lost group moved down, so every planned head is read anew too.
        self.cache.clear()
        position = (
            tree.size
            + 1
            - sum(len(p.events) for p, ok in zip(writers, accepted, strict=True) if ok)
        )
        for planned, ok in zip(writers, accepted, strict=True):
            if ok:
                planned.first_position = position
                position += len(planned.events)
                planned.head = replace(planned.head, position=position - 1)
        return redo, grown[-1] if grown else None

    def _resolve_unknown(self, writers: list[Planned], answers: dict[Task, Answer]) -> bool:
        """After a failed commit, look whether it happened: our own bytes are there, or not."""
        self._broken = True
        first = writers[0]
        try:
            self._store.reopen()
            stored = self._store.entry_at(first.first_position)
        except STORE_ERRORS:
            unknown = OutcomeUnknown(
                "the store failed and cannot be asked; ask again before acting"
            )
            answers.update({p.task: unknown for p in writers})
            return False
        if stored == first.events[0].entry:
            self._broken = False
            return True
        absent = StoreUnavailable("the store failed; it was checked that nothing was recorded")
        answers.update({p.task: absent for p in writers})
        return False

    def _publish(self, growth: Growth) -> None:
        """Sign the head after the commit, guard it, then let it be seen."""
        note = self._log_key.sign_checkpoint(self._origin, growth.size, growth.root)
        # A crash before the guard is written leaves it behind the ledger, which is harmless: the
        # head never left. After it, the head may be with a client, and the guard knows it.
        self._guard.advance(note, growth.size, growth.root)
        self._head = SignedHead(growth.size, growth.root, note)
        self.on_commit()

    def _receipt(self, planned: Planned, growth: Growth | None) -> Answer:
        receipt = Receipt(
            planned.events,
            planned.first_position if planned.events else 0,
            planned.head,
            self._head,
            growth if planned.events else None,
        )
        if planned.error is not None:
            planned.error.receipt = receipt
            return planned.error
        return receipt

    def _reload(self) -> None:
        """Take the tree, the clock and the head from the store; sign it if the guard allows."""
        self.cache.clear()
        self._tree = self._store.load_tree()
        self._last_at = self._store.last_at()
        root = self._tree.root if self._tree.size else EMPTY_ROOT
        note = self._log_key.sign_checkpoint(self._origin, self._tree.size, root)
        self._guard.advance(note, self._tree.size, root)
        self._head = SignedHead(self._tree.size, root, note)
        self._broken = False

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

    def _run_safely(self, tasks: list[Task]) -> Sequence[Answer]:
        try:
            return self.run(tasks)
        except Exception as error:  # noqa: BLE001 - the thread must outlive a bug; every waiter hears of it
            _log.exception("writer failed")
            self._broken = True
            return [error] * len(tasks)


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
