"""One deal from the first word to the review, with the SDK's habits, in each way of asking."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api.keys import LEDGER
from tests.clients.aether_consumer import Conversation, paid
from tests.clients.aether_provider import SERVICES, Provider
from tests.clients.aether_wire import ApiError, Json, LostReply
from tests.contract.market_kit import (
    CLIENT,
    HOW,
    MARKETPLACE,
    MODES,
    Market,
    Mode,
    market,
    micros,
    more_than_once,
    rounds_until,
    signature_in,
    talking,
)
from tests.support.solana import LocalSolana

OFFERED, AGREED = 0.5, 2.03
AGREED_MICROS = 2_030_000
RESULT = {"text": "Bonjour", "parts": [1, 2.5, None, "é"], "done": True}


@dataclass
class Agent:
    """What the provider's program does, and what it saw."""

    provider: Provider
    texts: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    paid: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.provider.on_message = self.answer
        self.provider.on_order_paid = self.work

    async def answer(self, conversation: Json, message: Json) -> None:
        assert message["conversationId"] == conversation["id"]
        self.seen.append(message["id"])
        self.texts.append(message["message"])
        if "500 words" in message["message"]:
            await self.provider.reply(conversation["id"], "I can do that")
            made = await self.provider.create_order(conversation["id"], "500 words", OFFERED, 10)
            self.orders["first"] = made["orderId"]
        if "more words" in message["message"]:
            made = await self.provider.create_order(conversation["id"], "as agreed", AGREED, 60)
            self.orders["second"] = made["orderId"]

    async def work(self, order: Json) -> None:
        self.paid.append(order)
        files = ["https://files.example/a.pdf"]
        await self.provider.deliver(order["id"], RESULT, "here it is", files)


@dataclass
class Client:
    """What the consumer's program does, and what it saw. Its first accept loses the answer."""

    talk: Conversation
    seen: list[str] = field(default_factory=list)
    accepted: list[Json] = field(default_factory=list)
    deliveries: list[Json] = field(default_factory=list)
    reviewed: int = 0

    def __post_init__(self) -> None:
        self.talk.on("message", self.read)
        self.talk.on("delivery", self.take)

    async def read(self, message: Json) -> None:
        self.seen.append(message["id"])
        if not message.get("hasOrder"):
            return
        order = message["order"]
        if order["price"] == OFFERED:
            await self.talk.counter_offer(order["id"], "more words, for 2.03?", AGREED, 60)
            return
        assert (order["price"], order["deliveryTime"]) == (AGREED, 60)
        await self.pay(order["id"])

    async def pay(self, order_id: str) -> None:
        self.talk.consumer.wire.arrival = losing("accept")
        with pytest.raises(LostReply):
            await self.talk.accept_order(order_id)
        self.talk.consumer.wire.arrival = losing("nothing")
        self.accepted.append(await self.talk.accept_order(order_id))
        self.accepted.append(await self.talk.accept_order(order_id))

    async def take(self, delivery: Json) -> None:
        self.deliveries.append(delivery)
        await self.talk.review(delivery["orderId"], 5, "as promised")
        self.reviewed += 1


def losing(last: str):  # noqa: ANN201 - an Arrival
    """Return a network that loses the answers to the calls whose path ends so."""

    async def arrival(method: str, path: str) -> None:
        if path.endswith("/" + last):
            raise LostReply(f"{method} {path}")

    return arrival


async def dealt(m: Market) -> tuple[Agent, Client]:
    """Run the whole deal, every timer firing twice at a time."""
    provider = await m.provider()
    agent_id = await provider.register()
    restarted = await m.provider()
    assert await restarted.register() == agent_id
    assert not provider.logged + restarted.logged, "a service was refused"
    consumer = await m.consumer()
    found = await consumer.search(category="Translation", maxPrice=5, query="Translator")
    assert [each["id"] for each in found] == [agent_id]
    assert len((await consumer.agent(agent_id))["services"]) == len(SERVICES)
    talk = await consumer.start_conversation(agent_id, "500 words in French", ["https://x.example"])
    agent, client = Agent(restarted), Client(talk)

    async def settled() -> None:
        await asyncio.gather(talk.tick(), talk.tick())
        await talk.settled()

    ticks = (restarted.tick, restarted.tick, settled)
    await rounds_until(lambda: client.reviewed == 1, *ticks)
    await asyncio.gather(*(tick() for tick in ticks))
    assert restarted.swallowed == []
    assert talk.swallowed == []
    return agent, client


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("mode", MODES)
async def test_a_deal_runs_from_the_first_word_to_the_review(
    tmp_path: Path, mode: Mode, prefix: str
) -> None:
    async with market(tmp_path, mode, prefix) as m:
        agent, client = await dealt(m)

        assert agent.texts == ["500 words in French", "more words, for 2.03?"]
        assert more_than_once(agent.seen + client.seen) == {}
        assert [each["id"] for each in agent.paid] == [agent.orders["second"]]
        assert agent.paid[0]["status"] == "PAID"
        assert [each["orderId"] for each in client.deliveries] == [agent.orders["second"]]
        assert client.deliveries[0]["result"] == RESULT
        assert client.deliveries[0]["message"] == "here it is"
        assert client.deliveries[0]["attachments"] == ["https://files.example/a.pdf"]
        assert client.deliveries[0]["deliveredAt"]
        await _shows_the_whole_deal(m, agent, client)
        await _was_paid_once(m, agent, client)


async def _shows_the_whole_deal(m: Market, agent: Agent, client: Client) -> None:
    consumer = client.talk.consumer
    first, second = agent.orders["first"], agent.orders["second"]
    statuses = {each["id"]: each["status"] for each in await consumer.orders()}
    assert statuses == {first: "NEGOTIATING", second: "COMPLETED"}
    for word in ("completed", "COMPLETED", "Completed"):
        assert [each["id"] for each in await consumer.orders(word)] == [second]
    assert [each["id"] for each in await consumer.conversations()] == [client.talk.id]
    resumed = await consumer.conversation(client.talk.id)
    history = await resumed.messages()
    assert [each["message"] for each in history if not each.get("hasOrder")] == [
        "500 words in French",
        "I can do that",
        "more words, for 2.03?",
    ]
    assert [each["order"]["id"] for each in history if each.get("hasOrder")] == [first, second]
    for each in history:
        mine = each["from"] == CLIENT.address
        assert each["deliveredToProvider" if mine else "deliveredToConsumer"] is True, each
        assert each["fromWallet"] == each["from"]
        assert each["createdAt"] == each["timestamp"]
    stats = await agent.provider.stats()
    assert (stats["totalOrders"], stats["rating"]) == (1, 5)
    reader = m.service.app[LEDGER]
    kinds = [placed.signed.event.kind for placed in reader.read_order(second)]
    assert kinds[:2] == ["order_proposed", "payment_authorized"]
    assert kinds.index("ready") < kinds.index("order_reviewed")
    assert "confirmed" not in kinds, "a review is no receipt"
    proven = [
        placed.signed.event.proven
        for order in (first, second)
        for placed in reader.read_order(order)
        if hasattr(placed.signed.event, "proven")
    ]
    assert set(proven) == {HOW[m.mode]}
    told = {event.get("order_id") for event in await m.feed(CLIENT)}
    assert {first, second} <= told, "the native feed shows both orders"


async def _was_paid_once(m: Market, agent: Agent, client: Client) -> None:
    """Three transfers were signed; the first is the one that pays, in every answer."""
    headers = [json.loads(b64decode(each)) for each in m.tills[CLIENT.name].headers]
    assert [each["payload"]["authorization"]["value"] for each in headers] == ["2029999"] * 3
    transactions = [b64decode(each["payload"]["signedTransaction"]) for each in headers]
    assert len({signature_in(each) for each in transactions}) == 3
    events = [
        placed.signed.event for placed in m.service.app[LEDGER].read_order(agent.paid[0]["id"])
    ]
    [authorized] = [event for event in events if event.kind == "payment_authorized"]
    answers = [paid(each) for each in client.accepted]
    assert answers[0] == answers[1]
    signature, to_agent, commission = answers[0]
    assert signature == signature_in(transactions[0]) == authorized.signature
    assert (authorized.due, authorized.amount) == (AGREED_MICROS, AGREED_MICROS - 1)
    assert authorized.commission + authorized.payout == authorized.amount
    assert micros(to_agent) + micros(commission) in {authorized.amount, authorized.due}
    assert client.accepted[0]["txSignature"] == client.accepted[0]["signature"] == signature
    assert (agent.paid[0]["agentAmount"], agent.paid[0]["commissionAmount"]) == (
        to_agent,
        commission,
    )


@pytest.mark.parametrize("mode", MODES)
async def test_a_delivery_handler_attached_late_sees_nothing_and_the_ledger_still_has_it(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode) as m:
        provider, talk = await talking(m)
        order_id, _ = await m.paid_order(provider, talk)
        await provider.deliver(order_id, RESULT)
        got: list[Json] = []

        async def ignore(_message: Json) -> None:
            return

        async def take(delivery: Json) -> None:
            got.append(delivery)

        talk.on("message", ignore)
        await talk.tick()
        talk.on("delivery", take)
        await talk.tick()
        await talk.settled()

        assert talk.swallowed == []
        assert got == [], "the SDK fetched it while nobody listened"
        inbox = await m.feed(CLIENT, f"conversation:{talk.id}")
        assert order_id in {event.get("order_id") for event in inbox}
        assert (await talk.consumer.order(order_id))["status"] == "DELIVERED"


@pytest.mark.parametrize("mode", MODES)
async def test_an_order_that_is_declined_with_a_reason_has_one_message_of_it(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode) as m:
        provider, talk = await talking(m)
        made = await provider.create_order(talk.id, "a translation", 9, 30)

        await talk.decline_order(made["orderId"], "too dear")

        assert (await talk.consumer.order(made["orderId"]))["status"] == "DECLINED"
        texts = [each["message"] for each in await talk.messages()]
        assert texts.count("too dear") == 1
        with pytest.raises(ApiError) as refused:
            await talk.accept_order(made["orderId"])
        assert refused.value.outcome == (409, "INVALID_STATUS_TRANSITION")


@pytest.mark.parametrize("mode", MODES)
async def test_the_older_registration_and_the_words_of_the_documents_are_understood(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode) as m:
        provider = await m.provider()
        agent_id = await provider.register_nested()
        consumer = await m.consumer()
        talk = await consumer.start_conversation(agent_id, "hello")
        provider.agent_id, provider.polls_by = agent_id, "wallet"
        got: list[Json] = []

        async def keep(_conversation: Json, message: Json) -> None:
            got.append(message)

        provider.on_message = keep
        said = {"senderWallet": CLIENT.address, "content": "as the documents say"}
        path = f"/conversations/{talk.id}/messages"
        await consumer.wire.post(path, {**said, "messageType": "text"})
        await provider.tick()

        assert len((await consumer.agent(agent_id))["services"]) == len(SERVICES)
        assert [each["message"] for each in got] == ["hello", "as the documents say"]
        made = await provider.create_order(
            talk.id, "a translation", 1.0, 30, clientWallet=CLIENT.address
        )
        assert made["id"] == made["orderId"]
        accepted = await talk.accept_order(made["id"], "athr")
        _, to_agent, commission = paid(accepted)
        assert micros(to_agent) + micros(commission) == 750_000


async def test_a_second_registration_is_refused_in_words_that_the_sdk_looks_for(
    tmp_path: Path,
) -> None:
    async with market(tmp_path, "credentials") as m:
        provider = await m.provider()
        await provider.register()

        with pytest.raises(ApiError) as refused:
            await provider.register_nested()

        data = refused.value.data
        assert isinstance(data, dict)
        assert data["error"] == "DUPLICATE_REGISTRATION"
        assert "already registered" in data["message"]
        assert 400 <= refused.value.status < 500


async def test_with_a_node_a_paid_order_is_settled_once_and_a_retry_submits_nothing(
    tmp_path: Path,
) -> None:
    async with LocalSolana() as node, market(tmp_path, "path", "/api", node=node) as m:
        agent, client = await dealt(m)

        order_id = agent.paid[0]["id"]
        assert [each["id"] for each in agent.paid] == [agent.orders["second"]]
        assert node.balance(MARKETPLACE.address) == AGREED_MICROS - 1
        assert node.calls.count("sendTransaction") == 1
        assert m.service.kinds(order_id).count("payment_settled") == 1
        assert (await client.talk.consumer.order(order_id))["paymentStatus"] == "settled"


async def test_a_transfer_that_paid_one_order_pays_no_other(tmp_path: Path) -> None:
    async with market(tmp_path, "credentials") as m:
        provider, talk = await talking(m)
        order_id, accepted = await m.paid_order(provider, talk)
        other = await provider.create_order(talk.id, "another", 0.25, 30)
        body = {
            "clientWallet": CLIENT.address,
            "paymentMethod": "USDC",
            "paymentHeader": m.tills[CLIENT.name].headers[0],
        }

        with pytest.raises(ApiError) as refused:
            await talk.consumer.wire.post(f"/orders/{other['orderId']}/accept", body)

        assert refused.value.outcome == (409, "INVALID_PAYMENT_HEADER")
        again = await talk.consumer.wire.post(f"/orders/{order_id}/accept", body)
        assert paid(again) == paid(accepted)
        assert (await talk.consumer.order(other["orderId"]))["status"] == "PENDING"


async def test_accepts_that_race_with_different_transfers_get_one_answer(tmp_path: Path) -> None:
    async with market(tmp_path, "headers") as m:
        provider, talk = await talking(m)
        made = await provider.create_order(talk.id, "a translation", AGREED, 30)

        answers = await asyncio.gather(*(talk.accept_order(made["orderId"]) for _ in range(8)))

        assert len(m.tills[CLIENT.name].headers) == len(set(m.tills[CLIENT.name].headers)) == 8
        assert len({paid(each) for each in answers}) == 1
        assert m.service.kinds(made["orderId"]) == ["order_proposed", "payment_authorized"]
