"""Who asks on a marketplace route: tokens and signed requests in every form, and the open mode."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO, StringIO
from itertools import count, product
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import base58
import pytest
import pytest_asyncio
import structlog
from aiohttp import web
from eth_account.messages import encode_defunct
from multidict import CIMultiDict
from yarl import URL

from api.aether.proof import (
    LONG_AT_ONCE,
    LONG_BODIES,
    SIGNED_BODY,
    NotYourWallet,
    ProofRefused,
    acting_wallet,
    proven,
    signed_text,
    warn_if_open,
)
from api.config import Settings
from api.keys import CHALLENGES, LEDGER, SETTINGS, TOKENS
from api.limits import RateLimited
from api.routes import Route, register
from api.signin import MOST_SIGNATURES_EACH, Challenges
from api.siwx_once import Once
from api.work_content import room_in_json
from ledger.errors import Overloaded
from ledger.values import UnixMs
from tests.clients.aether_wire import rows
from tests.contract.callers import Answer
from tests.contract.kit import MovableClock, Service, serving
from tests.contract.market_kit import AGENT, market
from tests.support.chain import account_named
from tests.support.solana_keys import SolanaKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY: Final = b'{"message": "hi"}'
EMPTY: Final = sha256(b"").hexdigest()
REALM: Final = 'Basic realm="wallet:token", Bearer'


class Key(Protocol):
    """A wallet of either kind."""

    address: str

    def words(self, text: bytes) -> str: ...


class OnSolana:
    """A Solana wallet; `form` is how it writes its signatures."""

    def __init__(self, name: str, form: str = "base58") -> None:
        self._key = SolanaKey(name)
        self.form = form
        self.address: str = self._key.address

    def words(self, text: bytes) -> str:
        raw = self._key.raw(text)
        if self.form == "hex":
            return raw.hex()
        if self.form == "base64":
            return b64encode(raw).decode()
        return base58.b58encode(raw).decode()


class OnEvm:
    """An EVM wallet, whose address is shown in mixed case."""

    def __init__(self, name: str) -> None:
        self._account = account_named(name)
        self.address: str = self._account.address

    def words(self, text: bytes) -> str:
        signed = self._account.sign_message(encode_defunct(primitive=text))
        return "0x" + bytes(signed.signature).hex()


ANNE: Final = OnSolana("anne")
BERT: Final = OnSolana("bert")
EVE: Final = OnEvm("eve")
KEYS: Final[dict[str, Key]] = {
    "solana": ANNE,
    "solana hex": OnSolana("anne", "hex"),
    "solana base64": OnSolana("anne", "base64"),
    "evm": EVE,
}


def spelled(wallet: str) -> str:
    return wallet.lower() if wallet.startswith("0x") else wallet


async def get_proof(request: web.Request) -> web.Response:
    proof = await proven(request)
    again = await proven(request)
    assert again == proof
    return web.json_response(None if proof is None else {"wallet": proof.wallet, "how": proof.how})


async def act(request: web.Request) -> web.Response:
    proof = await acting_wallet(request, request.query.get("wallet"))
    body = await request.read()
    return web.json_response({"wallet": proof.wallet, "how": proof.how, "bytes": len(body)})


async def take_long(request: web.Request) -> web.Response:
    proof = await acting_wallet(request, None)
    return web.json_response({"wallet": proof.wallet, "bytes": len(request[SIGNED_BODY])})


async def fail(request: web.Request) -> web.Response:
    await proven(request)
    raise RuntimeError("a bug")


ERRORS: Final = frozenset({ProofRefused, NotYourWallet})
ROUTES: Final = [
    Route("GET", f"{prefix}/test/proof", get_proof, "", errors=ERRORS)
    for prefix in ("", "/t/{token}")
] + [
    Route(method, f"{prefix}/test/{name}", handler, "", writes=method == "POST", errors=ERRORS)
    for prefix in ("", "/t/{token}")
    for method, name, handler in (("POST", "act", act), ("GET", "act", act), ("GET", "fail", fail))
]
ROUTES.append(
    Route("POST", "/test/long", take_long, "", writes=True, long_body=True, errors=ERRORS)
)


def with_routes(app: web.Application) -> None:
    register(app, ROUTES)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def clock() -> MovableClock:
    return MovableClock()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    tmp_path_factory: pytest.TempPathFactory, clock: MovableClock
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("proof")
    async with serving(folder, clock=clock, prepare=with_routes, watched=False) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def open_service(
    tmp_path_factory: pytest.TempPathFactory, clock: MovableClock
) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("open")
    async with serving(
        folder, clock=clock, prepare=with_routes, watched=False, aether_auth="open"
    ) as running:
        yield running


def token_of(service: Service, wallet: str, *, scoped: bool = False) -> str:
    tokens, now = service.app[TOKENS], service.app[LEDGER].clock()
    token, _ = tokens.issue(spelled(wallet), now, scope="marketplace" if scoped else None)
    return token


async def call(
    service: Service,
    method: str,
    path: str,
    data: bytes | None = None,
    **headers: Any,  # noqa: ANN401 - header values
) -> Answer:
    """Send a request; header names have `_` for `-`, and the path stays as it is written."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url = URL(service.url + path, encoded=True)
    async with service.session.request(method, url, data=data, headers=sent) as response:
        return Answer(response.status, await response.json(), dict(response.headers))


def basic(name: str, token: str) -> str:
    return "Basic " + b64encode(f"{name}:{token}".encode()).decode()


@contextmanager
def heard() -> Iterator[StringIO]:
    """Collect the log as the service writes it, tracebacks included."""
    said, before = StringIO(), structlog.get_config()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(said),
    )
    yield said
    structlog.configure(**before)


@dataclass
class Signed:
    """The headers of a signed request; change a part to forge it."""

    service: Service
    key: Key
    method: str = "POST"
    target: str = "/test/act"
    body: bytes = BODY
    skew_ms: int = 0
    at: str | None = None
    """Scheme and authority; by default where the service is asked."""

    @property
    def stamp(self) -> str:
        return str(self.service.app[LEDGER].clock() + self.skew_ms)

    def headers(self, **changes: str) -> dict[str, str]:
        stamp = changes.get("X_Timestamp", self.stamp)
        at = self.service.url if self.at is None else self.at
        text = f"{self.method}:{at}{self.target}:{stamp}:{sha256(self.body).hexdigest()}".encode()
        made = {
            "X_Wallet_Address": self.key.address,
            "X_Signature": self.key.words(text),
            "X_Timestamp": stamp,
        }
        return {**made, **changes}


UNAUTHORIZED: Final = (401, "UNAUTHORIZED_ACCESS")
BAD_SIGNATURE: Final = (401, "INVALID_SIGNATURE")


# Tokens


@pytest.mark.parametrize("scoped", [False, True])
@pytest.mark.parametrize("key", [ANNE, EVE], ids=["solana", "evm"])
@pytest.mark.parametrize("form", ["bearer", "basic", "percent", "path", "both"])
async def test_a_token_proves_its_wallet_in_every_form(
    service: Service, key: Key, form: str, *, scoped: bool
) -> None:
    token = token_of(service, key.address, scoped=scoped)
    path, headers = "/test/proof", dict[str, Any]()
    if form == "bearer":
        headers["Authorization"] = f"bEARER  {token}"
    if form in ("basic", "both"):
        headers["Authorization"] = basic(key.address, token)
    if form == "percent":
        name = "".join(f"%{ord(letter):02X}" for letter in key.address)
        headers["Authorization"] = basic(name, token.replace(".", "%2e"))
    if form in ("path", "both"):
        path = f"/t/{token}{path}"

    answer = await call(service, "GET", path, **headers)

    assert answer.status == 200
    assert answer.body == {"wallet": spelled(key.address), "how": "token"}


async def test_credentials_in_the_base_url_prove_the_wallet(service: Service) -> None:
    token = token_of(service, ANNE.address, scoped=True)
    url = URL(service.url).with_user(ANNE.address).with_password(token) / "test/proof"

    async with service.session.get(url) as response:
        assert await response.json() == {"wallet": ANNE.address, "how": "token"}


async def test_without_credentials_nobody_is_proven(service: Service) -> None:
    answer = await call(service, "GET", "/test/proof", X_Timestamp="1")

    assert answer.status == 200
    assert not answer.body


async def test_bad_credentials_are_refused_and_say_what_is_taken(service: Service) -> None:
    token, other = token_of(service, ANNE.address), token_of(service, BERT.address)
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    bad = [
        "Bearer",
        "Bearer ",
        f"Bearer {forged}",
        f"Digest {token}",
        token,
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic \u00fc",
        "Basic " + b64encode(b"\xff:\xff").decode(),
        basic("%ff%fe", token),
        basic("", token),
        basic(ANNE.address, ""),
        basic(ANNE.address, forged),
        basic(ANNE.address, other),
        basic(ANNE.address.lower(), token),
        basic(BERT.address, token),
        basic("alice", token),
        basic(token, ANNE.address),
    ]

    for value in bad:
        answer = await call(service, "GET", "/test/proof", Authorization=value)
        assert answer.outcome == UNAUTHORIZED, value
        assert answer.headers["WWW-Authenticate"] == REALM
    for part in (forged, "nonsense", "%2e"):
        answer = await call(service, "GET", f"/t/{part}/test/proof")
        assert answer.outcome == UNAUTHORIZED, part


async def test_proofs_that_disagree_prove_nobody(service: Service) -> None:
    anne, bert = token_of(service, ANNE.address), token_of(service, BERT.address)
    signed = Signed(service, BERT, "GET", "/test/proof", b"")

    refused = [
        await call(service, "GET", f"/t/{bert}/test/proof", Authorization=f"Bearer {anne}"),
        await call(service, "GET", f"/t/{bert}x/test/proof", Authorization=f"Bearer {anne}"),
        await call(service, "GET", "/test/proof", **signed.headers(Authorization=f"Bearer {anne}")),
    ]

    assert [answer.outcome for answer in refused] == [UNAUTHORIZED] * 3
    agreed = Signed(service, ANNE, "GET", "/test/proof", b"")
    both = await call(
        service, "GET", "/test/proof", **agreed.headers(Authorization=f"Bearer {anne}")
    )
    assert both.body == {"wallet": ANNE.address, "how": "signature"}


async def test_two_headers_of_one_name_are_refused(service: Service) -> None:
    token = f"Bearer {token_of(service, ANNE.address)}"
    signed = Signed(service, ANNE, "GET", "/test/proof", b"").headers()
    names = [(name.replace("_", "-"), value) for name, value in signed.items()]
    for headers, outcome in (
        ([("Authorization", token)] * 2, UNAUTHORIZED),
        ([*names, names[0]], BAD_SIGNATURE),
        ([*names, names[1]], BAD_SIGNATURE),
        ([*names, names[2]], BAD_SIGNATURE),
    ):
        async with service.session.get(
            f"{service.url}/test/proof", headers=CIMultiDict(headers)
        ) as response:
            assert (response.status, (await response.json())["error"]) == outcome


async def test_a_token_for_one_order_proves_no_wallet(service: Service) -> None:
    token, _ = service.app[TOKENS].issue_for_order(
        ANNE.address, "ivxp-1", 1, service.app[LEDGER].clock(), issuer=BERT.address
    )

    for headers, path in (
        ({"Authorization": f"Bearer {token}"}, "/test/proof"),
        ({"Authorization": basic(ANNE.address, token)}, "/test/proof"),
        ({}, f"/t/{token}/test/proof"),
    ):
        assert (await call(service, "GET", path, **headers)).outcome == UNAUTHORIZED


async def test_a_token_that_was_taken_back_or_is_over_proves_nobody(
    service: Service, clock: MovableClock
) -> None:
    tokens = service.app[TOKENS]
    token, caller = tokens.issue(ANNE.address, clock(), scope="marketplace", days=2)
    other, _ = tokens.issue(BERT.address, clock(), scope="marketplace", days=2)
    path, before = "/test/proof", clock.offset_ms

    tokens.revoked.token(caller.token_id, UnixMs(caller.expires_ms), clock())
    taken_back = await call(service, "GET", f"/t/{token}{path}")
    good = await call(service, "GET", f"/t/{other}{path}")
    clock.offset_ms += 2 * 24 * 3600 * 1000
    over = await call(service, "GET", f"/t/{other}{path}")
    clock.offset_ms = before

    assert (taken_back.outcome, over.outcome) == (UNAUTHORIZED, UNAUTHORIZED)
    assert good.body["wallet"] == BERT.address


# Signed requests


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
async def test_a_signed_request_proves_its_wallet_once(service: Service, key: Key) -> None:
    signed = Signed(service, key, target="/test/act?b=%41&a=1+2&wallet=" + key.address)
    headers = signed.headers()

    answer = await call(service, "POST", signed.target, BODY, **headers)
    again = await call(service, "POST", signed.target, BODY, **headers)

    found = {"wallet": spelled(key.address), "how": "signature", "bytes": len(BODY)}
    assert (answer.status, answer.body) == (200, found)
    assert again.outcome == BAD_SIGNATURE
    assert again.headers["WWW-Authenticate"] == REALM


async def test_another_form_of_a_used_signature_is_used_too(service: Service) -> None:
    signed = Signed(service, ANNE)
    stamp = signed.stamp
    forms = [Signed(service, key).headers(X_Timestamp=stamp) for key in KEYS.values()][:3]

    found = [(await call(service, "POST", "/test/act", BODY, **form)).status for form in forms]

    assert found == [200, 401, 401]
    evm = Signed(service, EVE).headers()
    first = await call(service, "POST", "/test/act", BODY, **evm)
    evm["X_Signature"] = evm["X_Signature"].removeprefix("0x").upper()
    evm["X_Wallet_Address"] = EVE.address.lower()
    assert (first.status, (await call(service, "POST", "/test/act", BODY, **evm)).status) == (
        200,
        401,
    )


@pytest.mark.parametrize("key", [ANNE, EVE], ids=["solana", "evm"])
@pytest.mark.parametrize(
    "forged",
    [
        {"method": "GET"},
        {"target": "/test/act?"},
        {"target": "/test/act?a=1"},
        {"target": "/test/ac%74"},
        {"target": "/api/test/act"},
        {"target": "/t/token/test/act"},
        {"at": ""},
        {"at": "http://127.0.0.1"},
        {"at": "http://other.example"},
        {"at": "//other.example"},
        {"body": BODY + b" "},
        {"body": b""},
    ],
    ids=str,
)
async def test_a_signature_over_another_request_is_refused(
    service: Service, key: Key, forged: dict[str, Any]
) -> None:
    headers = Signed(service, key, **forged).headers()

    assert (await call(service, "POST", "/test/act", BODY, **headers)).outcome == BAD_SIGNATURE


async def test_a_signature_of_another_wallet_or_form_is_refused(service: Service) -> None:
    theirs, mine = Signed(service, BERT).headers(), Signed(service, ANNE).headers()
    evm = Signed(service, EVE).headers()
    wrong: list[dict[str, str]] = [
        {**mine, "X_Signature": theirs["X_Signature"]},
        {**mine, "X_Signature": evm["X_Signature"]},
        {**evm, "X_Signature": mine["X_Signature"]},
        {**mine, "X_Signature": "1" * 64},
        {**mine, "X_Signature": ""},
        {**mine, "X_Wallet_Address": BERT.address},
        {**mine, "X_Wallet_Address": ANNE.address.lower()},
        {**mine, "X_Wallet_Address": ""},
        {**mine, "X_Wallet_Address": "alice"},
        {**mine, "X_Wallet_Address": "1" * 32, "X_Signature": "01" + "00" * 63},
    ]

    for headers in wrong:
        assert (await call(service, "POST", "/test/act", BODY, **headers)).outcome == BAD_SIGNATURE
    # None of it has used the good one up.
    assert (await call(service, "POST", "/test/act", BODY, **mine)).status == 200


@pytest.mark.parametrize("missing", ["X_Wallet_Address", "X_Signature", "X_Timestamp"])
async def test_a_part_of_the_headers_is_no_proof(service: Service, missing: str) -> None:
    headers = Signed(service, ANNE).headers()
    del headers[missing]

    assert (await call(service, "POST", "/test/act", BODY, **headers)).outcome == BAD_SIGNATURE


@pytest.mark.parametrize("skew_ms", [-50_000, 59_000])
async def test_a_request_may_be_signed_a_little_early_or_late(
    service: Service, skew_ms: int
) -> None:
    headers = Signed(service, ANNE, skew_ms=skew_ms).headers()

    assert (await call(service, "POST", "/test/act", BODY, **headers)).status == 200


@pytest.mark.parametrize("skew_ms", [-61_000, 75_000, 10**9])
async def test_an_old_request_or_one_of_the_future_is_refused(
    service: Service, skew_ms: int
) -> None:
    headers = Signed(service, ANNE, skew_ms=skew_ms).headers()

    assert (await call(service, "POST", "/test/act", BODY, **headers)).outcome == BAD_SIGNATURE


async def test_only_digits_are_a_time(service: Service) -> None:
    stamp = Signed(service, ANNE).stamp
    for other in ("", "now", f"{stamp}.0", f"+{stamp}", f"0x{stamp}", "NaN", f"{stamp}0" * 20):
        headers = Signed(service, ANNE).headers(X_Timestamp=other)
        answer = await call(service, "POST", "/test/act", BODY, **headers)
        assert answer.outcome == BAD_SIGNATURE, other


async def test_a_signature_stays_used_as_long_as_its_time_is_good(
    service: Service, clock: MovableClock
) -> None:
    headers = Signed(service, ANNE, skew_ms=59_000).headers()
    before, found = clock.offset_ms, list[int]()
    for later in (0, 30_000, 60_000, 30_000, 25_000):
        clock.offset_ms += later if found else 0
        found.append((await call(service, "POST", "/test/act", BODY, **headers)).status)
    clock.offset_ms = before

    assert found == [200, 401, 401, 401, 401]


async def test_one_signature_that_is_sent_many_times_at_once_counts_once(service: Service) -> None:
    headers = Signed(service, ANNE).headers()

    async with asyncio.TaskGroup() as group:
        sent = [
            group.create_task(call(service, "POST", "/test/act", BODY, **headers))
            for _ in range(20)
        ]

    assert sorted(task.result().status for task in sent) == [200] + [401] * 19


async def test_a_target_that_is_no_text_is_refused_before_its_signature(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = Signed(service, ANNE, "GET", "/test/proof?a=\udcff", b"")
    stamp = headers.stamp
    target = "http://localhost/test/proof?a=\udcff"
    text = f"GET:{target}:{stamp}:{EMPTY}".encode("utf-8", "surrogateescape")
    lines = [
        b"GET /test/proof?a=\xff HTTP/1.1",
        b"Host: localhost",
        f"X-Wallet-Address: {ANNE.address}".encode(),
        f"X-Signature: {ANNE.words(text)}".encode(),
        f"X-Timestamp: {stamp}".encode(),
        b"Connection: close",
    ]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    status = (await reader.read()).split(b" ", 2)[1]
    writer.close()
    await writer.wait_closed()

    assert status == b"400"


async def test_a_body_that_is_too_long_is_told_so(service: Service) -> None:
    body = b"x" * (service.app[SETTINGS].body_max_bytes + 1)
    headers = Signed(service, ANNE, body=body).headers()

    answer = await call(service, "POST", "/test/act", body, **headers)

    assert answer.outcome == (413, "PAYLOAD_TOO_LARGE")


# Which service a request is signed for


async def ask(service: Service, signed: Signed, host: str, **changes: str) -> tuple[int, str]:
    """Send a signed request with its method and target to whatever host is named."""
    headers = signed.headers(Host=host, **changes)
    data = signed.body or None
    answer = await call(service, signed.method, signed.target, data, **headers)
    return (200, "") if answer.status == 200 else answer.outcome


@pytest.mark.parametrize("key", [ANNE, EVE], ids=["solana", "evm"])
@pytest.mark.parametrize(
    ("host", "at", "good"),
    [
        ("shop.example", "http://shop.example", True),
        ("Shop.Example:80", "http://shop.example", True),
        ("shop.example:8402", "http://shop.example:8402", True),
        ("[::1]:80", "http://[::1]", True),
        ("shop.example:80", "http://shop.example:80", False),
        ("shop.example:443", "http://shop.example", False),
        ("shop.example", "https://shop.example", False),
        ("shop.example", "http://Shop.Example", False),
        ("shop.example", "http://other.example", False),
        ("other.example", "http://shop.example", False),
        ("shop.example/x", "http://shop.example/x", False),
        ("a b", "http://a b", False),
    ],
)
async def test_without_a_public_url_the_host_that_is_asked_is_signed(
    service: Service, key: Key, host: str, at: str, *, good: bool
) -> None:
    signed = Signed(service, key, "GET", "/test/proof", b"", at=at)

    assert await ask(service, signed, host) == ((200, "") if good else BAD_SIGNATURE)


PUBLIC: Final = {
    "the service has the prefix": ("https://Shop.example:443/a/b", "/a/b", "/a/b"),
    "a proxy cuts the path off": ("https://Shop.example:443/a/b", "", ""),
    "a proxy cuts half of it off": ("https://Shop.example:443/a/b", "/b", "/b"),
}


@pytest.mark.parametrize(("public", "prefix", "sent"), PUBLIC.values(), ids=list(PUBLIC))
async def test_with_a_public_url_only_what_is_signed_for_it_is_taken(
    tmp_path: Path, public: str, prefix: str, sent: str
) -> None:
    def prepare(app: web.Application) -> None:
        register(app, ROUTES, prefix=prefix)

    async with serving(
        tmp_path, prepare=prepare, watched=False, public_url=public, path_prefix=prefix
    ) as service:
        token = token_of(service, ANNE.address)
        ours, cut, apart = "https://shop.example", "/a/b".removesuffix(prefix), count()

        async def outcome(path: str, at: str, host: str = "shop.example") -> tuple[int, str]:
            """Ask for a path as it arrives behind the proxy, signed below what it cuts off."""
            # Two equal requests of one millisecond have one signature, which is good once.
            signed = Signed(service, ANNE, "GET", sent + path, b"", next(apart), at)
            return await ask(service, signed, host)

        for path in ("/test/proof", f"/t/{token}/test/proof", "/test/proof?b=%41&a=1+2&b="):
            assert await outcome(path, ours + cut) == (200, "")
        for host in ("shop.example:443", "SHOP.example"):
            assert await outcome("/test/proof", ours + cut, host) == (200, "")
        for at in (
            "",
            "https://shop.example/other",
            "https://shop.example:443" + cut,
            "http://shop.example" + cut,
            "https://other.example" + cut,
            service.url + cut,
        ):
            assert await outcome("/test/proof", at) == BAD_SIGNATURE, at
        for host in ("other.example", "shop.example:80", "a b", service.url[7:]):
            assert await outcome("/test/proof", ours + cut, host) == BAD_SIGNATURE, host


async def test_the_order_of_a_query_and_its_letters_are_signed_as_they_are_sent(
    service: Service,
) -> None:
    for target in ("/test/act?b=2&a=1", "/test/act?a=%31&b=2", "/test/act?a=1&b=2&"):
        headers = Signed(service, ANNE, target=target).headers()
        other = await call(service, "POST", "/test/act?a=1&b=2", BODY, **headers)
        assert other.outcome == BAD_SIGNATURE
        assert (await call(service, "POST", target, BODY, **headers)).status == 200


@pytest.mark.parametrize("at", ["", "http://localhost", "http://other.example"])
async def test_a_whole_url_as_the_target_is_no_way_around_the_host(
    service: Service, at: str
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    target = "http://other.example/test/proof"
    headers = Signed(service, ANNE, "GET", target, b"", at=at).headers()
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.split(b" ", 2)[1] == b"401"
    assert b"INVALID_SIGNATURE" in answer


async def test_the_example_in_the_documents_is_what_is_signed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "auth.md").read_text("utf-8")
    pattern = r"^((\w+):(https://.+):(\d+):([0-9a-f]{64}))$"
    [(example, method, url, stamp, digest)] = re.findall(pattern, text, re.MULTILINE)
    [body] = re.findall(r"`(\{\"from\".*\})`", text)

    assert digest == sha256(body.encode()).hexdigest()
    assert signed_text(method, url, stamp, digest) == example.encode()
    assert json.loads(body)["from"] == ANNE.address
    assert f"`{ANNE.words(example.encode())}`" in text


# How much is remembered, and how long a body may be


async def test_a_wallet_that_used_up_its_share_keeps_nobody_else_out(
    service: Service, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.app[CHALLENGES], "signatures", Once(100, most_each=2))
    token, before = token_of(service, ANNE.address), clock.offset_ms

    async def asked(key: Key, skew_ms: int) -> Answer:
        headers = Signed(service, key, skew_ms=skew_ms).headers()
        return await call(service, "POST", "/test/act", BODY, **headers)

    try:
        found = [await asked(ANNE, skew) for skew in (0, 1, 2)]
        others = [await asked(key, 3) for key in (BERT, EVE)]
        by_token = await call(service, "POST", "/test/act", BODY, Authorization=f"Bearer {token}")
        clock.offset_ms += 1000 * int(found[2].headers["Retry-After"])
        later = await asked(ANNE, 0)
    finally:
        clock.offset_ms = before

    assert [answer.status for answer in found] == [200, 200, 429]
    assert found[2].outcome == (429, "RATE_LIMITED")
    assert 60 <= int(found[2].headers["Retry-After"]) <= 76
    assert found[2].body["details"] == {"retry_after": int(found[2].headers["Retry-After"])}
    assert [answer.status for answer in (*others, by_token, later)] == [200] * 4


async def test_each_holder_has_a_share_and_the_whole_has_an_end() -> None:
    once, now = Once(3, most_each=2), UnixMs(1_000_000)

    def use(key: bytes, holder: str, at: UnixMs = now) -> bool:
        return once.use(key, at + 60_000, at, holder=holder)

    assert [use(b"a", "anne"), use(b"b", "anne"), use(b"a", "anne")] == [True, True, False]
    with pytest.raises(RateLimited) as refused:
        use(b"c", "anne")
    assert use(b"c", "bert")
    with pytest.raises(Overloaded):
        use(b"d", "eve")
    assert not use(b"b", "anne")
    with pytest.raises(Overloaded):
        use(b"c2", "anne", UnixMs(now + 60_000 - 1))
    assert use(b"c2", "anne", UnixMs(now + 1000 * refused.value.retry_after))


async def test_the_real_share_is_a_small_part_of_the_whole(service: Service) -> None:
    used = Challenges().signatures
    now = service.app[LEDGER].clock()
    keys = [number.to_bytes(2, "big") for number in range(MOST_SIGNATURES_EACH + 1)]

    assert all(used.use(key, now + 60_000, now, holder="anne") for key in keys[:-1])
    with pytest.raises(RateLimited):
        used.use(keys[-1], now + 60_000, now, holder="anne")
    assert used.use(keys[-1], now + 60_000, now, holder="bert")


def long_body(service: Service) -> bytes:
    """Return a body that is longer than most routes take."""
    return b"x" * (service.app[SETTINGS].body_max_bytes + 1)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


@pytest.mark.parametrize("chunked", [False, True])
async def test_where_a_deliverable_may_come_a_long_body_may_be_signed(
    service: Service, *, chunked: bool
) -> None:
    for body in (BODY, long_body(service), b"x" * room_in_json(service.app[SETTINGS])):
        headers = Signed(service, ANNE, target="/test/long", body=body).headers()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url, data = f"{service.url}/test/long", pieces(body) if chunked else BytesIO(body)
        async with service.session.post(url, data=data, headers=sent) as response:
            assert await response.json() == {"wallet": ANNE.address, "bytes": len(body)}


async def test_a_long_body_has_an_end_too(service: Service) -> None:
    body = b"x" * (room_in_json(service.app[SETTINGS]) + 1)
    headers = Signed(service, ANNE, target="/test/long", body=body).headers()

    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{service.url}/test/long"
    async with service.session.post(url, data=BytesIO(body), headers=sent) as response:
        told = await response.json()

    assert (response.status, told["error"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_long_bodies_of_nobody_knows_whom_are_held_a_few_at_a_time(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, prepare=with_routes, watched=False, body_timeout=0.2) as service:
        places, body = service.app[LONG_BODIES], long_body(service)

        async def outcome(data: bytes) -> tuple[int, str]:
            signed = Signed(service, ANNE, target="/test/long", body=data)
            return await ask(service, signed, service.url[7:])

        for _ in range(LONG_AT_ONCE):
            await places.acquire()
        full = [await outcome(body), await outcome(BODY)]
        places.release()
        forged = Signed(service, ANNE, target="/test/long", body=body)
        for _ in range(LONG_AT_ONCE + 1):
            wrong = forged.headers(X_Signature="1" * 64)
            answer = await call(service, "POST", "/test/long", body, **wrong)
            assert answer.outcome == BAD_SIGNATURE

        assert full == [(503, "SERVICE_UNAVAILABLE"), (200, "")]
        assert await outcome(body) == (200, ""), "what was refused gave its place back"


async def test_a_long_result_is_delivered_by_a_signed_request(tmp_path: Path) -> None:
    async with market(tmp_path, "headers") as m:
        provider = await m.provider()
        agent_id = await provider.register()
        talk = await (await m.consumer()).start_conversation(agent_id, "hello")
        order_id, _ = await m.paid_order(provider, talk)
        body = {"agentWallet": AGENT.address, "result": "x" * 900_000}

        delivered = await provider.wire.call("POST", f"/orders/{order_id}/deliver", body)

        assert delivered["status"] == "DELIVERED"
        asked = {"wallet": talk.consumer.wallet.address}
        found = await talk.consumer.wire.get(f"/conversations/{talk.id}/deliveries", **asked)
        [ready] = rows(found, "deliveries")
        assert len(ready["result"]) == 900_000


# Acting for a wallet


async def test_strictly_only_the_proven_wallet_acts(service: Service) -> None:
    token = f"Bearer {token_of(service, EVE.address)}"

    nobody = [
        await call(service, "POST", "/test/act" + query, BODY)
        for query in ("", f"?wallet={EVE.address}", "?wallet=alice", "?wallet=", "?wallet=a%20b")
    ]
    mine = [
        await call(service, "POST", "/test/act" + query, BODY, Authorization=token)
        for query in ("", f"?wallet={EVE.address}", f"?wallet={EVE.address.lower()}")
    ]
    others = [
        await call(service, "POST", f"/test/act?wallet={name}", BODY, Authorization=token)
        for name in (ANNE.address, "alice", "0x" + "1" * 40)
    ]
    bad = await call(service, "POST", "/test/act?wallet=a%20b", BODY, Authorization=token)

    assert [answer.outcome for answer in nobody] == [UNAUTHORIZED] * 5
    assert nobody[0].headers["WWW-Authenticate"] == REALM
    assert [a.body["wallet"] for a in mine] == [EVE.address.lower()] * 3
    assert [answer.outcome for answer in others] == [(403, "UNAUTHORIZED_ACCESS")] * 3
    assert bad.outcome == (400, "INVALID_REQUEST")


async def test_openly_a_claim_is_believed_where_nothing_proves_it(open_service: Service) -> None:
    for name in ("alice", ANNE.address, EVE.address):
        answer = await call(open_service, "POST", f"/test/act?wallet={name}", BODY)
        assert (answer.body["wallet"], answer.body["how"]) == (spelled(name), "open")
    for query, outcome in (
        ("", UNAUTHORIZED),
        ("?wallet=", (400, "INVALID_REQUEST")),
        ("?wallet=provider", (400, "INVALID_REQUEST")),
        ("?wallet=WORKERS", (400, "INVALID_REQUEST")),
        ("?wallet=a:b", (400, "INVALID_REQUEST")),
    ):
        answer = await call(open_service, "POST", "/test/act" + query, BODY)
        assert answer.outcome == outcome


async def test_openly_too_what_is_sent_has_to_hold(open_service: Service) -> None:
    token = token_of(open_service, ANNE.address)
    path = f"/test/act?wallet={ANNE.address}"

    good = await call(open_service, "POST", path, BODY, Authorization=f"Bearer {token}")
    forged = await call(open_service, "POST", path, BODY, Authorization=f"Bearer {token}0")
    other = await call(open_service, "POST", f"/t/{token}/test/act?wallet=alice", BODY)
    unsigned = await call(open_service, "POST", path, BODY, X_Wallet_Address=ANNE.address)

    assert (good.body["wallet"], good.body["how"]) == (ANNE.address, "token")
    assert forged.outcome == UNAUTHORIZED
    assert other.outcome == (403, "UNAUTHORIZED_ACCESS")
    assert unsigned.outcome == BAD_SIGNATURE


# What is told of it


@pytest.mark.parametrize("mode", ["strict", "open"])
async def test_the_open_mode_is_said_loudly_and_the_strict_one_is_not(
    mode: Literal["strict", "open"],
) -> None:
    with heard() as said:
        warn_if_open(Settings.model_construct(aether_auth=mode))

    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [line["level"] for line in lines] == (["warning"] if mode == "open" else [])
    assert all("WITHOUT PROOF" in line["event"] for line in lines)


async def test_a_token_in_a_path_is_in_no_answer_and_no_log(service: Service) -> None:
    token = token_of(service, ANNE.address, scoped=True)
    ends = ("/test/proof", "/test/act", "/test/fail", "/no/such/path", "/test/act?wallet=a%20b")
    answers: list[tuple[int, str]] = []
    with heard() as said:
        for part, end, method in product(
            (token, token + "0", token[:-1] + "~"), ends, ("GET", "POST", "DELETE", "OPTIONS")
        ):
            url = URL(f"{service.url}/t/{part}{end}", encoded=True)
            async with service.session.request(method, url) as response:
                shown = f"{response.headers} {await response.text()}"
                answers.append((response.status, shown))

    assert {status for status, _ in answers} >= {200, 204, 400, 401, 404, 405, 500}
    lines = said.getvalue().splitlines()
    assert [json.loads(line)["route"] for line in lines] == ["/t/{token}/test/fail"]
    assert "RuntimeError: a bug" in lines[0]
    assert token[:40] not in f"{answers} {lines}"


async def test_headers_of_a_signed_request_may_come_from_a_page(service: Service) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    async with service.session.options(f"{service.url}/test/act", headers=headers) as response:
        allowed = response.headers["Access-Control-Allow-Headers"].split(", ")

    assert {"Authorization", "X-Wallet-Address", "X-Signature", "X-Timestamp"} <= set(allowed)


async def test_no_proof_is_looked_for_in_a_folder(tmp_path: Path) -> None:
    """Two services share no secret: the token of one proves nothing to the other."""
    async with (
        serving(tmp_path / "one", prepare=with_routes, watched=False) as one,
        serving(tmp_path / "two", prepare=with_routes, watched=False) as two,
    ):
        token = token_of(one, ANNE.address)
        assert (await call(one, "GET", f"/t/{token}/test/proof")).status == 200
        assert (await call(two, "GET", f"/t/{token}/test/proof")).outcome == UNAUTHORIZED
