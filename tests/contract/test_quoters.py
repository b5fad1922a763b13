"""Prices that are made for each order, and clients that are not served."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.catalog import load_catalog
from ledger.errors import Misconfigured
from scripts.buyer import Answer, utc_now
from tests.contract import quoters
from tests.contract.kit import Service, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "workers.md").read_text("utf-8")
FAULTS = ["raises", "exits", "hangs", "waits", *quoters.ANSWERS]
WELL = ["per_character", "as_text", "whole", "declines", "declines_later"]
SCREENS = ["screen", "screen_later"]
SILENT_SCREENS = ["screen_fails", "screen_hangs", "screen_says_nothing"]
BAD_WALLET = "0x" + "0" * 37 + "bad"
HEAD = 'estimated_delivery_hours = 1\nhandler = "api.offerings.text:text_echo"\n'

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def service_of(kind: str, price: str) -> str:
    return f'[[services]]\ntype = "{kind}"\n{HEAD}{price}\n'


def asked_for(name: str) -> str:
    return service_of(name, f'price = "tests.contract.quoters:{name}"\nbase_price_usdc = "0.5"')


def write_catalog(folder: Path, *services: str) -> Path:
    path = folder / "catalog.toml"
    path.write_text('provider = "quoters"\n' + "".join(services))
    return path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with asking(tmp_path_factory.mktemp("quoters")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """Run a service that soon gives up; a quoter in a thread may be too slow for it."""
    async with asking(tmp_path_factory.mktemp("impatient"), hook_timeout=0.2) as running:
        yield running


@asynccontextmanager
async def asking(folder: Path, **settings: object) -> AsyncIterator[Service]:
    catalog = write_catalog(folder, *(asked_for(name) for name in [*FAULTS, *WELL]))
    async with serving(folder, catalog=catalog, **settings) as running:
        yield running
    quoters.LET_GO.set()


async def ask(
    service: Service,
    kind: str,
    text: str = "words",
    budget: float = 100,
    wallet: str | None = None,
) -> Answer:
    buyer = service.buyer("quoters")
    details = {"type": kind, "description": text, "budget_usdc": budget, "delivery_format": "json"}
    body = {
        "protocol": "IVXP/1.0",
        "timestamp": utc_now(),
        "client_agent": {"name": "client", "wallet_address": wallet or buyer.address},
        "service_request": details,
    }
    return await buyer.post("/ivxp/request", body)


def price_of(answer: Answer) -> object:
    quote = answer.require(200)["quote"]
    assert isinstance(quote, dict)
    return quote["price_usdc"]


# Callables


async def test_a_price_is_made_from_the_facts_of_the_request(service: Service) -> None:
    quoters.ASKED.clear()

    answer = await ask(service, "per_character", "twelve chars", budget=3)

    assert price_of(answer) == 0.12
    [facts] = quoters.ASKED
    assert facts.service == "per_character"
    assert facts.description == "twelve chars"
    assert (facts.budget_usdc, facts.base_price_usdc) == (Decimal(3), Decimal("0.5"))
    assert facts.client == f"eip155:84532:{service.buyer('quoters').address.lower()}"
    assert (facts.client_name, facts.delivery_format, facts.deadline) == ("client", "json", None)


@pytest.mark.parametrize(("name", "price"), [("as_text", 0.35), ("whole", 2)])
async def test_a_price_may_be_text_or_a_whole_number_and_come_later(
    service: Service, name: str, price: float
) -> None:
    assert price_of(await ask(service, name)) == price


async def test_the_catalog_shows_the_base_price(service: Service) -> None:
    catalog = (await service.buyer("quoters").get("/ivxp/catalog")).require(200)

    services: Any = catalog["services"]
    assert {entry["base_price_usdc"] for entry in services} == {0.5}


async def test_the_budget_is_compared_with_the_price_that_was_made(service: Service) -> None:
    before = service.position

    below = await ask(service, "per_character", "x" * 20, budget=0.19)
    enough = await ask(service, "per_character", "x" * 20, budget=0.2)

    assert (below.status, below.body["error"]) == (400, "BUDGET_TOO_LOW")
    assert below.body["details"] == {"price_usdc": 0.2}
    assert enough.status == 200
    assert service.position == before + 1


@pytest.mark.parametrize(
    ("name", "reason"), [("declines", "no work on Sundays"), ("declines_later", "x" * 200)]
)
async def test_a_quoter_may_decline_and_say_why(service: Service, name: str, reason: str) -> None:
    before = service.position

    answer = await ask(service, name)

    assert (answer.status, answer.body["error"]) == (409, "QUOTE_DECLINED")
    assert answer.body["details"] == {"reason": reason}
    assert service.position == before


@pytest.mark.parametrize("name", FAULTS)
async def test_a_quoter_that_fails_is_unknown_and_nothing_is_recorded(
    impatient: Service, name: str
) -> None:
    service = impatient
    before = service.position

    answer = await ask(service, name, "the client's words")

    assert (answer.status, answer.body["error"]) == (503, "SERVICE_UNAVAILABLE")
    assert answer.body["retryable"] is True
    assert "words" not in str(answer.body)
    assert service.position == before


async def test_hanging_quoters_are_bounded_and_others_are_asked_beside_them(
    impatient: Service,
) -> None:
    answers = await asyncio.gather(*(ask(impatient, "hangs") for _ in range(50)))

    assert {answer.status for answer in answers} == {503}
    assert (await ask(impatient, "as_text")).status == 200


async def test_a_quote_that_was_not_made_is_not_counted_as_open(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path, asked_for("declines"), asked_for("whole"))
    async with serving(tmp_path, catalog=catalog, max_open_quotes=1) as service:
        for _ in range(3):
            assert (await ask(service, "declines")).status == 409
        assert (await ask(service, "whole", budget=1)).status == 400

        assert (await ask(service, "whole")).status == 200
        assert (await ask(service, "whole")).status == 429


# Quoters elsewhere


@asynccontextmanager
async def elsewhere(folder: Path, reply: Reply, **settings: object) -> AsyncIterator[Service]:
    """Run a service whose prices come from a server beside it."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", reply)
    async with TestServer(app) as server:
        price = f'price_url = "{server.make_url("/price")}"\nbase_price_usdc = 1'
        catalog = write_catalog(folder, service_of("remote", price))
        async with serving(folder, catalog=catalog, push_allow_private=True, **settings) as service:
            yield service


async def test_a_quoter_elsewhere_gets_the_facts_and_names_the_price(tmp_path: Path) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = []

    async def reply(request: web.Request) -> web.Response:
        asked.append((request.method, request.path, await request.json()))
        return web.json_response({"price_usdc": "0.42"})

    async with elsewhere(tmp_path, reply) as service:
        assert price_of(await ask(service, "remote", "some words", budget=2.5)) == 0.42
        account = f"eip155:84532:{service.buyer('quoters').address.lower()}"

    facts = {
        "service": "remote",
        "description": "some words",
        "budget_usdc": "2.5",
        "client": account,
        "client_name": "client",
        "delivery_format": "json",
        "deadline": None,
        "base_price_usdc": "1",
    }
    assert asked == [("POST", "/price", facts)]


async def test_a_quoter_elsewhere_may_decline(tmp_path: Path) -> None:
    async def reply(_: web.Request) -> web.Response:
        return web.json_response({"declined": "sold out"})

    async with elsewhere(tmp_path, reply) as service:
        answer = await ask(service, "remote")

        assert (answer.status, answer.body["error"]) == (409, "QUOTE_DECLINED")
        assert answer.body["details"] == {"reason": "sold out"}


async def hanging(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    return web.Response()


def replying(**reply: Any) -> Reply:  # noqa: ANN401 - as `web.Response` takes it
    async def answer(_: web.Request) -> web.Response:
        return web.Response(**reply)

    return answer


UNKNOWN: dict[str, Reply] = {
    "an error": replying(status=500),
    "a refusal": replying(status=409, text='{"price_usdc": 1}'),
    "a redirect": replying(status=302, headers={"Location": "/other"}),
    "no json": replying(text="one dollar"),
    "a list": replying(text="[1]"),
    "no price": replying(text="{}"),
    "no number": replying(text='{"price_usdc": null}'),
    "a negative one": replying(text='{"price_usdc": -1}'),
    "two prices": replying(text='{"price_usdc": 1, "price_usdc": 2}'),
    "an endless answer": replying(text='{"price_usdc": 1, "x": "' + "x" * 100_000 + '"}'),
    "nothing in time": hanging,
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_a_quoter_elsewhere_that_gives_no_price_is_unknown(tmp_path: Path, name: str) -> None:
    async with elsewhere(tmp_path, UNKNOWN[name], hook_timeout=0.5) as service:
        before = service.position

        answer = await ask(service, "remote")

        assert (answer.status, answer.body["error"]) == (503, "SERVICE_UNAVAILABLE")
        assert service.position == before


@pytest.mark.parametrize(
    "url",
    [
        "http://quoter.example/price",
        "https://quoter.example:8080/price",
        "https://user:pass@quoter.example/",
        "file:///etc/passwd",
        "nonsense",
    ],
)
async def test_a_quoter_is_called_over_https_on_the_public_internet_only(
    tmp_path: Path, url: str
) -> None:
    price = f'price_url = "{url}"\nbase_price_usdc = 1'
    catalog = write_catalog(tmp_path, service_of("remote", price))

    with pytest.raises(Misconfigured, match="price_url of remote"):
        async with serving(tmp_path, catalog=catalog):
            pass


async def test_a_quoter_at_a_private_address_is_not_asked(tmp_path: Path) -> None:
    price = 'price_url = "https://127.0.0.1/price"\nbase_price_usdc = 1'
    catalog = write_catalog(tmp_path, service_of("remote", price))
    async with serving(tmp_path, catalog=catalog) as service:
        assert (await ask(service, "remote")).status == 503


# The catalog


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("", "a price is one of"),
        ('price_usdc = 1\nprice = "a:b"', "a price is one of"),
        ('price = "tests.contract.quoters:whole"', "base_price_usdc goes with"),
        ("price_usdc = 1\nbase_price_usdc = 1", "base_price_usdc goes with"),
        ('price_usdc = "0.0000001"', "at most 6 decimals"),
        ('price = "a:b"\nbase_price_usdc = "0.0000001"', "at most 6 decimals"),
        ('price_usdc = 1\nkind = "external"', "an external one has none"),
        ("price_usdc = 0", "greater than 0"),
        ('price = "no callable"\nbase_price_usdc = 1', "price"),
    ],
)
async def test_a_service_without_one_clear_price_or_producer_is_refused(
    tmp_path: Path, lines: str, complaint: str
) -> None:
    with pytest.raises(Misconfigured, match=complaint):
        load_catalog(write_catalog(tmp_path, service_of("unclear", lines)))


async def test_a_service_needs_a_handler_or_to_be_external(tmp_path: Path) -> None:
    entry = '[[services]]\ntype = "none"\nprice_usdc = 1\nestimated_delivery_hours = 1\n'

    with pytest.raises(Misconfigured, match="a callable service has a handler"):
        load_catalog(write_catalog(tmp_path, entry))
    assert load_catalog(write_catalog(tmp_path, entry + 'kind = "external"')).external == ["none"]


@pytest.mark.parametrize("target", ["tests.contract.quoters:missing", "no.module:price"])
async def test_a_quoter_that_does_not_exist_stops_the_start(tmp_path: Path, target: str) -> None:
    price = f'price = "{target}"\nbase_price_usdc = 1'
    catalog = write_catalog(tmp_path, service_of("missing", price))

    with pytest.raises(Misconfigured, match="price"):
        async with serving(tmp_path, catalog=catalog):
            pass


# The screen


@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_is_asked_before_a_quote_and_may_refuse(tmp_path: Path, name: str) -> None:
    catalog = write_catalog(tmp_path, asked_for("whole"))
    quoters.SCREENED.clear()
    async with serving(
        tmp_path, catalog=catalog, screen=f"tests.contract.quoters:{name}"
    ) as service:
        good = await ask(service, "whole")
        before = service.position
        bad = await ask(service, "whole", wallet=BAD_WALLET)

        assert good.status == 200
        assert (bad.status, bad.body["error"]) == (403, "SCREENED")
        assert "details" not in bad.body
        assert service.position == before
    account = f"eip155:84532:{service.buyer('quoters').address.lower()}"
    asked = [(account, "quote"), (f"eip155:84532:{BAD_WALLET}", "quote")]
    assert asked == quoters.SCREENED


@pytest.mark.parametrize("name", SILENT_SCREENS)
async def test_a_screen_that_cannot_say_leaves_the_answer_open(tmp_path: Path, name: str) -> None:
    catalog = write_catalog(tmp_path, asked_for("whole"))
    async with serving(
        tmp_path, catalog=catalog, screen=f"tests.contract.quoters:{name}", hook_timeout=0.2
    ) as service:
        before = service.position

        answer = await ask(service, "whole")

        assert (answer.status, answer.body["error"]) == (503, "SERVICE_UNAVAILABLE")
        assert answer.body["retryable"] is True
        assert service.position == before


async def test_a_screen_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path, asked_for("whole"))

    with pytest.raises(Misconfigured, match="LEDGER_SCREEN"):
        async with serving(tmp_path, catalog=catalog, screen="tests.contract.quoters:missing"):
            pass


# The page on it


async def test_the_catalog_and_the_quoter_on_the_page_are_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [catalog] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    [quoter] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "studio").mkdir()
    (tmp_path / "studio" / "prices.py").write_text(quoter)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "catalog.toml").write_text(catalog)

    async with serving(tmp_path, catalog=tmp_path / "catalog.toml") as service:
        assert price_of(await ask(service, "portrait", "x" * 600)) == 6
        assert price_of(await ask(service, "portrait", "short")) == 5
        assert (await ask(service, "portrait", "x" * 2001)).body["error"] == "QUOTE_DECLINED"
