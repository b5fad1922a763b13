"""Push: a cursor's events by stream and by socket, under the same lease and the same rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from api.feeds import socket as socket_module
from api.feeds import stream, talk
from api.keys import FOLLOWERS
from tests.contract.callers import PARTY, ROLES, Caller, signed_in
from tests.contract.feeds import (
    CATALOG,
    ack,
    connected,
    fetch,
    following,
    history,
    opened,
    path,
    quotes,
    shown,
)
from tests.contract.kit import WAIT_SECONDS, MovableClock, Service, serving

pytestmark = pytest.mark.asyncio

DAY_MS = 24 * 60 * 60 * 1000


@pytest_asyncio.fixture
async def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture
async def service(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Service]:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    async with serving(tmp_path, clock=clock, catalog=tmp_path / "catalog.toml", **ROLES) as found:
        yield found


@pytest_asyncio.fixture
async def party(service: Service) -> Caller:
    return await signed_in(service, PARTY)


# Streams


async def test_a_stream_tells_what_comes_after_the_place_and_records_nothing(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 2)
    await opened(party)
    got = await fetch(party, limit=1)
    assert (await ack(party, got.body["lease_token"], 1)).status == 200
    before = service.position

    async with following(party) as frames:
        assert frames.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert frames.response.headers["X-Accel-Buffering"] == "no"
        assert frames.response.headers["Cache-Control"] == "no-store"
        first = await frames.event()
        assert service.position == before
        await quotes(service, party)
        second = await frames.event()

    told = await history(party)
    assert [first, second] == [(f"1-{e['pos']}", e["type"], e) for e in told[1:]]
    after = await shown(party)
    assert (after["acked"], after["lease"]["to"]) == (1, 1)


@pytest.mark.parametrize(
    ("last", "first"),
    [("", 3), ("1-0", 3), ("1-2", 3), ("1-3", 4), ("1-4", 5), ("2-4", 3), ("0-4", 3)],
)
@pytest.mark.parametrize("place", ["header", "query"])
async def test_a_stream_goes_on_after_the_newer_of_place_and_last_event_id(
    service: Service, party: Caller, last: str, first: int, place: str
) -> None:
    await quotes(service, party, 5)
    await opened(party)
    got = await fetch(party, limit=2)
    await ack(party, got.body["lease_token"], 2)
    headers = {"Last_Event_ID": last} if place == "header" and last else {}
    query = f"?last_event_id={last}" if place == "query" else ""

    async with following(party, query=query, **headers) as frames:
        assert (await frames.event())[0] == f"1-{first}"


async def test_who_has_seen_what_is_not_there_yet_misses_nothing(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 2)
    await opened(party)

    async with following(party, Last_Event_ID="1-999999999999999") as frames:
        assert (await frames.block()).startswith(":")
        await quotes(service, party)
        assert (await frames.event())[0] == "1-3"


@pytest.mark.parametrize("last", ["7", "1-", "-1", "1-x", "1-1-1", "1-\u0661", "1" * 10 + "-1"])
async def test_another_id_is_refused(service: Service, party: Caller, last: str) -> None:
    await opened(party)

    answer = await party.get(path(party, rest=f"/stream?last_event_id={last}"))

    assert answer.outcome == (400, "INVALID_REQUEST")


async def test_a_stream_has_the_filter_of_its_cursor(service: Service, party: Caller) -> None:
    await quotes(service, party, 2)
    await opened(party, types=["order.paid"])

    async with following(party) as frames:
        assert (await frames.block()).startswith(":")
        await quotes(service, party)
        service.app[FOLLOWERS].close()
        assert await frames.at_end()


async def test_many_events_come_one_by_one_and_in_order(
    service: Service, party: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE", 3)
    await quotes(service, party, 8)
    await opened(party)

    async with following(party) as frames:
        assert [(await frames.event())[0] for _ in range(8)] == [f"1-{n}" for n in range(1, 9)]


async def test_a_quiet_stream_says_that_it_is_there(
    service: Service, party: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.01)
    await opened(party)

    async with following(party) as frames:
        assert [await frames.block() for _ in range(3)] == [
            ": connected\n",
            ": keep-alive\n",
            ": keep-alive\n",
        ]


async def test_head_says_what_a_stream_would_be(service: Service, party: Caller) -> None:
    await opened(party)

    answer = await party.call("HEAD", path(party, rest="/stream"))

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


async def test_a_stream_ends_with_the_service_and_with_its_token(
    service: Service, party: Caller, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.01)
    await opened(party)
    other = await signed_in(service, PARTY)

    async with following(party) as frames, following(other) as others:
        assert (await party.post("/v1/auth/revoke", {})).status == 200
        assert await frames.at_end()
        assert (await others.block()).startswith(":")
        clock.offset_ms += DAY_MS
        assert await others.at_end()
    third = await signed_in(service, PARTY)
    async with following(third) as frames:
        service.app[FOLLOWERS].close()
        assert await frames.at_end()


async def test_there_are_so_many_streams_and_sockets_of_a_feed(
    service: Service, party: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_WAITING", 1)
    monkeypatch.setattr(socket_module, "MAX_WAITING", 1)
    await opened(party)

    async with following(party):
        refused = await party.get(path(party, rest="/stream"))
        assert refused.outcome == (503, "SERVICE_UNAVAILABLE")
        with pytest.raises(aiohttp.WSServerHandshakeError) as shut:
            async with connected(party):
                pass
        assert shut.value.status == 503


# Sockets


async def test_a_socket_hands_out_what_a_fetch_would_and_takes_acknowledgements(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 3)
    await opened(party)
    await opened(party, "two")
    wanted = (await fetch(party, "two", limit=2)).body

    async with connected(party, query="holder=desk&limit=2") as line:
        first = await line.events()
        assert {**first, "ledger": 0, "lease_expires_at": 0} == {
            **wanted,
            "type": "event",
            "ledger": 0,
            "lease_expires_at": 0,
        }
        assert first["ledger"]["entry"].count('"transport":"ws"') == 1
        part = await line.ack(first, 1)
        assert (part["type"], part["acked"], part["changed"]) == ("acked", 1, True)
        again = await line.ack(first, 1)
        assert (again["acked"], again["changed"]) == (1, False)
        assert "ledger" not in again
        await line.ack(first)
        second = await line.events()
        assert [e["pos"] for e in second["events"]] == [3]
        assert second["lease_token"] > first["lease_token"]
        await line.ack(second)
        await quotes(service, party)
        third = await line.events()
        assert [(e["pos"], e["redelivered"]) for e in third["events"]] == [(4, False)]

    log = (await party.get(path(party, rest="/log"))).body["handouts"]
    assert [(h["from"], h["to"], h["transport"]) for h in log] == [
        (1, 2, "ws"),
        (3, 3, "ws"),
        (4, 4, "ws"),
    ]
    assert [h.get("acked_through") for h in log] == [2, 3, None]


async def test_only_one_hand_out_is_on_its_way(service: Service, party: Caller) -> None:
    await quotes(service, party, 3)
    await opened(party)

    async with connected(party, query="holder=desk&limit=1") as line:
        await line.events()
        await quotes(service, party)
        # What comes next answers this frame: no second hand-out came before it.
        assert (await line.say(type="nothing"))["type"] == "error"
    assert len((await party.get(path(party, rest="/log"))).body["handouts"]) == 1


async def test_with_pipeline_hand_outs_go_on_up_to_a_limit(
    service: Service, party: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "MAX_UNACKED", 4)
    await quotes(service, party, 6)
    await opened(party)

    async with connected(party, query="holder=desk&limit=2&pipeline=true") as line:
        first, second = await line.events(), await line.events()
        assert [[e["pos"] for e in f["events"]] for f in (first, second)] == [[1, 2], [3, 4]]
        assert (await line.say(type="nothing"))["type"] == "error"
        stale = await line.ack(first, 3)
        assert (stale["type"], stale["error"]) == ("error", "stale_lease")
        assert await line.code() == 4409
    async with connected(party, query="holder=desk&limit=2&pipeline=true") as line:
        # What an earlier connection was given comes first, then what lies after all of it.
        again = await line.events()
        assert [e["pos"] for e in again["events"]] == [1, 2]
        assert (await line.say(type="nothing"))["type"] == "error"
        await line.ack(again)
        rest, more = await line.events(), await line.events()
        assert [[e["pos"] for e in f["events"]] for f in (rest, more)] == [[3, 4], [5, 6]]
        assert more["lease_token"] > rest["lease_token"] == again["lease_token"]
        assert (await line.ack(more, 4))["acked"] == 4
        await quotes(service, party)
        newest = await line.events()
        assert [e["pos"] for e in newest["events"]] == [7]
        assert (await line.ack(newest))["acked"] == 7


async def test_a_fetch_goes_on_after_a_lease_only_with_its_token(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 3)
    await opened(party)
    first = (await fetch(party, limit=2, pipeline=True)).body

    without = (await fetch(party, limit=2, pipeline=True)).body
    on = (await fetch(party, pipeline=True, lease_token=first["lease_token"])).body
    nothing = (await fetch(party, pipeline=True, lease_token=on["lease_token"])).body

    assert without["events"] == first["events"]
    assert [e["pos"] for e in on["events"]] == [3]
    assert nothing["events"] == []
    assert nothing["lease_token"] == on["lease_token"]
    assert (await ack(party, on["lease_token"], 3)).body["acked"] == 3


async def test_a_refused_event_comes_again_and_a_parked_one_does_not(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 2)
    await opened(party, on_poison="park")

    async with connected(party) as line:
        first = await line.events()
        said = {"lease_token": first["lease_token"], "at": 1, "reason": "unreadable"}
        refused = await line.say(type="nack", **said)
        assert refused["type"] == "nacked"
        again = await line.events()
        assert [(e["pos"], e["attempt"], e["redelivered"]) for e in again["events"]] == [
            (1, 2, True),
            (2, 2, True),
        ]
        said["lease_token"] = again["lease_token"]
        parked = await line.say(type="nack", action="park", **said)
        assert (parked["type"], parked["parked"]) == ("nacked", 1)
        await line.ack(again)
        replay = await party.post(path(party, rest="/parked/1/replay"))
        assert replay.status == 200
        once_more = await line.events()
        assert [(e["pos"], e["redelivered"]) for e in once_more["events"]] == [(1, True)]
        await line.ack(once_more)
        await quotes(service, party)
        assert [e["pos"] for e in (await line.events())["events"]] == [3]
    assert (await party.get(path(party, rest="/parked"))).body["parked"] == []


async def test_a_refused_event_rests_as_long_as_it_is_told_to(
    service: Service, party: Caller, clock: MovableClock
) -> None:
    await quotes(service, party)
    await opened(party)

    async with connected(party) as line:
        first = await line.events()
        said = {"lease_token": first["lease_token"], "at": 1, "retry_after": 600}
        await line.say(type="nack", **said)
        assert (await line.say(type="nothing"))["type"] == "error"
        clock.offset_ms += 600_000
        assert (await line.events())["events"][0]["attempt"] == 2


async def test_a_lease_is_made_longer_only_when_the_reader_asks(
    service: Service, party: Caller, clock: MovableClock
) -> None:
    await quotes(service, party)
    await opened(party)

    async with connected(party, query="holder=desk&lease_seconds=10") as line:
        first = await line.events()
        token = first["lease_token"]
        longer = await line.say(type="extend", lease_token=token, extend=120)
        assert (longer["type"], longer["lease_token"]) == ("extended", token)
        assert longer["lease_expires_at"] > first["lease_expires_at"]
        clock.offset_ms += 60_000
        assert (await line.ack(first))["changed"]
        await quotes(service, party)
        second = await line.events()
        assert second["events"]
        clock.offset_ms += 10_001
        assert await line.code() == 1013
    again = await fetch(party)
    assert [(e["pos"], e["attempt"]) for e in again.body["events"]] == [(2, 2)]


async def test_errors_are_told_as_frames_and_the_line_stays(
    service: Service, party: Caller
) -> None:
    await quotes(service, party)
    await opened(party)

    async with connected(party) as line:
        first = await line.events()
        token = first["lease_token"]
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"type": "hello"}, "INVALID_REQUEST"),
            ({}, "INVALID_REQUEST"),
            ({"type": ["ack"]}, "INVALID_REQUEST"),
            ({"type": "ack", "through": 1}, "INVALID_REQUEST"),
            ({"type": "ack", "lease_token": token, "through": 2**63}, "INVALID_REQUEST"),
            ({"type": "ack", "lease_token": token, "through": 2**63 - 1}, "not_handed_out"),
            ({"type": "ack", "lease_token": token, "through": 2}, "not_handed_out"),
            ({"type": "nack", "lease_token": token, "at": 2}, "not_handed_out"),
            ({"type": "extend", "lease_token": token}, "INVALID_REQUEST"),
            ({"type": "extend", "lease_token": token, "extend": 0}, "INVALID_REQUEST"),
        ]
        for said, code in wrong:
            answer = await line.say(**said)
            assert (answer["type"], answer["error"]) == ("error", code), said
        for text in ("", "[]", "7", "{", '{"type":"ack","type":"ack"}', "\ud7ff"):
            await line.socket.send_str(text)
            assert (await line.frame())["error"] == "INVALID_JSON", text
        await line.socket.send_bytes(b"{}")
        assert (await line.frame())["error"] == "INVALID_REQUEST"
        assert (await line.ack(first))["changed"]


async def test_a_frame_that_is_too_long_ends_the_line(service: Service, party: Caller) -> None:
    await opened(party)

    async with connected(party) as line:
        await line.socket.send_str("x" * (socket_module.MAX_FRAME_BYTES + 1))
        assert await line.code() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_lease_of_somebody_else_is_waited_for_and_taken_over(
    service: Service, party: Caller, clock: MovableClock
) -> None:
    await quotes(service, party, 2)
    await opened(party)
    held = (await fetch(party, holder="other")).body

    async with connected(party) as line:
        told = await line.frame()
        assert (told["error"], told["retryable"]) == ("lease_held", True)
        assert 0 < told["details"]["retry_after"] <= 30
        clock.offset_ms += 30_000
        taken = await line.events()
        assert [(e["pos"], e["attempt"]) for e in taken["events"]] == [(1, 2), (2, 2)]
        late = await ack(party, held["lease_token"], 2)
        assert late.outcome == (409, "stale_lease")
        assert (await line.ack(taken))["acked"] == 2


async def test_who_lost_its_lease_is_told_and_begins_anew(service: Service, party: Caller) -> None:
    await quotes(service, party, 2)
    await opened(party)

    async with connected(party) as line:
        await line.events()
        moved = await party.post(path(party, rest="/seek"), {"to": 1, "reason": "again"})
        assert moved.status == 200
        told = await line.frame()
        assert (told["type"], told["error"]) == ("error", "stale_lease")
        assert await line.code() == 4409
    async with connected(party) as line:
        assert [e["pos"] for e in (await line.events())["events"]] == [2]


async def test_an_acknowledgement_by_http_frees_the_line(service: Service, party: Caller) -> None:
    await quotes(service, party, 2)
    await opened(party)

    async with connected(party, query="holder=desk&limit=1") as line:
        first = await line.events()
        assert (await ack(party, first["lease_token"], 1)).status == 200
        assert [e["pos"] for e in (await line.events())["events"]] == [2]


async def test_who_connects_again_gets_its_own_hand_out_again(
    service: Service, party: Caller
) -> None:
    await quotes(service, party, 2)
    await opened(party)

    async with connected(party) as line:
        first = await line.events()
    async with connected(party) as line:
        again = await line.events()
        assert (again["lease_token"], again["events"]) == (first["lease_token"], first["events"])
        assert (await line.ack(again))["changed"]


async def test_an_auto_cursor_needs_no_acknowledgement(service: Service, party: Caller) -> None:
    await quotes(service, party, 3)
    await opened(party, mode="auto")

    async with connected(party, query="holder=desk&limit=1") as line:
        found = [await line.events() for _ in range(3)]
        await quotes(service, party)
        found.append(await line.events())
    assert [f["events"][0]["pos"] for f in found] == [1, 2, 3, 4]
    assert (await shown(party))["acked"] == 4


async def test_a_blocked_cursor_ends_the_line(
    service: Service, party: Caller, clock: MovableClock
) -> None:
    await quotes(service, party)
    await opened(party, max_attempts=1)
    await fetch(party)
    clock.offset_ms += 30_000

    async with connected(party) as line:
        assert (await line.frame())["error"] == "cursor_blocked"
        assert await line.code() == 4409


async def test_a_line_ends_with_its_token_and_with_the_service(
    service: Service, party: Caller, clock: MovableClock
) -> None:
    await opened(party)
    other = await signed_in(service, PARTY)

    async with connected(party) as line:
        assert (await party.post("/v1/auth/revoke", {})).status == 200
        assert await line.code() == 4401
    async with connected(other) as line:
        clock.offset_ms += DAY_MS
        assert await line.code() == 4401
    third = await signed_in(service, PARTY)
    async with connected(third) as line:
        service.app[FOLLOWERS].close()
        assert await line.code() == 1001


async def test_a_reader_that_takes_nothing_is_let_go(
    service: Service, party: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "SEND_SECONDS", 0.01)
    await quotes(service, party)
    await opened(party)

    async def full(_socket: web.WebSocketResponse, _text: str) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(web.WebSocketResponse, "send_str", full)

    async with connected(party) as line:
        assert await line.code() == 1013
    assert (await shown(party))["lag"] == 1


async def test_a_page_in_a_browser_sends_its_token_as_a_protocol(
    service: Service, party: Caller
) -> None:
    await opened(party)
    token = f"bearer.{party.token}"

    async with connected(party, headers={}, protocols=("ivxp.cursor.v1", token)) as line:
        assert line.socket.protocol == "ivxp.cursor.v1"
        assert (await line.say(type="nothing"))["type"] == "error"
    stream_url = service.url + path(party, rest="/stream")
    headers = {"Sec-WebSocket-Protocol": f"ivxp.cursor.v1, {token}"}
    async with service.session.get(stream_url, headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("protocols", "status"),
    [
        ((), 401),
        (("ivxp.cursor.v1",), 401),
        (("ivxp.cursor.v1", "bearer."), 401),
        (("ivxp.cursor.v1", "bearer.x.y"), 401),
        (("ivxp.cursor.v1", "bearer.{token}", "bearer.{token}"), 401),
        (("bearer.{token}",), 400),
        (("ivxp.cursor.v2", "bearer.{token}"), 400),
    ],
)
async def test_other_protocols_are_refused_and_no_token_comes_to_the_log(
    service: Service,
    party: Caller,
    protocols: tuple[str, ...],
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await opened(party)
    assert party.token is not None
    offered = tuple(word.replace("{token}", party.token) for word in protocols)

    with pytest.raises(aiohttp.WSServerHandshakeError) as shut:
        async with connected(party, headers={}, protocols=offered):
            pass

    assert shut.value.status == status
    assert party.token not in caplog.text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_asks_for_no_socket_is_told_to(
    service: Service, party: Caller, method: str
) -> None:
    await opened(party)

    answer = await party.call(method, path(party, rest="/ws?holder=desk"))

    assert answer.status == 426
    assert answer.headers["Upgrade"] == "websocket"
    if method == "GET":
        assert answer.body["error"] == "UPGRADE_REQUIRED"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "holder=",
        "holder=" + "x" * 129,
        "holder=x&limit=0",
        "holder=x&limit=101",
        "holder=x&limit=1e1",
        "holder=x&lease_seconds=0",
        "holder=x&lease_seconds=3601",
        "holder=x&lease_seconds=nan",
        "holder=x&pipeline=1",
    ],
)
async def test_other_queries_are_refused(service: Service, party: Caller, query: str) -> None:
    await opened(party)

    answer = await party.get(path(party, rest="/ws?" + query))

    assert answer.outcome == (400, "INVALID_REQUEST")


async def test_frames_count_as_writes(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(CATALOG)
    settings = {"catalog": tmp_path / "catalog.toml", "rate_limit": 10, **ROLES}
    async with serving(tmp_path, **settings) as service:
        party = await signed_in(service, PARTY)
        await opened(party)
        async with connected(party) as line:
            codes = []
            while not codes or codes[-1] != "RATE_LIMITED":
                codes.append((await line.say(type="nothing"))["error"])
            assert 0 < len(codes) <= 10
            assert await line.code() == 1013


# Parity


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_sockets_and_streams_with_reconnects_tell_what_fetches_tell(
    service: Service, party: Caller, seed: int
) -> None:
    print("seed", seed)  # noqa: T201
    random = Random(seed)  # noqa: S311
    for name in ("by-socket", "by-fetch", "by-stream"):
        await opened(party, name)
    asking = asyncio.create_task(_ask(service, party, 25, Random(seed)))  # noqa: S311

    by_socket = await _by_socket(party, random, 25)
    by_stream = await _by_stream(party, random, 25)
    await asking
    by_fetch: list[str] = []
    while len(by_fetch) < 25:
        got = (await fetch(party, "by-fetch", limit=random.randint(1, 4))).body
        by_fetch += [event["event_id"] for event in got["events"]]
        await ack(party, got["lease_token"], got["events"][-1]["pos"], "by-fetch")

    told = [event["event_id"] for event in await history(party)]
    assert by_fetch == by_stream == told
    assert list(dict.fromkeys(by_socket)) == told
    log = (await party.get(path(party, "by-socket", "/log?limit=1000"))).body["handouts"]
    assert (log[0]["from"], log[-1]["to"]) == (1, 25)


async def _ask(service: Service, party: Caller, count: int, random: Random) -> None:
    left = count
    while left:
        now = min(left, random.randint(1, 4))
        await quotes(service, party, now)
        left -= now


async def _by_socket(party: Caller, random: Random, count: int) -> list[str]:
    """Return what came by sockets that break off, before or after an acknowledgement."""
    found: list[str] = []
    while len(set(found)) < count or (await shown(party, "by-socket"))["lag"]:
        query = f"holder=desk&limit={random.randint(1, 4)}"
        async with connected(party, "by-socket", query) as line:
            for _ in range(random.randint(1, 3)):
                if len(set(found)) == count and not (await shown(party, "by-socket"))["lag"]:
                    break
                handed = await line.events()
                found += [event["event_id"] for event in handed["events"]]
                if random.random() < 0.3:
                    break
                await line.ack(handed)
    return found


async def _by_stream(party: Caller, random: Random, count: int) -> list[str]:
    """Return what came by streams that break off and go on after the last id."""
    found: list[str] = []
    last: dict[str, str] = {}
    while len(found) < count:
        async with following(party, "by-stream", **last) as frames:
            async with asyncio.timeout(WAIT_SECONDS):
                for _ in range(min(random.randint(1, 6), count - len(found))):
                    event_id, _, event = await frames.event()
                    last = {"Last_Event_ID": event_id}
                    found.append(event["event_id"])
    return found
