"""Signing in, tokens, revocation, and who may ask for what."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from api.aether.proof import ProofRefused
from api.aether.route_forms import MOUNTS
from api.aether.routes import MARKET_ROUTES
from api.app import ROUTES
from api.auth import CALLER
from api.openapi_errors import errors_of
from api.routes import ORDER_PART, Route, register
from api.tokens import MAX_LIFE_MS, Role
from ledger.errors import Misconfigured
from tests.contract.callers import (
    AUDITOR,
    OPERATOR,
    PARTY,
    ROLES,
    WORKER,
    Answer,
    Caller,
    found_paid,
    signed_in,
)
from tests.contract.kit import MovableClock, Service, make_settings, path_of, serving
from tests.support.chain import account_named

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "auth.md").read_text("utf-8")
NOBODY = "nobody"
STRANGER = "stranger"
ROLES_OF = {
    PARTY: {Role.PARTY},
    STRANGER: {Role.PARTY},
    WORKER: {Role.PARTY, Role.WORKER},
    AUDITOR: {Role.PARTY, Role.AUDITOR},
    OPERATOR: {Role.PARTY, Role.OPERATOR},
}
UNKNOWN_ORDER = "ivxp-00000000-0000-4000-8000-000000000000"
DAY_MS = 24 * 3600 * 1000
CATALOG = """
provider = "auth"
[[services]]
type = "by_hand"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1
"""


async def get_own(request: web.Request) -> web.Response:
    return web.json_response({"wallet": request[CALLER].wallet})


PARTY_ROUTES = [
    Route("GET", "/test/orders/{order_id}", get_own, "", roles=frozenset({Role.PARTY})),
    Route(
        "GET",
        "/test/audited/{order_id}",
        get_own,
        "",
        roles=frozenset({Role.PARTY, Role.AUDITOR}),
    ),
    Route("GET", "/test/me", get_own, "", roles=frozenset(Role)),
]


def with_party_routes(app: web.Application) -> None:
    register(app, PARTY_ROUTES)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "catalog.toml"
    path.write_text(CATALOG)
    return path


@pytest.fixture(scope="module")
def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, catalog: Path, clock: MovableClock
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("auth")
    async with serving(
        folder, catalog=catalog, clock=clock, prepare=with_party_routes, **ROLES
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def callers(service: Service) -> AsyncIterator[dict[str, Caller]]:
    found = {name: await signed_in(service, name) for name in ROLES_OF}
    yield {NOBODY: Caller(service, NOBODY), **found}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def order_id(service: Service) -> AsyncIterator[str]:
    yield await found_paid(service, "by_hand")


# Signing in


async def test_the_challenge_is_the_text_of_eip_4361_for_this_service(service: Service) -> None:
    caller = Caller(service, PARTY)
    host = service.url.removeprefix("http://")

    answer = await caller.post("/v1/auth/challenge", {"address": caller.address.lower()})

    lines = answer.body["message"].split("\n")
    assert lines[0] == f"{host} wants you to sign in with your Ethereum account:"
    assert lines[1] == caller.address
    assert lines[2] == lines[4] == ""
    assert lines[5:8] == [f"URI: {service.url}", "Version: 1", "Chain ID: 84532"]
    assert [line.partition(": ")[0] for line in lines[8:]] == [
        "Nonce",
        "Issued At",
        "Expiration Time",
    ]
    assert lines[8].removeprefix("Nonce: ").isalnum()
    assert answer.body["expires_at"] == lines[10].removeprefix("Expiration Time: ")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ROLES_OF)
async def test_a_signed_challenge_gives_a_token_with_the_roles_of_the_settings(
    service: Service, name: str
) -> None:
    caller = Caller(service, name)

    answer = await caller.present(await caller.challenge())

    assert answer.status == 200
    assert answer.body["wallet"] == caller.address.lower()
    assert answer.body["roles"] == sorted(ROLES_OF[name])
    assert answer.body["token_type"] == "Bearer"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_challenge_is_good_once(service: Service) -> None:
    caller = Caller(service, PARTY)
    message = await caller.challenge()

    answers = await asyncio.gather(*(caller.present(message) for _ in range(5)))

    assert sorted(answer.outcome for answer in answers) == [
        (200, ""),
        *[(401, "CHALLENGE_INVALID")] * 4,
    ]


async def test_a_challenge_lasts_five_minutes(service: Service, clock: MovableClock) -> None:
    caller = Caller(service, PARTY)
    early, late = await caller.challenge(), await caller.challenge()
    before = clock.offset_ms
    try:
        clock.offset_ms = before + 290_000
        assert (await caller.present(early)).status == 200
        clock.offset_ms = before + 300_000
        assert (await caller.present(late)).outcome == (401, "CHALLENGE_INVALID")
    finally:
        clock.offset_ms = before


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(message: str) -> str:
        assert old in message
        return message.replace(old, new, 1)

    return change


def with_line(number: int, text: str) -> Callable[[str], str]:
    def change(message: str) -> str:
        lines = message.split("\n")
        lines[number] = text
        return "\n".join(lines)

    return change


HOSTILE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "another domain": replaced("127.0.0.1", "evil.example"),
    "another port": with_line(0, "127.0.0.1:1 wants you to sign in with your Ethereum account:"),
    "the address in lower case": lambda m: with_line(1, m.split("\n")[1].lower())(m),
    "another statement": with_line(3, "Sign in."),
    "no statement": with_line(3, ""),
    "a statement with a second line": replaced("pays nothing.", "pays nothing.\nURI: http://x"),
    "another uri": with_line(5, "URI: https://evil.example"),
    "another version": with_line(6, "Version: 2"),
    "another chain": with_line(7, "Chain ID: 1"),
    "a chain with a zero": with_line(7, "Chain ID: 084532"),
    "a nonce of its own": with_line(8, "Nonce: " + "a" * 96),
    "a short nonce": with_line(8, "Nonce: 12345678"),
    "no nonce": with_line(8, "Nonce: "),
    "an earlier time": with_line(9, "Issued At: 2020-01-01T00:00:00.000Z"),
    "a time that is none": with_line(9, "Issued At: 2020-99-99T00:00:00.000Z"),
    "a later end": with_line(10, "Expiration Time: 2999-01-01T00:00:00.000Z"),
    "no end": lambda m: m.rpartition("\n")[0],
    "a last line more": lambda m: m + "\n",
    "not before": lambda m: m + "\nNot Before: 2020-01-01T00:00:00.000Z",
    "a request id": lambda m: m + "\nRequest ID: 1",
    "resources": lambda m: m + "\nResources:\n- https://evil.example",
    "a space before": lambda m: " " + m,
    "windows line ends": lambda m: m.replace("\n", "\r\n"),
    "a zero byte": lambda m: m + "\0",
    "a look-alike letter": replaced("Ethereum", "\u0415thereum"),
    "digits of another script": replaced("Version: 1", "Version: \u0661"),
    "a scheme before the domain": lambda m: "https://" + m,
    "twice": lambda m: m + m,
    "a megabyte": lambda m: m + "x" * 40_000,
    "an order's text": lambda _: f"Order: {UNKNOWN_ORDER} | Payment: {'0x' + '1' * 64}",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_message_that_is_not_letter_for_letter_ours_signs_nobody_in(
    service: Service, name: str
) -> None:
    caller = Caller(service, PARTY)
    message = HOSTILE[name](await caller.challenge())

    answer = await caller.present(message)

    assert answer.outcome == (401, "CHALLENGE_INVALID")
    assert "token" not in answer.body


async def test_a_challenge_for_one_address_signs_no_other_in(service: Service) -> None:
    caller, other = Caller(service, PARTY), Caller(service, OPERATOR)
    message = await caller.challenge()
    renamed = message.replace(caller.address, other.address)

    assert (await other.present(message)).outcome == (401, "SIGNATURE_INVALID")
    assert (await caller.present(renamed)).outcome == (401, "CHALLENGE_INVALID")
    assert (await other.present(renamed)).outcome == (401, "CHALLENGE_INVALID")
    assert (await caller.present(message)).status == 200


async def test_only_the_normal_form_of_a_signature_counts(service: Service) -> None:
    caller = Caller(service, PARTY)
    message = await caller.challenge()
    good = caller.sign(message)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    high = f"{order - int(good[66:130], 16):064x}"
    flipped = "1b" if good[130:] == "1c" else "1c"

    for bad in ("", "0x", good[:-2], good + "00", good[:66] + high + flipped, good[:130] + "25"):
        assert (await caller.present(message, bad or "0x")).outcome == (401, "SIGNATURE_INVALID")
    assert (await caller.present(message, good)).status == 200


async def test_a_challenge_from_before_a_restart_is_worth_nothing(
    tmp_path: Path, catalog: Path
) -> None:
    async with serving(tmp_path, catalog=catalog, public_url="https://ledger.example") as first:
        caller = Caller(first, PARTY)
        used, unused = await caller.challenge(), await caller.challenge()
        assert (await caller.present(used)).status == 200

    async with serving(tmp_path, catalog=catalog, public_url="https://ledger.example") as second:
        caller = Caller(second, PARTY)
        for message in (used, unused):
            assert (await caller.present(message)).outcome == (401, "CHALLENGE_INVALID")


async def test_with_a_public_url_the_host_header_names_no_other_place(
    tmp_path: Path, catalog: Path
) -> None:
    async with serving(tmp_path, catalog=catalog, public_url="https://ledger.example/a") as service:
        caller = Caller(service, PARTY)

        message = await caller.challenge(Host="evil.example")

        assert message.startswith("ledger.example wants you to sign in")
        assert "\nURI: https://ledger.example/a\n" in message
        assert (await caller.present(message, Host="other.example")).status == 200


async def test_a_challenge_for_one_host_is_not_taken_under_another(service: Service) -> None:
    caller = Caller(service, PARTY)
    message = await caller.challenge(Host="evil.example")

    assert (await caller.present(message)).outcome == (401, "CHALLENGE_INVALID")
    answer = await caller.post("/v1/auth/challenge", {"address": caller.address}, Host="a b/c")
    assert answer.outcome == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("address", ["", "0x12", "0x" + "g" * 40, None, 5, "a" * 42])
async def test_a_challenge_is_made_for_an_address_only(service: Service, address: object) -> None:
    answer = await Caller(service, PARTY).post("/v1/auth/challenge", {"address": address})

    assert answer.outcome == (400, "INVALID_REQUEST")


# Tokens


def forged(token: str, secret: bytes | None = None, **changes: object) -> str:
    """Return a token with a changed payload, under its old code or one of another secret."""
    payload, _, code = token.partition(".")
    said = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    text = urlsafe_b64encode(json.dumps({**said, **changes}).encode()).rstrip(b"=")
    if secret is not None:
        code = hmac.new(secret, b"ivxp-ledger-token/1\n" + text, sha256).hexdigest()
    return f"{text.decode()}.{code}"


def secret_of(service: Service) -> bytes:
    path = service.folder / "data" / "keys" / "auth.json"
    return bytes.fromhex(json.loads(path.read_text())["secret"][2:])


def bad_tokens(token: str) -> dict[str, str]:
    payload, _, code = token.partition(".")
    return {
        "nothing": "",
        "words": "let me in",
        "the payload alone": payload,
        "an empty code": payload + ".",
        "the code alone": "." + code,
        "a cut code": token[:-1],
        "a code of zeros": f"{payload}.{'0' * 64}",
        "a code in upper case": f"{payload}.{code.upper()}",
        "a character more": token + "0",
        "a padded payload": f"{payload}=.{code}",
        "more roles": forged(token, roles=["operator", "party"]),
        "another wallet": forged(token, wallet="0x" + "12" * 20),
        "a later end": forged(token, exp=2**52),
        "another secret": forged(token, b"\1" * 32, roles=["operator"]),
        "no secret": forged(token, b"", roles=["operator"]),
        "no algorithm": f"{payload}.none",
        "a JSON web token": "eyJhbGciOiJub25lIn0." + payload + ".",
        "a long one": "a" * 6000 + "." + code,
        "other letters": "\u00e9\u00e8" + token,
    }


@pytest.mark.parametrize("name", bad_tokens("e30.0"))
async def test_a_token_that_we_did_not_make_lets_nobody_in(
    service: Service, callers: dict[str, Caller], name: str
) -> None:
    token = bad_tokens(str(callers[PARTY].token))[name]

    answer = await Caller(service, PARTY, token).get("/test/me")

    assert answer.outcome == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_for_another_ledger_lets_nobody_in(
    service: Service, callers: dict[str, Caller]
) -> None:
    token = forged(str(callers[PARTY].token), secret_of(service), aud="elsewhere")

    assert (await Caller(service, PARTY, token).get("/test/me")).status == 401


@pytest.mark.parametrize(
    "scheme", ["Basic {}", "{}", "Bearer", "Token {}", "Bearer{}", "Bearer {} x"]
)
async def test_only_one_bearer_token_counts(
    service: Service, callers: dict[str, Caller], scheme: str
) -> None:
    header = scheme.format(callers[PARTY].token)

    answer = await Caller(service, NOBODY).call("GET", "/test/me", Authorization=header)

    assert answer.status == 401


async def test_two_authorization_headers_are_none(
    service: Service, callers: dict[str, Caller]
) -> None:
    header = ("Authorization", f"Bearer {callers[PARTY].token}")
    async with service.session.get(service.url + "/test/me", headers=[header, header]) as response:
        assert response.status == 401


async def test_a_token_holds_for_a_day(
    service: Service, callers: dict[str, Caller], clock: MovableClock
) -> None:
    caller, before = await signed_in(service, PARTY), clock.offset_ms
    try:
        clock.offset_ms = before + DAY_MS - 5000
        assert (await caller.get("/test/me")).body == {"wallet": caller.address.lower()}
        clock.offset_ms = before + DAY_MS
        assert (await caller.get("/test/me")).outcome == (401, "UNAUTHORIZED")
    finally:
        clock.offset_ms = before


async def test_a_role_ends_with_the_settings_that_gave_it(tmp_path: Path, catalog: Path) -> None:
    async with serving(tmp_path, catalog=catalog, **ROLES) as first:
        token = (await signed_in(first, WORKER)).token
        assert (await Caller(first, WORKER, token).get("/v1/work")).status == 200

    async with serving(tmp_path, catalog=catalog) as second:
        assert (await Caller(second, WORKER, token).get("/v1/work")).status == 403


async def test_a_role_that_the_token_does_not_name_is_not_there(
    tmp_path: Path, catalog: Path
) -> None:
    async with serving(tmp_path, catalog=catalog) as first:
        token = (await signed_in(first, WORKER)).token

    async with serving(tmp_path, catalog=catalog, **ROLES) as second:
        assert (await Caller(second, WORKER, token).get("/v1/work")).status == 403
        assert (await (await signed_in(second, WORKER)).get("/v1/work")).status == 200


async def test_a_new_secret_ends_every_token_and_is_readable_by_its_owner_alone(
    tmp_path: Path, catalog: Path
) -> None:
    path = tmp_path / "secrets" / "auth.json"
    async with serving(tmp_path, catalog=catalog, auth_secret_file=path, **ROLES) as first:
        token = (await signed_in(first, WORKER)).token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()

    async with serving(tmp_path, catalog=catalog, auth_secret_file=path, **ROLES) as second:
        assert (await Caller(second, WORKER, token).get("/v1/work")).status == 401


async def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, catalog: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"secret": "0x" + "11" * 32}))
    path.chmod(0o644)

    with pytest.raises(Misconfigured, match="mode 0600"):
        async with serving(tmp_path, catalog=catalog, auth_secret_file=path):
            pass


# Taking tokens back


async def test_a_caller_takes_its_own_token_back(service: Service) -> None:
    caller, other = await signed_in(service, PARTY), await signed_in(service, PARTY)

    answer = await caller.post("/v1/auth/revoke", {})

    assert answer.status == 200
    assert (await caller.get("/test/me")).outcome == (401, "UNAUTHORIZED")
    assert (await other.get("/test/me")).status == 200


async def test_a_caller_takes_all_its_tokens_back_and_may_sign_in_again(
    service: Service, clock: MovableClock
) -> None:
    first, second = await signed_in(service, STRANGER), await signed_in(service, STRANGER)

    answer = await first.post("/v1/auth/revoke", {"wallet": first.address})
    clock.offset_ms += 1

    assert answer.body == {"revoked": {"wallet": first.address.lower()}}
    assert [(await caller.get("/test/me")).status for caller in (first, second)] == [401, 401]
    assert (await (await signed_in(service, STRANGER)).get("/test/me")).status == 200


async def test_nobody_but_the_operator_takes_back_what_is_anothers(
    service: Service, callers: dict[str, Caller]
) -> None:
    victim = Caller(service, "victim")
    made = await victim.present(await victim.challenge())
    victim.token, token_id = made.body["token"], made.body["token_id"]

    for name in (PARTY, WORKER, AUDITOR):
        for body in ({"token_id": token_id}, {"wallet": victim.address}):
            answer = await callers[name].post("/v1/auth/revoke", body)
            assert answer.outcome == (403, "FORBIDDEN")
    assert (await victim.get("/test/me")).status == 200

    assert (await callers[OPERATOR].post("/v1/auth/revoke", {"token_id": token_id})).status == 200
    assert (await victim.get("/test/me")).status == 401


@pytest.mark.parametrize(
    "body",
    [
        {"token_id": "x"},
        {"token_id": "0" * 31},
        {"wallet": "0x1"},
        {"wallet": "0x" + "1" * 40, "token_id": "0" * 32},
    ],
)
async def test_what_names_no_token_takes_none_back(
    service: Service, callers: dict[str, Caller], body: dict[str, str]
) -> None:
    answer = await callers[OPERATOR].post("/v1/auth/revoke", body)

    assert answer.outcome == (400, "INVALID_REQUEST")


async def test_what_was_taken_back_stays_so_after_a_restart(tmp_path: Path, catalog: Path) -> None:
    async with serving(tmp_path, catalog=catalog, **ROLES) as first:
        worker, auditor = await signed_in(first, WORKER), await signed_in(first, AUDITOR)
        operator = await signed_in(first, OPERATOR)
        assert (await worker.post("/v1/auth/revoke", {})).status == 200
        body = {"wallet": auditor.address}
        assert (await operator.post("/v1/auth/revoke", body)).status == 200

    async with serving(tmp_path, catalog=catalog, **ROLES) as second:
        for caller, expected in ((worker, 401), (auditor, 401), (operator, 200)):
            again = Caller(second, caller.name, caller.token)
            assert (await again.post("/v1/auth/revoke", {})).status == expected


async def test_a_list_of_revoked_tokens_that_is_damaged_stops_the_start(
    tmp_path: Path, catalog: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "revoked.json").write_text("{")

    with pytest.raises(Misconfigured, match="no list of revoked tokens"):
        async with serving(tmp_path, catalog=catalog):
            pass


async def test_what_has_run_out_is_dropped_from_the_list(
    service: Service, clock: MovableClock
) -> None:
    held = service.folder / "data" / "revoked.json"
    first = await (await signed_in(service, "leaves")).post("/v1/auth/revoke", {})
    before = clock.offset_ms
    try:
        clock.offset_ms = before + MAX_LIFE_MS + 1000
        last = await (await signed_in(service, "goes")).post("/v1/auth/revoke", {})
    finally:
        clock.offset_ms = before

    said = json.loads(held.read_text())
    assert (first.status, last.status) == (200, 200)
    assert first.body["revoked"]["token_id"] not in said["tokens"]
    assert last.body["revoked"]["token_id"] in said["tokens"]
    assert said["wallets"] == {}


# Routes and roles

GUARDED = [route for route in [*ROUTES, *PARTY_ROUTES] if route.roles]
OPEN = [
    r
    for r in ROUTES
    if not r.roles and r.media_type == "application/json" and ProofRefused not in errors_of(r)
]


def by_name(route: Route) -> str:
    return f"{route.method} {route.path}"


def expected(route: Route, name: str) -> tuple[int, str] | None:
    """Return what a caller gets who is not let through, None for one who is."""
    if name == NOBODY:
        return (401, "UNAUTHORIZED")
    if "{event_id}" in route.path or ("{party}" in route.path and name != OPERATOR):
        return (404, "NOT_FOUND")  # the feed is the provider's, and no event has that id
    roles = ROLES_OF[name] & route.roles
    if roles - {Role.PARTY}:
        return None
    if Role.PARTY in roles and (name == PARTY or ORDER_PART not in route.path):
        return None
    return (404, "ORDER_NOT_FOUND") if ORDER_PART in route.path else (403, "FORBIDDEN")


async def asked(caller: Caller, route: Route, order_id: str) -> Answer:
    path = path_of(route.path, order_id)
    return await caller.call(route.method, path, data=b"[", Content_Type="application/json")


@pytest.mark.parametrize("name", [NOBODY, *ROLES_OF])
@pytest.mark.parametrize("route", GUARDED, ids=by_name)
async def test_a_route_lets_in_those_with_its_roles_and_nobody_else(
    service: Service, callers: dict[str, Caller], order_id: str, route: Route, name: str
) -> None:
    before = service.position

    answer = await asked(callers[name], route, order_id)

    refusal = expected(route, name)
    if refusal is None:
        # The operator may have its feed, which has no such cursor.
        assert answer.status in (200, 400, *([404] if "{name}" in route.path else []))
    else:
        assert answer.outcome == refusal
    assert service.position == before


@pytest.mark.parametrize("route", [r for r in GUARDED if ORDER_PART in r.path], ids=by_name)
async def test_an_order_that_is_not_yours_answers_like_one_that_is_not_there(
    callers: dict[str, Caller], order_id: str, route: Route
) -> None:
    there = await asked(callers[STRANGER], route, order_id)
    not_there = await asked(callers[STRANGER], route, UNKNOWN_ORDER)

    assert there.body == not_there.body
    assert there.outcome == (404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("route", OPEN, ids=by_name)
async def test_an_open_route_asks_for_no_token_and_minds_none(
    service: Service, order_id: str, route: Route
) -> None:
    answers = [
        await asked(Caller(service, NOBODY, token), route, order_id) for token in (None, "nonsense")
    ]

    assert answers[0].outcome == answers[1].outcome
    assert answers[0].status not in (401, 403)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("route", MARKET_ROUTES, ids=by_name)
async def test_a_marketplace_route_lets_nobody_in_unproven_and_says_how_to_prove_a_wallet(
    service: Service, order_id: str, route: Route, mount: str
) -> None:
    before = service.position
    for token in (None, "nonsense"):
        caller = Caller(service, NOBODY, token)
        answer = await caller.call(route.method, path_of(mount + route.path, order_id), data=b"[")

        assert answer.outcome == (401, "UNAUTHORIZED_ACCESS")
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="wallet:token", Bearer'
    assert service.position == before


async def test_the_operators_and_workers_writes_are_not_counted_and_all_others_are(
    tmp_path: Path, catalog: Path
) -> None:
    async with serving(tmp_path, catalog=catalog, rate_limit=8, **ROLES) as service:
        worker, party = await signed_in(service, WORKER), await signed_in(service, PARTY)
        path = f"/v1/work/{UNKNOWN_ORDER}/start"

        assert {(await worker.post(path)).status for _ in range(20)} == {404}
        spent = [(await party.post(path)).status for _ in range(5)]

        assert spent == [404, 404, 404, 404, 429]
        assert (await Caller(service, WORKER, "nonsense").post(path)).status == 429


async def test_every_route_of_workers_asks_for_a_role() -> None:
    named = [route for route in ROUTES if route.path.startswith("/v1/work")]

    assert len(named) == 5
    assert all(route.roles == {Role.WORKER, Role.OPERATOR} for route in named)


@pytest.mark.parametrize("name", ["operators", "workers", "auditors"])
async def test_a_role_is_given_to_wallets_only(tmp_path: Path, name: str) -> None:
    wallets: dict[str, Any] = {name: "0x" + "1" * 40 + ",alice"}

    with pytest.raises(Misconfigured, match=f"LEDGER_{name.upper()}: an address is"):
        make_settings(tmp_path, **wallets)


# The page on it


async def test_the_program_on_the_page_signs_in(service: Service) -> None:
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"base": service.url, "private_key": bytes(account_named(PARTY).key)}

    await asyncio.to_thread(exec, program, names)

    assert (await Caller(service, PARTY, names["token"]).get("/test/me")).status == 200


async def test_the_page_names_every_role() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE) == [str(role) for role in Role]
