"""The cursor reader and its inbox, against the real service."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.client.cursor import CursorOptions
from api.client.errors import AnswerRefused, ServiceError
from api.client.event import Event, Pins
from api.client.inbox import Effect, Inbox, InboxFailed, TwoEventsAtOnePlace
from api.client.reader import CursorBlocked, CursorReader, StopReading
from api.keys import LEDGER
from ledger.cursor_events import CursorReleased
from ledger.service import system_clock
from tests.contract.callers import Caller, signed_in
from tests.contract.kit import MovableClock, Service, serving
from tests.contract.reading import (
    Time,
    key_of,
    meddler_before,
    note,
    noted,
    noting_inbox,
    quotes,
    reader_at,
)

READER = "feed reader"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text("utf-8")
QUICK = CursorOptions(lease_seconds=30, max_batch=4, backoff_seconds=0)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def time(clock: MovableClock) -> Time:
    return Time(clock, held=lambda seconds: seconds == 15)


@pytest_asyncio.fixture
async def service(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Service]:
    async with serving(tmp_path, clock=clock) as found:
        yield found


@pytest_asyncio.fixture
async def owner(service: Service) -> Caller:
    return await signed_in(service, READER)


@pytest.fixture
def reader(service: Service, time: Time) -> CursorReader:
    return reader_at(service.url, service.session, READER, "one", sleep=time, options=QUICK)


async def shown(owner: Caller, rest: str = "", cursor: str = "one") -> dict[str, Any]:
    answer = await owner.get(f"/v1/feeds/{owner.address}/cursors/{cursor}{rest}")
    assert answer.status == 200, answer.body
    return answer.body


def reading(service: Service, time: Time, inbox: Inbox, **changes: object) -> CursorReader:
    wanted: dict[str, Any] = {
        "cursor": "one",
        "options": QUICK,
        "inbox": inbox,
        "sleep": time,
        **changes,
    }
    return reader_at(service.url, service.session, READER, **wanted)


async def test_every_event_is_applied_once_in_order_and_acknowledged(
    service: Service, time: Time, owner: Caller, tmp_path: Path
) -> None:
    orders = await quotes(service, READER, 10)
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox)

        await reader.run(note, until_idle=True)

        assert noted(tmp_path / "inbox.db") == list(range(1, 11))
        assert inbox.place() == (1, 10)
    assert (reader.counts.hand_outs, reader.counts.applied, reader.counts.skipped) == (3, 10, 0)
    cursor = await shown(owner)
    assert (cursor["acked"], cursor["lag"]) == (10, 0)
    handed = (await shown(owner, "/log"))["handouts"]
    assert [(each["from"], each["acked_through"]) for each in handed] == [(1, 4), (5, 8), (9, 10)]
    assert len(orders) == 10


async def test_another_cursor_hands_the_same_out_and_the_inbox_skips_it(
    service: Service, time: Time, tmp_path: Path
) -> None:
    await quotes(service, READER, 5)
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        await reading(service, time, inbox).run(note, until_idle=True)
        again = reading(service, time, inbox, cursor="two")

        await again.run(note, until_idle=True)

        assert (again.counts.applied, again.counts.skipped) == (0, 5)
        assert noted(tmp_path / "inbox.db") == [1, 2, 3, 4, 5]


async def test_an_effect_that_raises_leaves_nothing_and_is_tried_again(
    service: Service, time: Time, tmp_path: Path
) -> None:
    await quotes(service, READER, 3)
    fails = iter([False, True, True])

    def effect(db: sqlite3.Connection, event: Event) -> None:
        note(db, event)
        if next(fails, False):
            raise LookupError("the private words of a client")

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox)
        await reader.run(effect, until_idle=True)

    assert noted(tmp_path / "inbox.db") == [1, 2, 3]
    assert (reader.counts.failed, reader.counts.redelivered) == (2, 4)
    events = [placed.signed.event for placed in service.app[LEDGER].read(after=0, limit=100)]
    refused = [event for event in events if isinstance(event, CursorReleased) and event.at]
    assert [(event.at, event.reason) for event in refused] == [(2, "LookupError")] * 2
    assert not any(
        b"private words" in p.signed.entry for p in service.app[LEDGER].read(after=0, limit=100)
    )


async def test_an_event_that_always_fails_blocks_the_cursor_and_the_reader_says_where(
    service: Service, time: Time, tmp_path: Path
) -> None:
    await quotes(service, READER, 3)
    options = replace(QUICK, max_attempts=3)

    def effect(db: sqlite3.Connection, event: Event) -> None:
        if event.pos == 2:
            raise LookupError
        note(db, event)

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox, options=options)
        with pytest.raises(CursorBlocked) as blocked:
            await reader.run(effect, until_idle=True)

    assert blocked.value.pos == 2
    assert noted(tmp_path / "inbox.db") == [1]


async def test_an_event_that_always_fails_is_parked_where_the_cursor_parks(
    service: Service, time: Time, owner: Caller, tmp_path: Path
) -> None:
    await quotes(service, READER, 3)
    broken = {2}
    options = replace(QUICK, max_attempts=2, on_poison="park")

    def effect(db: sqlite3.Connection, event: Event) -> None:
        if event.pos in broken:
            raise LookupError
        note(db, event)

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox, options=options)
        await reader.run(effect, until_idle=True)
        assert noted(tmp_path / "inbox.db") == [1, 3]
        [parked] = (await shown(owner, "/parked"))["parked"]
        assert parked["pos"] == 2
        broken.clear()
        answer = await owner.post(f"/v1/feeds/{owner.address}/cursors/one/parked/2/replay")
        assert answer.status == 200, answer.body
        await reader.run(effect, until_idle=True)

    assert noted(tmp_path / "inbox.db") == [1, 3, 2]
    assert (await shown(owner, "/parked"))["parked"] == []


async def test_events_that_were_parked_behind_and_ahead_are_applied_once_when_replayed(
    service: Service, time: Time, owner: Caller, tmp_path: Path
) -> None:
    await quotes(service, READER, 5)
    path = f"/v1/feeds/{owner.address}/cursors/one"

    async def act(rest: str, **body: object) -> dict[str, Any]:
        answer = await owner.post(path + rest, body)
        assert answer.status == 200, answer.body
        return answer.body

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox, options=replace(QUICK, max_batch=5))
        await reader.opened()
        token = (await act("/fetch", holder="x"))["lease_token"]
        await act("/nack", lease_token=token, at=1, action="park")
        await act("/nack", lease_token=token, at=4, action="park")
        await act("/ack", lease_token=token, through=2)
        await act("/lease", lease_token=token, release=True)
        await act("/parked/1/replay")
        await act("/parked/4/replay")
        async with meddler_before(service) as meddler:
            meddler.rule = lambda word, n: "drop answer" if word == "ack" and n % 2 else None
            reader = reader_at(
                meddler.url,
                service.session,
                READER,
                "one",
                sleep=time,
                inbox=inbox,
                options=replace(QUICK, max_batch=5),
            )
            await reader.run(note, until_idle=True)

    assert noted(tmp_path / "inbox.db") == [1, 4, 3, 5]
    assert (await shown(owner, "/parked"))["parked"] == []
    assert (await shown(owner))["lag"] == 0


async def test_a_reader_waits_for_the_lease_of_another_and_takes_over(
    service: Service, time: Time, owner: Caller, reader: CursorReader
) -> None:
    await quotes(service, READER, 2)
    await reader.opened()
    path = f"/v1/feeds/{owner.address}/cursors/one"
    began = system_clock()
    other = await owner.post(path + "/fetch", {"holder": "other"})
    assert len(other.body["events"]) == 2

    got = [event.pos async for event in reader.events(until_idle=True)]

    assert got == [1, 2]
    assert reader.counts.redelivered == 2
    # The whole lease, in as many looks as it takes; some of it went by while they were made.
    assert sum(time.asked) + (system_clock() - began) / 1000 >= 29
    assert len(time.asked) < 20


async def test_what_is_left_under_a_lost_lease_is_dropped_and_acknowledges_nothing(
    service: Service, clock: MovableClock, owner: Caller, tmp_path: Path, time: Time
) -> None:
    await quotes(service, READER, 4)
    path = f"/v1/feeds/{owner.address}/cursors/one"
    taken: list[int] = []

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        slow = reading(service, time, inbox)

        async def handle(event: Event) -> None:
            inbox.apply(event, note)
            if not taken:
                clock.offset_ms += 31_000
                answer = await owner.post(path + "/fetch", {"holder": "other", "limit": 2})
                taken.append(answer.body["lease_token"])
                [keeper] = [t for t in asyncio.all_tasks() if t.get_name() == "lease"]
                time.wake()
                await asyncio.wait([keeper])

        task = asyncio.create_task(slow.each(handle, until_idle=True))
        async with asyncio.timeout(20):
            await task

    # The other reader never acknowledged: after its lease everything came here again.
    assert noted(tmp_path / "inbox.db") == [1, 2, 3, 4]
    log = (await shown(owner, "/log"))["handouts"]
    assert [each["holder"] == "other" for each in log] == [False, True, False]
    assert "acked_through" not in log[0]
    assert log[2]["acked_through"] == 4


async def test_a_slow_handler_keeps_its_lease(
    service: Service, clock: MovableClock, owner: Caller, time: Time, reader: CursorReader
) -> None:
    await quotes(service, READER, 1)
    path = f"/v1/feeds/{owner.address}/cursors/one"

    async def handle(_event: Event) -> None:
        for _ in range(3):
            before = (await shown(owner))["lease"]["expires_at"]
            clock.offset_ms += 15_000
            time.wake()
            async with asyncio.timeout(20):
                while (await shown(owner))["lease"]["expires_at"] == before:
                    pass
            assert (await owner.post(path + "/fetch", {"holder": "b"})).body[
                "error"
            ] == "lease_held"

    await reader.each(handle, until_idle=True)

    assert (await shown(owner))["acked"] == 1
    assert reader.counts.hand_outs == 1


async def test_what_is_done_is_acknowledged_while_the_rest_still_takes_its_time(
    service: Service, owner: Caller, time: Time, reader: CursorReader
) -> None:
    await quotes(service, READER, 2)

    async def handle(event: Event) -> None:
        if event.pos == 2:
            time.wake()
            async with asyncio.timeout(20):
                while (await shown(owner))["acked"] == 0:
                    pass

    await reader.each(handle, until_idle=True)

    assert (await shown(owner))["acked"] == 2


async def test_a_cancelled_reader_acknowledges_what_it_did_and_gives_the_lease_back(
    service: Service, owner: Caller, reader: CursorReader
) -> None:
    await quotes(service, READER, 3)
    at_work = asyncio.Event()

    async def handle(event: Event) -> None:
        if event.pos == 2:
            at_work.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(reader.each(handle))
    async with asyncio.timeout(20):
        await at_work.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    path = f"/v1/feeds/{owner.address}/cursors/one"
    found = await owner.post(path + "/fetch", {"holder": "other"})
    assert [(e["pos"], e["attempt"]) for e in found.body["events"]] == [(2, 1), (3, 1)]


@pytest.mark.parametrize("end", ["idle", "cancelled"])
async def test_a_reader_that_has_nothing_left_to_do_keeps_nobody_waiting(
    service: Service, owner: Caller, time: Time, end: str
) -> None:
    await quotes(service, READER, 1)
    reader = reader_at(
        service.url, service.session, READER, "one", sleep=time, options=QUICK, wait_seconds=20
    )

    async def handle(_event: Event) -> None:
        pass

    if end == "cancelled":
        task = asyncio.create_task(reader.each(handle))
        async with asyncio.timeout(20):
            while (await owner.get(f"/v1/feeds/{owner.address}/cursors/one")).body.get(
                "acked"
            ) != 1:
                pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await reader.each(handle, until_idle=True)

    path = f"/v1/feeds/{owner.address}/cursors/one"
    assert (await owner.post(path + "/fetch", {"holder": "other"})).status == 200


async def test_a_cancelled_effect_is_whole_or_not_there(
    service: Service, time: Time, tmp_path: Path
) -> None:
    await quotes(service, READER, 1)
    at_work = asyncio.Event()
    loop = asyncio.get_running_loop()

    def effect(db: sqlite3.Connection, event: Event) -> None:
        loop.call_soon_threadsafe(at_work.set)
        note(db, event)

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        task = asyncio.create_task(reading(service, time, inbox).run(effect))
        async with asyncio.timeout(20):
            await at_work.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert noted(tmp_path / "inbox.db") == [1]
        again = reading(service, time, inbox)
        await again.run(note, until_idle=True)
        assert noted(tmp_path / "inbox.db") == [1]


async def test_a_handler_that_stops_the_reader_leaves_its_event_to_come_again(
    service: Service, owner: Caller, reader: CursorReader
) -> None:
    await quotes(service, READER, 2)

    async def handle(event: Event) -> None:
        if event.pos == 2:
            raise StopReading

    with pytest.raises(StopReading):
        await reader.each(handle)

    assert (await shown(owner))["acked"] == 1


async def test_a_loop_that_is_left_leaves_its_event_to_come_again(
    service: Service, owner: Caller, reader: CursorReader
) -> None:
    await quotes(service, READER, 3)
    events = reader.events()
    async for event in events:
        if event.pos == 2:
            break
    await events.aclose()

    got = [event.pos async for event in reader.events(until_idle=True)]

    assert got == [2, 3]
    assert (await shown(owner))["acked"] == 3


async def test_an_auto_cursor_hands_everything_out_once_and_hears_no_acknowledgement(
    service: Service, time: Time, owner: Caller
) -> None:
    await quotes(service, READER, 6)
    options = replace(QUICK, mode="auto")
    async with meddler_before(service) as meddler:
        reader = reader_at(
            meddler.url,
            service.session,
            READER,
            "one",
            sleep=time,
            options=options,
        )
        got = [event.pos async for event in reader.events(until_idle=True)]

    assert got == [1, 2, 3, 4, 5, 6]
    assert "ack" not in meddler.seen
    assert (await shown(owner))["lag"] == 0


async def test_lost_requests_and_lost_answers_lose_and_double_nothing(
    service: Service, time: Time, tmp_path: Path
) -> None:
    await quotes(service, READER, 12)

    def rule(word: str, n: int) -> str | None:
        if word in ("fetch", "ack", "one"):
            return {1: "drop request", 2: "drop answer"}.get(n % 3)
        return None

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        async with meddler_before(service) as meddler:
            meddler.rule = rule
            reader = reader_at(
                meddler.url,
                service.session,
                READER,
                "one",
                sleep=time,
                options=QUICK,
                inbox=inbox,
            )
            await reader.run(note, until_idle=True)

    assert noted(tmp_path / "inbox.db") == list(range(1, 13))
    assert meddler.seen["fetch"] > 2 * reader.counts.hand_outs


@pytest.mark.parametrize(
    ("word", "fate", "again"),
    [
        ("fetch", (503, {"error": "SERVICE_UNAVAILABLE", "message": "", "retryable": True}), 0),
        ("fetch", (409, {"error": "cursor_busy", "message": "", "retryable": True}), 0),
        ("ack", (503, {"error": "SERVICE_UNAVAILABLE", "message": "", "retryable": True}), 0),
        ("ack", (500, {"error": "INTERNAL_ERROR", "message": ""}), 0),
        ("ack", (409, {"error": "stale_lease", "message": ""}), 3),
        ("ack", (410, {"error": "generation_changed", "message": ""}), 3),
        ("fetch", (401, {"error": "TOKEN_INVALID", "message": ""}), 0),
    ],
)
async def test_what_passes_is_waited_for_and_what_was_handed_out_comes_again(
    service: Service,
    time: Time,
    tmp_path: Path,
    word: str,
    fate: tuple[int, dict[str, Any]],
    again: int,
) -> None:
    await quotes(service, READER, 3)
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        async with meddler_before(service) as meddler:
            meddler.rule = lambda said, n: fate if said == word and n == 1 else None
            reader = reader_at(
                meddler.url,
                service.session,
                READER,
                "one",
                sleep=time,
                options=QUICK,
                inbox=inbox,
            )
            await reader.run(note, until_idle=True)

    assert noted(tmp_path / "inbox.db") == [1, 2, 3]
    assert reader.counts.skipped == again


async def test_a_refusal_that_will_not_pass_is_raised(service: Service, time: Time) -> None:
    stranger = reader_at(service.url, service.session, READER, "one", sleep=time, options=QUICK)
    await stranger.opened()
    other = reader_at(
        service.url,
        service.session,
        READER,
        "one",
        sleep=time,
        options=replace(QUICK, max_batch=5),
    )

    with pytest.raises(ServiceError) as refused:
        await other.opened()

    assert refused.value.code == "cursor_exists"


def _swap(body: dict[str, Any], field: str, value: object) -> None:
    if body.get("events"):
        body["events"][1][field] = value


TRICKS: dict[str, Any] = {
    "another entry": lambda b: b["events"][1]["data"].update(entry=b["events"][0]["data"]["entry"]),
    "a changed entry": lambda b: b["events"][1]["data"].update(
        entry=b["events"][1]["data"]["entry"].replace('"seq":1', '"seq":2')
    ),
    "another order": lambda b: b["events"][1].update(order_id=b["events"][0]["order_id"]),
    "another time": lambda b: b["events"][1].update(occurred_at="2020-01-01T00:00:00.000Z"),
    "another type": lambda b: b["events"][1].update(type="order.paid"),
    "another kind": lambda b: b["events"][1]["data"].update(kind="paid"),
    "another place in the ledger": lambda b: b["events"][1]["data"].update(position=9),
    "an event twice": lambda b: b["events"].append(b["events"][1]),
    "another order of events": lambda b: b["events"].reverse(),
    "no event": lambda b: b["events"][1].update(data="none"),
}


@pytest.mark.parametrize("trick", TRICKS)
async def test_a_hand_out_that_contradicts_its_signed_entries_is_refused_whole(
    service: Service, time: Time, tmp_path: Path, trick: str
) -> None:
    await quotes(service, READER, 3)

    def edit(word: str, body: dict[str, Any]) -> None:
        if word == "fetch" and body.get("events"):
            TRICKS[trick](body)

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        async with meddler_before(service) as meddler:
            meddler.edit = edit
            reader = reader_at(
                meddler.url,
                service.session,
                READER,
                "one",
                sleep=time,
                options=QUICK,
                inbox=inbox,
            )
            with pytest.raises(AnswerRefused):
                await reader.run(note, until_idle=True)

    assert noted(tmp_path / "inbox.db") == []
    assert "ack" not in meddler.seen


async def test_events_have_to_be_signed_by_a_pinned_wallet(service: Service, time: Time) -> None:
    await quotes(service, READER, 1)
    signer = service.app[LEDGER].signer.address

    def pinned(cursor: str, pins: Pins) -> CursorReader:
        return reader_at(
            service.url, service.session, READER, cursor, sleep=time, options=QUICK, pins=pins
        )

    [event] = [
        e
        async for e in pinned("a", Pins.of(signer.upper().replace("0X", "0x"))).events(
            until_idle=True
        )
    ]
    assert event.signer == signer
    assert event.kind == "quoted"
    assert event.body["price"]
    for wrong in (Pins.of("0x" + "11" * 20), Pins(log="another.example/log")):
        with pytest.raises(AnswerRefused):
            _ = [e async for e in pinned("b", wrong).events(until_idle=True)]


async def one_event(service: Service, time: Time) -> Event:
    await quotes(service, READER, 1)
    reader = reader_at(service.url, service.session, READER, "look", sleep=time, options=QUICK)
    [event] = [event async for event in reader.events(until_idle=True)]
    return event


async def test_after_a_change_of_numbering_the_inbox_knows_its_events(
    service: Service, time: Time, tmp_path: Path
) -> None:
    event = await one_event(service, time)
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        assert inbox.apply(event, note)
        assert not inbox.apply(replace(event, generation=2, pos=7), note)
        assert inbox.has(event.event_id)
        with pytest.raises(TwoEventsAtOnePlace):
            inbox.apply(replace(event, event_id="9-" + "0" * 64), note)

    assert noted(tmp_path / "inbox.db") == [1]


async def test_an_effect_cannot_leave_the_transaction_of_its_event(
    service: Service, time: Time, tmp_path: Path
) -> None:
    event = await one_event(service, time)

    def commits(db: sqlite3.Connection, event: Event) -> None:
        note(db, event)
        db.commit()

    def rolls_back(db: sqlite3.Connection, _event: Event) -> None:
        db.execute("ROLLBACK")

    async def sleeps(_db: sqlite3.Connection, _event: Event) -> None:
        raise AssertionError

    with noting_inbox(tmp_path / "inbox.db") as inbox:
        for wrong in (commits, rolls_back):
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                inbox.apply(event, wrong)
        with (
            pytest.warns(RuntimeWarning, match="never awaited"),
            pytest.raises(TypeError, match="plain function"),
        ):
            inbox.apply(event, sleeps)  # type: ignore[arg-type]
        assert not inbox.has(event.event_id)
        assert inbox.apply(event, note)

    assert noted(tmp_path / "inbox.db") == [1]


async def test_an_inbox_that_fails_ends_the_reader_and_refuses_no_event(
    service: Service, time: Time, owner: Caller, tmp_path: Path
) -> None:
    await quotes(service, READER, 3)
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        reader = reading(service, time, inbox)
        applied = inbox.apply

        def apply(event: Event, effect: Effect) -> bool:
            if event.pos == 2:
                inbox.close()
            return applied(event, effect)

        inbox.apply = apply  # type: ignore[method-assign]
        with pytest.raises(InboxFailed, match="closed"):
            await reader.run(note)

    assert (await shown(owner))["acked"] == 1
    assert reader.counts.failed == 0
    with noting_inbox(tmp_path / "inbox.db") as inbox:
        await reading(service, time, inbox).run(note, until_idle=True)
    assert noted(tmp_path / "inbox.db") == [1, 2, 3]


async def test_two_effects_keep_apart_in_one_file(
    service: Service, time: Time, tmp_path: Path
) -> None:
    event = await one_event(service, time)
    path = tmp_path / "inbox.db"
    with noting_inbox(path) as one, Inbox(path, consumer="another") as another:
        assert one.apply(event, note)
        assert another.place() is None
        assert another.apply(event, note)


async def test_the_example_on_the_page_runs(service: Service, tmp_path: Path) -> None:
    section = PAGE[PAGE.index("## Cursor reader") :]
    program = re.search(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert program
    await quotes(service, READER, 3)
    names: dict[str, Any] = {}
    exec(program[1], names)  # noqa: S102 - the page's own program

    task = asyncio.create_task(names["main"](service.url, key_of(READER), str(tmp_path / "in.db")))
    async with asyncio.timeout(20):
        while (await shown_or_none(service)) != 3:
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    connection = sqlite3.connect(tmp_path / "in.db")
    assert connection.execute("SELECT type, count(*) FROM seen").fetchall() == [("order.quoted", 3)]
    connection.close()


async def shown_or_none(service: Service) -> object:
    """Return how far the page's cursor is, once it is open."""
    owner = await signed_in(service, READER)
    answer = await owner.get(f"/v1/feeds/{owner.address}/cursors/accounts")
    return answer.body.get("acked")
