"""One batch of commands: load → decide → evolve → sign. Nothing is stored here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from ledger.content import DELIVERABLE
from ledger.deal_events import PaymentAuthorized
from ledger.decision import Claimed, Decision
from ledger.entry import Seal, SignedEvent, seal
from ledger.errors import Conflict, LedgerError, Misconfigured
from ledger.event import Event, TreeHead
from ledger.log import LogState
from ledger.money import TransferId
from ledger.order_events import ContentErased
from ledger.payment_events import (
    PaymentLate,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.signing import Signer
from ledger.store import SqliteStore
from ledger.store_sqlite import AnswerRow, ContentRow, Group
from ledger.stream import HeadCache, StreamHead
from ledger.values import LOG_STREAM, UnixMs

SALT_BYTES: Final = 16
SALTS_PER_DRAW: Final = 64

Decide = Callable[[Any, Claimed, UnixMs], Decision]
"""From a stream's state, the claims asked for, and the time that the events will carry."""

_CLAIMING: Final = (
    PaymentVerified,
    PaymentPartial,
    PaymentOverpaid,
    PaymentLate,
    PaymentRestored,
    RefundRecorded,
)


@dataclass(frozen=True, slots=True)
class Remember:
    """A request with a key of its own: its answer is stored in the transaction of its events.

    `body` makes the answer's JSON from the stream as it is after the command. It runs in the
    writer's thread: pure, and short.
    """

    request_id: bytes
    fingerprint: bytes
    body: Callable[[Any], bytes]


@dataclass(eq=False, slots=True)
class Task:
    """A command on its way: which stream it is for, how to decide it, and who waits.

    `transfers` are the claim keys it brings, `content` the rows its events refer to.
    """

    stream: str
    decide: Decide
    now: UnixMs
    transfers: tuple[TransferId, ...] = ()
    content: tuple[ContentRow, ...] = ()
    remember: Remember | None = None
    waiter: asyncio.Future[Any] | None = None


@dataclass(eq=False, slots=True)
class Planned:
    """A decided task: its signed events, what each claims, and the stream as it is after them."""

    task: Task
    events: tuple[SignedEvent, ...]
    head: StreamHead
    error: LedgerError | None
    first_position: int
    claims: tuple[tuple[TransferId, ...], ...]
    answer: AnswerRow | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to store."""
        return bool(self.events) or self.answer is not None

    def group(self, claimed_before: Claimed) -> Group:
        """Return the rows to store.

        A transfer that the stream claimed before is not new, and content that none of the events
        refers to is not stored: a command may bring it and lead to something else.
        """
        claims: dict[TransferId, int] = {}
        for index, keys in enumerate(self.claims):
            for key in keys:
                if key not in claimed_before:
                    claims.setdefault(key, index)
        return Group(
            self.events, tuple(claims.items()), self._content(), self.answer, self._erased()
        )

    def _erased(self) -> tuple[str, ...]:
        events = (signed.event for signed in self.events)
        return tuple(
            content_id
            for event in events
            if isinstance(event, ContentErased)
            for content_id in event.content_ids
        )

    def _content(self) -> tuple[ContentRow, ...]:
        if not self.task.content:
            return ()
        named = {content for e in self.events for content in content_of(e.event).values()}
        return tuple(row for row in self.task.content if row.content_id in named)


def claims_of(event: Event) -> tuple[TransferId, ...]:
    """Return the transfers that an event claims; a signed one by its signature."""
    if isinstance(event, PaymentAuthorized):
        return event.keys
    return tuple(t.key for t in event.transfers) if isinstance(event, _CLAIMING) else ()


def content_of(event: Event) -> dict[str, str]:
    """Return the content that an event refers to: the row's field to its content id."""
    return {
        column: content_id
        for name, column in _content_fields(type(event))
        if (content_id := getattr(event, name)) is not None
    }


@cache
def _content_fields(event_class: type[Event]) -> tuple[tuple[str, str], ...]:
    names = (name for name in event_class.model_fields if name.endswith("_id"))
    return tuple(
        (name, DELIVERABLE if name == "content_id" else name.removesuffix("_id")) for name in names
    )


@dataclass(slots=True)
class Batch:
    """Commands decided one after another, each on what the ones before it made.

    `next_position` is the place of the next event, `last_at` the time of the newest one: time
    never goes back over the log. `base` is the newest signed head.
    """

    store: SqliteStore
    cache: HeadCache
    signer: Signer
    origin: str
    base: TreeHead
    next_position: int
    last_at: UnixMs
    planned: list[Planned] = field(default_factory=list)
    refused: list[tuple[Task, Exception]] = field(default_factory=list)
    claimed: dict[TransferId, str] = field(default_factory=dict)
    _heads: dict[str, StreamHead] = field(default_factory=dict)
    _random: bytes = b""

    def decide(self, task: Task) -> None:
        """Decide one task; its refusal touches no other task of the batch."""
        try:
            self._require_open()
            self._require_new(task)
            head = self._head(task.stream)
            known = self._claimed(task.transfers)
            decision = task.decide(head.state, known, max(self.last_at, task.now))
            self._seal(task, head, decision)
        except Exception as error:  # noqa: BLE001 - a bug in one command must not fail its neighbours
            self.refused.append((task, error))

    def groups(self) -> list[Group]:
        """Return the rows to store, for the tasks that made events."""
        stored_before = self._stored_claims()
        return [p.group(stored_before) for p in self.planned if p.writes]

    def _seal(self, task: Task, head: StreamHead, decision: Decision) -> None:
        events: list[SignedEvent] = []
        last_at, first = self.last_at, self.next_position
        for draft in decision.drafts:
            last_at = max(last_at, task.now)
            place = Seal(
                log=self.origin,
                stream=task.stream,
                seq=head.seq + 1,
                prev=head.leaf,
                at=last_at,
                base=self.base,
                salt=self._salt(),
            )
            signed = seal(draft, place, self.signer)
            head = head.after(signed, first + len(events))
            events.append(signed)
        # Made before anything of the task counts: an answer that fails is the task's own failure.
        answer = None if decision.error else _answer_of(task, head)
        self.last_at = last_at
        self.next_position += len(events)
        self._heads[task.stream] = head
        claims = tuple([claims_of(signed.event) for signed in events])
        for keys in claims:
            if keys:
                self.claimed.update(dict.fromkeys(keys, task.stream))
        self.planned.append(
            Planned(task, tuple(events), head, decision.error, first, claims, answer)
        )

    def _salt(self) -> bytes:
        """Return 16 fresh random bytes; drawn for many events at once, as a draw is slow."""
        if not self._random:
            self._random = os.urandom(SALT_BYTES * SALTS_PER_DRAW)
        salt, self._random = self._random[:SALT_BYTES], self._random[SALT_BYTES:]
        return salt

    def _head(self, stream: str) -> StreamHead:
        head = self._heads.get(stream) or self.cache.get(stream)
        return head or self.store.load(stream)

    def _claimed(self, keys: tuple[TransferId, ...]) -> Claimed:
        if not keys:
            return {}
        stored = self.store.claimed(keys)
        return {**stored, **{key: self.claimed[key] for key in keys if key in self.claimed}}

    def _stored_claims(self) -> Claimed:
        keys = [key for p in self.planned for of_event in p.claims for key in of_event]
        return self.store.claimed(keys) if keys else {}

    def _require_new(self, task: Task) -> None:
        """Refuse what was answered while it waited here: its repeat gets that answer."""
        if task.remember and self.store.answer(task.remember.request_id) is not None:
            msg = "a request with this key was answered meanwhile; send it again"
            raise Conflict(msg, code="IDEMPOTENCY_KEY_IN_FLIGHT")

    def _require_open(self) -> None:
        head = self._heads.get(LOG_STREAM)
        if head is None:
            head = self._heads[LOG_STREAM] = self._head(LOG_STREAM)
        state = head.state
        if isinstance(state, LogState) and state.closed:
            msg = "the log is closed; nothing may follow"
            raise Misconfigured(msg)


def _answer_of(task: Task, head: StreamHead) -> AnswerRow | None:
    asked = task.remember
    if asked is None:
        return None
    body = asked.body(head.state)
    return AnswerRow(asked.request_id, task.stream, asked.fingerprint, body, head.position)


def conflict() -> LedgerError:
    """Return the error of a command that lost a race against another process, to be redone."""
    return Conflict("another writer changed the stream")
