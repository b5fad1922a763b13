"""The service is killed at every point of handing out and acknowledging; readers notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.faults.cursor_shop import Shop, shop_with
from tests.faults.dying import POINTS

EVENTS = 48
BATCH = 2


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_with(tmp_path, EVENTS) as found:
        yield found


@dataclass
class Log:
    """What one reader was handed and applied: it keeps its place with the effect."""

    applied: list[int] = field(default_factory=list)
    twice: int = 0
    died_after: list[int] = field(default_factory=list)
    """What was applied last, whenever the service died."""
    traps: list[tuple[str, ...]] = field(default_factory=list)
    """How the service is started after its coming deaths."""

    def apply(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if self.applied and event["pos"] <= self.applied[-1]:
                self.twice += 1
                continue
            self.applied.append(event["pos"])


async def insist(shop: Shop, log: Log, rest: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until there is an answer; a service that has died is started with the next trap."""
    while True:
        try:
            status, found = await shop.call("POST", rest, body)
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.to_thread(shop.service.died)
            log.died_after.append(log.applied[-1] if log.applied else 0)
            await shop.start(*log.traps.pop(0))
            continue
        assert status == 200, found
        return dict(found)


async def read_all(shop: Shop, log: Log, name: str, *, auto: bool = False) -> None:
    """Fetch, apply, acknowledge, until there is nothing more."""
    while True:
        found = await insist(shop, log, f"{name}/fetch", {"holder": "one", "limit": BATCH})
        log.apply(found["events"])
        if not found["events"]:
            return
        if not auto:
            through = found["events"][-1]["pos"]
            ack = {"lease_token": found["lease_token"], "through": through, "generation": 1}
            await insist(shop, log, f"{name}/ack", ack)


async def armed(shop: Shop, kind: str) -> Log:
    """Start the service with a trap, and know the traps that follow it."""
    first, *others = [(point, kind, "3") for point in POINTS]
    await asyncio.to_thread(shop.service.stop)
    await shop.start(*first)
    return Log(traps=[*others, ()])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cursor_leased", "cursor_acknowledged"])
async def test_a_killed_service_loses_nothing_and_no_effect_comes_twice(
    shop: Shop, kind: str
) -> None:
    assert (await shop.call("PUT", kind, {"start": "earliest"}))[0] == 201
    log = await armed(shop, kind)

    await read_all(shop, log, kind)

    assert log.applied == list(range(1, EVENTS + 1))
    assert len(log.died_after) == len(POINTS)
    print(f"{kind}: {len(POINTS)} kills, 0 lost, {log.twice} skipped as applied")  # noqa: T201


@pytest.mark.slow
async def test_what_auto_mode_loses_is_counted_and_can_be_read_again(shop: Shop) -> None:
    assert (await shop.call("PUT", "auto", {"start": "earliest", "mode": "auto"}))[0] == 201
    log = await armed(shop, "cursor_leased")
    await read_all(shop, log, "auto", auto=True)

    lost = sorted(set(range(1, EVENTS + 1)) - set(log.applied))
    ends = dict(zip(POINTS, log.died_after, strict=True))
    at = {point: [p for p in lost if end < p <= end + BATCH] for point, end in ends.items()}
    again = Log()
    await shop.call("PUT", "again", {"start": "earliest"})
    await read_all(shop, again, "again")

    print(f"auto mode lost {len(lost)} of {EVENTS}: {at}; all read again")  # noqa: T201
    assert log.twice == 0, "auto mode hands nothing out twice"
    assert at["decided"] == at["answered"] == []
    assert all(len(at[point]) == BATCH for point in ("committed", "guarded", "answering"))
    assert sum(map(len, at.values())) == len(lost)
    assert again.applied == list(range(1, EVENTS + 1)), "another cursor has it all"
