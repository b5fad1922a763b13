"""The OpenAPI document: valid, complete, made of the registry alone, and true of real answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from api.aether.route_forms import MOUNTS
from api.aether.routes import MARKET_ROUTES
from api.app import ROUTES
from api.config import Settings
from api.errors import STATUS_OF
from api.ivxp.responses import ErrorResponse
from api.openapi import document, document_bytes
from api.openapi_errors import errors_of, names_order
from api.openapi_operations import operation_id
from api.openapi_parameters import EVENTS
from api.routes import Route
from ledger.errors import Gone, NotFound
from tests.contract.described import Watch, breaches, described, resolved
from tests.contract.kit import Service, make_settings, serving

WAYS = [{"bearer"}, {"basic"}, {"signed_wallet", "signed_time", "signature"}]
ROOT = Path(__file__).resolve().parents[2]
BY_PATH = {(route.method, route.path): route for route in ROUTES}
BUILD = (
    "import sys; from api.app import ROUTES; from api.openapi import document_bytes;"
    "from api.config import load_settings;"
    "settings = load_settings(payment_address='0x' + 'aa' * 20, recovery_address='0x' + 'bb' * 20);"
    "sys.stdout.buffer.write(document_bytes(ROUTES, settings))"
)


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations with what their parameters and answers refer to."""
    return {
        (method.upper(), path): {
            **operation,
            "parameters": [resolved(each) for each in operation["parameters"]],
            "responses": {
                status: resolved(answer) for status, answer in operation["responses"].items()
            },
        }
        for path, methods in described()["paths"].items()
        for method, operation in methods.items()
    }


def by_name(route: Route) -> str:
    return f"{route.method} {route.path}"


async def fetched(service: Service, known: str = "") -> tuple[int, bytes, Mapping[str, str]]:
    headers = {"If-None-Match": known} if known else {}
    async with service.session.get(f"{service.url}/openapi.json", headers=headers) as response:
        return response.status, await response.read(), response.headers


def test_the_document_is_valid_openapi_3_1() -> None:
    found = document(ROUTES, server="https://provider.example")

    assert found["openapi"].startswith("3.1.")
    validate(found, cls=OpenAPIV31SpecValidator)


def test_it_has_every_route_and_no_other() -> None:
    assert set(operations()) == set(BY_PATH)


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for operation in operations().values()]

    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_an_operation_says_what_its_route_takes_and_gives(route: Route) -> None:
    found = operations()[route.method, route.path]

    assert found["summary"] == route.summary
    assert found["operationId"] == operation_id(route)
    assert ("requestBody" in found) is (route.request is not None)
    if route.upgrades:
        assert [status for status in found["responses"] if status < "400"] == ["101"]
        return
    assert set(found["responses"]["200"]["content"]) == {route.media_type}
    if route.response is not None:
        schema = found["responses"]["200"]["content"][route.media_type]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{route.response.__name__}"}
    assert {p["name"] for p in found["parameters"] if p["in"] == "path"} == {
        part.strip("{}") for part in route.path.split("/") if part.startswith("{")
    }


def missing_by(route: Route) -> str:
    """Return the code for what is not there, by what a request to the route names."""
    named_in_body = {"POST /orders": "CONVERSATION", "POST /conversations": "AGENT"}
    if by_name(route) in named_in_body:
        return f"{named_in_body[by_name(route)]}_NOT_FOUND"
    if names_order(route):
        return "ORDER_NOT_FOUND"
    if "{conversation_id}" in route.path:
        return "CONVERSATION_NOT_FOUND"
    return "AGENT_NOT_FOUND" if "/agents/" in route.path else "NOT_FOUND"


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_every_error_of_a_route_is_described_with_the_one_form_of_errors(route: Route) -> None:
    responses = operations()[route.method, route.path]["responses"]
    expected = {str(STATUS_OF[error]) for error in errors_of(route)} | {"500"}

    assert {status for status in responses if status >= "400"} == expected
    for status in expected:
        assert responses[status]["content"] == {
            "application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}
        }
    for error in errors_of(route):
        code = missing_by(route) if error is NotFound else error.code
        code = route.words.get(code, code)
        assert f"`{code}`" in responses[str(STATUS_OF[error])]["description"]


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_routes_with_roles_ask_for_a_token_of_one_of_them_and_no_other_does(route: Route) -> None:
    found = operations()[route.method, route.path]

    ways = [] if route in MARKET_ROUTES else found.get("security", [])
    asked = {role for way in ways for role in way["bearer"]}
    assert asked == {str(role) for role in route.roles}
    assert all(len(way["bearer"]) == 1 for way in ways)


@pytest.mark.parametrize("route", MARKET_ROUTES, ids=by_name)
def test_a_marketplace_route_asks_for_proof_of_a_wallet_in_any_way_there_is(route: Route) -> None:
    found = operations()[route.method, route.path]

    assert [set(way) for way in found["security"]] == WAYS
    assert not any(scopes for way in found["security"] for scopes in way.values())
    assert {"401", "403"} <= set(found["responses"])
    told = found["responses"]["401"]["headers"]["WWW-Authenticate"]
    # What a payment's own signature lacks is refused with the same status and no such header.
    pays = route.path.endswith("/accept")
    assert resolved(told).get("required", False) is not pays


@pytest.mark.parametrize("route", MARKET_ROUTES, ids=by_name)
def test_a_marketplace_route_is_described_behind_each_of_its_mounts(route: Route) -> None:
    public = document(ROUTES, server="https://provider.example/shop")
    found = public["paths"][route.path][route.method.lower()]

    assert [server["url"] for server in found["servers"]] == [
        f"https://provider.example/shop{mount}" for mount in MOUNTS
    ]
    for server in found["servers"]:
        assert ("token" in server.get("variables", {})) is ("{token}" in server["url"])
    assert all(f"`{mount}`" in found["description"] for mount in MOUNTS if mount)


def test_every_placeholder_of_a_path_is_described() -> None:
    for (method, path), found in operations().items():
        for each in found["parameters"]:
            assert each["in"] != "path" or each["description"], (method, path)


def test_where_claims_pass_unproven_the_document_says_so(tmp_path: Path) -> None:
    made = make_settings(tmp_path, aether_auth="open")
    paths = json.loads(document_bytes(ROUTES, made))["paths"]

    for route in ROUTES:
        ways = paths[route.path][route.method.lower()].get("security", [])
        assert ({} in ways) is (route in MARKET_ROUTES)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.writes], ids=by_name)
def test_a_write_takes_an_idempotency_key_unless_its_bytes_are_the_key(route: Route) -> None:
    found = operations()[route.method, route.path]

    headers = {p["name"] for p in found["parameters"] if p["in"] == "header"}
    posts = route.method == "POST"  # a PUT that is sent again changes nothing anyway
    assert ("Idempotency-Key" in headers) is (posts and not route.bytes_are_the_key)


def test_what_is_proven_is_described_with_its_head() -> None:
    for (method, path), found in operations().items():
        route = BY_PATH[method, path]
        if route.upgrades:
            continue
        proven = route.response is not None and "ledger" in route.response.model_fields
        shown = resolved(found["responses"]["200"]["headers"]["Ledger-Head"])
        assert shown.get("required", False) is (proven or route.shows_head)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    text = json.dumps(described())
    kinds = dict(described()["components"])

    assert set(kinds.pop("securitySchemes")) == set().union(*WAYS)
    for kind, parts in kinds.items():
        for name in parts:
            assert f'"#/components/{kind}/{name}"' in text, name
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', text)):
        assert resolved({"$ref": reference})


def test_an_amount_is_a_number_and_an_absent_value_of_an_answer_is_never_null() -> None:
    schemas = described()["components"]["schemas"]
    given = {route.response.__name__ for route in ROUTES if route.response} | {"ErrorResponse"}

    assert schemas["ServiceDetails"]["properties"]["budget_usdc"] == {"type": "number"}
    # A hand-out says that it has no lease, and a lease that it has ended.
    assert {name for name in given if '"null"' in json.dumps(schemas[name])} == {
        "FetchResponse",
        "LeaseResponse",
    }


@pytest.mark.parametrize("route", [r for r in ROUTES if r.media_type == EVENTS], ids=by_name)
def test_a_stream_is_described_as_events(route: Route) -> None:
    assert set(operations()["GET", route.path]["responses"]["200"]["content"]) == {EVENTS}


def test_it_is_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    expected = document_bytes(ROUTES, make_settings(tmp_path))

    for seed in ("1", "2"):
        made = subprocess.run(
            [sys.executable, "-c", BUILD],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert made.stdout == expected


@pytest.mark.parametrize(
    ("settings", "server"),
    [
        ({}, "/"),
        ({"path_prefix": "/shop"}, "/shop"),
        ({"public_url": "https://provider.example"}, "https://provider.example"),
        (
            {"path_prefix": "/shop", "public_url": "https://provider.example/shop"},
            "https://provider.example/shop",
        ),
    ],
)
def test_its_server_is_where_others_reach_the_service(
    tmp_path: Path, settings: dict[str, str], server: str
) -> None:
    made: Settings = make_settings(tmp_path, **settings)

    assert json.loads(document_bytes(ROUTES, made))["servers"] == [{"url": server}]


@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_served_as_it_is_made(service: Service, tmp_path: Path) -> None:
    status, body, headers = await fetched(service)

    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert body == document_bytes(ROUTES, make_settings(tmp_path))


@pytest.mark.asyncio(loop_scope="module")
async def test_who_has_it_is_told_so_without_a_body(service: Service) -> None:
    _, body, headers = await fetched(service)
    tag = headers["ETag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        status, again, told = await fetched(service, known)
        assert (status, again, told["ETag"]) == (304, b"", tag)
    status, again, _ = await fetched(service, '"other"')
    assert (status, again) == (200, body)


@pytest.mark.asyncio(loop_scope="module")
async def test_its_head_has_the_length_and_the_version(service: Service) -> None:
    _, body, headers = await fetched(service)

    async with service.session.head(f"{service.url}/openapi.json") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(len(body))
        assert response.headers["ETag"] == headers["ETag"]


ERROR = b'{"error": "ORDER_NOT_FOUND", "message": "no order has this id"}'


@pytest.mark.parametrize(
    ("status", "media_type", "body", "told"),
    [
        (404, "application/json", ERROR, []),
        (418, "application/json", ERROR, ["418 is not described"]),
        (404, "text/plain", ERROR, ["text/plain is not described"]),
        (404, "application/json", b'{"error": "X"}', ["$: 'message' is a required property"]),
        (404, "application/json", b'{"error": "X", "message": 5}', ["$.message: 5 is not of type"]),
        (
            404,
            "application/json",
            b'{"error": "X", "message": "x", "more": 1}',
            ["$: Additional properties are not allowed"],
        ),
        (
            404,
            "application/json",
            b'{"error": "X", "message": "x", "details": null}',
            ["$.details: None is not of type 'object'"],
        ),
    ],
)
def test_an_answer_that_is_not_as_described_is_noticed(
    status: int, media_type: str, body: bytes, told: list[str]
) -> None:
    found = breaches(BY_PATH["GET", "/ivxp/status/{order_id}"], status, media_type, set(), body)

    assert [each[: len(said)] for each, said in zip(found, told, strict=True)] == told


def test_a_header_that_is_missing_is_noticed() -> None:
    body = json.dumps(dict.fromkeys(ErrorResponse.model_fields, "x")).encode()

    found = breaches(BY_PATH["GET", "/health"], 200, "text/html", set(), body)

    assert found == ["the header Ledger-Head is missing", "text/html is not described"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_service_that_answers_otherwise_fails_its_test(tmp_path: Path) -> None:
    @web.middleware
    async def gone(request: web.Request, handler: Handler) -> web.StreamResponse:
        raise Gone("it was here")

    async def ask() -> None:
        async with serving(tmp_path, prepare=lambda app: app.middlewares.append(gone)) as service:
            assert (await service.buyer("watched").get("/health")).status == 410

    with pytest.raises(AssertionError, match="GET /health 410: 410 is not described"):
        await ask()


def test_a_watch_that_saw_nothing_odd_is_content() -> None:
    Watch().require_as_described()
