"""Feeds: which events a party is told of, in order, under positions 1, 2, 3 … without a gap.

Every node numbers them alike, because nothing but the ledger's order and this table decides. A
changed table is another `GENERATION`: the feeds are then built anew, and cursors are carried over
by the ledger positions that they hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ledger.deal_events import OrderProposed, PaymentAuthorized, PaymentSettled
from ledger.event import Event
from ledger.market_events import MessagePosted, Sides
from ledger.order import Order
from ledger.order_events import ReceiptRecorded
from ledger.service import Placed
from ledger.values import LOG_STREAM, ZERO_ADDRESS, address_of, name_in

GENERATION: Final = 1
"""Changed whenever the rules below would give an event of some ledger another place in a feed.

A kind that no ledger holds yet is added without: nothing stands elsewhere than before.
"""

PROVIDER: Final = "provider"
WORKERS: Final = "workers"
Share = Literal["all", "workers", "parties"]

_ALL: Final[Share] = "all"
_PARTIES: Final[Share] = "parties"

FEED_TYPES: Final[Mapping[str, tuple[str, Share]]] = {
    "quoted": ("order.quoted", _PARTIES),
    "expired": ("order.expired", _PARTIES),
    "paid": ("order.paid", _ALL),
    "processing": ("order.in_progress", _ALL),
    "ready": ("order.ready", _ALL),
    "posted": ("order.posted", _PARTIES),
    "delivered": ("order.delivered", _PARTIES),
    "delivery_failed": ("order.delivery_failed", _ALL),
    "confirmed": ("order.confirmed", _ALL),
    "disputed": ("order.disputed", _ALL),
    "refunded": ("order.refunded", _ALL),
    "notice_accepted": ("order.notice_accepted", _PARTIES),
    "push_attempted": ("order.push_attempted", _PARTIES),
    "download_noted": ("order.download_noted", _PARTIES),
    "acceptance_lapsed": ("order.acceptance_lapsed", _PARTIES),
    "answer_lapsed": ("order.answer_lapsed", _PARTIES),
    "dispute_answered": ("order.dispute_answered", _PARTIES),
    "dispute_withdrawn": ("order.dispute_withdrawn", _PARTIES),
    "dispute_ruled": ("order.dispute_ruled", _PARTIES),
    "content_erased": ("order.content_erased", _PARTIES),
    "command_refused": ("order.command_refused", _PARTIES),
    "payment_claimed": ("payment.claimed", _PARTIES),
    "payment_claim_closed": ("payment.claim_closed", _PARTIES),
    "payment_partial": ("payment.partial", _PARTIES),
    "payment_overpaid": ("payment.overpaid", _PARTIES),
    "payment_late": ("payment.late", _PARTIES),
    "payment_finalized": ("payment.finalized", _PARTIES),
    "payment_orphaned": ("payment.orphaned", _ALL),
    "payment_restored": ("payment.restored", _ALL),
    "refund_recorded": ("payment.refund_recorded", _PARTIES),
    "receipt_recorded": ("receipt.recorded", _PARTIES),
    "order_proposed": ("order.proposed", _PARTIES),
    "order_countered": ("order.negotiating", _PARTIES),
    "order_declined": ("order.declined", _PARTIES),
    "order_cancelled": ("order.cancelled", _PARTIES),
    "payment_authorized": ("payment.authorized", _PARTIES),
    "payment_settled": ("payment.settled", _PARTIES),
    "payment_voided": ("payment.voided", _PARTIES),
    "order_reviewed": ("order.completed", _PARTIES),
    "conversation_started": ("conversation.started", _PARTIES),
    "message_posted": ("message.posted", _PARTIES),
    "agent_registered": ("agent.registered", _PARTIES),
    "agent_updated": ("agent.updated", _PARTIES),
    "payment_unattributed": ("payment.unattributed", _PARTIES),
    "log_opened": ("log.opened", _PARTIES),
    "chain_bound": ("log.chain_bound", _PARTIES),
    "key_added": ("log.key_added", _PARTIES),
    "key_revoked": ("log.key_revoked", _PARTIES),
    "policy_set": ("log.policy_set", _PARTIES),
    "log_closed": ("log.closed", _PARTIES),
}
"""The kind of an event, what it is called in a feed, and whether workers are told of it.

Events of an order go to its client and to the provider, those of the log to the provider alone;
`receipt_recorded` goes to the sender of what was received. Cursors' own events are in no feed.
On the marketplace the agent's wallet is told as well, and each side has an inbox: `agent:<id>` of
what concerns the agent, `conversation:<id>` of what concerns the client there. A message is in the
inbox of the side that did not write it.
"""

ORDER_PAID: Final = "order.paid"
"""Also the type of the event by which an order of the marketplace comes to count as paid."""

MAY_PAY: Final = frozenset({PaymentAuthorized.kind, PaymentSettled.kind})

TYPES: Final = frozenset(name for name, _ in FEED_TYPES.values())


@dataclass(frozen=True, slots=True)
class Scene:
    """What an event belongs to: an order as it is after it, a conversation, or an agent's owner."""

    order: Order | None = None
    talk: Sides | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One event in one party's feed, before it has its position there."""

    party: str
    position: int
    type: str


def entries_of(placed: Placed, scene: Scene) -> Iterator[Entry]:
    """Return the feeds that an event goes to."""
    event = placed.signed.event
    found = FEED_TYPES.get(event.kind)
    if found is None:
        return
    name, share = found
    if pays(event, scene.order):
        name = ORDER_PAID
    for party in dict.fromkeys(_parties(placed, scene, share)):
        yield Entry(party, placed.position, name)


def agent_inbox(agent: str) -> str:
    """Return the feed of what concerns an agent of the marketplace."""
    return f"agent:{agent}"


def client_inbox(conversation: str) -> str:
    """Return the feed of what concerns the client of a conversation."""
    return f"conversation:{conversation}"


def pays(event: Event, order: Order | None) -> bool:
    """Whether an order of the marketplace, as it is after the event, counts as paid by it."""
    if isinstance(event, PaymentAuthorized):
        return event.awaits == "nothing"
    deal = order.deal if order is not None else None
    if not isinstance(event, PaymentSettled) or deal is None or deal.authorization is None:
        return False
    return deal.settled == event and deal.authorization.awaits == "settlement"


def _parties(placed: Placed, scene: Scene, share: Share) -> Iterator[str]:
    event, order = placed.signed.event, scene.order
    if placed.signed.stream == LOG_STREAM:
        yield PROVIDER
    if scene.owner is not None:
        yield from (PROVIDER, scene.owner)
    if scene.talk is not None:
        yield from _talkers(event, name_in(placed.signed.stream), scene.talk)
    if order is None:
        return
    if isinstance(order.terms, OrderProposed):
        yield from _dealers(event, order, order.terms)
        return
    client = address_of(order.client)
    if isinstance(event, ReceiptRecorded):
        yield PROVIDER if event.sender == "provider" else client
        return
    yield PROVIDER
    if client != ZERO_ADDRESS:
        yield client
    if share == "all":
        yield WORKERS


def _talkers(event: Event, conversation: str, talk: Sides) -> Iterator[str]:
    yield from (PROVIDER, talk.client_wallet, talk.agent_wallet)
    if not isinstance(event, MessagePosted) or event.sender == "client":
        yield agent_inbox(talk.agent)
    if not isinstance(event, MessagePosted) or event.sender == "agent":
        yield client_inbox(conversation)


def _dealers(event: Event, order: Order, terms: OrderProposed) -> Iterator[str]:
    client, agent = address_of(order.client), terms.agent_wallet
    if isinstance(event, ReceiptRecorded):
        yield client if event.sender == "client" else agent
        return
    yield from (PROVIDER, client, agent)
    yield from (agent_inbox(terms.agent), client_inbox(terms.conversation))


class FeedWriter:
    """Gives the entries their positions, inside the transaction of the views."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._heads: dict[str, int] = {}

    def write(self, entries: Iterable[Entry]) -> frozenset[str]:
        """Add entries in the ledger's order; return whose feeds they are."""
        rows = [(e.party, self._next(e.party), e.position, e.type) for e in entries]
        self._db.executemany("INSERT INTO feed (party, pos, position, type) VALUES (?,?,?,?)", rows)
        return frozenset(row[0] for row in rows)

    def forget(self) -> None:
        """Trust the table alone: at the start of each transaction, as the last may have failed."""
        self._heads.clear()

    def _next(self, party: str) -> int:
        head = self._heads.get(party)
        if head is None:
            row = self._db.execute(
                "SELECT pos FROM feed WHERE party=? ORDER BY pos DESC LIMIT 1", (party,)
            ).fetchone()
            head = row[0] if row else 0
        self._heads[party] = head + 1
        return head + 1
