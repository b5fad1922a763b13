"""`Idempotency-Key`: a POST that is sent again gets the first answer, and does nothing twice.

What changes an order or a conversation stores its answer in the transaction of its events. Every
other answer (sign-in, a worker's lease, an agent's profile) is remembered in memory: those acts may
be done twice.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from api.aether.proof import PROOF
from api.answers import LEDGER_HEAD, REPLAYED, ledger_head, replayed_response
from api.auth import CALLER
from api.body import read_body
from api.keys import LEDGER, SETTINGS, TOKENS
from api.limits import client_address
from api.routes import route_of
from ledger.errors import InvalidInput, LedgerError

KEY: Final = "Idempotency-Key"
MAX_RECENT: Final = 4096
_KEY: Final = re.compile(r'"?(?P<key>[!#-~]{1,255})"?', re.ASCII)
_SUCCESS: Final = range(200, 300)


class KeyReused(LedgerError):
    """The key was used before for another request; nothing was recorded."""

    code = "IDEMPOTENCY_KEY_REUSED"


class KeyInFlight(LedgerError):
    """A request with this key is being worked on."""

    code = "IDEMPOTENCY_KEY_IN_FLIGHT"
    retryable = True


@dataclass(slots=True)
class Asked:
    """A request with a key: who asked what. `stored` says that the ledger keeps the answer."""

    request_id: bytes
    fingerprint: bytes
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Recent:
    """An answer in memory."""

    fingerprint: bytes
    body: bytes
    headers: dict[str, str]


class Once:
    """Which keyed requests are being worked on, and the newest answers that no ledger keeps."""

    def __init__(self) -> None:
        self._running: set[bytes] = set()
        self._recent: OrderedDict[bytes, Recent] = OrderedDict()

    @contextmanager
    def running(self, request_id: bytes) -> Iterator[None]:
        """Hold a key for the length of a block, or raise `KeyInFlight`."""
        if request_id in self._running:
            raise KeyInFlight("a request with this key is being worked on; send it again")
        self._running.add(request_id)
        try:
            yield
        finally:
            self._running.discard(request_id)

    def recent(self, request_id: bytes) -> Recent | None:
        """Return an answer in memory, or None."""
        return self._recent.get(request_id)

    def forget(self) -> None:
        """Drop the answers in memory: words that are erased now may stand in them."""
        self._recent.clear()

    def keep(self, request_id: bytes, answer: Recent) -> None:
        """Keep an answer, and forget the oldest of too many."""
        self._recent[request_id] = answer
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)


ASKED: Final = web.RequestKey("asked", Asked)
ONCE: Final = web.AppKey("once", Once)


@web.middleware
async def once_per_key(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a repeat of a keyed POST as the first time."""
    route = route_of(request)
    if request.method != "POST" or KEY not in request.headers or route is None:
        return await handler(request)
    if route.bytes_are_the_key:
        return await handler(request)
    asked = await _asked(request, route.path)
    once = request.app[ONCE]
    with once.running(asked.request_id):
        # Looked up while the key is held: an answer that is stored meanwhile is not missed.
        known = _known(request, asked)
        if known is not None:
            return known
        request[ASKED] = asked
        response = await handler(request)
        if not asked.stored:
            _keep(once, asked, response)
        return response


async def _asked(request: web.Request, path: str) -> Asked:
    match = _KEY.fullmatch(request.headers[KEY])
    if match is None:
        msg = f"{KEY}: has 1 to 255 visible characters"
        raise InvalidInput(msg, details={"field": KEY})
    body = await read_body(request)
    named = f"{path}\n{_party(request, body)}\n{match['key']}"
    what = request.rel_url.raw_path_qs.encode() + b"\n" + body
    # Made with a secret: the body may hold words that are erased one day, and a plain hash of
    # them would let anybody confirm a guess.
    tokens = request.app[TOKENS]
    return Asked(tokens.digest(b"key", named.encode()), tokens.digest(b"request", what))


def _party(request: web.Request, body: bytes) -> str:
    """Return whose key it is: that of an order, a signed-in caller, or a wallet in the body.

    The wallet in the body is unproven, so there the key is that of the network address as well.
    """
    caller = request.get(CALLER)
    proof = request.get(PROOF)
    wallet = caller.wallet if caller else proof.wallet if proof else ""
    said = _object(body)
    agent = said.get("client_agent")
    named = agent.get("wallet_address") if isinstance(agent, dict) else ""
    order = request.match_info.get("order_id") or said.get("order_id") or ""
    address = ""
    if not order and not wallet:
        address = client_address(request, request.app[SETTINGS].proxy_networks)
    # Case says something in a Solana wallet alone.
    return f"{order} {named} {address}".lower() + f" {wallet}"


def _object(body: bytes) -> dict[str, object]:
    """Return the body if it is an object; a body that is none is refused by its handler."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _known(request: web.Request, asked: Asked) -> web.Response | None:
    stored = request.app[LEDGER].store.answer(asked.request_id)
    recent = request.app[ONCE].recent(asked.request_id)
    given = stored or recent
    if given is None:
        return None
    if given.fingerprint != asked.fingerprint:
        raise KeyReused("this key was used for another request; take a new one")
    if stored is not None:
        return replayed_response(request, orjson.loads(stored.body), stored.position)
    assert recent is not None  # noqa: S101 - one of both was found
    head = {LEDGER_HEAD: ledger_head(request.app[LEDGER].head)}
    return web.Response(body=recent.body, headers={**recent.headers, **head, REPLAYED: "true"})


def _keep(once: Once, asked: Asked, response: web.StreamResponse) -> None:
    if response.status in _SUCCESS and isinstance(response, web.Response):
        body = response.body
        if isinstance(body, bytes):
            names = ("Content-Type", "Cache-Control")
            headers = {name: response.headers[name] for name in names if name in response.headers}
            once.keep(asked.request_id, Recent(asked.fingerprint, body, headers))
