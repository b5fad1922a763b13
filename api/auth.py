"""Who asks: signing in with a wallet, and the one middleware that lets routes choose by role."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, Field, StringConstraints

from api.answers import Time, json_response
from api.body import read_model
from api.ivxp.models import AnyWallet, Message
from api.keys import CHALLENGES, LEDGER, SETTINGS, TOKENS
from api.routes import ORDER_PART, Route, route_of
from api.siwx import CHALLENGE_MS, Site
from api.tokens import (
    MAX_LIFE_MS,
    MAX_SCOPED_DAYS,
    Caller,
    Forbidden,
    Role,
    Scope,
    TokenRefused,
)
from ledger.decide_deal import side_of
from ledger.errors import InvalidInput, NotFound, Overloaded, StoreUnavailable
from ledger.values import UnixMs, is_order_id, iso_of
from ledger.wallets import parse_address_of_either

CALLER: Final = web.RequestKey("caller", Caller)
EVERYBODY: Final = frozenset(Role)
"""Any wallet that signed in."""

_STAFF: Final = frozenset({Role.OPERATOR, Role.WORKER})
_HOST: Final = re.compile(r"[a-z0-9.:\[\]-]{1,253}", re.ASCII)
_BEARER: Final = "bearer "
_BEARER_WORD: Final = "bearer."
_NO_STORE: Final = {"Cache-Control": "no-store"}

_REVOKE: Final = "/v1/auth/revoke"


class ChallengeRequest(Message):
    """POST /v1/auth/challenge."""

    address: AnyWallet


class ChallengeResponse(BaseModel):
    """The text to sign, byte for byte: EIP-4361's, or for a Solana wallet its like."""

    message: str
    expires_at: Time


class TokenRequest(Message):
    """POST /v1/auth/token, by its other name POST /v1/auth/tokens.

    With a `scope` the token opens marketplace routes alone, so it may stand in a URL, and holds
    for as many `days` as are asked for.
    """

    message: str
    signature: str
    scope: Scope | None = None
    days: Annotated[int, Field(ge=1, le=MAX_SCOPED_DAYS)] | None = None


class TokenResponse(BaseModel):
    """A token for `Authorization: Bearer`; `token_id` names it when it is to be revoked."""

    token: str
    token_type: Literal["Bearer"]
    token_id: str
    wallet: AnyWallet
    roles: list[Role]
    scope: Scope | None = None
    expires_at: Time


class RevokeRequest(Message):
    """POST /v1/auth/revoke: a token id, or a wallet; neither is the token that is sent."""

    token_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    wallet: AnyWallet | None = None


class RevokedTokens(BaseModel):
    """One token, or all of a wallet."""

    token_id: str | None = None
    wallet: AnyWallet | None = None


class RevokeResponse(BaseModel):
    """What was taken back."""

    revoked: RevokedTokens


async def post_challenge(request: web.Request) -> web.Response:
    """Return the text that a wallet signs to sign in."""
    said = await read_model(request, ChallengeRequest)
    now, wallet = request.app[LEDGER].clock(), _wallet(said.address, "address")
    message = request.app[CHALLENGES].message(_site(request), wallet, now)
    body = {"message": message, "expires_at": iso_of(UnixMs(now + CHALLENGE_MS))}
    return json_response(body, headers=_NO_STORE)


async def post_token(request: web.Request) -> web.Response:
    """Return a token for a signed challenge."""
    said = await read_model(request, TokenRequest)
    if said.days is not None and said.scope is None:
        raise InvalidInput("days: goes with a scope", details={"field": "days"})
    now = request.app[LEDGER].clock()
    wallet = request.app[CHALLENGES].prove(_site(request), said.message, said.signature, now)
    token, caller = request.app[TOKENS].issue(wallet, now, scope=said.scope, days=said.days or 1)
    body = {
        "token": token,
        "token_type": "Bearer",
        "token_id": caller.token_id,
        "wallet": wallet,
        "roles": sorted(caller.roles),
        "expires_at": iso_of(UnixMs(caller.expires_ms)),
    }
    if caller.scope is not None:
        body["scope"] = caller.scope
    return json_response(body, headers=_NO_STORE)


async def post_revoke(request: web.Request) -> web.Response:
    """Take back a token, or all of a wallet's; durable before the answer."""
    said, caller = await read_model(request, RevokeRequest), request[CALLER]
    if said.token_id is not None and said.wallet is not None:
        raise InvalidInput("name a token_id or a wallet, not both")
    tokens, now = request.app[TOKENS], request.app[LEDGER].clock()
    revoked = tokens.revoked
    operator = Role.OPERATOR in caller.roles
    # Who holds a token for one order has proven no wallet, and one in a URL may be seen by others:
    # each takes back itself and nothing else.
    whole = caller.order is None and caller.scope is None
    try:
        if said.wallet is not None:
            wallet = _wallet(said.wallet, "wallet")
            _require(operator or (wallet == caller.wallet and whole))
            await asyncio.to_thread(revoked.wallet, wallet, now)
            return json_response({"revoked": {"wallet": wallet}})
        token_id = said.token_id or caller.token_id
        own = token_id == caller.token_id
        given = whole and tokens.is_given_by(token_id, caller.wallet)
        _require(operator or own or given)
        until = UnixMs(caller.expires_ms if own else now + MAX_LIFE_MS)
        await asyncio.to_thread(revoked.token, token_id, until, now)
    except OSError as error:
        raise StoreUnavailable("the revocation could not be kept; ask again") from error
    return json_response({"revoked": {"token_id": token_id}})


@web.middleware
async def require_role(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a caller through to a route with roles only if it has one of them.

    Without a good token the answer is 401, whatever the path. With one that is not enough, an
    order's path answers as if there were no such order, and any other path 403.
    """
    route = route_of(request)
    if route is None or not route.roles:
        return await handler(request)
    caller = presented(request)
    if caller.scope is not None and route.path != _REVOKE:
        raise TokenRefused("this token opens marketplace routes only; sign in without a scope")
    if not await _may(request, route, caller):
        if ORDER_PART in route.path:
            raise NotFound("no order has this id")
        raise Forbidden("this wallet has no role that may ask for this")
    request[CALLER] = caller
    return await handler(request)


def presented(request: web.Request) -> Caller:
    """Return the caller that the request's token stands for, or raise `TokenRefused`."""
    headers = request.headers.getall("Authorization", []) or _offered(request)
    if len(headers) != 1 or not headers[0].lower().startswith(_BEARER):
        raise TokenRefused("send Authorization: Bearer with a token of POST /v1/auth/token")
    token = headers[0][len(_BEARER) :].strip()
    return request.app[TOKENS].read(token, request.app[LEDGER].clock())


def _offered(request: web.Request) -> list[str]:
    """Return what a page in a browser sends for `Authorization` when it opens a WebSocket.

    It can set no header of its own, so the token comes as one of the protocols that it offers.
    """
    route = route_of(request)
    if route is None or not route.upgrades:
        return []
    words = ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")
    tokens = [word.strip() for word in words if word.strip().startswith(_BEARER_WORD)]
    return [_BEARER + token.removeprefix(_BEARER_WORD) for token in tokens]


def is_staff(request: web.Request) -> bool:
    """Whether the operator or a worker asks; what they write is not counted against an address."""
    if "Authorization" not in request.headers:
        return False
    try:
        return bool(presented(request).roles & _STAFF)
    except TokenRefused:
        return False


async def _may(request: web.Request, route: Route, caller: Caller) -> bool:
    if caller.order is not None:
        named = request.match_info.get("order_id", caller.order)
        return Role.ARBITER in route.roles and named == caller.order
    if caller.roles & (route.roles - {Role.PARTY}):
        return True
    if Role.PARTY not in route.roles:
        return False
    return ORDER_PART not in route.path or await _is_party(request, caller)


async def _is_party(request: web.Request, caller: Caller) -> bool:
    order_id = request.match_info["order_id"]
    order = await request.app[LEDGER].order(order_id) if is_order_id(order_id) else None
    return order is not None and side_of(order, caller.wallet) is not None


def _wallet(text: str, field: str) -> str:
    try:
        return parse_address_of_either(text)
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error.message}", details={"field": field}) from error


def _require(allowed: bool) -> None:  # noqa: FBT001 - reads as a sentence where it is called
    if not allowed:
        raise Forbidden("only the operator may revoke what is another's")


def asked_at(request: web.Request) -> tuple[str, str]:
    """Return scheme and authority of the service: PUBLIC_URL's, or without one what was asked."""
    public = urlsplit(request.app[SETTINGS].public_url)
    authority = (public.netloc or request.host).lower()
    if not _HOST.fullmatch(authority):
        raise InvalidInput("the Host header names no host")
    return public.scheme or request.scheme, authority


def _site(request: web.Request) -> Site:
    """Return where the caller signs in."""
    settings = request.app[SETTINGS]
    scheme, domain = asked_at(request)
    uri = settings.public_url or f"{scheme}://{domain}"
    network = settings.solana_network
    return Site(domain, uri, settings.chain_id, network, settings.origin)


AUTH_ROUTES: Final = [
    Route(
        "POST",
        "/v1/auth/challenge",
        post_challenge,
        "Get a text to sign in with",
        request=ChallengeRequest,
        response=ChallengeResponse,
        writes=True,
    ),
    *(
        Route(
            "POST",
            path,
            post_token,
            "Sign in",
            request=TokenRequest,
            response=TokenResponse,
            writes=True,
            errors=frozenset({Overloaded}),
        )
        for path in ("/v1/auth/token", "/v1/auth/tokens")
    ),
    Route(
        "POST",
        _REVOKE,
        post_revoke,
        "Take a token back",
        request=RevokeRequest,
        response=RevokeResponse,
        writes=True,
        roles=EVERYBODY,
        errors=frozenset({Forbidden, StoreUnavailable}),
    ),
]
