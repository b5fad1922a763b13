"""What wears a cursor out: events that always fail, filters that let little through, old clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from api.keys import FOLLOWERS
from ledger import cursor_lease
from ledger.cursor_events import MAX_SKIPPED
from projections.feed_reader import FeedReader
from tests.contract.callers import PARTY, ROLES, found_paid
from tests.contract.cursor_kit import (
    Reader,
    attempts,
    make_events,
    positions,
    reader_of,
    write_catalog,
)
from tests.contract.kit import MovableClock, Service, serving


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture
async def service(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Service]:
    catalog = write_catalog(tmp_path)
    async with serving(tmp_path, clock=clock, catalog=catalog, **ROLES) as found:
        yield found


@pytest_asyncio.fixture
async def reader(service: Service) -> Reader:
    return await reader_of(service, PARTY)


async def test_an_event_is_never_tried_more_often_than_it_may_be(
    service: Service, reader: Reader
) -> None:
    """Refuse another event each time: the first one, tried with them all, must not be forgotten."""
    await make_events(service, PARTY, 8)
    await reader.open(max_attempts=3, on_poison="park")
    for last in range(1, 9):
        found = await reader.fetch(limit=last)
        assert max(attempts(found), default=0) <= 3
        through = positions(found)
        if through:
            await reader.post("nack", lease_token=reader.token, at=through[-1], retry_after=0)
    listed = (await reader.get("/parked"))["parked"]
    assert listed
    assert all(each["attempts"] <= 3 for each in listed)


async def test_a_filter_that_lets_little_through_goes_on(service: Service, reader: Reader) -> None:
    paid: list[str] = []
    for _ in range(4):
        await make_events(service, PARTY, 6)
        paid.append(await found_paid(service, "by_hand", name=PARTY))
    await reader.open(types=["order.paid"], max_batch=2)

    first = await reader.fetch()
    assert [event["order_id"] for event in first.body["events"]] == paid[:2]
    second = await reader.fetch(keep=True, pipeline=True)
    assert [event["order_id"] for event in second.body["events"]] == paid[2:]
    through = positions(second)[-1]
    assert (await reader.ack(through)).body["changed"] is True
    assert (await reader.get())["lag"] == 0


async def test_the_types_of_a_filter_are_read_at_one_moment(
    service: Service, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the views add while a page is read, it has no gap."""
    await make_events(service, PARTY, 3)
    seen: list[bool] = []
    real = FeedReader._rows

    def rows(self: FeedReader, *args: object) -> object:
        seen.append(self._db.in_transaction)
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(FeedReader, "_rows", rows)
    await reader.open(types=["order.quoted", "order.paid"])
    assert positions(await reader.fetch()) == [1, 2, 3]
    party = reader.caller.address
    await reader.caller.get(f"/v1/feeds/{party}/events?types=order.paid,order.quoted")
    assert seen
    assert all(seen)


async def test_a_lease_that_was_given_back_is_free_whatever_the_clock_says(
    service: Service, reader: Reader, clock: MovableClock
) -> None:
    await make_events(service, PARTY, 2)
    await reader.open()
    clock.offset_ms += 3_600_000
    ahead = await reader_of(service, PARTY)
    await ahead.fetch(limit=1)
    clock.offset_ms -= 3_600_000
    back = await reader_of(service, PARTY)
    released = await back.post("lease", lease_token=ahead.token, release=True)
    assert released.status == 200

    other = Reader(back.caller, holder="b")
    assert positions(await other.fetch(limit=1)) == [1]


async def test_a_replay_comes_until_it_is_acknowledged(
    service: Service, reader: Reader, clock: MovableClock
) -> None:
    await make_events(service, PARTY, 3)
    await reader.open(lease_seconds=1)
    await reader.fetch(limit=3)
    await reader.post("nack", lease_token=reader.token, at=1, action="park")
    await reader.ack(3)
    await reader.post("parked/1/replay")
    assert positions(await reader.fetch()) == [1]
    assert (await reader.post("parked/1/replay")).status == 200, "asked twice is asked once"

    clock.offset_ms += 2000
    assert positions(await reader.fetch()) == [1], "its lease ended without a word"
    refused = await reader.post("nack", lease_token=reader.token, at=1, retry_after=5)
    assert refused.body["next_attempt_at"]
    assert positions(await reader.fetch()) == []
    clock.offset_ms += 6000
    assert positions(await reader.fetch()) == [1]
    await reader.ack(1)
    assert positions(await reader.fetch(keep=True)) == []
    assert (await reader.get("/parked"))["parked"] == []


async def test_what_lies_ahead_of_a_seek_comes_in_its_turn(
    service: Service, reader: Reader
) -> None:
    await make_events(service, PARTY, 3)
    await reader.open()
    await reader.fetch(limit=3)
    await reader.post("nack", lease_token=reader.token, at=2, action="park")
    await reader.ack(3)

    await reader.post("seek", to=1)
    assert (await reader.get("/parked"))["parked"] == []
    assert positions(await reader.fetch()) == [2, 3]


async def test_a_blocked_cursor_goes_on_once_its_event_is_acknowledged(
    service: Service, reader: Reader, clock: MovableClock
) -> None:
    await make_events(service, PARTY, 2)
    await reader.open(max_attempts=1, lease_seconds=1)
    await reader.fetch(limit=1)
    clock.offset_ms += 2000
    other = Reader(reader.caller, holder="b")
    assert (await other.fetch()).outcome == (409, "cursor_blocked")
    extended = await reader.post("lease", lease_token=reader.token, extend=10)
    assert extended.outcome == (409, "cursor_blocked")

    assert (await reader.ack(1)).body["changed"] is True
    assert positions(await other.fetch()) == [2]


async def test_the_head_can_be_parked_however_many_are_parked_ahead(
    service: Service, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_SKIPPED > 2
    monkeypatch.setattr(cursor_lease, "MAX_SKIPPED", 2)
    await make_events(service, PARTY, 5)
    await reader.open()
    await reader.fetch()
    for at in (2, 3):
        assert (
            await reader.post("nack", lease_token=reader.token, at=at, action="park")
        ).status == 200
    full = await reader.post("nack", lease_token=reader.token, at=5, action="park")
    assert full.outcome == (409, "cursor_refused")
    assert (await reader.post("nack", lease_token=reader.token, at=1, action="park")).status == 200
    assert (await reader.get())["acked"] == 3


async def test_a_reader_that_has_left_claims_nothing(service: Service, reader: Reader) -> None:
    await reader.open(mode="auto")
    body = {"holder": "gone", "wait_seconds": 20}
    waiting = asyncio.create_task(reader.caller.post(reader.path + "/fetch", body))
    async with asyncio.timeout(5):
        while not service.app[FOLLOWERS]._waiting:  # noqa: ASYNC110 - it tells nobody that it waits
            await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await make_events(service, PARTY, 1)

    assert positions(await Reader(reader.caller, holder="here").fetch()) == [1]


@pytest.mark.parametrize("bad", [{"start": ""}, {"start": "earliest", "types": ["x"]}])
async def test_a_cursor_that_cannot_be_opened_is_refused(
    reader: Reader, bad: dict[str, object]
) -> None:
    assert (await reader.open(**bad)).status == 400


async def test_results_may_hold_any_json(service: Service, reader: Reader) -> None:
    await make_events(service, PARTY, 1)
    await reader.open()
    await reader.fetch()
    assert (await reader.ack(1, results={"a": 10**30, "b": [1.5]})).status == 200
