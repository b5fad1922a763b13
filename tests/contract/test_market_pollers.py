"""Who polls gets each message and each paid order once, however many poll, fail or stay away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ledger.service import system_clock
from tests.clients.aether_consumer import Conversation
from tests.clients.aether_provider import Provider
from tests.clients.aether_wire import Json, Wire, rows
from tests.contract.kit import MovableClock
from tests.contract.market_kit import (
    AGENT,
    CLIENT,
    Market,
    Mode,
    market,
    more_than_once,
    rounds_until,
    talking,
)

POLLERS = 16
MESSAGES = 40
ORDERS = 6
DAY_MS = 24 * 3600 * 1000
BOTH: list[Mode] = ["open", "credentials"]


def texts(count: int) -> list[str]:
    """Return what a client says first and then, in order."""
    return ["hello", *(f"message {number}" for number in range(count))]


async def drained(wire: Wire, path: str, name: str, **query: str) -> list[list[Json]]:
    """Poll until nothing is there; return what each poll brought."""
    found: list[list[Json]] = []
    while batch := rows(await wire.get(path, **query), name):
        found.append(batch)
    return found


@pytest.mark.parametrize("mode", BOTH)
async def test_sixteen_raw_pollers_get_each_of_forty_messages_once(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode, compat_batch=3) as m:
        provider, _ = await talking(m, messages=MESSAGES - 1)
        wires = [await m.wire(AGENT) for _ in range(POLLERS)]
        who = {"agentId": str(provider.agent_id)}

        polls = [drained(wire, "/agents/messages/new", "messages", **who) for wire in wires]
        batches = [batch for found in await asyncio.gather(*polls) for batch in found]

        assert max(len(batch) for batch in batches) <= 3
        for batch in batches:
            said = [each["message"]["message"] for each in batch]
            assert said == sorted(said, key=texts(MESSAGES).index), "in order within a reply"
        got = [each["message"]["message"] for batch in batches for each in batch]
        assert sorted(got) == sorted(texts(MESSAGES - 1))


@pytest.mark.parametrize("mode", BOTH)
async def test_sixteen_raw_pollers_of_a_client_get_each_of_forty_answers_once(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode, compat_batch=3) as m:
        provider, talk = await talking(m)
        for number in range(MESSAGES):
            await provider.reply(talk.id, f"answer {number}")
        wires = [await m.wire(CLIENT) for _ in range(POLLERS)]
        path = f"/conversations/{talk.id}/messages/new"

        polls = [drained(wire, path, "messages", wallet=CLIENT.address) for wire in wires]
        batches = [batch for found in await asyncio.gather(*polls) for batch in found]

        got = [each["message"] for batch in batches for each in batch]
        assert sorted(got) == sorted(f"answer {number}" for number in range(MESSAGES))


class Slow:
    """A network that keeps the first answers back until the test lets them through."""

    def __init__(self, held: int) -> None:
        self._left = held
        self.passing = asyncio.Event()

    async def arrival(self, _method: str, _path: str) -> None:
        if self._left > 0:
            self._left -= 1
            await self.passing.wait()


@pytest.mark.parametrize("mode", BOTH)
async def test_two_providers_with_overlapping_polls_get_each_message_and_paid_order_once(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode, compat_batch=2) as m:
        first, talk = await talking(m, messages=MESSAGES - 1)
        second = await m.provider()
        await second.register()
        orders = [(await m.paid_order(first, talk))[0] for _ in range(ORDERS)]
        said: list[str] = []
        paid: list[str] = []

        async def hear(_conversation: Json, message: Json) -> None:
            said.append(message["message"])

        async def work(order: Json) -> None:
            paid.append(order["id"])

        slow = [Slow(3), Slow(2)]
        for provider, network in zip((first, second), slow, strict=True):
            provider.on_message, provider.on_order_paid = hear, work
            provider.wire.arrival = network.arrival
        overlapping = [provider.tick() for _ in range(5) for provider in (first, second)]
        while not all(network._left == 0 for network in slow):
            await asyncio.wait(overlapping, return_when=asyncio.FIRST_COMPLETED)
        for network in slow:
            network.passing.set()
        await asyncio.gather(*overlapping)
        ticks = [first.tick, second.tick] * 3
        await rounds_until(lambda: len(said) >= MESSAGES and len(paid) >= ORDERS, *ticks)
        await asyncio.gather(*(tick() for tick in ticks))

        assert first.swallowed + second.swallowed == []
        assert (more_than_once(said), more_than_once(paid)) == ({}, {})
        assert sorted(said) == sorted(texts(MESSAGES - 1))
        assert sorted(paid) == sorted(orders)


class Fragile:
    """A provider's program that fails once, at one message."""

    def __init__(self, provider: Provider, fails_at: str) -> None:
        self.handled: list[str] = []
        self._fails_at = fails_at
        provider.on_message = self.hear

    async def hear(self, _conversation: Json, message: Json) -> None:
        self.handled.append(message["message"])
        if message["message"] == self._fails_at:
            raise RuntimeError("the handler is broken")


async def native_messages(m: Market, agent: str) -> list[Json]:
    """Read the agent's inbox with a cursor of its own, acknowledged as it goes."""
    path = f"/v1/feeds/agent:{agent}/cursors/mine"
    await m.native(AGENT, "PUT", path, {"start": "earliest"})
    found: list[Json] = []
    while True:
        handed = await m.native(AGENT, "POST", path + "/fetch", {"holder": "me", "limit": 3})
        if not handed["events"]:
            return [event for event in found if event["type"] == "message.posted"]
        found += handed["events"]
        through = handed["events"][-1]["pos"]
        said = {"generation": handed["generation"], "lease_token": handed["lease_token"]}
        await m.native(AGENT, "POST", path + "/ack", {**said, "through": through})


@pytest.mark.parametrize("mode", BOTH)
async def test_a_throwing_handler_loses_at_most_its_batch_and_a_native_cursor_reads_it_again(
    tmp_path: Path, mode: Mode
) -> None:
    async with market(tmp_path, mode, compat_batch=4) as m:
        provider, _ = await talking(m, messages=9)
        program = Fragile(provider, fails_at="message 1")

        for _ in range(4):
            await provider.tick()

        assert [str(error) for error in provider.swallowed] == ["the handler is broken"]
        assert program.handled == [each for each in texts(9) if each != "message 2"]
        read = await native_messages(m, str(provider.agent_id))
        assert len(read) == len(texts(9))
        assert [event["pos"] for event in read] == sorted(event["pos"] for event in read)


async def test_a_throwing_handler_of_paid_orders_does_not_stop_the_next_poll(
    tmp_path: Path,
) -> None:
    async with market(tmp_path, "credentials", compat_batch=1) as m:
        provider, talk = await talking(m)
        orders = [(await m.paid_order(provider, talk))[0] for _ in range(3)]
        seen: list[str] = []

        async def work(order: Json) -> None:
            seen.append(order["id"])
            raise RuntimeError("no work today")

        provider.on_order_paid = work
        for _ in range(4):
            await provider.tick()

        assert seen == orders
        assert len(provider.swallowed) == 3


@pytest.mark.parametrize("mode", ["open", "headers"])
async def test_messages_and_paid_orders_arrive_after_a_day_of_absence(
    tmp_path: Path, mode: Mode
) -> None:
    clock = MovableClock()
    async with market(tmp_path, mode, clock=clock) as m:
        provider, talk = await talking(m, messages=3)
        order_id, _ = await m.paid_order(provider, talk)
        await provider.reply(talk.id, "are you there?")
        clock.offset_ms += DAY_MS

        said, paid = await heard(provider)
        got, deliveries = await answered(talk)
        assert said == texts(3)
        assert paid == [order_id]
        assert [each["message"] for each in got if not each.get("hasOrder")] == ["are you there?"]
        assert [each["order"]["id"] for each in got if each.get("hasOrder")] == [order_id]
        assert deliveries == []

        await provider.deliver(order_id, "late")
        clock.offset_ms += DAY_MS
        _, deliveries = await answered(talk)
        assert [(each["orderId"], each["result"]) for each in deliveries] == [(order_id, "late")]
        assert await heard(provider) == ([], [])
        assert await answered(talk) == ([], [])


async def heard(provider: Provider) -> tuple[list[str], list[str]]:
    """Poll once; return the texts of messages and the ids of paid orders."""
    said: list[str] = []
    paid: list[str] = []

    async def hear(_conversation: Json, message: Json) -> None:
        said.append(message["message"])

    async def work(order: Json) -> None:
        paid.append(order["id"])

    provider.on_message, provider.on_order_paid = hear, work
    await provider.tick()
    assert provider.swallowed == []
    return said, paid


async def answered(talk: Conversation) -> tuple[list[Json], list[Json]]:
    """Poll once; return messages and deliveries."""
    messages: list[Json] = []
    deliveries: list[Json] = []

    async def read(message: Json) -> None:
        messages.append(message)

    async def take(delivery: Json) -> None:
        deliveries.append(delivery)

    fresh = Conversation(talk.consumer, talk.id)
    fresh.on("message", read)
    fresh.on("delivery", take)
    await fresh.tick()
    await fresh.settled()
    assert fresh.swallowed == []
    return messages, deliveries


async def test_a_poll_that_finds_nothing_records_nothing_and_does_not_wait(
    tmp_path: Path,
) -> None:
    async with market(tmp_path, "credentials") as m:
        provider, talk = await talking(m)
        assert (await heard(provider))[0] == ["hello"]
        before, began = m.service.position, system_clock()

        for _ in range(5):
            assert await heard(provider) == ([], [])
            assert await answered(talk) == ([], [])

        assert m.service.position == before
        assert system_clock() - began < 10_000, "a compat poll is answered at once"


async def test_reading_the_history_takes_nothing_from_the_polls(tmp_path: Path) -> None:
    async with market(tmp_path, "credentials") as m:
        provider, talk = await talking(m, messages=2)
        await provider.reply(talk.id, "yes?")
        before = m.service.position

        unread = await talk.messages()

        assert m.service.position == before
        flags = {(each["deliveredToProvider"], each["deliveredToConsumer"]) for each in unread}
        assert flags == {(False, False)}
        assert (await heard(provider))[0] == texts(2)
        assert [each["message"] for each in (await answered(talk))[0]] == ["yes?"]
        marked = {
            each["from"]: (each["deliveredToProvider"], each["deliveredToConsumer"])
            for each in await talk.messages()
        }
        assert marked == {CLIENT.address: (True, False), AGENT.address: (False, True)}
