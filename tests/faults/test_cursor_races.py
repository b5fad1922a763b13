"""Many readers of one cursor: who gets what, and what a reader that was stopped may still do."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.cursor_shop import Shop, shop_with

POLLERS = 16
EVENTS = 400
BATCH = 7


@pytest.mark.slow
async def test_pollers_of_one_automatic_cursor_share_no_event(tmp_path: Path) -> None:
    handed: Counter[int] = Counter()
    orders: list[list[int]] = []

    async def poll(shop: Shop, number: int) -> None:
        own: list[int] = []
        while True:
            body = {"holder": f"poller {number}", "limit": BATCH}
            status, found = await shop.call("POST", "auto/fetch", body)
            assert status == 200, found
            if not found["events"]:
                break
            own += [event["pos"] for event in found["events"]]
        handed.update(own)
        orders.append(own)

    async with shop_with(tmp_path, EVENTS) as shop:
        await shop.call("PUT", "auto", {"start": "earliest", "mode": "auto"})
        await asyncio.gather(*(poll(shop, number) for number in range(POLLERS)))

    assert sorted(handed) == list(range(1, EVENTS + 1))
    assert set(handed.values()) == {1}
    assert all(own == sorted(own) for own in orders)
    busy = sum(bool(own) for own in orders)
    print(f"{POLLERS} pollers, {EVENTS} events, {busy} got some: each event once")  # noqa: T201


@pytest.mark.slow
async def test_a_reader_that_was_stopped_past_its_lease_acknowledges_too_late(
    tmp_path: Path,
) -> None:
    async with shop_with(tmp_path, 4) as shop:
        await shop.call("PUT", "one", {"start": "earliest", "lease_seconds": 0.05})
        url = f"{shop.service.url}/v1/feeds/{shop.buyer.address}/cursors/one"
        command = (sys.executable, "-m", "tests.faults.stoppable", url, shop.bearer)
        stopped = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert stopped.stdin is not None
        assert stopped.stdout is not None
        first = json.loads(await stopped.stdout.readline())
        stopped.send_signal(signal.SIGSTOP)

        status, taken = 409, {}
        while status == 409:
            status, taken = await shop.call("POST", "one/fetch", {"holder": "other", "limit": 2})
        stopped.send_signal(signal.SIGCONT)
        stopped.stdin.write(b"go on\n")
        late = json.loads(await stopped.stdout.readline())
        await stopped.wait()

        assert [event["pos"] for event in first["events"]] == [1, 2]
        assert [event["pos"] for event in taken["events"]] == [1, 2]
        assert taken["events"][0]["redelivered"] is True
        assert (late["status"], late["error"]) == (409, "stale_lease")
        ack = {"lease_token": taken["lease_token"], "through": 2}
        assert (await shop.call("POST", "one/ack", ack))[1]["changed"] is True
