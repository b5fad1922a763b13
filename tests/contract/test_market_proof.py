"""Who asks on a marketplace route: tokens and signed requests in every form, and the open mode."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from itertools import product
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

from api.aether.proof import NotYourWallet, ProofRefused, acting_wallet, proven, warn_if_open
from api.config import Settings
from api.keys import LEDGER, SETTINGS, TOKENS
from api.routes import Route, register
from ledger.values import UnixMs
from tests.contract.callers import Answer
from tests.contract.kit import MovableClock, Service, serving
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

    @property
    def stamp(self) -> str:
        return str(self.service.app[LEDGER].clock() + self.skew_ms)

    def headers(self, **changes: str) -> dict[str, str]:
        stamp = changes.get("X_Timestamp", self.stamp)
        text = f"{self.method}:{self.target}:{stamp}:{sha256(self.body).hexdigest()}".encode()
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
        {"target": "http://127.0.0.1/test/act"},
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


@pytest.mark.parametrize("skew_ms", [-59_000, 59_000])
async def test_a_request_may_be_signed_a_little_early_or_late(
    service: Service, skew_ms: int
) -> None:
    headers = Signed(service, ANNE, skew_ms=skew_ms).headers()

    assert (await call(service, "POST", "/test/act", BODY, **headers)).status == 200


@pytest.mark.parametrize("skew_ms", [-61_000, 61_000, 10**9])
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
    text = f"GET:/test/proof?a=\udcff:{stamp}:{EMPTY}".encode("utf-8", "surrogateescape")
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
