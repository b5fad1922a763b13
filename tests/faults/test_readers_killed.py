"""Two readers of one cursor, stalled and killed all the time: none lost, none applied twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from api.client.cursor import CursorOptions
from api.client.http import HttpClient
from api.client.inbox import Inbox
from api.client.signin import SignIn
from api.client.wallet import LocalWallet
from scripts.buyer import Buyer
from tests.contract.reading import SCHEMA, key_of, noted
from tests.faults.readers import Post, read, started
from tests.support.faults import seed
from tests.support.service import Service, running

EVENTS = 600
RUNS = 3
KILL_EVERY_SECONDS = 0.15
STALL_SECONDS = 0.1
"""Twice the lease: who was stalled comes back to a lease that is another's."""
AT_ONCE = 16
PATIENCE_SECONDS = 300
LOOK_SECONDS = 0.02
OPTIONS = CursorOptions(
    lease_seconds=0.05, max_batch=4, max_attempts=100, backoff_seconds=0, on_poison="block"
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]


@dataclass
class Feed:
    """The owner of a feed with so many events, looking on over HTTP."""

    http: HttpClient
    wallet: LocalWallet
    signin: SignIn

    async def get(self, rest: str) -> dict[str, Any]:
        path = f"/v1/feeds/{self.wallet.address}{rest}"
        return (await self.http.get(path, await self.signin.headers())).json()

    async def has(self, events: int) -> bool:
        return bool((await self.get("/events?limit=1"))["head"] >= events)

    async def knows(self, name: str) -> bool:
        return name in {each["name"] for each in (await self.get("/cursors"))["cursors"]}

    async def cursor(self, name: str) -> dict[str, Any]:
        return await self.get(f"/cursors/{name}")

    async def hand_outs(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = await self.get(f"/cursors/{name}/log?limit=1000&after={after}")
            found += page["handouts"]
            if "next" not in page:
                return found
            after = page["next"]


@pytest.fixture(scope="module")
def number() -> int:
    return seed()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def feed(service: Service, number: int) -> AsyncIterator[Feed]:
    """Make the events: every quote is one in its client's feed."""
    async with aiohttp.ClientSession() as session:
        wallet = LocalWallet(key_of(f"killed readers {number}"))
        buyer = Buyer(session, service.url, "0x" + key_of(f"killed readers {number}").hex())
        turns = asyncio.Semaphore(AT_ONCE)

        async def quote() -> None:
            async with turns:
                (await buyer.request("text_echo", "some words")).require(200)

        await asyncio.gather(*(quote() for _ in range(EVENTS)))
        http = HttpClient(service.url, session)
        found = Feed(http, wallet, SignIn(http, wallet))
        await until(lambda: found.has(EVENTS))
        yield found


async def killed_until_done(feed: Feed, post: Post, chance: Random) -> tuple[int, int]:
    """Run two readers until the cursor is at the end; return how often one was killed or stalled.

    A killed one is followed by another. Every third is stalled for longer than its lease before.
    Between two kills one of them gets on, so that the kills end on a slow machine, too.
    """
    # The file is made before anybody is killed: what is tried here is reading.
    Inbox(post.inbox, schema=SCHEMA).close()
    readers = [started(post), started(post)]
    kills = stalls = 0
    acknowledged = -1
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await until(lambda: feed.knows(post.cursor))
            while (cursor := await feed.cursor(post.cursor))["lag"] > 0:
                if cursor["acked"] == acknowledged:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                acknowledged = cursor["acked"]
                await asyncio.sleep(chance.uniform(0.5, 1.5) * KILL_EVERY_SECONDS)
                which = chance.randrange(2)
                if chance.randrange(3) == 0:
                    await stall(readers[which])
                    stalls += 1
                    await asyncio.sleep(chance.uniform(0, STALL_SECONDS))
                readers[which].kill()
                readers[which].join()
                kills += 1
                readers[which] = started(post)
    finally:
        for reader in readers:
            reader.kill()
            reader.join()
    return kills, stalls


async def stall(reader: ForkServerProcess) -> None:
    """Let a reader stand still in whatever it is doing, and go on."""
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGSTOP)
    await asyncio.sleep(STALL_SECONDS)
    os.kill(reader.pid, signal.SIGCONT)


async def until(reached: Callable[[], Awaitable[bool]]) -> None:
    """Return once a condition of another process holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await reached():  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(LOOK_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("run", range(RUNS))
async def test_two_readers_with_one_inbox_lose_and_double_nothing(
    service: Service, feed: Feed, number: int, run: int, tmp_path: Path
) -> None:
    chance = Random(f"{number} {run}")  # noqa: S311 - a reproducible choice
    post = Post(
        service.url, key_of(f"killed readers {number}"), f"run-{run}", tmp_path / "in.db", OPTIONS
    )
    began = time.monotonic()

    kills, stalls = await killed_until_done(feed, post, chance)

    took = time.monotonic() - began
    positions = noted(post.inbox)
    handed = await feed.hand_outs(post.cursor)
    again = sum(each["attempt"] > 1 for each in handed)
    lost, twice = EVENTS - len(set(positions)), len(positions) - len(set(positions))
    print(  # noqa: T201 - the figures are the result
        f"run {run}: {kills} kills and {stalls} stalls in {took:.1f} s, {len(handed)} hand-outs,"
        f" {again} of them redelivered, {len(positions)} applied, {lost} lost, {twice} twice"
    )
    assert positions == list(range(1, EVENTS + 1))
    assert kills > 0


@pytest.mark.slow
async def test_what_auto_mode_loses_is_counted_and_readable_through_another_cursor(
    service: Service, feed: Feed, number: int, tmp_path: Path
) -> None:
    chance = Random(f"{number} auto")  # noqa: S311 - a reproducible choice
    key = key_of(f"killed readers {number}")
    auto = Post(service.url, key, "auto", tmp_path / "in.db", replace(OPTIONS, mode="auto"))

    kills, _ = await killed_until_done(feed, auto, chance)

    positions = noted(auto.inbox)
    lost = sorted(set(range(1, EVENTS + 1)) - set(positions))
    reader = await read(replace(auto, cursor="behind", options=OPTIONS), until_idle=True)
    print(  # noqa: T201 - the figures are the result
        f"auto: {kills} kills, {len(positions)} applied, {len(lost)} lost, 0 twice;"
        f" {reader.counts.applied} of them read again through another cursor"
    )
    assert len(positions) == len(set(positions))
    assert kills > 0
    assert noted(auto.inbox)[len(positions) :] == lost
    assert (reader.counts.applied, reader.counts.skipped) == (len(lost), len(positions))
