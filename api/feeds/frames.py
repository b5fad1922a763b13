"""The frames of a cursor's WebSocket: what a reader says on it, and how errors are told."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from api.answers import ledger_block
from api.body import parse_json, validated
from api.feeds.acts import (
    acked_json,
    acknowledge,
    change_lease,
    lease_json,
    nacked_json,
    refuse,
)
from api.feeds.desk import Desk, Done, Key
from api.feeds.events import Json
from api.feeds.models import (
    AckRequest,
    HolderName,
    LeaseRequest,
    LeaseSeconds,
    NackRequest,
    Token,
)
from api.ivxp.models import Message
from api.limits import RateLimited
from api.work import plain_number
from ledger.cursor_errors import LeaseHeld
from ledger.errors import InvalidInput, LedgerError

MAX_LIMIT = 100
DEFAULT_LIMIT = 20


def _plain_seconds(text: object) -> object:
    plain = isinstance(text, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text, re.ASCII)
    return Decimal(str(text)) if plain else text


def _plain_flag(text: object) -> object:
    return {"true": True, "false": False}.get(text, text) if isinstance(text, str) else text


class SocketQuery(Message):
    """GET …/ws. `limit` is the most events in a frame; `holder` as in a fetch.

    With `pipeline`, hand-outs go on before the last one was acknowledged.
    """

    holder: HolderName
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(plain_number)] = DEFAULT_LIMIT
    lease_seconds: Annotated[LeaseSeconds, BeforeValidator(_plain_seconds)] | None = None
    pipeline: Annotated[bool, BeforeValidator(_plain_flag)] = False


class ExtendFrame(Message):
    """`extend` the lease to so many seconds from now."""

    type: Literal["extend"]
    lease_token: Token
    extend: LeaseSeconds


async def act(desk: Desk, key: Key, text: str) -> tuple[Json, bool]:
    """Do what a frame says; return the answer, and whether the hand-out ended by it."""
    said = parse_json(text.encode())
    match said.get("type"):
        case "ack":
            acked = validated(said, AckRequest)
            done = await acknowledge(desk, key, acked)
            return _answer(desk, "acked", acked_json(done), done), False
        case "nack":
            nacked = validated(said, NackRequest)
            done = await refuse(desk, key, nacked)
            ends = nacked.action == "retry"
            return _answer(desk, "nacked", nacked_json(done, nacked), done), ends
        case "extend":
            frame = validated(said, ExtendFrame)
            longer = LeaseRequest(lease_token=frame.lease_token, extend=frame.extend)
            done = await change_lease(desk, key, longer)
            return _answer(desk, "extended", lease_json(done, longer), done), False
        case _:
            raise InvalidInput("type: is ack, nack or extend", details={"field": "type"})


def error_frame(error: LedgerError) -> Json:
    """Return an error as a frame: with the members that it has over HTTP."""
    frame: Json = {"type": "error", "error": error.code, "message": error.message}
    details = dict(error.details)
    if isinstance(error, LeaseHeld | RateLimited):
        details["retry_after"] = error.retry_after
    if details:
        frame["details"] = details
    if error.retryable:
        frame["retryable"] = True
    return frame


def _answer(desk: Desk, kind: str, body: Json, done: Done) -> Json:
    frame: Json = {"type": kind, **body}
    if done.receipt is not None:
        frame["ledger"] = ledger_block(desk.ledger, done.receipt)
    return frame
