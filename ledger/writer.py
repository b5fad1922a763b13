"""The one writer: a bounded queue, one thread, one transaction per batch of commands.

batch: load → decide → evolve → sign → one transaction → commit → one checkpoint → answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from ledger.batch import Batch, Planned, Task, conflict
from ledger.checkpoint import LogKey
from ledger.errors import LedgerError, OutcomeUnknown, StoreUnavailable, VerificationError
from ledger.guard import Guard
from ledger.inbox import Inbox
from ledger.merkle import EMPTY_ROOT
from ledger.receipt import Answer, Receipt, SignedHead
from ledger.signing import Signer
from ledger.store import SqliteStore
from ledger.store_sqlite import STORE_ERRORS, Group
from ledger.stream import HeadCache
from ledger.tiles import Growth, Tree
from ledger.values import UnixMs

MAX_REDOS: Final = 3

_UNREADABLE: Final = "the store cannot be used now; nothing was recorded"
_ABSENT: Final = "the store failed; it was checked that nothing was recorded"
_UNKNOWN: Final = "the store failed and cannot be asked; ask again before acting"
_UNGUARDED: Final = "the head after the command could not be guarded; ask again before acting"

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
        self._tree = Tree()
        self._inbox = Inbox(self.run)
        self._broken = False
        self._closed = False
        self._last_at = UnixMs(0)
        self.on_commit: Callable[[], None] = lambda: None
        self._reload()

    @property
    def head(self) -> SignedHead:
        """The newest signed head; safe to read from any thread."""
        return self._head

    @property
    def last_at(self) -> UnixMs:
        """The time of the newest event; safe to read from any thread."""
        return self._last_at

    def start(self) -> None:
        """Start the thread."""
        self._inbox.start()

    def stop(self) -> None:
        """Finish what is queued, then stop."""
        self._inbox.stop()

    def submit(self, task: Task) -> asyncio.Future[Receipt]:
        """Queue a task and return what resolves when it is durable; see `Inbox.submit`."""
        return self._inbox.submit(task)

    def run(self, tasks: Sequence[Task]) -> list[Answer]:
        """Decide and store a batch; one answer per task, in the order of the tasks."""
        answers: dict[Task, Answer] = {}
        todo = list(tasks)
        try:
            for _ in range(MAX_REDOS):
                todo = self._attempt(todo, answers)
                if not todo:
                    break
        except BaseException:
            # A bug of ours, maybe between commit and memory: believe the store alone from here.
            self._broken = True
            raise
        answers.update({task: conflict() for task in todo})
        return [answers[task] for task in tasks]

    def _attempt(self, tasks: list[Task], answers: dict[Task, Answer]) -> list[Task]:
        """Run the tasks once; return those that lost a race and must be decided again."""
        try:
            if self._broken:
                self._reload()
            batch = self._decided(tasks)
            groups = batch.groups()
        except (*STORE_ERRORS, VerificationError, OSError) as error:
            self._broken = True
            _log.error("store unreadable", error=str(error))
            answers.update({task: StoreUnavailable(_UNREADABLE) for task in tasks})
            return []
        if not groups:
            self._answer(batch, batch.planned, None, answers)
        else:
            self._commit(batch, groups, answers)
        return [task for task in tasks if task not in answers]

    def _commit(self, batch: Batch, groups: list[Group], answers: dict[Task, Answer]) -> None:
        """Store the groups and answer every task that has its answer now."""
        tree, grown = self._tree.fork(), list[Growth]()

        def grow(leaves: Sequence[bytes]) -> Growth:
            grown.append(tree.append(leaves))
            return grown[-1]

        try:
            # A crash before this commit leaves nothing of the batch, and nobody was answered. A
            # crash after it leaves all of it without answers or checkpoint: the clients repeat,
            # the repeats find their acts done, and the next start signs the new head.
            accepted = self._store.append(groups, first_position=self._tree.size + 1, grow=grow)
        except STORE_ERRORS as error:
            _log.error("commit outcome unknown", error=str(error))
            stored = self._stored(batch)
            if stored is None or not any(stored):
                # No task of the batch may be answered from it: even one that wrote nothing was
                # decided on what the others wrote.
                known = stored is not None
                answers.update({task: _failed(known=known) for task in _tasks(batch)})
                return
            accepted = stored
        self._tree, self._last_at = tree, batch.last_at
        growth = grown[-1] if grown else None
        if not all(accepted):
            self._after_conflict(batch, accepted, growth, answers)
            return
        for planned in batch.planned:
            self.cache.put(planned.head)
        self._answer(batch, batch.planned, growth, answers)

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

    def _after_conflict(
        self,
        batch: Batch,
        accepted: Sequence[bool],
        growth: Growth | None,
        answers: dict[Task, Answer],
    ) -> None:
        """Answer what was stored, and only that; the rest is decided again on the store's word.

        The rest is what lost a race, and every task that wrote nothing: it may have been refused,
        or found its act done, because of events that do not exist.
        """
        # Positions after a lost group moved down, and another process may have grown the tree.
        self._broken = True
        stored = [p for p, ok in zip(_writers(batch), accepted, strict=True) if ok]
        position = self._tree.size + 1 - sum(len(p.events) for p in stored)
        for planned in stored:
            planned.first_position = position
            position += len(planned.events)
            planned.head = replace(planned.head, position=position - 1)
        batch.refused.clear()
        self._answer(batch, stored, growth, answers)

    def _stored(self, batch: Batch) -> list[bool] | None:
        """After a failed commit, look which of our own bytes are there; None if nobody can say."""
        self._broken = self._closed = True
        writers = _writers(batch)
        count = sum(len(planned.events) for planned in writers)
        try:
            self._reopen()
            rows = self._store.read(after=self._tree.size, limit=count)
        except (*STORE_ERRORS, OSError):
            return None
        entries = {entry for _, entry in rows}
        # One transaction stored them all, or none: what has no event was stored if any event was.
        found = any(event.entry in entries for p in writers for event in p.events)
        return [found and all(event.entry in entries for event in p.events) for p in writers]

    def _reopen(self) -> None:
        self._store.reopen()
        self._closed = False

    def _answer(
        self,
        batch: Batch,
        planned: Iterable[Planned],
        growth: Growth | None,
        answers: dict[Task, Answer],
    ) -> None:
        for task, error in batch.refused:
            lost = isinstance(error, STORE_ERRORS)
            answers[task] = StoreUnavailable(_UNREADABLE) if lost else error
        if growth is not None:
            self._publish(growth)
        for each in planned:
            # What the newest guarded head does not cover yet cannot be proven to anybody, be it
            # of this command or of one before it.
            if each.head.position > self._head.size:
                answers[each.task] = OutcomeUnknown(_UNGUARDED)
            else:
                answers[each.task] = self._receipt(each, growth)

    def _publish(self, growth: Growth) -> None:
        """Sign the head after the commit, guard it, then let it be seen.

        If the guard refuses or cannot be written, no head may leave: nothing is seen, and the next
        batch tries to guard it first.
        """
        note = self._log_key.sign_checkpoint(self._origin, growth.size, growth.root)
        try:
            # A crash before the guard is written leaves it behind the ledger, which is harmless:
            # the head never left. After it, the head may be with a client, and the guard knows it.
            self._guard.advance(note, growth.size, growth.root)
        except (VerificationError, OSError) as error:
            self._broken = True
            _log.error("head not guarded", size=growth.size, error=str(error))
            return
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
        if self._closed:
            self._reopen()
        self._tree = self._store.load_tree()
        self._last_at = self._store.last_at()
        root = self._tree.root if self._tree.size else EMPTY_ROOT
        note = self._log_key.sign_checkpoint(self._origin, self._tree.size, root)
        self._guard.advance(note, self._tree.size, root)
        self._head = SignedHead(self._tree.size, root, note)
        self._broken = False


def _writers(batch: Batch) -> list[Planned]:
    return [planned for planned in batch.planned if planned.writes]


def _tasks(batch: Batch) -> list[Task]:
    return [planned.task for planned in batch.planned] + [task for task, _ in batch.refused]


def _failed(*, known: bool) -> LedgerError:
    return StoreUnavailable(_ABSENT) if known else OutcomeUnknown(_UNKNOWN)
