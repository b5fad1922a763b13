"""Checks of agents and conversations, and that an offer was made where it says it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterator
from typing import Final

from ledger.audit_entries import Opened
from ledger.audit_report import CLEAN, Problems
from ledger.deal_events import OrderProposed
from ledger.entry import SignedEvent
from ledger.event import Event
from ledger.market_events import AgentRegistered, AgentUpdated, ConversationStarted, MessagePosted
from ledger.order_events import ContentErased
from ledger.values import (
    address_of,
    agent_stream,
    conversation_stream,
    is_agent,
    is_conversation,
    stream_key,
)

_AT: Final = "SELECT state FROM stored_events WHERE rowid=?"
_FIRST: Final = (
    "SELECT rowid, state FROM stored_events WHERE originator_id=? AND originator_version=1"
)
_PLACES: Final[tuple[tuple[Callable[[str], bool], type[Event], tuple[type[Event], ...]], ...]] = (
    (is_agent, AgentRegistered, (AgentUpdated, ContentErased)),
    (is_conversation, ConversationStarted, (MessagePosted, ContentErased)),
)
"""Streams, what each begins with, and what may follow."""


class Lookup:
    """Other events than the one at hand. Whoever was given one order alone has no other streams."""

    def __init__(
        self, db: sqlite3.Connection, open_entry: Callable[[bytes], Opened], *, whole: bool
    ) -> None:
        self._db = db
        self._open = open_entry
        self.whole = whole

    def at(self, position: int) -> SignedEvent | None:
        """Return the event at a position, if one can be read there."""
        row = self._db.execute(_AT, (position,)).fetchone()
        return self._opened(row[0]) if row else None

    def first(self, stream: str, before: int) -> Event | None:
        """Return what a stream begins with, if that stands before a position."""
        row = self._db.execute(_FIRST, (stream_key(stream),)).fetchone()
        signed = self._opened(row[1]) if row and row[0] < before else None
        return signed.event if signed is not None and signed.stream == stream else None

    def _opened(self, entry: object) -> SignedEvent | None:
        parts = self._open(entry).parts if type(entry) is bytes else None
        return parts.signed if parts is not None else None


def is_market(stream: str) -> bool:
    """Whether a stream is that of an agent or a conversation."""
    return is_agent(stream) or is_conversation(stream)


def c08_market(stream: str, event: Event, kinds: Container[str]) -> Iterator[str]:
    """C08: an agent is registered first and once, a conversation begins once; nothing else."""
    _, first, others = next(place for place in _PLACES if place[0](stream))
    begins = first.kind not in kinds
    if begins is not isinstance(event, first) or not isinstance(event, (first, *others)):
        yield f"{event.kind} has no place here in the stream {stream!r}"
    if isinstance(event, ConversationStarted) and event.agent_wallet == event.client_wallet:
        yield "a wallet talks to its own agent"


def c08_erased(event: ContentErased, known: Container[str], erased: Container[str]) -> Problems:
    """C08: only content of this stream is erased, and once."""
    for content_id in event.content_ids:
        if content_id not in known:
            yield f"content {content_id} was never part of this stream"
        if content_id in erased:
            yield f"content {content_id} was erased before"


def c08_its_agent(event: Event, position: int, lookup: Lookup) -> Problems:
    """C08: the agent that a conversation or an offer names is registered, and of that wallet."""
    if not lookup.whole or not isinstance(event, ConversationStarted | OrderProposed):
        return CLEAN
    agent = lookup.first(agent_stream(event.agent), position)
    if isinstance(agent, AgentRegistered) and agent.owner == event.agent_wallet:
        return CLEAN
    return [f"{event.agent} is no agent of {event.agent_wallet} that was registered before"]


def c08_its_conversation(event: Event, position: int, lookup: Lookup) -> Problems:
    """C08: an offer is made in an earlier conversation of these two."""
    if not lookup.whole or not isinstance(event, OrderProposed):
        return CLEAN
    talk = lookup.first(conversation_stream(event.conversation), position)
    sides = (event.agent, event.agent_wallet, address_of(event.client))
    said = isinstance(talk, ConversationStarted) and (
        talk.agent,
        talk.agent_wallet,
        talk.client_wallet,
    )
    if said == sides:
        return CLEAN
    return [f"the agent and the client of the offer had no conversation {event.conversation}"]
