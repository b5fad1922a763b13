"""Who asks on a marketplace route: a token or a signed request proves it, in whatever form.

Its clients send no header of their own, so a token may stand in what a URL can hold: credentials
before the host, or a part of the path. Nothing here writes a token to a log or an answer.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import unquote, urlsplit

import structlog
from aiohttp import web

from api.auth import asked_at
from api.body import read_body
from api.config import Settings
from api.keys import CHALLENGES, LEDGER, SETTINGS, TOKENS
from api.routes import route_of
from api.siwx import signature_bytes
from api.tokens import Forbidden, TokenRefused
from api.work_content import read_long_body, room_in_json
from ledger.errors import InvalidInput, Overloaded, Unauthorized
from ledger.market_events import Proven
from ledger.values import UnixMs
from ledger.wallets import parse_address_of_either, parse_wallet

CAPABILITY_PART: Final = "token"
"""The part of a path that may be a token."""
WALLET_HEADER: Final = "X-Wallet-Address"
SIGNATURE_HEADER: Final = "X-Signature"
TIMESTAMP_HEADER: Final = "X-Timestamp"
MAX_SKEW_MS: Final = 60_000
LONG_AT_ONCE: Final = 16
"""Long bodies that are read at once before it is known who sends them."""

_BEARER: Final = "bearer "
_BASIC: Final = "basic "
_TIMESTAMP: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_DEFAULT_PORT: Final = {"http": ":80", "https": ":443"}
_IN_A_THREAD: Final = 256 * 1024
"""From here on hashing would hold up other requests."""

_log = structlog.get_logger(__name__)


class ProofRefused(TokenRefused):
    """Nobody is proven to ask, or what was sent proves nothing (any more)."""

    code = "UNAUTHORIZED_ACCESS"


class SignatureRefused(ProofRefused):
    """The headers that sign a request do not sign this one."""

    code = "INVALID_SIGNATURE"


class NotYourWallet(Forbidden):
    """It is proven who asks, and that is not who is named."""

    code = "UNAUTHORIZED_ACCESS"


@dataclass(frozen=True, slots=True)
class Proof:
    """A wallet in its one spelling, and how it is known that it asks."""

    wallet: str
    how: Proven


PROOF: Final = web.RequestKey("proof", Proof)
SIGNED_BODY: Final = web.RequestKey("signed_body", bytes)
"""The body, where it was read to find out who signed it."""
LONG_BODIES: Final = web.AppKey("long_bodies", asyncio.Semaphore)


async def proven(request: web.Request) -> Proof | None:
    """Return who is proven to ask; None if nothing was sent that could prove it.

    Everything that was sent has to hold and to name one wallet, or it raises `ProofRefused`.
    """
    found: Proof | None = request.get(PROOF)
    if found is not None:  # a signature is good once, and this request has used it
        return found
    proofs = [Proof(wallet, "token") for wallet in _of_tokens(request)]
    if WALLET_HEADER in request.headers or SIGNATURE_HEADER in request.headers:
        # First: it says more of this very request than a token does.
        proofs.insert(0, Proof(await _of_headers(request), "signature"))
    if len({proof.wallet for proof in proofs}) > 1:
        raise ProofRefused("the request proves two different wallets")
    if not proofs:
        return None
    request[PROOF] = proofs[0]
    return proofs[0]


async def acting_wallet(request: web.Request, claimed: str | None) -> Proof:
    """Return who acts, where the request itself may name a wallet.

    What is named has to be who is proven. Only in the open mode, and only where nothing was sent
    that could prove it, is it believed.
    """
    proof = await proven(request)
    if proof is None and (claimed is None or request.app[SETTINGS].aether_auth == "strict"):
        raise ProofRefused("prove the wallet: a token of POST /v1/auth/token, or signed headers")
    if claimed is None and proof is not None:
        return proof
    wallet = parse_wallet(claimed or "")
    if proof is None:
        return Proof(wallet, "open")
    if wallet != proof.wallet:
        raise NotYourWallet("the wallet that is named is not the one that is proven")
    return proof


def warn_if_open(settings: Settings) -> None:
    """Say loudly at the start that claims pass unproven."""
    if settings.aether_auth == "open":
        _log.warning(
            "MARKETPLACE WITHOUT PROOF: who asks is whoever they say they are. Every program on "
            "this machine, and every page in a browser on it that LEDGER_CORS_ORIGINS lets in, can "
            "read and write in the name of any wallet. This is for development alone.",
            setting="LEDGER_AETHER_AUTH",
            value=settings.aether_auth,
        )


def _of_tokens(request: web.Request) -> list[str]:
    """Return the wallets of all tokens that were sent."""
    found = []
    headers = request.headers.getall("Authorization", [])
    if len(headers) > 1:
        raise ProofRefused("the request has more than one Authorization")
    for header in headers:
        scheme = header.lower()
        if scheme.startswith(_BASIC):
            found.append(_of_basic(request, header[len(_BASIC) :].strip()))
        elif scheme.startswith(_BEARER):
            found.append(_of_token(request, header[len(_BEARER) :].strip()))
        else:
            raise ProofRefused("Authorization is Bearer with a token, or Basic with wallet:token")
    if CAPABILITY_PART in request.match_info:
        found.append(_of_token(request, request.match_info[CAPABILITY_PART]))
    return found


def _of_basic(request: web.Request, text: str) -> str:
    """Return the wallet of `wallet:token`; some clients leave a URL's percent signs in them."""
    try:
        name, _, token = b64decode(text, validate=True).decode("ascii").partition(":")
        named = parse_address_of_either(unquote(name, errors="strict"))
        word = unquote(token, errors="strict")
    except (ValueError, InvalidInput) as error:
        raise ProofRefused("Basic holds wallet:token in base64") from error
    wallet = _of_token(request, word)
    if wallet != named:
        raise ProofRefused("the token is not that of the wallet before it")
    return wallet


def _of_token(request: web.Request, token: str) -> str:
    try:
        caller = request.app[TOKENS].read(token, request.app[LEDGER].clock())
    except TokenRefused as error:
        raise ProofRefused(error.message) from error
    if caller.order is not None:
        raise ProofRefused("a token for one order proves no wallet")
    return caller.wallet


async def _of_headers(request: web.Request) -> str:
    """Return the wallet that signed this request just now, each signature once."""
    named, signature, stamp = (
        _one(request, name) for name in (WALLET_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER)
    )
    now = request.app[LEDGER].clock()
    if not _TIMESTAMP.fullmatch(stamp) or abs(now - int(stamp)) > MAX_SKEW_MS:
        raise SignatureRefused(f"{TIMESTAMP_HEADER}: Unix milliseconds, at most 60 s from now")
    try:
        wallet = parse_address_of_either(named)
    except InvalidInput as error:
        raise SignatureRefused(f"{WALLET_HEADER}: {error.message}") from error
    url = signed_url(request)
    async with _body_of(request) as body:
        text = signed_text(request.method, url, stamp, await _digest(body))
        try:
            raw = signature_bytes(wallet, text, signature)
        except Unauthorized as error:
            raise SignatureRefused(error.message) from error
    until = UnixMs(int(stamp) + MAX_SKEW_MS + 1)
    used = request.app[CHALLENGES].signatures
    if not used.use(wallet.encode() + raw, until, now, holder=wallet):
        raise SignatureRefused("the signature was used before; sign each request anew")
    request[SIGNED_BODY] = body
    return wallet


def signed_text(method: str, url: str, stamp: str, digest: str) -> bytes:
    """Return what the headers sign; `digest` is the SHA-256 of the body in hexadecimal."""
    # The server keeps a byte of a target that is no UTF-8 as half a surrogate pair.
    return f"{method}:{url}:{stamp}:{digest}".encode("utf-8", "surrogateescape")


def signed_url(request: web.Request) -> str:
    """Return the whole URL that the client asked for, so that no other service's will do.

    Scheme and authority are those of PUBLIC_URL. Without one they are what `Host` says, which binds
    the client to a name and not to this service: whoever passes a request on can send any `Host`.
    """
    settings = request.app[SETTINGS]
    try:
        scheme, authority = asked_at(request)
    except InvalidInput as error:
        raise SignatureRefused(error.message) from error
    ours = _without_default_port(scheme, authority)
    if _without_default_port(scheme, request.host.lower()) != ours:
        raise SignatureRefused("Host: is not that of this service's public URL")
    if not request.raw_path.startswith("/"):
        raise SignatureRefused("the request's target is no path")
    # What a proxy cuts off stands in PUBLIC_URL alone, the service's own prefix in the target too.
    cut_off = urlsplit(settings.public_url).path.removesuffix(settings.path_prefix)
    return f"{scheme}://{ours}{cut_off}{request.raw_path}"


def _without_default_port(scheme: str, authority: str) -> str:
    """Return an authority as URL parsers write it."""
    return authority.removesuffix(_DEFAULT_PORT[scheme])


@asynccontextmanager
async def _body_of(request: web.Request) -> AsyncIterator[bytes]:
    """Hold the body while it is not known who sent it: of long ones a few at a time."""
    settings, route = request.app[SETTINGS], route_of(request)
    length = request.content_length
    is_short = length is not None and length <= settings.body_max_bytes
    if is_short or route is None or not route.long_body:
        yield await read_body(request)
        return
    places = request.app[LONG_BODIES]
    try:
        async with asyncio.timeout(settings.body_timeout):
            await places.acquire()
    except TimeoutError as error:
        raise Overloaded("too many long bodies are being read; send it again") from error
    try:
        yield await read_long_body(request, room_in_json(settings))
    finally:
        places.release()


async def _digest(body: bytes) -> str:
    if len(body) > _IN_A_THREAD:
        return await asyncio.to_thread(_hex_digest, body)
    return _hex_digest(body)


def _hex_digest(body: bytes) -> str:
    return sha256(body).hexdigest()


def _one(request: web.Request, name: str) -> str:
    values = request.headers.getall(name, [])
    if len(values) != 1:
        raise SignatureRefused(f"{name}: is needed once, beside the other two")
    return values[0]
