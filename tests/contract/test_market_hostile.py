"""Marketplace requests that no program of its own would send: refused in words, never a fault."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from api.aether.free_json import MAX_DEPTH
from tests.clients.aether_wire import SolanaWallet
from tests.contract.market_doors import World, furnished
from tests.contract.market_kit import AGENT, CLIENT, market

pytestmark = pytest.mark.asyncio(loop_scope="module")

SURROGATE, NUL, FACE = "%ED%A0%80", "%00", "%F0%9F%98%80"
ODD_TEXTS = [SURROGATE, "%FF", NUL, FACE, "", "a%27%22%25", "%E2%80%AE", "x" * 3000]
ODD_NUMBERS = [
    "-1",
    "1e3",
    "NaN",
    "Infinity",
    "sNaN",
    "1e400",
    "1e-9999",
    "1_0",
    "9" * 15,
    "%D9%A1",
]


@dataclass
class Stranger:
    """Sends requests as they stand, in a wallet's name."""

    world: World

    async def ask(
        self, who: SolanaWallet, method: str, path: str, data: str | bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and body; a fault of ours is never an answer."""
        token = await self.world.market.token(who)
        service = self.world.market.service
        async with service.session.request(
            method,
            URL(service.url + path, encoded=True),
            data=data.encode() if isinstance(data, str) else data,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        ) as response:
            body = await response.json()
            assert response.status < 500, (method, path[:200], str(data)[:200])
            return response.status, body

    async def say(self, who: SolanaWallet, method: str, path: str, **said: str) -> tuple[int, Any]:
        """Send an object whose values are JSON already."""
        members = ",".join(f"{json.dumps(name)}:{value}" for name, value in said.items())
        return await self.ask(who, method, path, f"{{{members}}}")

    async def talk(self, attachments: str, who: SolanaWallet = CLIENT) -> tuple[int, Any]:
        path = f"/conversations/{self.world.talk}/messages"
        said = {"from": json.dumps(who.address), "message": '"x"', "attachments": attachments}
        return await self.say(who, "POST", path, **said)

    async def offer(self, **changes: str) -> tuple[int, Any]:
        said = {
            "agentWallet": json.dumps(AGENT.address),
            "conversationId": json.dumps(self.world.talk),
            "description": '"work"',
            "price": "1",
            "deliveryTime": "30",
            **changes,
        }
        return await self.say(AGENT, "POST", "/orders", **said)

    @property
    def position(self) -> int:
        return self.world.market.service.position


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stranger]:
    async with market(tmp_path_factory.mktemp("market"), "credentials") as m:
        found = Stranger(await furnished(m))
        # The first look at a delivery is recorded once it was answered: before any test begins.
        order_id = found.world.orders["review"]
        collected = len(m.service.kinds(order_id)) + 1
        await found.ask(CLIENT, "GET", f"/conversations/{found.world.talk}/deliveries")
        await m.service.recorded(order_id, collected)
        yield found


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _all_lists_can_be_shown(stranger: Stranger) -> AsyncIterator[None]:
    """After each test: nothing that one side had recorded keeps the other from reading."""
    yield
    for path in (
        "/agents/search",
        "/conversations",
        "/orders?limit=500",
        f"/conversations/{stranger.world.talk}/messages?limit=500",
        f"/conversations/{stranger.world.talk}/deliveries",
    ):
        assert (await stranger.ask(CLIENT, "GET", path))[0] == 200


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1.5", 1.5),
        ("0.1", 0.1),
        ("1e300", 1e300),
        ("-0.0", -0.0),
        ("1" + "0" * 19, 10**19),
        ("1" + "0" * 30, 1e30),
        ('{"deep": [{"price": 2.03}]}', {"deep": [{"price": 2.03}]}),
        ('"\\u0000\\ud83d\\ude00"', "\0\U0001f600"),
        ("null", None),
    ],
)
async def test_what_is_attached_comes_back_with_the_numbers_that_it_has(
    stranger: Stranger, said: str, shown: object
) -> None:
    status, body = await stranger.talk(f"[{said}]")

    assert (status, body["attachments"]) == (200, [shown])


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 253, 300, 1000])
async def test_json_that_is_nested_too_deeply_is_refused_wherever_it_may_stand(
    stranger: Stranger, depth: int
) -> None:
    before = stranger.position
    order_id = stranger.world.orders["deliver"]
    agent = json.dumps(AGENT.address)

    answers = [
        await stranger.talk(f"[{nested(depth)}]"),
        await stranger.say(
            CLIENT,
            "POST",
            "/conversations",
            clientWallet=json.dumps(CLIENT.address),
            agentId=json.dumps(stranger.world.rival),
            message='"x"',
            attachments=f"[{nested(depth)}]",
        ),
        await stranger.say(
            AGENT, "POST", f"/orders/{order_id}/deliver", agentWallet=agent, result=nested(depth)
        ),
    ]

    assert {(status, body["error"]) for status, body in answers} == {(400, "INVALID_REQUEST")}
    assert all("nested deeper" in body["message"] for _, body in answers)
    assert stranger.position == before


async def test_the_deepest_json_goes_its_whole_way(stranger: Stranger) -> None:
    deep, order_id = nested(MAX_DEPTH), stranger.world.orders["deliver"]
    agent = json.dumps(AGENT.address)

    said, _ = await stranger.talk(f"[{deep}]")
    delivered, _ = await stranger.say(
        AGENT, "POST", f"/orders/{order_id}/deliver", agentWallet=agent, result=deep
    )
    service = stranger.world.market.service
    collected = len(service.kinds(order_id)) + 1
    status, news = await stranger.ask(
        CLIENT, "GET", f"/conversations/{stranger.world.talk}/deliveries/new"
    )
    await service.recorded(order_id, collected)

    assert (said, delivered, status) == (200, 200, 200)
    assert json.loads(deep) in [each["result"] for each in news["deliveries"]]


@pytest.mark.parametrize(
    "deadline",
    [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "2026-13-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "tomorrow",
    ],
)
async def test_a_deadline_that_cannot_be_kept_or_written_is_refused(
    stranger: Stranger, deadline: str
) -> None:
    before = stranger.position

    status, body = await stranger.offer(deadline=json.dumps(deadline))

    assert (status, body["error"] in {"INVALID_REQUEST", "INVALID_TIMESTAMP"}) == (400, True)
    assert stranger.position == before


async def test_the_last_deadline_there_is_can_be_shown(stranger: Stranger) -> None:
    status, body = await stranger.offer(deadline='"9999-12-31T23:59:59Z"')

    assert (status, body["deadline"]) == (200, "9999-12-31T23:59:59.000Z")


@pytest.mark.parametrize(
    "price", ["1e-7", "0", "-1", "-0.0", "1e9999", "1000000000.01", "NaN", '"1"']
)
async def test_a_price_that_is_none_is_refused_in_an_offer_and_in_an_answer_to_it(
    stranger: Stranger, price: str
) -> None:
    before = stranger.position
    path = f"/orders/{stranger.world.orders['counter-offer']}/counter-offer"
    client = json.dumps(CLIENT.address)

    offered, _ = await stranger.offer(price=price)
    answered, _ = await stranger.say(
        CLIENT, "POST", path, clientWallet=client, price=price, message='"less"'
    )

    assert (offered, answered) == (400, 400)
    assert stranger.position == before


@pytest.mark.parametrize(("price", "shown"), [("1e-6", 0.000001), ("1e9", 1e9), ("2.03", 2.03)])
async def test_a_price_at_the_edge_is_shown_as_it_was_said(
    stranger: Stranger, price: str, shown: float
) -> None:
    status, body = await stranger.offer(price=price, priceAthr=price)

    assert (status, body["price"], body["priceAthr"]) == (200, shown, shown)


@pytest.mark.parametrize("member", ["stakeAmount", "basePrice"])
@pytest.mark.parametrize("value", ["1e16", "1e300", "1" + "0" * 300, "1e99999999", "-1", "-1e-300"])
async def test_an_amount_beyond_all_sense_is_refused_at_once(
    stranger: Stranger, member: str, value: str
) -> None:
    before = stranger.position
    owner, name = json.dumps(AGENT.address), json.dumps(f"of {member}")

    status, _ = await stranger.say(
        AGENT, "POST", "/agents/register", ownerWallet=owner, name=name, **{member: value}
    )

    assert (status, stranger.position) == (400, before)


async def test_every_parameter_of_a_list_may_hold_anything(stranger: Stranger) -> None:
    talk = f"/conversations/{stranger.world.talk}"
    lists = {
        f"{talk}/messages": ["limit", "offset", "since", "wallet"],
        "/conversations": ["limit", "offset", "wallet"],
        "/orders": ["limit", "offset", "wallet", "agentWallet", "clientWallet", "status"],
        "/agents/search": [
            *("category", "maxPrice", "minRating", "deliveryTime", "query", "limit", "offset"),
        ],
        "/agents/by-wallet-and-name": ["name", f"wallet={CLIENT.address}&name"],
        "/agents/stats": ["agentId", "wallet"],
        "/agents/messages/new": ["agentId", "wallet"],
        "/agents/orders/paid": ["agentId", "wallet"],
        f"{talk}/messages/new": ["wallet"],
        f"{talk}/deliveries/new": ["wallet"],
    }
    for path, names in lists.items():
        for name in names:
            for value in (*ODD_TEXTS, *ODD_NUMBERS):
                status, body = await stranger.ask(CLIENT, "GET", f"{path}?{name}={value}")
                assert status in {200, 400, 403, 404}, (path, name, value)
                assert status == 200 or body["error"], (path, name, value)


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_first_and_the_last_moment_there_is_can_be_asked_for(
    stranger: Stranger, since: str
) -> None:
    path = f"/conversations/{stranger.world.talk}/messages?since={since}"
    status, body = await stranger.ask(CLIENT, "GET", path)

    assert status == 200
    assert bool(body["messages"]) is since.startswith("0001")


@pytest.mark.parametrize(
    "part",
    [*(text for text in ODD_TEXTS if text), "..%2F", "a%2Fb", "%", "%zz", "log", "search%0A"],
)
async def test_an_id_that_nobody_has_is_not_found_whatever_it_looks_like(
    stranger: Stranger, part: str
) -> None:
    for path in (
        "/agents/{}",
        "/agents/{}/stats",
        "/conversations/{}",
        "/conversations/{}/messages",
        "/conversations/{}/messages/new",
        "/conversations/{}/deliveries",
        "/conversations/{}/deliveries/new",
        "/orders/{}",
    ):
        status, body = await stranger.ask(CLIENT, "GET", path.format(part))
        assert (status, body["error"].endswith("_NOT_FOUND")) == (404, True), path
    said = {"clientWallet": json.dumps(CLIENT.address), "reason": '"x"'}
    for act in ("decline", "counter-offer", "accept", "review"):
        body_of = {"message": '"x"', "paymentHeader": '"x"', "rating": "1", **said}
        status, _ = await stranger.say(CLIENT, "POST", f"/orders/{part}/{act}", **body_of)
        assert status == 404, act
    assert (await stranger.ask(CLIENT, "GET", f"/t/{part}/agents/search"))[0] == 401


async def test_an_id_in_capitals_is_another_one(stranger: Stranger) -> None:
    for path in (f"/agents/{stranger.world.agent}", f"/conversations/{stranger.world.talk}"):
        kind, ident = path.rsplit("/", 1)
        assert (await stranger.ask(CLIENT, "GET", f"{kind}/{ident.upper()}"))[0] == 404


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


HEADERS = {
    "no base64": "x",
    "padding alone": "====",
    "a zero byte": "\0",
    "not ASCII": "é",
    "no JSON": in_base64("{"),
    "null": in_base64("null"),
    "an empty object": in_base64("{}"),
    "a number too large": in_base64('{"x402Version":1e400}'),
    "a number of many digits": in_base64('{"x402Version":' + "1" * 5000 + "}"),
    "deep": in_base64(nested(3000)),
    "half a surrogate pair": in_base64('{"x402Version":1,"scheme":"\\ud800"}'),
    "odd texts": in_base64(
        '{"x402Version":1,"scheme":"exact","network":"solana-devnet","payload":{"authorization":'
        '{"from":"\\ud800","to":"x","value":"99999999999999999999","asset":"\\u0000",'
        '"validBefore":1e999},"signedTransaction":"\\ud800"}}'
    ),
    "the longest": "A" * 16_384,
    "too long": "A" * 16_385,
}


@pytest.mark.parametrize("method", ["USDC", "athr", "BTC", "u\u017fdc"])
@pytest.mark.parametrize("name", HEADERS)
async def test_garbage_for_a_payment_is_refused_and_records_nothing(
    stranger: Stranger, name: str, method: str
) -> None:
    before = stranger.position
    said = {"clientWallet": CLIENT.address, "paymentHeader": HEADERS[name], "paymentMethod": method}
    path = f"/orders/{stranger.world.orders['accept']}/accept"

    status, body = await stranger.ask(CLIENT, "POST", path, json.dumps(said))

    assert (status, body["error"] in {"INVALID_PAYMENT_HEADER", "INVALID_REQUEST"}) == (400, True)
    assert stranger.position == before


@pytest.mark.parametrize("cut", [1, 4, 8, 100])
async def test_a_payment_that_breaks_off_is_refused_and_records_nothing(
    stranger: Stranger, cut: int
) -> None:
    before = stranger.position
    header = stranger.world.header[:-cut]
    said = {"clientWallet": CLIENT.address, "paymentHeader": header}
    path = f"/orders/{stranger.world.orders['accept']}/accept"

    status, body = await stranger.ask(CLIENT, "POST", path, json.dumps(said))

    assert (status, body["error"]) == (400, "INVALID_PAYMENT_HEADER")
    assert stranger.position == before


WALLETS = ["", "\0", "é", "\U0001f600", "provider", "WORKERS", "a" * 64, "a" * 65, "0X" + "a" * 40]


@pytest.mark.parametrize("wallet", [*WALLETS, f" {AGENT.address}", f"{AGENT.address}\n"])
async def test_a_wallet_that_is_none_or_is_another_is_refused_and_records_nothing(
    stranger: Stranger, wallet: str
) -> None:
    before = stranger.position
    world = stranger.world
    for method, path, claim in (
        ("POST", "/agents/register", "ownerWallet"),
        ("POST", "/agents/services", "ownerWallet"),
        ("PUT", "/agents/services", "wallet"),
        ("PUT", "/agents/profile", "wallet"),
        ("PATCH", f"/agents/{world.agent}", "wallet"),
        ("DELETE", f"/agents/{world.agent}", "wallet"),
        ("POST", "/conversations", "clientWallet"),
        ("POST", f"/conversations/{world.talk}/messages", "from"),
        ("POST", "/orders", "agentWallet"),
        ("POST", f"/orders/{world.orders['cancel']}/cancel", "wallet"),
        ("POST", f"/orders/{world.orders['deliver']}/deliver", "agentWallet"),
    ):
        said = {
            "name": "x",
            "agentId": world.agent,
            "conversationId": world.talk,
            "message": "x",
            "description": "x",
            "price": 1,
            "deliveryTime": 1,
            "updates": {},
            "services": [],
            "result": 1,
            claim: wallet,
        }
        status, _ = await stranger.ask(AGENT, method, path, json.dumps(said))
        assert status in {400, 403}, (path, wallet)
    assert stranger.position == before


BODIES = [
    *(b"", b"[]", b"null", b"1", b'"x"', b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"wallet":NaN}'),
    *(b'{"a":1,"a":2}', b'{"message":"\\ud800"}', b'{"updates":1e99999999}', b"[" * 5000),
]


@pytest.mark.parametrize("data", BODIES)
async def test_a_body_that_is_no_request_is_refused_and_records_nothing(
    stranger: Stranger, data: bytes
) -> None:
    before = stranger.position
    world = stranger.world
    for method, path in (
        ("POST", "/agents/register"),
        ("PUT", "/agents/services"),
        ("PATCH", f"/agents/{world.agent}"),
        ("POST", "/conversations"),
        ("POST", "/orders"),
        ("POST", f"/orders/{world.orders['deliver']}/deliver"),
        ("POST", f"/orders/{world.orders['accept']}/accept"),
    ):
        status, body = await stranger.ask(AGENT, method, path, data)
        assert (status, bool(body["message"])) == (400, True), (method, path, data[:40])
    assert stranger.position == before
