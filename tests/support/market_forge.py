"""Lies about agents, conversations and paid orders, written with the provider's own keys.

Each is an honest log carried on; rows, tiles, claims and content fit together, so that only the
rule itself can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

from ledger.batch import content_of
from ledger.content import DELIVERABLE, commitment, salted
from ledger.deal_events import (
    OrderCancelled,
    OrderCountered,
    OrderDeclined,
    OrderProposed,
    OrderReviewed,
    PaymentAuthorized,
    PaymentSettled,
    PaymentVoided,
)
from ledger.event import Event
from ledger.market_events import AgentRegistered, AgentUpdated, ConversationStarted, MessagePosted
from ledger.order_events import (
    ContentErased,
    DeliverableReady,
    DeliveryDisputed,
    DisputeRuled,
    ProcessingStarted,
    QuoteExpired,
)
from ledger.store_sqlite import ContentRow
from ledger.values import (
    LOG_STREAM,
    UnixMs,
    agent_stream,
    conversation_stream,
    iso_of,
    new_order_id,
    order_stream,
)
from tests.integration.test_audit_attacks import JSON_DIGEST, RAW, RAW_DIGEST, Forge
from tests.support.ledger_files import ARBITER, CLIENT, HOUR, PRICE
from tests.support.market_stories import BPS, BUYER, MARKET, SELLER, offered
from tests.support.solana_keys import (
    ADVANCE_NONCE,
    SYSTEM_PROGRAM,
    Instruction,
    Payment,
    SolanaKey,
    authorized,
)

STRANGER: Final = SolanaKey("stranger")


def sealed(forge: Forge, stream: str, event: Event) -> None:
    """Append an event with the content that it names."""
    commit = {}
    for name, content_id in content_of(event).items():
        if name == DELIVERABLE:
            forge.content(ContentRow(content_id, stream, name, b"", RAW))
            continue
        made = salted(stream, name, f"the {name}")
        row = ContentRow(content_id, stream, name, made.salt, made.value)
        forge.content(row)
        commit[name] = commitment(row)
    forge.add(stream, event, commit)


def content_id() -> str:
    return uuid4().hex


@dataclass
class Market:
    """An agent, a conversation and an order of it, as far as `to` built them."""

    forge: Forge
    agent: str = field(default_factory=lambda: str(uuid4()))
    talk: str = field(default_factory=lambda: str(uuid4()))
    order_id: str = field(default_factory=new_order_id)

    def add(self, *events: Event) -> Market:
        for event in events:
            sealed(self.forge, order_stream(self.order_id), event)
        return self

    def of_agent(self, *events: Event) -> Market:
        for event in events:
            sealed(self.forge, agent_stream(self.agent), event)
        return self

    def of_talk(self, *events: Event) -> Market:
        for event in events:
            sealed(self.forge, conversation_stream(self.talk), event)
        return self

    def registered(self, owner: str = SELLER.address) -> AgentRegistered:
        return AgentRegistered(owner=owner, profile_id=content_id(), proven="open")

    def started(self, **changes: object) -> ConversationStarted:
        return ConversationStarted(
            agent=self.agent,
            agent_wallet=SELLER.address,
            client_wallet=BUYER.address,
            client_type="agent",
            proven="open",
        ).model_copy(update=changes)

    def message(self) -> MessagePosted:
        return MessagePosted(
            message=str(uuid4()), sender="agent", text_id=content_id(), proven="open"
        )

    def offer(self, **changes: object) -> OrderProposed:
        terms = offered(BUYER.account, self.talk, self.forge.now, content_id())
        return terms.model_copy(update={"agent": self.agent, **changes})

    def proposed(self, **changes: object) -> Market:
        """Begin everything, up to an offer."""
        self.of_agent(self.registered()).of_talk(self.started(), self.message())
        return self.add(self.offer(**changes))

    def payment(self, amount: int = PRICE, *, number: int = 1) -> Payment:
        blockhash = sha256(f"{self.order_id} {number}".encode()).digest()
        return Payment(BUYER, MARKET.address, amount, blockhash=blockhash)

    def paid(
        self, payment: Payment | None = None, *, due: int = PRICE, **changes: object
    ) -> PaymentAuthorized:
        event = authorized(payment or self.payment(), bps=BPS, due=due)
        return event.model_copy(update=changes)

    def waiting(self) -> PaymentAuthorized:
        return self.paid(awaits="settlement")

    def settled(self, paid: PaymentAuthorized | None = None) -> PaymentSettled:
        signature = (paid or self.paid()).signature
        return PaymentSettled(signature=signature, slot=9, grade="settled", finality="finalized")

    def voided(self, paid: PaymentAuthorized | None = None) -> PaymentVoided:
        signature = (paid or self.paid()).signature
        return PaymentVoided(signature=signature, reason="expired", cause="blockhash")

    def made(self) -> Event:
        return DeliverableReady(
            content_id=content_id(),
            raw=RAW_DIGEST,
            json_digest=JSON_DIGEST,
            size_bytes=len(RAW),
            format="text",
            content_type="text/plain",
        )

    def delivered(self) -> Market:
        return self.proposed().add(self.paid(), WORK, self.made())

    def stamp(self) -> str:
        return iso_of(self.forge.now)

    def complaint(self) -> DeliveryDisputed:
        text = (
            f"Dispute delivery: {self.order_id} | Reason: other | Hash: none"
            f" | Statement: none | Timestamp: {self.stamp()}"
        )
        return DeliveryDisputed(client=BUYER.sign(text), reason="other")

    def ruling(self, amount: int) -> DisputeRuled:
        text = (
            f"Rule dispute: {self.order_id} | Outcome: client | Amount: {amount}"
            f" | Timestamp: {self.stamp()}"
        )
        return DisputeRuled(arbiter=ARBITER.sign(text), outcome="client", amount=amount)

    def later(self, milliseconds: int) -> Market:
        self.forge.now = UnixMs(self.forge.now + milliseconds)
        return self


WORK: Final = ProcessingStarted(reason="worker")
DECLINED: Final = OrderDeclined(proven="open")
CANCELLED: Final = OrderCancelled(by="agent", proven="open")
REVIEW: Final = OrderReviewed(rating=5, proven="open")
UPDATED: Final = AgentUpdated(listed=False, proven="open")


def countered() -> OrderCountered:
    return OrderCountered(text_id=content_id(), proven="open")


Lie = Callable[[Market], Any]


def after_the_end(m: Market, end: Event, more: Event) -> Market:
    return m.proposed().add(end, more)


def replaced(m: Market, payment: Payment, **recorded: object) -> Market:
    """Record another transaction than the one that the event describes."""
    other = {"transaction": payment.build(), "signature": payment.signature(), **recorded}
    return m.proposed().add(m.paid(**other))


def spoiled(m: Market) -> Market:
    """Change the last byte of what was signed."""
    event = m.paid()
    text = event.transaction
    letter = next(each for each in "ABCDEFGH" if each != text[40])
    return m.proposed().add(
        event.model_copy(update={"transaction": text[:40] + letter + text[41:]})
    )


def one_signature_for_two_orders(m: Market) -> Market:
    m.proposed().add(m.paid())
    other = Market(m.forge)
    return other.proposed().add(m.paid())


def in_a_quoted_order(m: Market) -> None:
    m.forge.delivered().add(REVIEW)


def other_content_erased(m: Market) -> Market:
    m.of_agent(m.registered())
    return m.of_agent(ContentErased(content_ids=("ab" * 16,), reason="request"))


def erased_twice(m: Market) -> Market:
    started, message = m.started(), m.message()
    m.of_agent(m.registered()).of_talk(started, message)
    gone = ContentErased(content_ids=(message.text_id,), reason="request")
    m.forge.db.execute("DELETE FROM content WHERE content_id=?", (message.text_id,))
    m.forge.add(conversation_stream(m.talk), gone)
    m.forge.add(conversation_stream(m.talk), gone)
    return m


def durable(payment: Payment) -> Payment:
    """Let the transfer use a nonce, so that it never expires."""
    nonce = Instruction(SYSTEM_PROGRAM, (1, 2, 0), ADVANCE_NONCE.to_bytes(4, "little"))
    return payment.but(more=(nonce,))


STEPS: Final[dict[str, Lie]] = {
    "paid after it was declined": lambda m: after_the_end(m, DECLINED, m.paid()),
    "paid after it was cancelled": lambda m: after_the_end(m, CANCELLED, m.paid()),
    "declined twice": lambda m: after_the_end(m, DECLINED, DECLINED),
    "countered after it was cancelled": lambda m: after_the_end(m, CANCELLED, countered()),
    "countered after the payment": lambda m: after_the_end(m, m.paid(), countered()),
    "declined after the payment": lambda m: after_the_end(m, m.paid(), DECLINED),
    "cancelled after the payment": lambda m: after_the_end(m, m.paid(), CANCELLED),
    "paid twice": lambda m: after_the_end(m, m.paid(), m.paid(m.payment(number=2))),
    "paid after the offer lapsed": lambda m: m.proposed().later(2 * HOUR).add(m.paid()),
    "offered twice": lambda m: m.proposed().add(m.offer()),
    "settled without a payment": lambda m: m.proposed().add(m.settled()),
    "another payment settled": lambda m: m.proposed().add(
        m.waiting(), m.settled(m.paid(m.payment(number=2)))
    ),
    "settled twice": lambda m: m.proposed().add(m.paid(), m.settled(), m.settled()),
    "void after it was settled": lambda m: m.proposed().add(m.paid(), m.settled(), m.voided()),
    "void twice": lambda m: m.proposed().add(m.paid(), m.voided(), m.voided()),
    "reviewed before delivery": lambda m: m.proposed().add(m.paid(), REVIEW),
    "reviewed twice": lambda m: m.delivered().add(REVIEW, REVIEW),
    "reviewed while disputed": lambda m: m.delivered().add(m.complaint(), REVIEW),
    "work without a payment": lambda m: m.proposed().add(WORK),
    "work before the settlement": lambda m: m.proposed().add(m.waiting(), WORK),
    "disputed without a payment": lambda m: m.proposed().later(9 * HOUR).add(m.complaint()),
    "disputed before the delivery is due": lambda m: m.proposed().add(m.paid(), m.complaint()),
    "expired like a quote": lambda m: m.proposed().add(
        QuoteExpired(scanned_block=7, scanned_block_time=2**39)
    ),
    "a review of a quoted order": in_a_quoted_order,
    "a ruling beyond what was paid": lambda m: m.delivered().add(
        m.complaint(), m.ruling(PRICE + 1)
    ),
    "a ruling on what never came": lambda m: (
        m.proposed().add(m.paid(), m.voided()).later(9 * HOUR).add(m.complaint(), m.ruling(PRICE))
    ),
}
"""Steps that the rules forbid."""

PLACES: Final[dict[str, Lie]] = {
    "an agent that was not registered": lambda m: m.of_agent(UPDATED),
    "an agent registered twice": lambda m: m.of_agent(m.registered(), m.registered()),
    "a message in the stream of an agent": lambda m: m.of_agent(m.registered(), m.message()),
    "a message before the conversation": lambda m: m.of_talk(m.message()),
    "a conversation begun twice": lambda m: m.of_agent(m.registered()).of_talk(
        m.started(), m.started()
    ),
    "an order's event in a conversation": lambda m: m.of_agent(m.registered()).of_talk(
        m.started(), DECLINED
    ),
    "a wallet that talks to itself": lambda m: m.of_agent(m.registered()).of_talk(
        m.started(client_wallet=SELLER.address)
    ),
    "a conversation with nobody": lambda m: m.of_talk(m.started()),
    "a conversation with another's agent": lambda m: m.of_agent(
        m.registered(STRANGER.address)
    ).of_talk(m.started()),
    "erased content of another": other_content_erased,
    "erased twice": erased_twice,
    "an offer of nobody": lambda m: m.add(m.offer()),
    "an offer without a conversation": lambda m: m.of_agent(m.registered()).add(m.offer()),
    "an offer to another client": lambda m: m.proposed(client=CLIENT.account),
    "an offer of another wallet": lambda m: m.proposed(agent_wallet=STRANGER.address),
    "a conversation's event in the log's stream": lambda m: m.forge.add(LOG_STREAM, m.started()),
}
"""Events where they have no place."""

SUMS: Final[dict[str, Lie]] = {
    "less is due than the price": lambda m: m.proposed().add(
        m.paid(m.payment(PRICE - 9), due=PRICE - 9)
    ),
    "two micros short": lambda m: m.proposed().add(m.paid(m.payment(PRICE - 2))),
    "more than is due": lambda m: m.proposed().add(m.paid(m.payment(PRICE + 1))),
    "ATHR for the whole price": lambda m: m.proposed().add(m.paid(method="ATHR")),
    "USDC for three quarters": lambda m: m.proposed().add(
        m.paid(m.payment(PRICE * 3 // 4), due=PRICE * 3 // 4)
    ),
    "a larger commission": lambda m: m.proposed().add(m.paid(commission=PRICE, payout=0)),
    "parts that do not sum up": lambda m: m.proposed().add(m.paid(payout=PRICE)),
    "paid to another": lambda m: m.proposed().add(
        m.paid(m.payment().but(recipient=STRANGER.address))
    ),
    "paid in another token": lambda m: m.proposed().add(
        m.paid(m.payment().but(mint=STRANGER.address))
    ),
    "paid on another chain": lambda m: m.proposed().add(m.paid(chain="solana:" + "5" * 32)),
    "paid although nothing can be": lambda m: m.proposed(payment_address=None).add(m.paid()),
}
"""Payments that do not fit the offer."""

SIGNED: Final[dict[str, Lie]] = {
    "a changed transaction": spoiled,
    "another amount than was signed": lambda m: replaced(m, m.payment(1)),
    "another payer than signed": lambda m: replaced(m, m.payment().but(payer=STRANGER)),
    "another recipient than was signed": lambda m: replaced(
        m, m.payment().but(recipient=STRANGER.address)
    ),
    "another token than was signed": lambda m: replaced(m, m.payment().but(mint=STRANGER.address)),
    "no account of the recipient": lambda m: replaced(
        m, m.payment().but(destination=MARKET.address), destination=MARKET.address
    ),
    "another source than was signed": lambda m: m.proposed().add(m.paid(source=STRANGER.address)),
    "another signature than the transaction's": lambda m: m.proposed().add(
        m.paid(signature=m.payment(number=2).signature())
    ),
    "two transfers in one": lambda m: replaced(m, m.payment().but(repeat=2)),
    "a transfer that never expires": lambda m: replaced(m, durable(m.payment())),
    "something after the transaction": lambda m: m.proposed().add(
        m.paid(transaction="AAAA" + m.paid().transaction)
    ),
}
"""Payments that their payer did not sign like this."""

CHECKS_OF: Final[dict[str, tuple[Lie, set[str]]]] = {
    **{name: (lie, {"C08"}) for name, lie in (STEPS | PLACES).items()},
    **{name: (lie, {"C13"}) for name, lie in SUMS.items()},
    **{name: (lie, {"C16"}) for name, lie in SIGNED.items()},
    "paid with a void transfer": (
        lambda m: m.proposed().add(m.waiting(), m.voided(), m.waiting()),
        {"C08", "C12"},
    ),
    "one signature for two orders": (one_signature_for_two_orders, {"C12"}),
}
