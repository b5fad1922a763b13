"""What strangers, liars and odd requests get from feeds and cursors: a plain refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.config import Settings
from api.keys import SETTINGS
from tests.contract.callers import (
    AUDITOR,
    OPERATOR,
    PARTY,
    ROLES,
    WORKER,
    Caller,
    found_paid,
    signed_in,
)
from tests.contract.feeds import CATALOG, ack, fetch, opened, path, quotes, shown
from tests.contract.kit import Service, send, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "", {"start": "earliest"}),
    ("POST", "/fetch", {"holder": "thief"}),
    ("POST", "/ack", {"generation": 1, "lease_token": 2, "through": 1}),
    ("POST", "/nack", {"lease_token": 2, "at": 1}),
    ("POST", "/lease", {"lease_token": 2, "release": True}),
    ("POST", "/seek", {"to": "latest"}),
    ("GET", "/parked", None),
    ("POST", "/parked/1/replay", {}),
    ("GET", "/log", None),
    ("GET", "/stream", None),
    ("GET", "/ws?holder=thief", None),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    (folder / "catalog.toml").write_text(CATALOG)
    async with serving(folder, catalog=folder / "catalog.toml", **ROLES) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def party(service: Service) -> Caller:
    found = await signed_in(service, PARTY)
    await quotes(service, found, 3)
    await opened(found, "mine")
    await fetch(found, "mine", limit=2, lease_seconds=3600)
    return found


@pytest.mark.parametrize(("method", "rest", "body"), CALLS)
@pytest.mark.parametrize("name", ["stranger", WORKER, AUDITOR, OPERATOR])
async def test_anothers_cursor_does_not_exist(
    service: Service, party: Caller, name: str, method: str, rest: str, body: object
) -> None:
    other = await signed_in(service, name)
    before = service.position

    for cursor in ("mine", "nobodys"):
        answer = await other.call(method, path(party, cursor, rest), body)
        assert answer.outcome == (404, "NOT_FOUND")
        assert answer.body["message"] == "no feed of this name is yours"
    assert (await other.get(f"/v1/feeds/{party.address}/events")).status == 404
    assert (await other.get(f"/v1/feeds/{party.address}/cursors")).status == 404
    assert service.position == before


@pytest.mark.parametrize(("method", "rest", "body"), CALLS)
async def test_nobody_gets_nothing_without_a_token(
    service: Service, party: Caller, method: str, rest: str, body: object
) -> None:
    nobody = Caller(service, PARTY)

    for token in (None, "x", "a.b", str(party.token)[:-1] + "0", str(party.token) * 3):
        nobody.token = token
        answer = await nobody.call(method, path(party, "mine", rest), body)
        assert answer.outcome == (401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_feeds_of_staff_are_for_staff(service: Service, party: Caller) -> None:
    readers = {name: await signed_in(service, name) for name in (OPERATOR, WORKER, AUDITOR)}
    readers[PARTY] = party
    allowed = {"provider": {OPERATOR}, "workers": {OPERATOR, WORKER}}

    for feed, names in allowed.items():
        for name, reader in readers.items():
            answer = await reader.get(f"/v1/feeds/{feed}/events")
            assert answer.status == (200 if name in names else 404), (feed, name)
    for feed in ("Provider", "PROVIDER"):
        assert (await readers[OPERATOR].get(f"/v1/feeds/{feed}/events")).status == 200
    for feed in ("log", "0x", "0x" + "0" * 40, "..", "provider ", "%00", "provider%2Fcursors"):
        for reader in readers.values():
            assert (await reader.get(f"/v1/feeds/{feed}/events")).status == 404, feed


async def test_a_token_for_one_order_opens_no_feed(service: Service, party: Caller) -> None:
    order_id = await found_paid(service, "by_hand")
    given = await party.post(f"/v1/orders/{order_id}/arbiter-token", {})
    judge = Caller(service, PARTY, str(given.body["token"]))

    for feed in (party.address, "provider", "workers", "0x" + "0" * 40):
        assert (await judge.get(f"/v1/feeds/{feed}/events")).outcome == (404, "NOT_FOUND")


async def test_the_token_of_another_cursor_moves_nothing(service: Service, party: Caller) -> None:
    other = await signed_in(service, "second reader")
    await quotes(service, other, 3)
    for name in ("a", "b"):
        await opened(other, name)
    await fetch(other, "a", limit=1)
    for _ in range(3):  # the token of `b` is a higher one
        got = (await fetch(other, "b", limit=1)).body
        await ack(other, got["lease_token"], got["events"][0]["pos"], "b")
    token = got["lease_token"]

    said: list[tuple[str, dict[str, object]]] = [
        ("/ack", {"generation": 1, "lease_token": token, "through": 1}),
        ("/nack", {"lease_token": token, "at": 1}),
        ("/lease", {"lease_token": token, "extend": 3600}),
        ("/lease", {"lease_token": token, "release": True}),
        ("/fetch", {"holder": "desk", "lease_token": token}),
    ]
    before = service.position
    for rest, body in said:
        assert (await other.post(path(other, "a", rest), body)).outcome == (409, "stale_lease")
    assert service.position == before
    assert (await shown(other, "a"))["acked"] == 0


@pytest.mark.parametrize(
    ("rest", "body", "outcome"),
    [
        ("/ack", {"lease_token": 2, "through": 2**63}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2, "through": 2**63 - 1}, (422, "not_handed_out")),
        ("/ack", {"lease_token": 2, "through": 2**53}, (422, "not_handed_out")),
        ("/ack", {"lease_token": 2, "through": 3}, (422, "not_handed_out")),
        ("/ack", {"lease_token": 2, "through": -1}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2, "through": 1.0}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2, "through": "1"}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2, "through": True}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2**63, "through": 1}, (400, "INVALID_REQUEST")),
        ("/ack", {"lease_token": 2**63 - 1, "through": 1}, (409, "stale_lease")),
        ("/ack", {"lease_token": 0, "through": 1}, (409, "stale_lease")),
        ("/ack", {"generation": 2, "lease_token": 2, "through": 1}, (410, "generation_changed")),
        ("/nack", {"lease_token": 2, "at": 2**63 - 1}, (422, "not_handed_out")),
        ("/nack", {"lease_token": 2, "at": 3}, (422, "not_handed_out")),
        ("/nack", {"lease_token": 2, "at": 0}, (422, "not_handed_out")),
        ("/nack", {"lease_token": 2, "at": 1, "retry_after": 86_401}, (400, "INVALID_REQUEST")),
        ("/nack", {"lease_token": 2, "at": 1, "reason": "x" * 201}, (400, "INVALID_REQUEST")),
        ("/nack", {"lease_token": 2, "at": 1, "action": "drop"}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "desk", "limit": 0}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "desk", "limit": 1001}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "desk", "wait_seconds": 31}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "desk", "lease_seconds": 0}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": ""}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "x" * 129}, (400, "INVALID_REQUEST")),
        ("/fetch", {"holder": "thief"}, (409, "lease_held")),
        ("/lease", {"lease_token": 2}, (400, "INVALID_REQUEST")),
        ("/lease", {"lease_token": 2, "extend": 3601}, (400, "INVALID_REQUEST")),
        ("/lease", {"lease_token": 2, "extend": 1, "release": True}, (400, "INVALID_REQUEST")),
        ("/seek", {"to": 2**53}, (400, "INVALID_REQUEST")),
        ("/seek", {"to": 99}, (400, "INVALID_REQUEST")),
        ("/seek", {"to": "-1"}, (400, "INVALID_REQUEST")),
        ("/seek", {"to": "1-" + "0" * 64, "reason": ""}, (400, "INVALID_REQUEST")),
        ("/seek", {"to": "1-" + "0" * 64}, (400, "INVALID_REQUEST")),
        ("/parked/1/replay", {}, (404, "NOT_FOUND")),
        ("/parked/9999999999999999/replay", {}, (404, "NOT_FOUND")),
        ("/parked/x/replay", {}, (404, "NOT_FOUND")),
    ],
)
async def test_numbers_beyond_every_edge_are_refused(
    service: Service, party: Caller, rest: str, body: object, outcome: tuple[int, str]
) -> None:
    before = service.position

    assert (await party.post(path(party, "mine", rest), body)).outcome == outcome
    assert service.position == before


@pytest.mark.parametrize(
    "name", ["x" * 65, "a%20b", "a%2Fb", "%00", "a%0Ab", "caf%C3%A9", "\u0661", "a*"]
)
async def test_other_names_are_refused(party: Caller, name: str) -> None:
    for method, rest, body in CALLS:
        answer = await party.call(method, path(party, name, rest), body)
        assert answer.status in (400, 404), (name, method, rest)


async def test_odd_names_within_the_rule_are_names(party: Caller) -> None:
    for name in ("compat:orders", "a.b", "A_b-1", "x" * 64):
        await opened(party, name)
        assert (await shown(party, name))["name"] == name


@pytest.mark.parametrize(
    "settings",
    [
        {"start": "yesterday"},
        {"start": "2026-01-01"},
        {"start": -1},
        {"start": 2**53},
        {"start": 9999},
        {"start": None},
        {"start": "earliest", "types": []},
        {"start": "earliest", "types": ["order.unheard"]},
        {"start": "earliest", "types": ["order.paid"] * 65},
        {"start": "earliest", "types": "order.paid"},
        {"start": "earliest", "mode": "manual"},
        {"start": "earliest", "lease_seconds": 0.009},
        {"start": "earliest", "max_batch": 0},
        {"start": "earliest", "max_attempts": 101},
        {"start": "earliest", "backoff": {"initial_seconds": -1}},
        {"start": "earliest", "on_poison": "ignore"},
    ],
)
async def test_other_settings_open_nothing(
    service: Service, party: Caller, settings: dict[str, object]
) -> None:
    answer = await party.call("PUT", path(party, "unopened"), settings)

    assert answer.outcome == (400, "INVALID_REQUEST")
    assert (await party.get(path(party, "unopened"))).outcome == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "after=-1", "after=1e3", "after=9" + "9" * 15, "limit=x"]
)
async def test_pages_beyond_every_edge_are_refused(party: Caller, query: str) -> None:
    for place in (
        f"/v1/feeds/{party.address}/events",
        path(party, "mine", "/log"),
        path(party, "mine", "/parked"),
    ):
        assert (await party.get(f"{place}?{query}")).outcome == (400, "INVALID_REQUEST")
    wrong = await party.get(f"/v1/feeds/{party.address}/events?types=order.paid,x")
    assert wrong.outcome == (400, "INVALID_REQUEST")


async def test_huge_and_broken_bodies_are_refused(service: Service, party: Caller) -> None:
    settings: Settings = service.app[SETTINGS]
    huge = b'{"holder":"' + b"x" * settings.body_max_bytes + b'"}'
    before = service.position

    for method, rest, body in CALLS:
        if body is None or rest.endswith("/replay"):
            continue
        where, token = path(party, "mine", rest), f"Bearer {party.token}"
        status, answer, _ = await send(service, method, where, huge, Authorization=token)
        assert (status, answer["error"]) == (413, "PAYLOAD_TOO_LARGE"), rest
        for data in (b"", b"[]", b"{", b'{"holder":"a","holder":"b"}', b"\xff", b"[" * 30_000):
            status, answer, _ = await send(service, method, where, data, Authorization=token)
            assert status == 400, (rest, data[:20])
    assert service.position == before


async def test_a_party_has_so_many_cursors(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.feeds.owner.MAX_CURSORS", 2)
    other = await signed_in(service, "collector")
    for name in ("a", "b"):
        await opened(other, name)

    more = await other.call("PUT", path(other, "c"), {"start": "earliest"})
    again = await other.call("PUT", path(other, "a"), {"start": "earliest"})

    assert more.outcome == (409, "too_many_cursors")
    assert again.status == 200


async def test_pages_of_other_sites_may_open_a_cursor(party: Caller) -> None:
    asked = {"Origin": "https://shop.example", "Access_Control_Request_Method": "PUT"}

    answer = await party.call("OPTIONS", path(party, "mine"), None, b"", **asked)

    assert answer.status == 204
    allowed = answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert set(allowed) == {"GET", "HEAD", "OPTIONS", "PUT"}
