"""Whoever asks in another's name is refused on every route, and leaves no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from api.aether.routes import MARKET_ROUTES
from api.keys import LEDGER, TOKENS
from ledger.values import ZERO_ADDRESS
from tests.clients.aether_wire import (
    ApiError,
    SolanaWallet,
    Wire,
    query_text,
    with_credentials,
    with_token,
)
from tests.contract.market_doors import (
    DOORS,
    RIVAL,
    STRANGER,
    Ask,
    Door,
    World,
    furnished,
    key_of,
)
from tests.contract.market_kit import AGENT, CLIENT, Market, market

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = sorted({key_of(route.method, route.path) for route in MARKET_ROUTES})
CLOSED = [key for key in ROUTES if key in DOORS and DOORS[key].side != "public"]
NOBODY, ARBITER, OTHER_SIDE = "nobody", "arbiter", "the other side"
WALLETS: Final[dict[str, SolanaWallet]] = {"stranger": STRANGER, "another owner": RIVAL}
ROLES = [NOBODY, ARBITER, OTHER_SIDE, *WALLETS]
REFUSED = {401, 403, 404}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Return a marketplace that the tests of this module leave as it is."""
    async with market(tmp_path_factory.mktemp("market"), "credentials") as m:
        yield await furnished(m)


async def test_every_route_has_a_line_in_the_table_and_every_line_a_route() -> None:
    assert set(ROUTES) - set(DOORS) == set(), "who may use a new route is said in market_doors.py"
    assert set(DOORS) - set(ROUTES) == set()


async def wires(world: World, role: str, door: Door) -> list[Wire]:
    """Return every way in which somebody of a role can reach the marketplace."""
    m = world.market
    url, session = m.service.url, m.service.session
    if role == NOBODY:
        bad = "bm9ib2R5." + "0" * 64
        return [Wire(session, url + mount) for mount in ("", "/api")] + [
            Wire(session, with_credentials(url, door.owner.address, bad)),
            Wire(session, with_token(url, bad)),
        ]
    if role == ARBITER:
        token = arbiter_token(m, world.orders["see"])
        return [
            Wire(session, with_credentials(url, ZERO_ADDRESS, token)),
            Wire(session, with_credentials(url, door.owner.address, token)),
            Wire(session, with_token(url, token, "/api")),
        ]
    wallet = door.across if role == OTHER_SIDE else WALLETS[role]
    token = await m.token(wallet)
    own = [await m.wire(wallet, mode) for mode in ("credentials", "path", "headers")]
    own += [
        Wire(session, with_credentials(url, wallet.address, token) + "/api"),
        Wire(session, with_token(url, token, "/api")),
    ]
    borrowed = with_credentials(url, door.owner.address, token)
    return [*own, Wire(session, borrowed)]


def arbiter_token(m: Market, order_id: str) -> str:
    """Return a token that reads one order."""
    now = m.service.app[LEDGER].clock()
    tokens = m.service.app[TOKENS]
    return tokens.issue_for_order(ZERO_ADDRESS, order_id, 7, now, issuer=CLIENT.address)[0]


def claims(role: str, door: Door, ask: Ask) -> list[str | None]:
    """Return whom somebody of a role may pretend to be, where it is a pretence."""
    victim = door.owner.address
    if door.side == "self":
        return [victim]
    if role == OTHER_SIDE and door.side == "both":
        return [victim] if ask.claim else []
    own = door.across if role == OTHER_SIDE else WALLETS.get(role)
    return [victim, None, own.address if own else None] if ask.claim else [None]


async def outcome(wire: Wire, method: str, ask: Ask) -> tuple[int, str]:
    """Return status and code of the answer."""
    try:
        await wire.call(method, ask.path + query_text(ask.query), ask.body)
    except ApiError as error:
        return error.outcome
    return 200, ""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_asking_in_anothers_name_is_refused_and_records_and_marks_nothing(
    world: World, method: str, path: str, role: str
) -> None:
    door = DOORS[method, path]
    ask = door.ask(world)
    before = world.market.service.position
    allowed = {401} if role == NOBODY else REFUSED

    methods = ["GET", "HEAD"] if method == "GET" else [method]
    for wire in await wires(world, role, door):
        for claim in claims(role, door, ask):
            # With nobody named, the request itself may lack what it has to have.
            lacking = {400} if claim is None and ask.claim else set()
            for sent in methods:
                status, code = await outcome(wire, sent, ask.claiming(claim))
                assert status in allowed | lacking, (status, code, wire.base_url, claim)
                assert code, "the refusal says why"

    assert world.market.service.position == before


@pytest.mark.parametrize("role", [NOBODY, *WALLETS])
@pytest.mark.parametrize(
    ("method", "path"), [key for key in ROUTES if key in DOORS and DOORS[key].side == "public"]
)
async def test_what_is_public_records_nothing_whoever_looks(
    world: World, method: str, path: str, role: str
) -> None:
    before = world.market.service.position
    door = DOORS[method, path]
    ask = door.ask(world)

    for wire in await wires(world, role, door):
        status, _ = await outcome(wire, method, ask.claiming(AGENT.address))
        assert status in {200, *REFUSED}, status

    assert world.market.service.position == before


async def test_a_stranger_finds_no_difference_between_what_is_anothers_and_what_is_not_there(
    world: World,
) -> None:
    """Ids are guessed in vain: no status tells that one exists."""
    nothing = "00000000-0000-4000-8000-000000000000"
    wire = await world.market.wire(STRANGER, "credentials")

    for path, missing in (
        (f"/orders/{world.orders['see']}", f"/orders/ivxp-{nothing}"),
        (f"/conversations/{world.talk}", f"/conversations/{nothing}"),
        (f"/conversations/{world.talk}/messages", f"/conversations/{nothing}/messages"),
    ):
        assert await outcome(wire, "GET", Ask(path)) == await outcome(wire, "GET", Ask(missing))


@pytest.mark.parametrize("who", [AGENT, CLIENT, *WALLETS.values()], ids=lambda who: who.name)
async def test_an_inbox_is_read_and_marked_natively_by_its_owner_alone(
    world: World, who: SolanaWallet
) -> None:
    m = world.market
    inboxes = {f"agent:{world.agent}": AGENT, f"conversation:{world.talk}": CLIENT}
    before = m.service.position
    headers = {"Authorization": f"Bearer {await m.token(who, None)}"}

    for party in [party for party, owner in inboxes.items() if owner != who]:
        feed = f"{m.service.url}/v1/feeds/{party}"
        cursor = f"{feed}/cursors/compat:messages"
        for method, url, body in (
            ("GET", f"{feed}/events", None),
            ("GET", cursor, None),
            ("PUT", cursor, {"start": "earliest"}),
            ("POST", cursor + "/fetch", {"holder": "me"}),
            ("POST", cursor + "/seek", {"to": 1, "reason": "mine now"}),
        ):
            async with m.service.session.request(method, url, json=body, headers=headers) as got:
                assert got.status == 404, (method, url, await got.text())

    assert m.service.position == before


async def test_each_door_opens_to_the_one_whose_it_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The same requests, so that a refusal above is for who asks and for nothing else."""
    async with market(tmp_path_factory.mktemp("open"), "credentials") as m:
        world = await furnished(m)
        for key in [key for key in DOORS if key in ROUTES]:
            door = DOORS[key]
            wire = await m.wire(door.owner)
            answer = await outcome(wire, key[0], door.ask(world).claiming(door.owner.address))
            assert answer == (200, ""), (key, answer)


async def test_a_head_of_a_poll_marks_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever looks whether a link works must not take the mail behind it."""
    async with market(tmp_path_factory.mktemp("head"), "credentials") as m:
        world = await furnished(m)
        polls = [key for key in ROUTES if key[1].endswith(("/new", "/paid"))]
        before = m.service.position

        for key in polls:
            door = DOORS[key]
            wire, ask = await m.wire(door.owner), DOORS[key].ask(world)
            await outcome(wire, "HEAD", ask.claiming(door.owner.address))

        assert len(polls) == 4
        assert m.service.position == before


@pytest.mark.parametrize("path", ["/ivxp/download/{}", "/ivxp/orders/{}/deliverable"])
async def test_no_other_route_hands_out_or_marks_what_a_client_bought(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    """Both sides know the id, so the agent could have it recorded that its work was collected."""
    async with market(tmp_path_factory.mktemp("other"), "credentials") as m:
        order_id = (await furnished(m)).orders["review"]

        async with m.service.session.get(m.service.url + path.format(order_id)) as got:
            assert got.status in REFUSED


@pytest.mark.parametrize("rest", ["events", "evidence"])
async def test_the_agent_may_read_the_signed_record_of_its_order(world: World, rest: str) -> None:
    m = world.market
    headers = {"Authorization": f"Bearer {await m.token(AGENT, None)}"}
    url = f"{m.service.url}/ledger/orders/{world.orders['see']}/{rest}"

    async with m.service.session.get(url, headers=headers) as got:
        assert got.status == 200
