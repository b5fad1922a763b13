"""The marketplace clients have the habits of the SDK that their tests are about."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256

import aiohttp
import base58
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.clients.aether_consumer import Consumer, Conversation
from tests.clients.aether_provider import Provider
from tests.clients.aether_wire import (
    ApiError,
    Json,
    SolanaWallet,
    Wire,
    json_text,
    query_text,
    with_credentials,
    with_token,
)

ANNA, BEN = SolanaWallet("anna"), SolanaWallet("ben")
BATCH = 6
Answer = Callable[[web.Request], object]


@dataclass
class Told:
    """A server that answers what a test tells it to, and notes what it was asked."""

    url: str
    session: aiohttp.ClientSession
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.bodies.append(await request.read())
        known = self.answers.get(f"{request.method} {request.path}")
        found = known(request) if known else {}
        return found if isinstance(found, web.Response) else web.json_response(found)

    def wire(self, base: str = "", **more: object) -> Wire:
        return Wire(self.session, base or self.url, **more)  # type: ignore[arg-type]

    def consumer(self) -> Consumer:
        async def sign(_to: str, amount: float) -> str:
            return str(amount)

        return Consumer(self.wire(), BEN, "the marketplace", sign)


@asynccontextmanager
async def told(**answers: Answer) -> AsyncIterator[Told]:
    app = web.Application()
    async with aiohttp.ClientSession() as session:
        server = Told("", session)
        app.router.add_route("*", "/{rest:.*}", server.answer)
        async with TestServer(app) as running:
            server.url = str(running.make_url("")).rstrip("/")
            yield server


def mail(_request: web.Request) -> object:
    return {"messages": [{"conversation": {"id": "c"}, "message": n} for n in range(BATCH)]}


async def nothing(_value: object) -> None:
    return


async def test_credentials_in_the_address_go_out_as_they_are_written_and_nothing_else_does() -> (
    None
):
    async with told() as server:
        await server.wire().get("/plain")
        await server.wire(with_credentials(server.url, "An na", "a=b.c-d_") + "/api").get("/x")
        await server.wire(with_token(server.url, "t.0", "/api")).get("/y")

    plain, basic, path = server.asked
    assert set(plain.headers) == {"Host", "Accept", "User-Agent", "Accept-Encoding"}
    said = b64encode(b"An%20na:a%3Db.c-d_").decode()
    assert basic.headers["Authorization"] == f"Basic {said}"
    assert (basic.path, path.path) == ("/api/x", "/t/t.0/api/y")


async def test_signed_headers_cover_method_url_time_and_body_and_never_repeat() -> None:
    async with told() as server:
        wire = server.wire(server.url + "/api", signer=ANNA, now_ms=lambda: 1_000)
        await wire.post("/orders", {"price": 2.0, "note": None})
        await wire.get("/orders", wallet="a b", status=None)
        await wire.get("/orders", wallet="a b", status=None)

    assert server.bodies[0] == b'{"price":2}'
    assert server.asked[1].raw_path == "/api/orders?wallet=a+b"
    stamps = [int(each.headers["X-Timestamp"]) for each in server.asked]
    assert stamps == [1_000, 1_001, 1_002]
    for request, body in zip(server.asked, server.bodies, strict=True):
        stamp, digest = request.headers["X-Timestamp"], sha256(body).hexdigest()
        text = f"{request.method}:{server.url}{request.raw_path}:{stamp}:{digest}".encode()
        signature = base58.b58decode(request.headers["X-Signature"])
        Ed25519PublicKey.from_public_bytes(ANNA.public).verify(signature, text)


def test_json_is_written_as_javascript_writes_it() -> None:
    assert json_text({"a": None, "b": [1.0, 2.5, None], "c": "é"}) == '{"b":[1,2.5,null],"c":"é"}'
    assert query_text({"q": "a b&c:d", "n": 5.0, "none": None}) == "?q=a+b%26c:d&n=5"
    assert query_text({"none": None}) == ""


async def test_overlapping_polls_show_what_a_server_that_selects_and_then_marks_does() -> None:
    """Without this, polls that never overlap would find every server right."""
    handled: list[Json] = []
    gate = asyncio.Event()

    async def arrival(_method: str, _path: str) -> None:
        await gate.wait()

    async def hear(_talk: Json, message: Json) -> None:
        handled.append(message)

    async with told() as server:
        server.answers["GET /agents/messages/new"] = mail
        provider = Provider(server.wire(arrival=arrival), ANNA, agent_id="a", on_message=hear)
        polls = [provider.tick() for _ in range(3)]
        gate.set()
        await asyncio.gather(*polls)

    assert sorted(handled) == sorted([*range(BATCH)] * 3)


async def test_a_throwing_handler_drops_the_rest_of_its_batch_and_the_orders_are_still_asked() -> (
    None
):
    handled: list[int] = []

    async def hear(_talk: Json, message: object) -> None:
        assert isinstance(message, int)
        handled.append(message)
        if message == 2:
            raise RuntimeError("broken")

    async def work(_order: Json) -> None:
        return

    async with told() as server:
        server.answers["GET /agents/messages/new"] = mail
        wire = server.wire()
        provider = Provider(wire, ANNA, agent_id="a", on_message=hear, on_order_paid=work)
        await provider.tick()

    assert handled == [0, 1, 2]
    assert [str(error) for error in provider.swallowed] == ["broken"]
    assert wire.sent == ["GET /agents/messages/new", "GET /agents/orders/paid"]
    assert server.asked[0].query_string == "agentId=a"


async def test_a_delivery_nobody_listens_for_is_gone_and_handlers_are_not_waited_for() -> None:
    started, waiting = asyncio.Event(), asyncio.Event()

    async def read(_message: Json) -> None:
        started.set()
        await waiting.wait()

    async with told() as server:
        server.answers["GET /conversations/c/messages/new"] = lambda _: {"messages": [{"id": 1}]}
        server.answers["GET /conversations/c/deliveries/new"] = lambda _: {"deliveries": [{}]}
        talk = Conversation(server.consumer(), "c")
        talk.on("message", read)
        await talk.tick()
        await started.wait()
        waiting.set()
        await talk.settled()

    assert [each.path for each in server.asked][1:] == ["/conversations/c/deliveries/new"]


async def test_a_failing_poll_of_messages_skips_the_deliveries_and_says_nothing() -> None:
    async with told() as server:
        server.answers["GET /conversations/c/messages/new"] = lambda _: web.json_response(
            {"error": "UNAUTHORIZED_ACCESS"}, status=401
        )
        talk = Conversation(server.consumer(), "c")
        talk.on("delivery", nothing)
        await talk.tick()

    assert len(server.asked) == 1
    [error] = talk.swallowed
    assert isinstance(error, ApiError)
    assert error.outcome == (401, "UNAUTHORIZED_ACCESS")


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("this wallet is already registered", True),
        ("you already have an agent", True),
        (["this wallet is already registered"], False),
        ("something else", False),
        (None, False),
    ],
)
async def test_a_repeated_registration_goes_on_only_where_the_refusal_is_a_text_that_says_so(
    message: object, *, found: bool
) -> None:
    async with told() as server:
        server.answers["POST /agents/register"] = lambda _: web.json_response(
            {"message": message}, status=409
        )
        server.answers["GET /agents/by-wallet-and-name"] = lambda _: {"id": "the agent"}
        provider = Provider(server.wire(), ANNA)
        if found:
            assert await provider.register() == "the agent"
            assert provider.wire.sent.count("POST /agents/services") == len(provider.services)
        else:
            with pytest.raises(ApiError):
                await provider.register()


async def test_a_lookup_that_fails_brings_the_first_error_back() -> None:
    async with told() as server:
        server.answers["POST /agents/register"] = lambda _: web.json_response(
            {"error": "FIRST", "message": "already registered"}, status=409
        )
        server.answers["GET /agents/by-wallet-and-name"] = lambda _: web.json_response(
            {"error": "SECOND"}, status=404
        )
        with pytest.raises(ApiError) as refused:
            await Provider(server.wire(), ANNA).register()

    assert refused.value.outcome == (409, "FIRST")


async def test_each_accept_signs_anew_and_athr_is_three_quarters() -> None:
    async with told() as server:
        server.answers["GET /orders/o"] = lambda _: {"price": 2.03}
        talk = Conversation(server.consumer(), "c")
        for method in ("USDC", "athr"):
            await talk.accept_order("o", method)  # type: ignore[arg-type]

    sent = [body.decode() for body in server.bodies if body]
    assert [
        f'"paymentHeader":"{amount}"' in text
        for amount, text in zip(("2.03", "1.5225"), sent, strict=True)
    ] == [True, True]
