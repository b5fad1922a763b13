"""Witnesses and crashes: a killed witness never forgets, and a log that was put back is found.

Services and witnesses are processes of their own; kills are SIGKILL.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ledger.signing import write_secret
from scripts.buyer import Buyer
from tests.faults.shop import until
from tests.support.faults import seed
from tests.support.service import Service
from tests.support.witnessing import (
    POINTS,
    Log,
    WitnessProcess,
    checked_time,
    head_of,
    newest,
    submit,
    text_of,
)

KILLS = 100
ROUNDS_PER_LOG = 3
LENGTH = 60
SEED = b"\x0a" * 32
ORIGIN = "forked.test/ivxp/ledger"
BUYER = "0x" + "0b" * 32


def fresh_connections() -> aiohttp.ClientSession:
    """Return a session that never sends on a connection to a process that was killed since."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


@dataclass
class Story:
    """One log with two histories that part at a size, and what was cosigned of it."""

    one: Log
    other: Log
    parting: int
    size: int = 0
    cosigned: list[tuple[int, bytes, int]] = field(default_factory=list)
    refused: int = 0

    def require_one_history(self) -> None:
        """Fail if two roots of one size were cosigned, or if a later time has a smaller size."""
        roots: dict[int, bytes] = {}
        for size, root, _ in self.cosigned:
            assert roots.setdefault(size, root) == root, "two roots of one size"
        beyond = [size for size in roots if size > self.parting]
        histories = {
            log is self.one
            for log in (self.one, self.other)
            for size in beyond
            if roots[size] == log.root(size)
        }
        assert len(histories) <= 1, "two histories"
        in_order = sorted((size, at) for size, _, at in self.cosigned)
        assert [at for _, at in in_order] == sorted(at for _, at in in_order), "it went back"


def stories(chance: random.Random) -> list[Story]:
    """Return logs that part early, so that every round races for which history goes on."""
    found = []
    for number in range(-(-KILLS // ROUNDS_PER_LOG)):
        parting = chance.randint(1, 9)
        one = Log(f"log.test/{number}", SEED).grow(LENGTH)
        other = one.fork(parting).grow(LENGTH - parting, "other")
        found.append(Story(one, other, parting))
    return found


async def press(
    session: aiohttp.ClientSession,
    witness: WitnessProcess,
    story: Story,
    log: Log,
    chance: random.Random,
    answered: asyncio.Queue[None],
) -> None:
    """Submit one history step by step until the witness is gone or never takes it."""
    for _ in range(LENGTH):
        old = story.size
        new = min(LENGTH, old + chance.randint(0, 3))
        try:
            said = await submit(session, witness.url, log.submission(old, new))
        except (aiohttp.ClientError, OSError):
            return
        answered.put_nowait(None)
        if said.status == 200:
            at = checked_time(text_of(log.note(new)), said.text, witness.vkey)
            story.cosigned.append((new, log.root(new), at))
            story.size = max(story.size, new)
        elif said.media_type == "text/x.tlog.size":
            story.size = int(said.text)
        else:
            assert said.status in (409, 422)
            story.refused += 1
            return


async def kill_after(witness: WitnessProcess, answered: asyncio.Queue[None], count: int) -> None:
    """Kill once so many answers came; the others are on their way."""
    for _ in range(count):
        await answered.get()
    witness.kill()


async def test_a_witness_killed_around_its_answers_never_signs_two_histories(
    tmp_path: Path,
) -> None:
    chance = random.Random(seed())  # noqa: S311 - repeatable, no secret
    told = stories(chance)
    logs = [f"{story.one.origin}={story.one.vkey}" for story in told]
    witness = WitnessProcess(tmp_path / "w", *logs)
    async with fresh_connections() as session:
        for number in range(KILLS):
            story = told[number // ROUNDS_PER_LOG]
            answered: asyncio.Queue[None] = asyncio.Queue()
            witness.start()
            presses = [
                asyncio.create_task(press(session, witness, story, log, chance, answered))
                for log in (story.one, story.other, story.one, story.other)
            ]
            for _ in range(chance.randint(1, 20)):
                await asyncio.sleep(0)
            killer = asyncio.create_task(kill_after(witness, answered, chance.randint(0, 12)))
            await asyncio.gather(*presses)
            killer.cancel()
            await asyncio.gather(killer, return_exceptions=True)
            witness.kill()
        witness.start()
        for story in told:
            held = await newest(session, witness.url, story.one.origin)
            if held.status == 200:
                *_, line = held.text.splitlines()
                at = checked_time(text_of(held.text), line, witness.vkey)
                size, root = head_of(held.text)
                assert size >= max([0, *(size for size, _, _ in story.cosigned)]), "forgotten"
                story.cosigned.append((size, root, at))
            story.require_one_history()
        witness.kill()
    signed = sum(len(story.cosigned) for story in told)
    refused = sum(story.refused for story in told)
    print(f"{KILLS} kills, {signed} cosignatures, {refused} forks refused")  # noqa: T201 - the figures
    assert signed >= KILLS


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_at_any_point_leaves_the_old_record_or_the_new_one(
    tmp_path: Path, point: str
) -> None:
    log = Log("log.test/point", SEED).grow(20)
    fork = log.fork(5).grow(15, "other")
    witness = WitnessProcess(tmp_path / "w", f"{log.origin}={log.vkey}")
    witness.start()
    async with fresh_connections() as session:
        assert (await submit(session, witness.url, log.submission(0, 5))).status == 200
        witness.stop()
        witness.start(point)
        with pytest.raises((aiohttp.ClientError, OSError)):
            await submit(session, witness.url, log.submission(5, 9))
        assert witness.wait() == -9
        witness.start()
        recorded = head_of((await newest(session, witness.url, log.origin)).text)
        forked = await submit(session, witness.url, fork.submission(5, 9))
        again = await submit(session, witness.url, log.submission(recorded[0], 12))
        witness.kill()

    # Nobody got the signature of size 9, so either record is right; after the commit it is the new.
    if point == "answer":
        assert recorded == (9, log.root(9))
        assert (forked.status, again.status) == (409, 200)
    else:
        assert recorded == (5, log.root(5))
        assert (forked.status, again.status) == (200, 409)


class Provider:
    """A service with witnesses, and somebody who takes quotes."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, **settings: str) -> None:
        self.folder = folder
        self.session = session
        folder.mkdir(parents=True, exist_ok=True)
        values = {"origin": ORIGIN, "witness_interval": "0.1", **settings}
        self.service = Service(folder, **values)

    async def start(self) -> None:
        await asyncio.to_thread(self.service.start)

    async def stop(self) -> int:
        return await asyncio.to_thread(self.service.stop)

    async def refused(self) -> str:
        """Start, which the service has to refuse; return what it says."""
        before = len(self.said())
        with pytest.raises(AssertionError):
            await self.start()
        assert await self.stop() == 2
        return self.said()[before:]

    def said(self) -> str:
        return self.service.errors.read_text() if self.service.errors.exists() else ""

    def loud(self) -> list[dict[str, Any]]:
        """Return the refusals in the service's log."""
        lines = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == "witness_refused"]

    async def quote(self, count: int) -> int:
        """Take quotes; return how many events the ledger has."""
        buyer = Buyer(self.session, self.service.url, BUYER)
        for _ in range(count):
            (await buyer.request("text_echo", "words")).require(200)
        return int((await self.health())["position"])

    async def health(self) -> dict[str, Any]:
        async with self.session.get(f"{self.service.url}/health") as response:
            found: dict[str, Any] = await response.json()
            return found

    async def witness(self, name: str = "witness.test/w1") -> dict[str, Any]:
        found: dict[str, Any] = (await self.health())["witnesses"][name]
        return found

    async def cosigned(self, size: int) -> None:
        async def reached() -> bool:
            witness = await self.witness()
            return bool(witness["state"] == "cosigned" and witness["size"] >= size)

        await until(reached, f"cosigned at {size}")

    async def is_in_state(self, state: str, name: str = "witness.test/w1") -> None:
        async def reached() -> bool:
            return bool((await self.witness(name))["state"] == state)

        await until(reached, f"{name} is {state}")

    async def checkpoint(self) -> str:
        async with self.session.get(f"{self.service.url}/ledger/checkpoint") as response:
            return await response.text()

    def copy_to(self, folder: Path) -> None:
        """Copy ledger and guard while nothing runs."""
        folder.mkdir(exist_ok=True)
        shutil.copytree(self.service.data_dir, folder / "data")
        shutil.copy(self.service.guard, folder / "data.guard")


@asynccontextmanager
async def provider(folder: Path, **settings: str) -> AsyncIterator[Provider]:
    async with fresh_connections() as session:
        found = Provider(folder, session, **settings)
        try:
            yield found
        finally:
            await found.stop()


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Return the source of a log key that the witness knows before the first start."""
    write_secret(tmp_path / "log.json", SEED)
    return f"file:{tmp_path / 'log.json'}"


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[WitnessProcess]:
    running = WitnessProcess(tmp_path / "w1", f"{ORIGIN}={Log(ORIGIN, SEED).vkey}").start()
    yield running
    running.kill()


def named(*witnesses: WitnessProcess) -> str:
    return ",".join(f"{each.vkey}@{each.url}" for each in witnesses)


async def test_a_backup_put_back_with_its_guard_is_refused_at_the_start(
    tmp_path: Path, key: str, witness: WitnessProcess
) -> None:
    settings = {"log_key": key, "witnesses": named(witness)}
    async with provider(tmp_path / "p", **settings) as seller:
        await seller.start()
        early = await seller.quote(3)
        await seller.stop()
        seller.copy_to(tmp_path / "backup")
        await seller.start()
        late = await seller.quote(4)
        await seller.cosigned(late)
        await seller.stop()

    restored = {"log_key": key, "witnesses": named(witness)}
    async with provider(tmp_path / "backup", **restored) as older:
        guard = older.service.guard.read_bytes()
        message = await older.refused()
        assert "MISCONFIGURED: witness witness.test/w1" in message
        assert f"it cosigned {late} events of this log, and the ledger ends at {early}" in message
        assert "An older copy of the ledger was put back" in message
        assert older.service.guard.read_bytes() == guard
    # Neither the ledger nor its guard can tell: without the witness it starts.
    async with provider(tmp_path / "backup", log_key=key) as blind:
        await blind.start()
        assert (await blind.health())["position"] == early


async def test_a_log_that_forks_is_refused_loudly_and_the_true_one_goes_on(
    tmp_path: Path, key: str, witness: WitnessProcess
) -> None:
    settings = {"log_key": key, "witnesses": named(witness)}
    async with (
        provider(tmp_path / "true", **settings) as true,
        provider(tmp_path / "fork", **settings) as fork,
    ):
        await true.start()
        await true.quote(2)
        await true.stop()
        true.copy_to(tmp_path / "fork")
        await true.start()
        size = await true.quote(2)
        await true.cosigned(size)
        witness.kill()
        await fork.start()
        forked = await fork.quote(6)
        witness.start()
        await fork.is_in_state("refused")
        assert await fork.quote(1) == forked + 1
        await true.cosigned(await true.quote(9))
        shown = await fork.witness()
        await fork.stop()
        message = await fork.refused()

    assert shown["refused"] >= 1
    refusal = fork.loud()[0]
    assert (refusal["level"], refusal["witness"]) == ("error", "witness.test/w1")
    assert head_of(refusal["holds"])[0] == size
    assert "another history" in refusal["detail"]
    assert "MISCONFIGURED: witness witness.test/w1" in message
    assert true.loud() == []


async def test_two_witnesses_of_which_one_is_down(
    tmp_path: Path, key: str, witness: WitnessProcess
) -> None:
    log = f"{ORIGIN}={Log(ORIGIN, SEED).vkey}"
    second = WitnessProcess(tmp_path / "w2", log, name="witness.test/w2").start()
    second.kill()
    settings = {"log_key": key, "witnesses": named(witness, second), "witness_quorum": "1"}
    async with provider(tmp_path / "p", **settings) as seller:
        await seller.start()
        size = await seller.quote(3)
        await seller.cosigned(size)
        alone = await seller.checkpoint()
        silent = await seller.witness("witness.test/w2")
        second.start()
        await seller.is_in_state("cosigned", "witness.test/w2")
        both = await seller.checkpoint()
        witness.kill()
        size = await seller.quote(1)
        await seller.is_in_state("silent")

        async def published() -> bool:
            return head_of(await seller.checkpoint())[0] == size

        await until(published, "published with the other witness's word")
        other = await seller.checkpoint()
        second.kill()

    names = [
        [line.split(" ")[1] for line in note.rpartition("\n\n")[2].splitlines()]
        for note in (alone, both, other)
    ]
    assert names == [
        [ORIGIN, "witness.test/w1"],
        [ORIGIN, "witness.test/w1", "witness.test/w2"],
        [ORIGIN, "witness.test/w2"],
    ]
    assert (silent["state"], silent["cosigned"]) == ("silent", 0)
    assert silent["silent"] >= 1
