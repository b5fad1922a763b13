"""Feeds: the same numbers on every node and after every rebuild, and cursors that outlive both."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from api.feeds import desk, owner, reading
from ledger.values import parse_iso
from projections import feed_reader, feeds, runner
from tests.contract.callers import OPERATOR, PARTY, ROLES, found_paid, signed_in
from tests.contract.cursor_kit import Reader, make_events, positions, reader_of, write_catalog
from tests.contract.kit import MovableClock, Service, serving
from tests.support import faults

DAY_MS = 24 * 3600 * 1000
MODULES = (feeds, feed_reader, runner, desk, owner, reading)


async def everything(service: Service, name: str, party: str) -> list[dict[str, Any]]:
    """Return a whole feed, read page by page."""
    caller = await signed_in(service, name)
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = await caller.get(f"/v1/feeds/{party}/events?after={after}&limit=7")
        assert page.status == 200
        found += page.body["events"]
        after = page.body.get("next")
    return found


async def orders_of_many(service: Service, seed: int) -> None:
    """Make orders of several parties, some of them paid."""
    rng = random.Random(seed)  # noqa: S311 - to be made again
    for _ in range(20):
        name = rng.choice(["one", "two", PARTY])
        if rng.random() < 0.5:
            await found_paid(service, "by_hand", name=name)
        else:
            await service.quote(service.buyer(name), "by_hand")


async def test_rebuilt_views_number_every_feed_alike(tmp_path: Path) -> None:
    settings = {"catalog": write_catalog(tmp_path), **ROLES}
    async with serving(tmp_path, **settings) as service:
        await orders_of_many(service, faults.seed())
        reader = await reader_of(service, PARTY)
        await reader.open()
        await reader.fetch(limit=2)
        await reader.ack(2)
        before = await everything(service, OPERATOR, "provider")
        own = await everything(service, PARTY, reader.caller.address)
        log = await reader.get("/log")
        shown = await reader.get()
    dumped = _dump(tmp_path)
    for name in ("views.db", "views.db-wal", "views.db-shm"):
        (tmp_path / "data" / name).unlink(missing_ok=True)

    async with serving(tmp_path, **settings) as service:
        assert await everything(service, OPERATOR, "provider") == before
        assert await everything(service, PARTY, reader.caller.address) == own
        again = await reader_of(service, PARTY)
        assert await again.get("/log") == log
        assert await again.get() == shown

    assert _dump(tmp_path) == dumped
    for found in (before, own):
        assert [event["pos"] for event in found] == list(range(1, len(found) + 1))
        order = [event["data"]["position"] for event in found]
        assert order == sorted(order)


def _dump(folder: Path) -> list[str]:
    """Return the rows of feeds and cursors, as text."""
    db = sqlite3.connect(folder / "data" / "views.db")
    tables = ("feed", "cursors", "hand_outs", "parked")
    rows = [f"{t} {row}" for t in tables for row in db.execute(f"SELECT * FROM {t}")]  # noqa: S608
    db.close()
    return rows


async def test_events_a_day_old_wait_for_a_reader_that_was_away(tmp_path: Path) -> None:
    clock = MovableClock()
    async with serving(tmp_path, clock=clock, catalog=write_catalog(tmp_path), **ROLES) as service:
        reader = await reader_of(service, PARTY)
        await reader.open()
        await make_events(service, PARTY, 3)
        clock.offset_ms += DAY_MS + 60_000

        back = await reader_of(service, PARTY)
        found = await back.fetch()
        assert positions(found) == [1, 2, 3]
        times = [parse_iso(event["occurred_at"]) for event in found.body["events"]]
        assert all(clock() - time > DAY_MS for time in times)


async def test_a_new_numbering_carries_every_cursor_over_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"catalog": write_catalog(tmp_path), **ROLES}
    async with serving(tmp_path, **settings) as service:
        for _ in range(4):
            await found_paid(service, "by_hand", name=PARTY)
        reader = await reader_of(service, PARTY)
        await reader.open()
        first = await reader.fetch(limit=6)
        await reader.post("nack", lease_token=reader.token, at=6, action="park", reason="later")
        await reader.ack(3)
        token = reader.token
        ids = [event["event_id"] for event in first.body["events"]]
        later = await everything(service, PARTY, reader.caller.address)

    # The new generation tells the client of payments alone: every number changes.
    without = {kind: of for kind, of in feeds.FEED_TYPES.items() if kind != "quoted"}
    monkeypatch.setattr(feeds, "FEED_TYPES", without)
    for module in MODULES:
        monkeypatch.setattr(module, "GENERATION", 2)

    async with serving(tmp_path, **settings) as service:
        back = await reader_of(service, PARTY)
        old = Reader(back.caller, token=token, generation=1)
        assert (await old.ack(4)).outcome == (410, "generation_changed")
        assert (await old.fetch(keep=True)).outcome == (409, "stale_lease")
        found = await back.fetch()

        assert found.body["generation"] == 2
        done = {*ids[:3], ids[5]}
        left = [e["event_id"] for e in later if e["event_id"] not in done]
        paid = [e["event_id"] for e in later if e["type"] == "order.paid"]
        # Nothing that is still told of is lost, and nothing acknowledged or parked comes again.
        assert [e["event_id"] for e in found.body["events"]] == [i for i in paid if i in left]
        parked = (await back.get("/parked"))["parked"]
        assert [each["event_id"] for each in parked] == [ids[5]]
        assert (await back.ack(positions(found)[-1])).body["changed"] is True
        assert (await back.get())["lag"] == 0
