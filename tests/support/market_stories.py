"""Stories of the marketplace, told to a real ledger: agents, conversations, orders and disputes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal
from uuid import uuid4, uuid5

from ledger import commands as c
from ledger import deal_commands as d
from ledger import market as m
from ledger.content import commitment, salted
from ledger.deal_events import OrderProposed, PaymentAuthorized
from ledger.market_events import AgentRegistered, AgentUpdated, ConversationStarted
from ledger.store_sqlite import ContentRow
from ledger.values import (
    STREAM_NAMESPACE,
    agent_stream,
    conversation_stream,
    iso_of,
    new_order_id,
    order_stream,
)
from tests.support.ledger_files import ARBITER, CLIENT, HOUR, PRICE, Story, Teller, Wallet
from tests.support.solana_keys import MINT, SOLANA, Payment, SolanaKey, authorized

SELLER: Final = SolanaKey("agent")
BUYER: Final = SolanaKey("buyer")
MARKET: Final = SolanaKey("market")
BPS: Final = 1_000
DELIVERY_SECONDS: Final = 3_600
AGENT: Final = str(uuid5(STREAM_NAMESPACE, "the agent of the stories"))

Side = SolanaKey | Wallet
Method = Literal["USDC", "ATHR"]
Awaits = Literal["nothing", "settlement"]


def commits(*rows: ContentRow) -> Mapping[str, str]:
    return {row.field: commitment(row) for row in rows}


async def register(teller: Teller) -> None:
    """Register the agent, and change what it says of itself; once in a ledger."""
    stream = agent_stream(AGENT)
    if await teller.ledger.agent(AGENT) is not None:
        return
    names = ("profile", "services", "endpoint")
    rows = tuple(salted(stream, name, f"the {name}") for name in names)
    ids = {f"{row.field}_id": row.content_id for row in rows}
    registered = AgentRegistered(owner=SELLER.address, proven="signature", **ids)
    command = m.RegisterAgent(registered, commits(*rows), teller.tick())
    await teller.ledger.act_on_market(stream, command, rows)
    newer = salted(stream, "services", "two services")
    updated = AgentUpdated(services_id=newer.content_id, listed=True, proven="token")
    change = m.UpdateAgent(SELLER.address, updated, commits(newer), 1, teller.tick())
    await teller.ledger.act_on_market(stream, change, (newer,))


def said(stream: str, words: str) -> tuple[m.Said, tuple[ContentRow, ...]]:
    rows = (salted(stream, "text", words), salted(stream, "attachments", "[]"))
    message = str(uuid4())
    return m.Said(message, rows[0].content_id, rows[1].content_id, commits(*rows)), rows


async def talk(teller: Teller, client: str) -> str:
    """Let a client write to the agent, and the agent answer; return the conversation."""
    await register(teller)
    name = str(uuid4())
    stream = conversation_stream(name)
    started = ConversationStarted(
        agent=AGENT,
        agent_wallet=SELLER.address,
        client_wallet=client,
        client_type="agent",
        proven="token",
    )
    first, rows = said(stream, "hello")
    start = m.StartConversation(started, first, teller.tick())
    await teller.ledger.act_on_market(stream, start, rows)
    answer, more = said(stream, "good day")
    post = m.PostMessage(SELLER.address, "token", answer, teller.tick())
    await teller.ledger.act_on_market(stream, post, more)
    return name


def offered(client: str, conversation: str, now: int, description: str) -> OrderProposed:
    return OrderProposed(
        service="code_review",
        conversation=conversation,
        agent=AGENT,
        agent_wallet=SELLER.address,
        client=client,
        price=PRICE,
        chain=SOLANA,
        token=MINT,
        payment_address=MARKET.account,
        commission_bps=BPS,
        pay_by=now // 1000 + 3_600,
        delivery_seconds=DELIVERY_SECONDS,
        acceptance_window=86_400,
        answer_window=43_200,
        refund_policy=sha256(b"policy").hexdigest(),
        arbiter=ARBITER.address,
        description_id=description,
        proven="token",
    )


@dataclass(slots=True, kw_only=True)
class Deal(Story):
    """An order of the marketplace, and what its parties do."""

    client: Side
    paid_with: int = 0

    async def counter(self) -> None:
        row = salted(order_stream(self.order_id), "text", "a little less")
        now, asked = self.teller.tick(), (PRICE - 1, 60, row.content_id, commits(row))
        await self.do(d.CounterOffer(self.client.address, "signature", *asked, now), row)

    async def decline(self) -> None:
        row = salted(order_stream(self.order_id), "reason", "too dear")
        wallet, now = self.client.address, self.teller.tick()
        await self.do(d.DeclineOrder(wallet, "token", now, row.content_id, commits(row)), row)

    async def cancel(self, wallet: str = SELLER.address) -> None:
        await self.do(d.CancelOrder(wallet, "open", self.teller.tick()))

    def payment(self, amount: int = PRICE) -> Payment:
        """Return a transfer that nobody signed before."""
        self.paid_with += 1
        blockhash = sha256(f"{self.order_id} {self.paid_with}".encode()).digest()
        return Payment(BUYER, MARKET.address, amount, blockhash=blockhash)

    async def authorize(
        self, amount: int = PRICE, *, method: Method = "USDC", awaits: Awaits = "nothing"
    ) -> PaymentAuthorized:
        due = PRICE * 3 // 4 if method == "ATHR" else PRICE
        paid = authorized(self.payment(amount), bps=BPS, due=due, method=method, awaits=awaits)
        await self.do(d.AuthorizePayment(self.client.address, paid, self.teller.tick()))
        return paid

    async def settle(self, paid: PaymentAuthorized) -> None:
        await self.do(d.SettlePayment(paid.signature, 77, "finalized", self.teller.tick()))

    async def void(self, paid: PaymentAuthorized) -> None:
        said_of_it = (paid.signature, "expired", "blockhash", "it is too old")
        await self.do(d.VoidPayment(*said_of_it, self.teller.tick()))  # type: ignore[arg-type]

    async def review(self) -> None:
        row = salted(order_stream(self.order_id), "comment", "well done")
        wallet, now = self.client.address, self.teller.tick()
        said_of_it = ("token", 5, now, row.content_id, commits(row))
        await self.do(d.ReviewOrder(wallet, *said_of_it), row)  # type: ignore[arg-type]

    async def receive(self) -> None:
        """Sign for the deliverable."""
        now, named = self.teller.tick(), sha256(self.raw).hexdigest()
        text = f"Order: {self.order_id} | Received: true | Hash: {named} | Timestamp: {iso_of(now)}"
        signed = self.client.sign(text)
        await self.do(c.ConfirmDelivery(signed, now, named, None, None, None, now))

    async def complain(self, reason: Literal["not_delivered", "other"] = "other") -> None:
        row = salted(order_stream(self.order_id), "statement", "this is not what I asked for")
        named, now = sha256(row.value).hexdigest(), self.teller.tick()
        text = (
            f"Dispute delivery: {self.order_id} | Reason: {reason} | Hash: none"
            f" | Statement: {named} | Timestamp: {iso_of(now)}"
        )
        what = (self.client.sign(text), now, reason, None, row.content_id, commits(row), now)
        await self.do(c.OpenDispute(*what), row)


async def propose(teller: Teller, client: Side = BUYER, **terms: object) -> Deal:
    """Let the agent make an offer in a conversation with the client."""
    conversation, order_id = await talk(teller, client.address), new_order_id()
    row, now = salted(order_stream(order_id), "description", "a review of one file"), teller.tick()
    offer = offered(client.account, conversation, now, row.content_id).model_copy(update=terms)
    await teller.ledger.execute(order_id, d.ProposeOrder(offer, commits(row), now), (row,))
    return Deal(teller, order_id, offer, client=client)  # type: ignore[arg-type]


async def disputed(teller: Teller, client: Side) -> Deal:
    deal = await propose(teller, client, deadline=teller.now // 1000 + 7_200)
    await deal.counter()
    await deal.authorize(PRICE - 1)
    await deal.hand_in("übergeben\n".encode())
    await deal.collect("party")
    await deal.complain()
    await deal.answer()
    await deal.rule(PRICE // 2)
    return deal


async def ruled_with_solana(teller: Teller) -> Deal:
    return await disputed(teller, BUYER)


async def ruled_with_evm(teller: Teller) -> Deal:
    return await disputed(teller, CLIENT)


async def settled_and_reviewed(teller: Teller) -> Deal:
    deal = await propose(teller)
    paid = await deal.authorize(PRICE * 3 // 4, method="ATHR", awaits="settlement")
    await deal.settle(paid)
    await deal.hand_in()
    await deal.collect()
    await deal.review()
    await deal.receive()
    return deal


async def void_and_paid_again(teller: Teller) -> Deal:
    deal = await propose(teller)
    await deal.void(await deal.authorize(awaits="settlement"))
    await deal.authorize(awaits="settlement")
    return deal


async def never_delivered(teller: Teller) -> Deal:
    """Count on the payer's word alone; then the money never came, nor did the delivery."""
    deal = await propose(teller, CLIENT)
    await deal.void(await deal.authorize())
    teller.tick(3 * HOUR)
    await deal.complain("not_delivered")
    return deal


async def declined(teller: Teller) -> Deal:
    deal = await propose(teller, CLIENT, payment_address=None, arbiter=None)
    await deal.counter()
    await deal.decline()
    return deal


async def cancelled(teller: Teller) -> Deal:
    deal = await propose(teller)
    await deal.cancel()
    return deal


async def erased(teller: Teller) -> Deal:
    """Erase words of an order that ended, and of the conversation that it was made in."""
    deal = await declined(teller)
    offer = deal.terms
    assert isinstance(offer, OrderProposed)
    await deal.do(c.EraseContent((offer.description_id,), "request", teller.tick()))
    stream = conversation_stream(offer.conversation)
    message, rows = said(stream, "forget this")
    post = m.PostMessage(deal.client.address, "token", message, teller.tick())
    await teller.ledger.act_on_market(stream, post, rows)
    gone = m.EraseWords((message.text_id,), "request", teller.tick())
    await teller.ledger.act_on_market(stream, gone)
    return deal


MARKET_STORIES: Final[tuple[Callable[[Teller], Awaitable[Deal]], ...]] = (
    ruled_with_solana,
    ruled_with_evm,
    settled_and_reviewed,
    void_and_paid_again,
    never_delivered,
    declined,
    cancelled,
    erased,
)
