"""Fuzzing from the OpenAPI document: nothing breaks, and nothing is answered that it does not say.

Every route gets the edges of its schema and random values, right and wrong, half of them set into
messages that would be accepted. A failure names the request; the seed makes the same values again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from api.aether.proof import SIGNATURE_HEADER, TIMESTAMP_HEADER, WALLET_HEADER
from api.aether.routes import MARKET_ROUTES
from api.answers import LEDGER_HEAD, ledger_head
from api.app import ROUTES
from api.feeds.events import event_id
from api.feeds.routes import FEED_ROUTES
from api.idempotency import KEY
from api.keys import LEDGER, TOKENS
from api.openapi_parameters import EVENTS
from api.routes import ORDER_PART, Route
from api.sync import AFTER_POSITION
from ledger.commands import FailHandler
from scripts.buyer import Buyer
from scripts.devchain import DevChain
from tests.contract.callers import OPERATOR, ROLES, signed_in
from tests.contract.fuzzing import OPENED, READ, Body, World, dispute
from tests.contract.kit import Service, methods_at, paid_order, path_of, payer, serving
from tests.contract.market_doors import furnished
from tests.contract.market_kit import MARKETPLACE, Market
from tests.support.chain import account_named

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

SEED = 20_261_122
CURSOR = "/v1/feeds/{party}/cursors/{name}"
ARBITER = "arbiter"
EXAMPLES = 5
"""Random cases for each route, as many right as wrong ones."""
EDGES = 30
"""Cases at the edges of a route's schema, at most."""
SIGNED_HEADERS = {WALLET_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER}
AT_THE_DOOR = {204, 400, 401, 404, 405, 422, 429}
ANSWERED = {
    "/ivxp/request",
    "/ivxp/confirm",
    "/ivxp/orders/{order_id}/confirm",
    "/ivxp/orders/{order_id}/dispute",
    "/ivxp/orders/{order_id}/dispute/withdraw",
    "/ivxp/orders/{order_id}/dispute/ruling",
    "/.well-known/ivxp-verify",
    "/v1/auth/challenge",
    "/v1/auth/token",
    "/v1/auth/tokens",
    "/v1/work/{order_id}/start",
    "/v1/work/{order_id}/deliverable",
    CURSOR,
    f"{CURSOR}/fetch",
    f"{CURSOR}/ack",
    f"{CURSOR}/nack",
    f"{CURSOR}/lease",
    f"{CURSOR}/seek",
    f"{CURSOR}/parked/{{pos}}/replay",
}
"""Acts that succeed now and then."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    unsupported_method,
    ignored_auth,
]
CATALOG = """
provider = "fuzzed"
[[services]]
type = "text_echo"
price_usdc = "0.1"
estimated_delivery_hours = 1
handler = "api.offerings.text:text_echo"
[[services]]
type = "by_hand"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory, chain: DevChain) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    (folder / "catalog.toml").write_text(CATALOG)
    with requests.Session() as session:
        session.trust_env = False
        known = {**ROLES, "arbiter": account_named(ARBITER).address}
        known |= {"solana_payment_address": MARKETPLACE.address}
        async with serving(folder, chain, catalog=folder / "catalog.toml", **known) as service:
            buyer, arbiter = payer(chain, service, "fuzz"), service.buyer(ARBITER)
            orders = await orders_by_path(service, chain, buyer)
            schema = await read_schema(service)
            named = await found_event(service, orders[READ][0])
            await open_cursors(service)
            market = await furnished(Market(service, "credentials"))
            yield World(service, schema, buyer, arbiter, orders, session, named, market)


async def found_event(service: Service, order_id: str) -> str:
    """Return the id of an order's payment."""
    placed = service.app[LEDGER].read_order(order_id)
    paid = next(each for each in placed if each.signed.event.kind == "paid")
    return event_id(paid.position, paid.signed.leaf)


async def open_cursors(service: Service) -> None:
    """Open a cursor for each route, with a lease under the token 2 and an event put aside."""
    operator = await signed_in(service, OPERATOR)
    for route in FEED_ROUTES:
        if "{name}" not in route.path or route.method == "PUT":
            continue
        path = f"/v1/feeds/provider/cursors/fuzz{route.path.rpartition('/')[2].strip('{}')}"
        opened = await operator.call("PUT", path, OPENED)
        fetched = await operator.post(f"{path}/fetch", {"holder": "fuzz", "lease_seconds": 3600})
        assert (opened.status, fetched.body.get("lease_token")) in ((201, 2), (200, 2))
        if route.path.endswith(("/parked", "/replay")):
            said = {"lease_token": 2, "at": 1, "action": "park"}
            assert (await operator.post(f"{path}/nack", said)).status == 200


async def read_schema(service: Service) -> BaseSchema:
    """Return the document as the service hands it out."""
    async with service.session.get(f"{service.url}/openapi.json") as response:
        document = await response.json()
    config = schemathesis.Config.from_dict({"base-url": service.url, "request-timeout": 20})
    return schemathesis.openapi.from_dict(document, config=config)


async def orders_by_path(service: Service, chain: DevChain, buyer: Buyer) -> dict[str, list[str]]:
    """Return some orders for each path that is about one; reading leaves them as they are."""
    read = [await order_at(service, chain, buyer, "") for _ in range(2)]
    found: dict[str, list[str]] = {}
    for route in ROUTES:
        if route in MARKET_ROUTES:
            continue  # its orders are made in another way
        if route.method == "GET" and ORDER_PART in route.path:
            found[route.path] = read
        elif ORDER_PART in route.path or "order_id" in (route.request or BaseModel).model_fields:
            found[route.path] = [
                await order_at(service, chain, buyer, route.path) for _ in range(2)
            ]
    return found


async def order_at(service: Service, chain: DevChain, buyer: Buyer, path: str) -> str:
    """Return a new order with which something can be done at a path."""
    if path.startswith("/v1/work"):
        return await waiting_at(service, chain, buyer, path)
    if path.endswith(("/deliver", "/payment", "/delivery")):
        return await service.quote(buyer)
    order_id = await paid_order(service, chain, buyer)
    await service.status_when(buyer, order_id, {"delivered"})
    if "/dispute/" in path:
        said = dispute(buyer, order_id)
        (await buyer.post(f"/ivxp/orders/{order_id}/dispute", said)).require(200)
    return order_id


async def waiting_at(service: Service, chain: DevChain, buyer: Buyer, path: str) -> str:
    """Return an order that waits for a worker; for who begins again, one whose work failed.

    The transfer is a real one: the service looks for it on the chain again, and a made up one
    would be orphaned, and its work put off, as soon as the chain is longer than it claims.
    """
    order_id = await paid_order(service, chain, buyer, "by_hand")
    if path.endswith("/retry"):
        ledger = service.app[LEDGER]
        failed = FailHandler(attempts=1, detail="no time", now=ledger.clock())
        receipt = await ledger.execute(order_id, failed)
        await service.views_have(receipt.stream.position)
    return order_id


@dataclass
class Fuzz:
    """The cases of one route, and what came of them."""

    world: World
    route: Route
    random: Random = field(default_factory=lambda: Random(SEED))  # noqa: S311 - to be made again
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Send everything.

        Nothing is raised meanwhile: the service has moved on, so the fuzzer could not make a
        failure smaller by sending less.
        """
        schema = self.world.schema
        operation = schema[self.route.path][self.route.method]
        edges: list[Case] = [
            *schema.iter_coverage_cases(
                operation,
                generation_modes=list(GenerationMode),
                generation_config=schema.config.generation,
            )
        ]
        own = [case for case in edges if case.method == self.route.method]
        for case in self.random.sample(own, min(EDGES, len(own))):
            self.send(case)
        for case in edges:
            if case.method not in methods_at(ROUTES, case.formatted_path):
                # A head is judged wherever it is sent; here the method is what is wrong.
                case.headers.pop(LEDGER_HEAD, None)
                self.send(case)
        for mode in GenerationMode:
            self._random_cases(operation, mode)

    def _random_cases(self, operation: APIOperation, mode: GenerationMode) -> None:
        @seed(SEED)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def each(case: Case) -> None:
            self.send(case)

        try:
            each()
        except Unsatisfiable:
            # Some routes take nothing that could be wrong.
            assert mode is GenerationMode.NEGATIVE
            assert self.route.request is None

    def plain(self) -> None:
        """Send a good request as it is: chance alone may never hit on one."""
        if self.route in MARKET_ROUTES:
            _, ask = self.world.opening(self.route)
            path, query, said, wallet = ask.path, ask.query, ask.body, self.world.owner(self.route)
        else:
            order_id = self.world.orders.get(self.route.path, self.world.orders[READ])[0]
            own = f"/cursors/{self.world.cursor_for(self.route.path)}"
            path = path_of(self.route.path, order_id).replace("/cursors/one", own)
            query: dict[str, object] = {"holder": "fuzz"} if self.route.upgrades else {}
            said = self.world.message(self.route.path, order_id, self.random)
            wallet = account_named(OPERATOR).address.lower()
        app = self.world.service.app
        token, _ = app[TOKENS].issue(wallet, app[LEDGER].clock())
        answer = self.world.session.request(
            self.route.method,
            self.world.service.url + path,
            params=query,
            json=said,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        self.statuses[answer.status_code] += 1

    def send(self, case: Case) -> None:
        """Send a case, set into the real world more often than not."""
        if case.method == self.route.method and self.random.random() < 0.7:
            self._make_real(case)
        headers = {}
        if self.route.roles and self.random.random() < 0.9:
            token = self.world.token(self.route.path, self.random)
            headers["Authorization"] = f"Bearer {token}"
        if self.route in MARKET_ROUTES and self.random.random() < 0.9:
            headers["Authorization"] = self.world.proof(self.route, self.random)
            for name in SIGNED_HEADERS & set(case.headers):
                del case.headers[name]
        try:
            answer = case.call_and_validate(
                session=self.world.session, headers=headers, checks=CHECKS
            )
        except (FailureGroup, Failure) as failure:
            self.failures.append(str(failure))
        else:
            self.statuses[answer.status_code] += 1

    def _make_real(self, case: Case) -> None:
        if self.route in MARKET_ROUTES:
            self._open_door(case)
            return
        order_id = self.world.order_for(self.route.path, self.random)
        real = {"level": "0", "tile": "000.p/1", "seq": "1", "order_id": order_id}
        real |= {"party": "provider", "pos": "1", "event_id": self.world.event_id}
        real["name"] = self.world.cursor_for(self.route.path)
        if self.world.market is not None:
            real |= {"conversation_id": self.world.market.talk}
            real |= {"agent_id": self.world.market.agent}
        if self.route.media_type != EVENTS:
            case.path_parameters.update({n: real[n] for n in real if n in case.path_parameters})
        position = self.world.service.position
        if LEDGER_HEAD in case.headers and self.random.random() < 0.8:
            case.headers[LEDGER_HEAD] = ledger_head(self.world.service.app[LEDGER].head)
        if AFTER_POSITION in case.query and self.random.random() < 0.8:
            case.query[AFTER_POSITION] = str(self.random.randrange(position))
        if self.route.path.startswith("/ledger/") and self.random.random() < 0.8:
            ends = {"from": "1", "to": str(position), "size": str(position)}
            case.query.update({name: ends[name] for name in ends if name in case.query})
        if self.route.path.startswith("/v1/feeds/") and self.random.random() < 0.4:
            case.query.clear()
        self._say(case, self.world.message(self.route.path, order_id, self.random))

    def _open_door(self, case: Case) -> None:
        parts, ask = self.world.opening(self.route)
        case.path_parameters.update(parts)
        if LEDGER_HEAD in case.headers:
            case.headers[LEDGER_HEAD] = ledger_head(self.world.service.app[LEDGER].head)
        if self.random.random() < 0.8:
            case.query.pop(AFTER_POSITION, None)
            case.query.update({name: str(value) for name, value in ask.query.items()})
        self._say(case, dict(ask.body or {}))

    def _say(self, case: Case, message: Body) -> None:
        """Set what would be accepted into a case, now and then all but one member of it."""
        if KEY in case.headers and self.random.random() < 0.9:
            case.headers[KEY] = self.random.randbytes(8).hex()
        if isinstance(case.body, dict) and case.media_type == "application/json":
            if message and self.random.random() < 0.4:
                message.pop(self.random.choice(sorted(message)))
            case.body.update(message)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_answers_anything_as_it_is_described(world: World, route: Route) -> None:
    fuzz = Fuzz(world, route)

    await asyncio.to_thread(fuzz.run)
    if route.path.startswith("/v1/work/") or route in MARKET_ROUTES or route.upgrades:
        await asyncio.to_thread(fuzz.plain)

    print(f"seed {SEED}: {dict(sorted(fuzz.statuses.items()))}")  # noqa: T201 - names the run
    if fuzz.failures:
        pytest.fail("\n\n".join(fuzz.failures[:3]), pytrace=False)
    assert fuzz.statuses[503] == 0, "a healthy service is never unavailable"
    assert got_inside(route, fuzz.statuses), fuzz.statuses


def got_inside(route: Route, statuses: Counter[int]) -> bool:
    """Whether some of the answers show that the fuzzer came further than the first checks."""
    if route.media_type == EVENTS:
        return 404 in statuses  # a stream that is followed ends with its order, not before
    if route.upgrades:
        return 426 in statuses
    if route.creates:
        return bool({200, 201} & set(statuses))
    if route.method == "GET" or route in MARKET_ROUTES or route.path in ANSWERED:
        return 200 in statuses
    return bool(set(statuses) - AT_THE_DOOR)


async def test_the_service_is_well_after_all_that(world: World) -> None:
    found = (await world.buyer.get("/health")).require(200)

    assert (found["status"], found["payments"]) == ("ok", "ready")
