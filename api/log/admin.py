"""The operator's acts on the log itself: adding and revoking keys, and its end."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, StringConstraints

from api.answers import proven_response
from api.body import read_model
from api.ivxp.models import Message
from api.ivxp.parties import signed_text
from api.ivxp.responses import LedgerBlock
from api.keys import LEDGER
from api.routes import Route, RouteHandler
from api.tokens import Role
from ledger.decide_log import AddKey, CloseLog, LogCommand, RevokeKey
from ledger.errors import Conflict, Rejected, Unauthorized
from ledger.event import ClientText
from ledger.log import LogState
from ledger.log_events import KeyAdded

OPERATOR: Final = frozenset({Role.OPERATOR})

Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Purpose = Literal["log", "wallet"]
"""Not the payment address: every quote names it, and payments to it are read for ever."""


class AddKeyRequest(Message):
    """POST /v1/log/keys. A wallet signs that it is to be added; other keys need no signature."""

    purpose: Purpose
    key: Key
    signed_message: str | None = None
    signature: str | None = None


class RevokeKeyRequest(Message):
    """POST /v1/log/keys/revoke. A time before now needs the recovery key's signature."""

    purpose: Purpose
    key: Key
    last_position: int | None = None
    signed_message: str | None = None
    signature: str | None = None


class CloseLogRequest(Message):
    """POST /v1/log/close, signed with the recovery key."""

    signed_message: str
    signature: str


class LogResponse(BaseModel):
    """The keys in force after the act."""

    log_keys: list[str]
    wallets: list[str]
    payment_addresses: list[str]
    closed: bool
    ledger: LedgerBlock | None = None


async def post_key(request: web.Request) -> web.Response:
    """Let a key speak for the log from the next position on."""
    said = await read_model(request, AddKeyRequest)
    now = request.app[LEDGER].clock()
    key = said.key.lower() if said.purpose == "wallet" else said.key
    return await _change(request, AddKey(said.purpose, key, _text(said), now))


async def post_revoke(request: web.Request) -> web.Response:
    """Take a key's voice: from now on, or with the recovery key from an earlier position on."""
    said = await read_model(request, RevokeKeyRequest)
    ledger = request.app[LEDGER]
    head = ledger.head.size
    added = [
        placed.position
        for placed in ledger.key_events()
        if isinstance(placed.signed.event, KeyAdded) and placed.signed.event.purpose == said.purpose
    ]
    command = RevokeKey(
        purpose=said.purpose,
        key=said.key.lower() if said.purpose == "wallet" else said.key,
        last_position=head if said.last_position is None else said.last_position,
        recovery=_text(said),
        in_use=frozenset({ledger.signer.address, ledger.log_key.vkey}),
        not_before=max(added, default=1),
        head=head,
        now=ledger.clock(),
    )
    return await _change(request, command)


async def post_close(request: web.Request) -> web.Response:
    """End the log: nothing may follow."""
    said = await read_model(request, CloseLogRequest)
    recovery = signed_text(said.signed_message, said.signature, None)
    return await _change(request, CloseLog(recovery, request.app[LEDGER].clock()))


async def _change(request: web.Request, command: LogCommand) -> web.Response:
    receipt = await request.app[LEDGER].change_keys(command)
    state = receipt.stream.state
    assert isinstance(state, LogState)  # noqa: S101 - the stream is the log's
    body: dict[str, object] = {
        "log_keys": sorted(state.log_keys),
        "wallets": sorted(state.wallets),
        "payment_addresses": sorted(state.payment_addresses),
        "closed": state.closed,
    }
    return proven_response(request, body, receipt)


def _text(said: AddKeyRequest | RevokeKeyRequest) -> ClientText | None:
    if said.signed_message is None or said.signature is None:
        return None
    return signed_text(said.signed_message, said.signature, None)


_REFUSALS: Final = frozenset({Conflict, Rejected, Unauthorized})


def _route(path: str, handler: RouteHandler, summary: str, request: type[BaseModel]) -> Route:
    return Route(
        "POST",
        path,
        handler,
        summary,
        request,
        LogResponse,
        writes=True,
        roles=OPERATOR,
        errors=_REFUSALS,
    )


ADMIN_ROUTES: Final = [
    _route("/v1/log/keys", post_key, "Add a key", AddKeyRequest),
    _route("/v1/log/keys/revoke", post_revoke, "Revoke a key", RevokeKeyRequest),
    _route("/v1/log/close", post_close, "Close the log", CloseLogRequest),
]
