"""Part 3: the service is killed under load. What was acknowledged is there, and there once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import aiohttp

from scripts.buyer import Answer, Buyer
from scripts.demo_order import WORDS
from scripts.demo_proof import Pinned, Proven, check_answer
from scripts.demo_say import checked, expect, heading, step
from scripts.demo_stage import NETWORK, Stage, poll

TEST: Final = "tests/faults/test_kill.py"
SERVICE: Final = "text_echo"
PRICE_USDC: Final = 0.1
WRITTEN: Final = ("quoted", "confirmed")
PREPARED: Final = 24
QUOTING: Final = 8
CONFIRMING: Final = 4
LOAD_SECONDS: Final = 1.0
# The confirmations are spread so that some are under way when the end comes.
CONFIRM_PAUSE_SECONDS: Final = 1.2 * LOAD_SECONDS * CONFIRMING / PREPARED


@dataclass(slots=True)
class Load:
    """What the clients were told, and how often they were told nothing."""

    before: int
    acknowledged: list[Proven] = field(default_factory=list)
    unanswered: int = 0
    unconfirmed: list[str] = field(default_factory=list)
    over: bool = False


async def show_kill(stage: Stage) -> None:
    """Kill the service while clients write, start it again, and count."""
    heading("3. The service is killed with SIGKILL under load", "kill", TEST)
    async with stage.buyer() as buyer:
        ready = await _prepare(stage, buyer)
        step("before", f"{PREPARED} orders paid, delivered and ready to be confirmed")
        load = await _load_until_killed(stage, buyer, ready)
    step(
        f"{QUOTING + CONFIRMING} clients, then SIGKILL",
        f"{len(load.acknowledged)} writes acknowledged, {load.unanswered} cut off before an answer",
    )
    await _restart(stage)
    _count(stage, load)
    async with stage.buyer() as buyer:
        await _ask_again(stage, buyer, load)


async def _prepare(stage: Stage, buyer: Buyer) -> list[str]:
    """Bring orders to the point where the client may sign for them."""
    orders = []
    for _ in range(PREPARED):
        order_id = str((await buyer.request(SERVICE, WORDS)).require(200)["order_id"])
        tx_hash = stage.pay(buyer, PRICE_USDC)
        (await buyer.deliver(buyer.notice(order_id, tx_hash, NETWORK))).require(200)
        orders.append(order_id)
    for order_id in orders:
        await poll(
            lambda path=f"/ivxp/status/{order_id}": buyer.get(path),  # type: ignore[misc]
            lambda answer: answer.require(200)["status"] == "delivered",
            "a deliverable",
        )
    return orders


async def _load_until_killed(stage: Stage, buyer: Buyer, ready: list[str]) -> Load:
    load, pinned = Load(len(stage.entries())), stage.pinned()
    clients = [asyncio.create_task(_quoting(buyer, pinned, load)) for _ in range(QUOTING)]
    clients += [
        asyncio.create_task(_confirming(buyer, pinned, load, ready[number::CONFIRMING]))
        for number in range(CONFIRMING)
    ]
    await asyncio.sleep(LOAD_SECONDS)
    stage.service.kill()
    load.over = True
    await asyncio.gather(*clients)
    expect(bool(load.acknowledged), "writes were acknowledged before the end")
    return load


async def _quoting(buyer: Buyer, pinned: Pinned, load: Load) -> None:
    while not load.over:
        try:
            answer = await buyer.request(SERVICE, WORDS)
        except aiohttp.ClientError:
            load.unanswered += 1
            return
        order_id = str(answer.require(HTTPStatus.OK)["order_id"])
        load.acknowledged.append(check_answer(answer, pinned, order_id))


async def _confirming(buyer: Buyer, pinned: Pinned, load: Load, orders: list[str]) -> None:
    for number, order_id in enumerate(orders):
        await asyncio.sleep(CONFIRM_PAUSE_SECONDS)
        if load.over:
            load.unconfirmed += orders[number:]
            return
        try:
            answer = await buyer.confirm(order_id, WORDS)
        except aiohttp.ClientError:
            load.unanswered += 1
            load.unconfirmed += orders[number:]
            return
        answer.require(HTTPStatus.OK)
        load.acknowledged.append(check_answer(answer, pinned, order_id))


async def _restart(stage: Stage) -> None:
    seconds = stage.service.start()
    async with stage.buyer() as buyer:
        started = time.monotonic()
        health = (await buyer.get("/health")).require(200)
        seconds += time.monotonic() - started
    step("started again", f"first answer after {seconds:.1f} s, position {health['position']}")


def _count(stage: Stage, load: Load) -> None:
    """Look for every acknowledged write where its answer said that it is."""
    stored = stage.entries()
    leaves = {position: event.leaf for position, event in stored}
    present = sum(leaves.get(p.position) == p.event.leaf for p in load.acknowledged)
    acts = Counter((event.stream, event.event.kind) for _, event in stored)
    doubled = sum(acts[p.event.stream, p.event.event.kind] != 1 for p in load.acknowledged)
    silent = sum(
        position > load.before and event.event.kind in WRITTEN for position, event in stored
    ) - len(load.acknowledged)
    checked(f"acknowledged {len(load.acknowledged)}, present {present}, doubled {doubled}")
    step("", f"unanswered {load.unanswered}, of which recorded {silent}: unknown is not failed")
    expect(present == len(load.acknowledged), "every acknowledged write survives")
    expect(0 <= silent <= load.unanswered, "nothing was recorded that nobody asked for")
    expect(doubled == 0, "no acknowledged write is there twice")


async def _ask_again(stage: Stage, buyer: Buyer, load: Load) -> None:
    """Confirm what the end left open: recorded or not, it is recorded once afterwards."""
    pinned = stage.pinned()
    answers: list[Answer] = []
    for order_id in load.unconfirmed:
        answer = await buyer.confirm(order_id, WORDS)
        answer.require(HTTPStatus.OK)
        check_answer(answer, pinned, order_id)
        answers.append(answer)
    confirmed = Counter(e.stream for _, e in stage.entries() if e.event.kind == "confirmed")
    expect(all(count == 1 for count in confirmed.values()), "each receipt is recorded once")
    step(
        "clients ask again",
        f"{len(answers)} confirmations sent anew, each of {len(confirmed)} recorded once",
    )
