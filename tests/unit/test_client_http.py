"""What the client repeats and what it does not, and that "unknown" is never "failed"."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from api.client.errors import AnswerRefused, OutcomeUnknown, ServiceError, Unreachable
from api.client.http import ATTEMPTS, HttpClient
from api.client.signin import RENEW_MS, SignIn
from api.client.wallet import LocalWallet
from ledger.values import UnixMs, iso_of

WALLET = LocalWallet(b"\x07" * 32)

Reply = Callable[[web.BaseRequest], web.StreamResponse]


@dataclass
class Script:
    """Answers each request with the next reply; the last one stays."""

    replies: list[Reply]
    url: str = ""
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key")
        self.seen.append((request.method, request.path_qs, key))
        await request.read()
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])(request)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def says(status: int, body: Any = None, **headers: str) -> Reply:  # noqa: ANN401 - any JSON
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: web.json_response(body, status=status, headers=named)


def hangs_up(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def raw(data: bytes, status: int = 200) -> Reply:
    return lambda _request: web.Response(body=data, status=status)


BUSY = says(503, {"error": "SERVICE_UNAVAILABLE", "message": "busy"}, Retry_After="7")
UNSURE = says(503, {"error": "OUTCOME_UNKNOWN", "message": "ask"}, Retry_After="2")
PROXY = raw(b"<html>bad gateway</html>", 502)
MANY = says(429, {"error": "RATE_LIMITED", "message": "slow"}, Retry_After="3")
WRONG = says(400, {"error": "INVALID_REQUEST", "message": "no", "details": {"field": "x"}})
GOOD = says(200, {"good": True})


@asynccontextmanager
async def served(*replies: Reply, prefix: str = "") -> AsyncIterator[tuple[HttpClient, Script]]:
    script = Script(list(replies))
    server = RawTestServer(script.handle)
    await server.start_server()
    script.url = str(server.make_url("")).rstrip("/")
    http = HttpClient(script.url + prefix, sleep=script.sleep, jitter=lambda: 1.0)
    try:
        async with http:
            yield http, script
    finally:
        await server.close()


async def test_a_question_is_asked_again_and_the_service_names_the_pause() -> None:
    async with served(BUSY, hangs_up, hangs_up, GOOD) as (http, script):
        # The HTTP library itself asks again where a kept connection turns out to be closed.
        answer = await http.get("/x")

    assert answer.json() == {"good": True}
    assert script.waits == [7.0, 0.5]


async def test_a_path_of_the_base_url_is_kept_and_its_query_is_not() -> None:
    async with served(GOOD, prefix="/shop/?a=b") as (http, script):
        await http.get("/x?y=1")

    assert script.seen == [("GET", "/shop/x?y=1", None)]


@pytest.mark.parametrize("reply", [hangs_up, UNSURE, PROXY], ids=["cut", "unsure", "proxy"])
async def test_an_act_that_may_have_happened_is_not_repeated_and_not_failed(reply: Reply) -> None:
    async with served(reply, GOOD) as (http, script):
        with pytest.raises(OutcomeUnknown):
            await http.post("/x", {})

    assert len(script.seen) == 1


@pytest.mark.parametrize("reply", [hangs_up, UNSURE, PROXY], ids=["cut", "unsure", "proxy"])
@pytest.mark.parametrize("how", [{"key": "k"}, {"repeatable": True}], ids=["key", "act"])
async def test_an_act_that_may_be_done_twice_is_repeated(reply: Reply, how: dict[str, Any]) -> None:
    async with served(reply, GOOD) as (http, script):
        answer = await http.post("/x", {}, **how)

    assert answer.status == 200
    assert script.seen == [("POST", "/x", how.get("key"))] * 2


@pytest.mark.parametrize("reply", [hangs_up, UNSURE, PROXY], ids=["cut", "unsure", "proxy"])
async def test_an_act_that_is_never_answered_stays_unknown(reply: Reply) -> None:
    async with served(reply) as (http, script):
        with pytest.raises(OutcomeUnknown):
            await http.post("/x", {}, key="k")

    assert len(script.seen) == ATTEMPTS
    assert len(script.waits) == ATTEMPTS - 1


async def test_an_act_that_was_refused_for_its_number_is_repeated_by_anybody() -> None:
    async with served(MANY, GOOD) as (http, script):
        await http.post("/x", {})

    assert script.waits == [3.0]


async def test_a_refusal_is_typed_and_final() -> None:
    async with served(WRONG) as (http, script):
        with pytest.raises(ServiceError) as refused:
            await http.post("/x", {}, repeatable=True)

    error = refused.value
    assert (error.status, error.code, error.details) == (400, "INVALID_REQUEST", {"field": "x"})
    assert error.retryable is False
    assert len(script.seen) == 1


async def test_a_pause_that_is_too_long_is_the_callers() -> None:
    later = says(503, {"error": "X", "message": "x", "retryable": True}, Retry_After="3600")
    async with served(later) as (http, script):
        with pytest.raises(ServiceError) as refused:
            await http.get("/x")

    assert refused.value.retryable is True
    assert refused.value.retry_after == 3600
    assert script.waits == []


async def test_who_is_not_there_was_asked_for_nothing() -> None:
    async with served(GOOD) as (_http, script):
        pass
    gone = HttpClient(script.url, sleep=script.sleep)
    async with gone:
        with pytest.raises(Unreachable):
            await gone.get("/x")
        with pytest.raises(Unreachable):
            await gone.post("/x", {})


async def test_a_redirect_is_not_followed() -> None:
    async with served(raw(b"", 302)) as (http, script):
        with pytest.raises(ServiceError, match="302"):
            await http.get("/x")

    assert len(script.seen) == 1


@pytest.mark.parametrize("data", [b"\xff", b"[]", b"not json"])
async def test_an_answer_that_is_no_object_is_refused(data: bytes) -> None:
    async with served(raw(data)) as (http, _):
        answer = await http.get("/x")
        with pytest.raises(AnswerRefused):
            answer.json()


@pytest.mark.parametrize("url", ["ftp://host", "host", "http://", ""])
def test_a_base_url_is_an_address_of_the_web(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        HttpClient(url)


def challenge(domain: str, address: str) -> str:
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n{address}\n\nSign in.\n\n"
        f"URI: http://{domain}/\nVersion: 1\nChain ID: 1\nNonce: {'0' * 96}\n"
        "Issued At: 2026-01-01T00:00:00.000Z\nExpiration Time: 2026-01-01T00:05:00.000Z"
    )


def signing_in(domain: str | None = None, address: str = WALLET.address) -> Reply:
    """Answer challenges for a domain, by default the one that was asked, and count tokens."""
    given: list[int] = []

    def reply(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/challenge"):
            host = domain or request.headers["Host"]
            return web.json_response({"message": challenge(host, address)})
        given.append(1)
        ends = iso_of(UnixMs(2 * RENEW_MS))
        return web.json_response({"token": f"token {len(given)}", "expires_at": ends})

    return reply


async def test_a_token_is_kept_and_renewed_before_it_ends() -> None:
    now = UnixMs(0)
    async with served(signing_in()) as (http, script):
        sign_in = SignIn(http, WALLET, clock=lambda: now)
        first = [await sign_in.token(), await sign_in.token()]
        now = UnixMs(RENEW_MS)
        second = await sign_in.token()
        sign_in.forget()
        third = await sign_in.headers()

    assert first == ["token 1"] * 2
    assert second == "token 2"
    assert third == {"Authorization": "Bearer token 3"}
    assert len(script.seen) == 6


async def test_a_token_that_was_taken_back_is_replaced_once() -> None:
    refused = ServiceError(401, "UNAUTHORIZED", "sign in")
    sent: list[str] = []

    async with served(signing_in()) as (http, _):
        sign_in = SignIn(http, WALLET, clock=lambda: UnixMs(0))

        async def send(headers: Mapping[str, str]) -> str:
            sent.append(headers["Authorization"])
            if len(sent) in (1, 3, 4):
                raise refused
            return "done"

        assert await sign_in.call(send) == "done"
        with pytest.raises(ServiceError):
            await sign_in.call(send)

    assert sent == ["Bearer token 1", "Bearer token 2", "Bearer token 2", "Bearer token 3"]


TRAPS = {
    "another host": signing_in("evil.example"),
    "another wallet": signing_in(address="0x" + "11" * 20),
    "a receipt": says(200, {"message": "Confirm delivery: x | Timestamp: y"}),
    "no text": says(200, {"message": 5}),
}


@pytest.mark.parametrize("trap", TRAPS)
async def test_what_is_no_challenge_for_us_is_not_signed(trap: str) -> None:
    async with served(TRAPS[trap]) as (http, script):
        with pytest.raises(AnswerRefused):
            await SignIn(http, WALLET).token()

    assert [path for _, path, _ in script.seen] == ["/v1/auth/challenge"]


async def test_a_host_that_is_told_may_differ_from_the_base_urls() -> None:
    async with served(signing_in("shop.example")) as (http, _):
        sign_in = SignIn(http, WALLET, clock=lambda: UnixMs(0), domain="shop.example")
        assert await sign_in.token() == "token 1"
