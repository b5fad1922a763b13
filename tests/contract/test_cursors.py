"""Cursors over HTTP: the rules of the protocol, one by one. Guarantees: docs/cursors.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ledger.merkle import leaf_hash
from tests.contract.callers import OPERATOR, PARTY, ROLES, WORKER, found_paid, signed_in
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
    found = await reader_of(service, PARTY)
    await make_events(service, PARTY, 5)
    return found


def passes(clock: MovableClock, seconds: float) -> None:
    clock.offset_ms += int(seconds * 1000)


async def test_a_cursor_opens_once_and_shows_what_it_is(reader: Reader) -> None:
    first = await reader.open(lease_seconds=5, types=["order.quoted"])
    again = await reader.open(lease_seconds=5, types=["order.quoted"])
    other = await reader.open(lease_seconds=6, types=["order.quoted"])

    assert (first.status, again.status) == (201, 200)
    assert other.outcome == (409, "cursor_exists")
    assert "ledger" in first.body
    assert "ledger" not in again.body
    shown = await reader.get()
    assert (shown["acked"], shown["head"], shown["lag"]) == (0, 5, 5)
    assert (shown["mode"], shown["on_poison"], shown["lease_seconds"]) == ("ack", "block", 5)


async def test_events_are_their_signed_bytes(reader: Reader) -> None:
    await reader.open()
    event = (await reader.fetch(limit=1)).body["events"][0]

    entry = event["data"]["entry"].encode()
    assert event["event_id"] == f"{event['data']['position']}-{leaf_hash(entry).hex()}"
    assert (event["type"], event["pos"], event["redelivered"]) == ("order.quoted", 1, False)


async def test_a_repeated_fetch_gives_the_same_and_writes_nothing(
    service: Service, reader: Reader
) -> None:
    await reader.open()
    first = await reader.fetch(limit=2)
    size = service.position

    by_token, by_name = await reader.fetch(keep=True), await reader.fetch(limit=2)

    assert positions(first) == positions(by_token) == positions(by_name) == [1, 2]
    assert first.body["lease_token"] == by_token.body["lease_token"] == by_name.body["lease_token"]
    assert service.position == size
    assert attempts(by_name) == [1, 1]


async def test_acknowledging_moves_the_place_once(reader: Reader) -> None:
    await reader.open()
    await reader.fetch(limit=3)

    first, again, less = await reader.ack(2), await reader.ack(2), await reader.ack(1, token=999)

    assert (first.body["acked"], first.body["changed"]) == (2, True)
    assert (again.body["acked"], again.body["changed"]) == (2, False)
    assert (less.status, less.body["changed"]) == (200, False)
    assert positions(await reader.fetch(keep=True)) == [3]
    assert (await reader.ack(4)).outcome == (422, "not_handed_out")
    assert (await reader.ack(2**62)).outcome == (422, "not_handed_out")
    assert (await reader.ack(3, token=999)).outcome == (409, "stale_lease")


async def test_one_reader_at_a_time(reader: Reader, clock: MovableClock) -> None:
    other = Reader(reader.caller, holder="b")
    await reader.open(lease_seconds=10)
    await reader.fetch(limit=2)

    held = await other.fetch()
    assert held.outcome == (409, "lease_held")
    assert 1 <= int(held.headers["Retry-After"]) <= 10

    passes(clock, 11)
    taken = await other.fetch(limit=2)
    assert (positions(taken), attempts(taken)) == ([1, 2], [2, 2])
    assert [event["redelivered"] for event in taken.body["events"]] == [True, True]
    # G4: an acknowledgement under an older token has no effect, whatever the clock says.
    assert (await reader.ack(2)).outcome == (409, "stale_lease")
    assert (await reader.fetch(keep=True)).outcome == (409, "stale_lease")
    assert (await other.ack(2)).body["changed"] is True


async def test_the_token_decides_not_the_clock(reader: Reader, clock: MovableClock) -> None:
    await reader.open(lease_seconds=1)
    await reader.fetch(limit=2)
    passes(clock, 60)

    # Its lease is long over, but nobody took its place.
    done = await reader.ack(2)
    assert (done.body["acked"], done.body["changed"]) == (2, True)


async def test_a_fetch_prolongs_the_lease_lazily(
    service: Service, reader: Reader, clock: MovableClock
) -> None:
    await reader.open(lease_seconds=10)
    first = await reader.fetch(limit=1)
    size = service.position
    await reader.fetch(keep=True)
    assert service.position == size, "less than half of it is over"
    passes(clock, 6)
    later = await reader.fetch(keep=True)

    assert service.position == size + 1
    assert later.body["lease_token"] == first.body["lease_token"]
    assert later.body["lease_expires_at"] > first.body["lease_expires_at"]


async def test_a_lease_is_prolonged_and_released(reader: Reader, clock: MovableClock) -> None:
    other = Reader(reader.caller, holder="b")
    await reader.open(lease_seconds=5)
    await reader.fetch(limit=1)
    longer = await reader.post("lease", lease_token=reader.token, extend=60)
    assert longer.status == 200
    passes(clock, 30)
    assert (await other.fetch()).outcome == (409, "lease_held")

    released = await reader.post("lease", lease_token=reader.token, release=True)
    assert released.body["lease_expires_at"] is None
    taken = await other.fetch(limit=1)
    assert (positions(taken), attempts(taken)) == ([1], [1]), "what was given back was not tried"
    assert (await reader.post("lease", lease_token=reader.token, extend=1)).outcome == (
        409,
        "stale_lease",
    )
    assert (await other.post("lease", lease_token=other.token)).status == 400


async def test_a_new_lease_after_everything_is_acknowledged(reader: Reader) -> None:
    await reader.open()
    first = await reader.fetch(limit=2)
    await reader.ack(2)
    second = await reader.fetch(keep=True, limit=2)

    assert positions(second) == [3, 4]
    assert second.body["lease_token"] > first.body["lease_token"]
    assert second.body["more"] is True


async def test_pipelining_goes_on_after_what_is_handed_out(reader: Reader) -> None:
    await reader.open()
    first = await reader.fetch(limit=2)
    second = await reader.fetch(keep=True, limit=2, pipeline=True)

    assert (positions(first), positions(second)) == ([1, 2], [3, 4])
    assert (await reader.ack(4)).body["acked"] == 4
    assert positions(await reader.fetch(keep=True)) == [5]


async def test_an_empty_fetch_writes_nothing(service: Service, reader: Reader) -> None:
    await reader.open(start="latest")
    size = service.position
    empty = await reader.fetch()

    assert (empty.body["events"], empty.body["lag"], empty.body["lease_token"]) == ([], 0, None)
    assert service.position == size


async def test_a_waiting_fetch_is_woken(service: Service, reader: Reader) -> None:
    await reader.open(start="latest")
    waiting = asyncio.create_task(reader.fetch(wait_seconds=20))
    await make_events(service, PARTY, 1)
    async with asyncio.timeout(5):
        assert positions(await waiting) == [6]


async def test_a_filter_lets_its_types_through_and_advances(
    service: Service, reader: Reader
) -> None:
    await reader.open(types=["order.paid"])
    order_id = await found_paid(service, "by_hand", name=PARTY)
    await make_events(service, PARTY, 2)

    found = await reader.fetch()
    assert [(e["type"], e["order_id"]) for e in found.body["events"]] == [("order.paid", order_id)]
    assert positions(found) == [7]
    await reader.ack(7)
    shown = await reader.get()
    assert (shown["acked"], shown["head"], shown["lag"]) == (9, 9, 0)
    assert (await reader.ack(8)).body["changed"] is False


@pytest.mark.parametrize("bad", [["order.unheard"], [], ["order"], "order.paid"])
async def test_types_are_known(reader: Reader, bad: object) -> None:
    assert (await reader.open(types=bad)).status == 400


async def test_refusing_an_event_rests_it(reader: Reader, clock: MovableClock) -> None:
    await reader.open(backoff={"initial_seconds": 4, "max_seconds": 10})
    await reader.fetch(limit=3)
    refused = await reader.post("nack", lease_token=reader.token, at=2, reason="busy")
    assert refused.body["next_attempt_at"]

    resting = await reader.fetch()
    assert (positions(resting), resting.body["next_attempt_at"]) == (
        [],
        refused.body["next_attempt_at"],
    )
    passes(clock, 5)
    again = await reader.fetch(limit=3)
    assert (positions(again), attempts(again)) == ([1, 2, 3], [2, 2, 2])
    assert (await reader.post("nack", lease_token=reader.token, at=4)).outcome == (
        422,
        "not_handed_out",
    )
    second = await reader.post("nack", lease_token=reader.token, at=2)
    passes(clock, 5)
    assert positions(await reader.fetch()) == [], "twice as long"
    assert second.body["next_attempt_at"] > refused.body["next_attempt_at"]


async def test_parking_puts_one_event_aside(reader: Reader) -> None:
    await reader.open()
    await reader.fetch(limit=3)
    parked = await reader.post("nack", lease_token=reader.token, at=2, action="park", reason="bad")
    assert parked.body["parked"] == 2

    # Nothing was acknowledged by it: the first one is still to be dealt with.
    assert positions(await reader.fetch(keep=True)) == [1, 3]
    await reader.ack(1)
    assert (await reader.get())["acked"] == 2
    listed = (await reader.get("/parked"))["parked"]
    assert [(p["pos"], p["by"], p["reason"]) for p in listed] == [(2, "reader", "bad")]
    assert listed[0]["event"]["pos"] == 2


async def test_a_parked_event_is_handed_out_again_when_asked_for(reader: Reader) -> None:
    await reader.open()
    await reader.fetch(limit=3)
    await reader.post("nack", lease_token=reader.token, at=1, action="park")
    await reader.ack(3)
    assert (await reader.post("parked/9/replay")).status == 404
    assert (await reader.post("parked/1/replay")).body["replayed"] == 1

    again = await reader.fetch(limit=5)
    assert positions(again) == [1]
    assert again.body["events"][0]["redelivered"] is True
    assert positions(await reader.fetch(keep=True)) == [1], "a lost reply costs nothing"
    done = await reader.ack(1)
    assert (done.body["acked"], done.body["changed"]) == (3, True)
    assert (await reader.get("/parked"))["parked"] == []
    assert positions(await reader.fetch(keep=True)) == [4, 5]


async def test_what_fails_too_often_is_parked(reader: Reader, clock: MovableClock) -> None:
    await reader.open(max_attempts=2, on_poison="park", lease_seconds=1)
    for _ in range(2):
        assert positions(await reader.fetch(limit=2)) == [1, 2]
        passes(clock, 2)
    after = await reader.fetch(limit=2)

    assert positions(after) == [2, 3], "the second one gets one more chance"
    listed = (await reader.get("/parked"))["parked"]
    assert [(p["pos"], p["by"], p["attempts"]) for p in listed] == [(1, "attempts", 2)]


async def test_what_fails_too_often_blocks_where_order_counts(
    reader: Reader, clock: MovableClock
) -> None:
    await reader.open(max_attempts=1, lease_seconds=1)
    await reader.fetch(limit=2)
    passes(clock, 2)

    blocked = await reader.fetch()
    assert blocked.outcome == (409, "cursor_blocked")
    assert blocked.body["details"]["pos"] == 1
    assert (await reader.fetch()).outcome == (409, "cursor_blocked")
    assert (await reader.get())["blocked"] == 1
    assert (await reader.post("seek", to=1, reason="skip it")).status == 200
    assert positions(await reader.fetch(limit=2)) == [2, 3]


async def test_seeking_moves_back_and_forth(
    service: Service, reader: Reader, clock: MovableClock
) -> None:
    await reader.open()
    await reader.fetch()
    await reader.ack(5)
    passes(clock, 100)
    await make_events(service, PARTY, 2)
    event = (await reader.fetch()).body["events"][0]
    old = reader.token

    sought = await reader.post("seek", to=2, reason="again")
    assert (sought.body["acked"], sought.body["lease_token"] > (old or 0)) == (2, True)
    assert (await reader.ack(6, token=old)).outcome == (409, "stale_lease")
    assert positions(await reader.fetch()) == [3, 4, 5, 6, 7]
    assert (await reader.post("seek", to=event["event_id"])).body["acked"] == 6
    assert (await reader.post("seek", to=event["occurred_at"])).body["acked"] == 5
    assert (await reader.post("seek", to="earliest")).body["acked"] == 0
    assert (await reader.post("seek", to="latest")).body["acked"] == 7
    for nowhere in (8, "8", "yesterday", "1-" + "0" * 64, -1, 1.5, True):
        assert (await reader.post("seek", to=nowhere)).status == 400, nowhere


async def test_auto_mode_claims_and_acknowledges_at_once(service: Service, reader: Reader) -> None:
    await reader.open(mode="auto", max_batch=2)
    size = service.position
    first, second = await reader.fetch(), await Reader(reader.caller, holder="b").fetch()

    assert (positions(first), positions(second)) == ([1, 2], [3, 4])
    assert first.body["acked"] == 2
    assert service.position == size + 2, "one event for each poll that found something"
    await reader.post("seek", to=0)
    assert positions(await reader.fetch()) == [1, 2]


async def test_the_log_says_who_got_what(reader: Reader, clock: MovableClock) -> None:
    await reader.open(lease_seconds=1)
    await reader.fetch(limit=2)
    passes(clock, 2)
    other = Reader(reader.caller, holder="b")
    await other.fetch(limit=2)
    await other.ack(2)

    lines = (await reader.get("/log"))["handouts"]
    told = [(h["holder"], h["from"], h["to"], h["attempt"], h.get("acked_through")) for h in lines]
    assert told == [("a", 1, 2, 1, None), ("b", 1, 2, 2, 2)]
    assert lines[1]["acked_at"] >= lines[1]["handed_at"]
    page = await reader.get(f"/log?after={lines[0]['token']}&limit=1")
    assert [h["holder"] for h in page["handouts"]] == ["b"]


async def test_reading_a_feed_has_no_effect(service: Service, reader: Reader) -> None:
    party, size = reader.caller.address, service.position
    path = f"/v1/feeds/{party}/events"
    first = (await reader.caller.get(path + "?limit=3")).body
    rest = (await reader.caller.get(path + f"?after={first['next']}")).body

    assert [e["pos"] for e in first["events"] + rest["events"]] == [1, 2, 3, 4, 5]
    assert (first["head"], "next" in rest, service.position) == (5, False, size)
    paid = (await reader.caller.get(path + "?types=order.paid")).body
    assert (paid["events"], paid["head"]) == ([], 5)


async def test_strangers_find_nothing(service: Service, reader: Reader) -> None:
    await reader.open()
    stranger = await signed_in(service, "stranger")
    for method, rest in (("GET", ""), ("GET", "/log"), ("GET", "/parked"), ("PUT", "")):
        answer = await stranger.call(method, reader.path + rest, {"start": "earliest"})
        assert answer.status == 404, (method, rest)
    for act in ("fetch", "ack", "nack", "lease", "seek", "parked/1/replay"):
        answer = await stranger.post(f"{reader.path}/{act}", {"holder": "x"})
        assert answer.status == 404, act
    assert (await stranger.get("/v1/feeds/provider/events")).status == 404
    assert (await stranger.get("/v1/feeds/workers/events")).status == 404
    assert (await stranger.get("/v1/feeds/nobody/events")).status == 404


async def test_workers_and_the_provider_have_their_own_feeds(service: Service) -> None:
    order_id = await found_paid(service, "by_hand")
    worker, operator = await signed_in(service, WORKER), await signed_in(service, OPERATOR)

    work = (await worker.get("/v1/feeds/workers/events")).body["events"]
    everything = (await operator.get("/v1/feeds/provider/events")).body["events"]

    assert [(e["type"], e["order_id"]) for e in work] == [("order.paid", order_id)]
    assert [e["type"] for e in everything] == ["log.opened", "order.quoted", "order.paid"]
    assert [e["pos"] for e in everything] == [1, 2, 3]
