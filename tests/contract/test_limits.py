"""The limits on anonymous writes, as they are by default."""

from __future__ import annotations

from pathlib import Path

from api.config import Settings
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
