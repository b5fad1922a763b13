"""The marketplace's views: agents, conversations, messages, and deals with their status words."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from ledger.deal_events import OrderProposed
from ledger.event import Event
from ledger.market_events import (
    AgentRegistered,
    AgentUpdated,
    ConversationStarted,
    MessagePosted,
    Side,
    Sides,
)
from ledger.order import Order, Status
from ledger.service import Placed
from ledger.values import address_of, is_agent, is_conversation, name_in, order_of_stream
from projections.feeds import Scene

CACHED: Final = 5_000
_SIDES: Final = (
    "SELECT agent, agent_wallet, client_wallet, client_type FROM conversations WHERE conversation=?"
)
_MESSAGE: Final = (
    "INSERT INTO messages (position, conversation, message, sender, text_id, attachments_id,"
    " order_id, at_ms) VALUES (?,?,?,?,?,?,?,?)"
)
_TALKED: Final = {
    "client": "UPDATE conversations SET last_ms=?1, asked_ms=ifnull(asked_ms, ?1)"
    " WHERE conversation=?2",
    "agent": "UPDATE conversations SET last_ms=?1, answered_ms=ifnull(answered_ms, ?1)"
    " WHERE conversation=?2",
}
_ANSWERED: Final = (
    "SELECT agent, agent_wallet, answered_ms - asked_ms FROM conversations WHERE conversation=?"
)
_COUNTED: Final = (
    "SELECT paid_ms, delivered_ms, amount_micros, payout_micros, rating FROM deals WHERE order_id=?"
)
_SUMS: Final = (
    "orders",
    "delivered",
    "amount_micros",
    "payout_micros",
    "reviews",
    "ratings",
    "answers",
    "answers_ms",
)
_RECORD: Final = (
    f"INSERT INTO records (agent, wallet, {', '.join(_SUMS)}) VALUES (?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - fixed words
    f" ON CONFLICT (agent) DO UPDATE SET {', '.join(f'{s}={s}+excluded.{s}' for s in _SUMS)}"
)
_DEAL: Final = (
    "INSERT OR REPLACE INTO deals (order_id, conversation, agent, agent_wallet, client_wallet,"
    " word, created_ms, updated_ms, amount_micros, payout_micros, paid_ms, delivered_ms, rating)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)


def word_of(order: Order) -> str:
    """Return the marketplace's word for an order: see the table in docs/marketplace.md."""
    deal = order.deal
    if order.dispute_open:
        return "DISPUTED"
    if deal is None:
        return str(order.status).upper()
    if deal.review is not None:
        return "COMPLETED"
    if order.deliverable is not None:
        return "DELIVERED"
    if deal.paid:
        return "IN_PROGRESS" if Status.PROCESSING in order.status_at else "PAID"
    if deal.ended is not None:
        return deal.ended.upper()
    return "NEGOTIATING" if deal.countered else "PENDING"


class _Sides(NamedTuple):
    agent: str
    agent_wallet: str
    client_wallet: str
    client_type: str


class Cast:
    """Who takes part in which conversation, and who owns which agent. For the views' thread.

    What a batch began is not in the tables yet, so it is kept here.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._talks: OrderedDict[str, Sides] = OrderedDict()
        self._owners: OrderedDict[str, str] = OrderedDict()

    def scene(self, placed: Placed) -> Scene:
        """Return what an event that is no order's belongs to."""
        stream = placed.signed.stream
        if is_conversation(stream):
            return Scene(talk=self._talk(name_in(stream), placed.signed.event))
        if is_agent(stream):
            return Scene(owner=self._owner(name_in(stream), placed.signed.event))
        return Scene()

    def _talk(self, conversation: str, event: Event) -> Sides:
        known: Sides | None = self._talks.pop(conversation, None)
        if isinstance(event, ConversationStarted):
            known = event
        if known is None:
            known = _Sides(*self._db.execute(_SIDES, (conversation,)).fetchone())
        self._talks[conversation] = known
        if len(self._talks) > CACHED:
            self._talks.popitem(last=False)
        return known

    def _owner(self, agent: str, event: Event) -> str:
        known = self._owners.pop(agent, None)
        if isinstance(event, AgentRegistered):
            known = event.owner
        if known is None:
            query = "SELECT owner FROM agents WHERE agent=?"
            known = str(self._db.execute(query, (agent,)).fetchone()[0])
        self._owners[agent] = known
        if len(self._owners) > CACHED:
            self._owners.popitem(last=False)
        return known


def write_market(db: sqlite3.Connection, events: Iterable[Placed]) -> None:
    """Bring the views up to these events of agents, conversations and offers, in order."""
    for placed in events:
        match placed.signed.event:
            case AgentRegistered() | AgentUpdated() as event:
                _agent(db, placed, event)
            case ConversationStarted() as event:
                _started(db, placed, event)
            case MessagePosted() as event:
                _posted(db, placed, event)
            case OrderProposed() as event:
                _proposed(db, placed, event)
            case _:
                continue


def write_deals(db: sqlite3.Connection, orders: Iterable[Order]) -> None:
    """Show these orders, of those that were agreed on in a conversation, as they are now."""
    for order in orders:
        if order.deal is not None and isinstance(order.terms, OrderProposed):
            _write_deal(db, order, order.terms)


def _write_deal(db: sqlite3.Connection, order: Order, terms: OrderProposed) -> None:
    """Write a deal, and add to its agent's record what is new: nobody sums up all deals."""
    before = _counts(db.execute(_COUNTED, (order.id,)).fetchone())
    db.execute(_DEAL, _deal_row(order, terms))
    after = _counts(db.execute(_COUNTED, (order.id,)).fetchone())
    new = (now - then for now, then in zip(after, before, strict=True))
    # Also where nothing is new: an agent with a deal has a row, however the events were batched.
    db.execute(_RECORD, (terms.agent, terms.agent_wallet, *new, 0, 0))


def _counts(row: tuple[int | None, int | None, int, int, int | None] | None) -> tuple[int, ...]:
    """Return what a deal adds to the first six sums of a record."""
    if row is None:
        return (0,) * 6
    paid_ms, delivered_ms, amount, payout, rating = row
    counts = (int(paid_ms is not None), int(delivered_ms is not None), amount, payout)
    return (*counts, int(rating is not None), rating or 0)


def _agent(db: sqlite3.Connection, placed: Placed, event: AgentRegistered | AgentUpdated) -> None:
    agent, at = name_in(placed.signed.stream), placed.signed.at
    if isinstance(event, AgentRegistered):
        db.execute(
            "INSERT INTO agents (agent, owner, profile_id, services_id, listed,"
            " registered_ms, updated_ms, position) VALUES (?,?,?,?,1,?,?,?)",
            (agent, event.owner, event.profile_id, event.services_id, at, at, placed.position),
        )
        return
    db.execute(
        "UPDATE agents SET profile_id=ifnull(?, profile_id), services_id=ifnull(?, services_id),"
        " listed=ifnull(?, listed), updated_ms=? WHERE agent=?",
        (event.profile_id, event.services_id, event.listed, at, agent),
    )


def _started(db: sqlite3.Connection, placed: Placed, event: ConversationStarted) -> None:
    at, talk = placed.signed.at, name_in(placed.signed.stream)
    row = (talk, event.agent, event.agent_wallet, event.client_wallet, event.client_type, at, at)
    db.execute(
        "INSERT INTO conversations (conversation, agent, agent_wallet, client_wallet, client_type,"
        " started_ms, last_ms) VALUES (?,?,?,?,?,?,?)",
        row,
    )


def _posted(db: sqlite3.Connection, placed: Placed, event: MessagePosted) -> None:
    at, talk = placed.signed.at, name_in(placed.signed.stream)
    said = (event.message, event.sender, event.text_id, event.attachments_id)
    db.execute(_MESSAGE, (placed.position, talk, *said, None, at))
    _talked(db, talk, event.sender, at)


def _proposed(db: sqlite3.Connection, placed: Placed, event: OrderProposed) -> None:
    """Show an offer as the message by which the client learns of it; its id is the order's UUID."""
    at, order_id = placed.signed.at, order_of_stream(placed.signed.stream)
    said = (order_id.removeprefix("ivxp-"), "agent", event.description_id, None, order_id)
    db.execute(_MESSAGE, (placed.position, event.conversation, *said, at))
    _talked(db, event.conversation, "agent", at)


def _talked(db: sqlite3.Connection, conversation: str, sender: Side, at: int) -> None:
    """Move a conversation on; its first answer counts, unless the agent wrote before the client."""
    before = db.execute(_ANSWERED, (conversation,)).fetchone()
    db.execute(_TALKED[sender], (at, conversation))
    if before is None or before[2] is not None:
        return
    agent, wallet, waited = db.execute(_ANSWERED, (conversation,)).fetchone()
    if waited is not None and waited >= 0:
        db.execute(_RECORD, (agent, wallet, *(0,) * 6, 1, waited))


def _deal_row(order: Order, terms: OrderProposed) -> tuple[object, ...]:
    deal = order.deal
    assert deal is not None  # noqa: S101 - asked of deals only
    payment = deal.authorization
    return (
        order.id,
        terms.conversation,
        terms.agent,
        terms.agent_wallet,
        address_of(order.client),
        word_of(order),
        order.created_at,
        order.updated_at,
        deal.received,
        payment.payout if payment is not None and deal.paid else 0,
        deal.paid_at,
        order.status_at.get(Status.READY),
        deal.review.rating if deal.review is not None else None,
    )
