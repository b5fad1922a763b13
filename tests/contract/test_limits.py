"""The limits on anonymous writes, as they are by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from api.config import Settings
from api.keys import LIMITS
from api.limits import Limits
from scripts.buyer import Answer, Buyer
from scripts.devchain import DevChain
from tests.contract.kit import NETWORK, Service, make_settings, pay, payer, send, serving


def default(name: str) -> int:
    value: int = Settings.model_fields[name].default
    return value


def require_limited(answer: Answer) -> None:
    assert (answer.status, answer.body["error"]) == (429, "RATE_LIMITED")
    assert answer.body["retryable"] is True


async def write(service: Service, forwarded: str) -> tuple[int, dict[str, str]]:
    """Send the cheapest write there is; return its status and headers."""
    status, body, headers = await send(
        service, "POST", "/ivxp/deliver", b"", **{"X-Forwarded-For": forwarded}
    )
    assert body["error"] in ("INVALID_JSON", "RATE_LIMITED")
    return status, headers


def test_the_limits_are_on_by_default() -> None:
    assert default("rate_limit") == 100
    assert default("max_open_quotes") == 20


async def test_the_hundred_and_first_write_of_a_minute_is_refused_and_reads_are_not(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, rate_limit=default("rate_limit")) as service:
        before = service.position
        answers = [await write(service, "198.51.100.1") for _ in range(100)]
        assert {status for status, _ in answers} == {400}

        status, headers = await write(service, "198.51.100.1")

        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 60
        for path in ("/health", "/ivxp/catalog"):
            async with service.session.get(service.url + path) as response:
                assert response.status == 200
        async with service.session.head(service.url + "/ivxp/catalog") as response:
            assert response.status == 200
        assert service.position == before


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def state_of(headers: Mapping[str, str]) -> tuple[int, int]:
    """Return what is left and for how long, by the answer's headers."""
    match = re.fullmatch(r'"writes";r=(\d+);t=(\d+)', headers["RateLimit"])
    assert match
    return int(match[1]), int(match[2])


async def test_a_client_that_waits_as_long_as_it_is_told_gets_through(tmp_path: Path) -> None:
    clock = Hand()

    def by_hand(app: web.Application) -> None:
        app[LIMITS] = Limits(per_minute=3, max_open_quotes=0, clock=clock)

    async with serving(tmp_path, prepare=by_hand) as service:
        for left in (2, 1, 0):
            status, headers = await write(service, "198.51.100.1")
            assert (status, headers["RateLimit-Policy"]) == (400, '"writes";q=3;w=60')
            assert state_of(headers) == (left, 60)
            assert "Retry-After" not in headers
        clock.now += 20.5

        status, headers = await write(service, "198.51.100.1")

        assert (status, state_of(headers)) == (429, (0, 40))
        assert headers["Retry-After"] == "40"
        clock.now += int(headers["Retry-After"]) - 1
        assert (await write(service, "198.51.100.1"))[0] == 429
        clock.now += 1
        assert (await write(service, "198.51.100.1"))[0] == 400


async def test_what_is_not_counted_says_nothing_about_a_limit(
    chain: DevChain, tmp_path: Path
) -> None:
    async with serving(tmp_path, rate_limit=50) as service:
        for method, path in (("GET", "/health"), ("HEAD", "/ivxp/catalog"), ("OPTIONS", "/health")):
            _, _, headers = await bare(service, method, path)
            assert "RateLimit" not in headers
        for method, path, status in (
            ("POST", "/nowhere", 404),
            ("DELETE", "/health", 405),
            ("POST", "/ivxp/request", 400),
            ("POST", "/v1/work/x/start", 401),
        ):
            answered, _, headers = await bare(service, method, path)
            assert (answered, headers["RateLimit-Policy"]) == (status, '"writes";q=50;w=60')
    async with serving(tmp_path / "off", rate_limit=0) as service:
        _, _, headers = await bare(service, "POST", "/ivxp/request")
        assert "RateLimit" not in headers
        assert "RateLimit-Policy" not in headers


async def bare(service: Service, method: str, path: str) -> tuple[int, bytes, Mapping[str, str]]:
    """Send a request without a body."""
    async with service.session.request(method, service.url + path) as response:
        return response.status, await response.read(), response.headers


async def test_a_header_gives_a_stranger_no_second_allowance(tmp_path: Path) -> None:
    async with serving(tmp_path, rate_limit=2) as service:
        answers = [await write(service, f"198.51.100.{number}") for number in range(3)]

        assert [status for status, _ in answers] == [400, 400, 429]


async def test_behind_a_trusted_proxy_every_caller_has_an_allowance_of_its_own(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, rate_limit=2, trusted_proxies="127.0.0.0/8, ::1") as service:
        for caller in ("198.51.100.1", "198.51.100.2"):
            answers = [await write(service, f"6.6.6.6, {caller}") for _ in range(3)]
            assert [status for status, _ in answers] == [400, 400, 429]


async def test_one_site_of_ipv6_shares_an_allowance(tmp_path: Path) -> None:
    async with serving(tmp_path, rate_limit=2, trusted_proxies="127.0.0.1") as service:
        answers = [await write(service, f"2001:db8:1:2::{number}") for number in range(3)]
        assert [status for status, _ in answers] == [400, 400, 429]

        assert (await write(service, "2001:db8:1:3::1"))[0] == 400


async def test_a_wallet_has_twenty_open_quotes_whatever_address_it_asks_from(
    chain: DevChain, tmp_path: Path
) -> None:
    async with serving(
        tmp_path, chain, max_open_quotes=default("max_open_quotes"), trusted_proxies="127.0.0.1"
    ) as service:
        buyer = payer(chain, service, "limits wallet")
        orders = [await quoted(service, buyer, f"198.51.100.{number}") for number in range(20)]
        before = service.position

        refused = await request_from(service, buyer, "198.51.100.200")

        require_limited(refused)
        assert service.position == before
        paid = buyer.notice(orders[7], pay(chain, buyer), NETWORK)
        (await buyer.deliver(paid)).require(200)
        assert (await request_from(service, buyer, "198.51.100.200")).status == 200
        require_limited(await request_from(service, buyer, "198.51.100.201"))


async def test_an_address_has_as_many_open_quotes_whatever_wallets_it_names(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, max_open_quotes=3) as service:
        for number in range(3):
            (await service.buyer(f"limits {number}").request("text_echo", "x")).require(200)

        require_limited(await service.buyer("limits other").request("text_echo", "x"))


async def test_a_refused_request_takes_no_place(tmp_path: Path) -> None:
    async with serving(tmp_path, max_open_quotes=1) as service:
        buyer = service.buyer("limits refused")
        for service_type, budget in (("no_such_service", 1.0), ("text_echo", 0.01)):
            assert (await buyer.request(service_type, "x", budget)).status == 400

        (await buyer.request("text_echo", "x")).require(200)


async def test_open_quotes_are_known_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, max_open_quotes=2) as first:
        for _ in range(2):
            await first.quote(first.buyer("limits restart"))

    async with serving(tmp_path, max_open_quotes=2) as second:
        require_limited(await second.buyer("limits restart").request("text_echo", "x"))


async def test_the_marketplace_counts_writes_of_strangers_too_and_says_so_in_its_words(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, rate_limit=2) as service:
        for mount in ("", "/api"):
            status, body, _ = await send(service, "POST", f"{mount}/orders", b"{}")
            assert (status, body["error"]) == (401, "UNAUTHORIZED_ACCESS")

        status, body, headers = await send(service, "POST", "/t/token/orders", b"{}")

        assert (status, body["error"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert (body["retryable"], int(headers["Retry-After"]) > 0) == (True, True)
        assert (await send(service, "GET", "/orders", b""))[0] == 401
        assert (await send(service, "POST", "/ivxp/deliver", b""))[1]["error"] == "RATE_LIMITED"


async def test_zero_switches_a_limit_off(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    assert (settings.rate_limit, settings.max_open_quotes) == (0, 0)
    async with serving(tmp_path) as service:
        for _ in range(25):
            await service.quote(service.buyer("limits off"))


async def quoted(service: Service, buyer: Buyer, address: str) -> str:
    return str((await request_from(service, buyer, address)).require(200)["order_id"])


async def request_from(service: Service, buyer: Buyer, address: str) -> Answer:
    """Ask for a quote as if through a proxy."""
    message = {
        "protocol": "IVXP/1.0",
        "client_agent": {"name": "buyer", "wallet_address": buyer.address},
        "service_request": {"type": "text_echo", "description": "x", "budget_usdc": 1},
    }
    async with service.session.post(
        service.url + "/ivxp/request", json=message, headers={"X-Forwarded-For": address}
    ) as response:
        return Answer(response.status, await response.json(), response.headers.get("Ledger-Head"))
