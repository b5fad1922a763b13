"""Erasing what was said on the marketplace outside orders: messages, and agents' own words."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints

from api.answers import proven_response
from api.body import read_model
from api.idempotency import ONCE
from api.ivxp.models import Message
from api.ivxp.responses import LedgerBlock
from api.keys import LEDGER
from api.routes import Route
from api.sync import settle
from api.tokens import Role
from ledger.batch import content_of
from ledger.errors import InvalidInput, NotFound
from ledger.market import Agent, Conversation, EraseWords
from ledger.service import Ledger
from ledger.values import agent_stream, conversation_stream

MAX_AT_ONCE: Final = 64

ContentIdText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class WordsRequest(Message):
    """POST …/erase. Without `content_ids` everything that is left, up to 64 at a time."""

    reason: Literal["request", "operator"]
    content_ids: Annotated[list[ContentIdText], Field(min_length=1, max_length=64)] | None = None


class WordsResponse(BaseModel):
    """What is gone now, and how much of this stream is left. Commitments stay in the log."""

    erased: list[str]
    left: int
    ledger: LedgerBlock | None = None


async def post_erase_talk(request: web.Request) -> web.Response:
    """Erase messages of a conversation."""
    name = request.match_info["conversation_id"]
    return await _erase(request, conversation_stream(name), "CONVERSATION_NOT_FOUND")


async def post_erase_agent(request: web.Request) -> web.Response:
    """Erase what an agent said of itself."""
    return await _erase(request, agent_stream(request.match_info["agent_id"]), "AGENT_NOT_FOUND")


async def _erase(request: web.Request, stream: str, missing: str) -> web.Response:
    said, ledger = await read_model(request, WordsRequest), request.app[LEDGER]
    # All of what may be a long stream is read, so others are served meanwhile.
    state, held = await asyncio.to_thread(_held, ledger, stream)
    if state is None:
        raise NotFound("there is nothing of this id", code=missing)
    wanted = said.content_ids if said.content_ids is not None else held
    if not set(wanted) <= set(held):
        raise InvalidInput("content_ids: not of this stream", details={"field": "content_ids"})
    assert isinstance(state, Agent | Conversation)  # noqa: S101 - the stream is one of either
    erased = state.erased
    now = [i for i in dict.fromkeys(wanted) if i not in erased][:MAX_AT_ONCE]
    command = EraseWords(tuple(now), said.reason, ledger.clock())
    receipt = await ledger.act_on_market(stream, command)
    await settle(request.app, receipt)
    request.app[ONCE].forget()
    body: dict[str, object] = {"erased": now, "left": len(set(held) - erased - set(now))}
    return proven_response(request, body, receipt)


def _held(ledger: Ledger, stream: str) -> tuple[object, list[str]]:
    """Return a stream's state, and all content that its events name, erased or not."""
    state = ledger.store.load(stream).state
    if state is None:
        return None, []
    return state, [
        content_id
        for placed in ledger.read_stream(stream)
        for content_id in content_of(placed.signed.event).values()
    ]


MARKET_WORD_ROUTES: Final = [
    Route(
        "POST",
        path,
        handler,
        summary,
        request=WordsRequest,
        response=WordsResponse,
        writes=True,
        roles=frozenset({Role.OPERATOR}),
        errors=frozenset({NotFound}),
    )
    for path, handler, summary in (
        ("/v1/conversations/{conversation_id}/erase", post_erase_talk, "Erase messages"),
        ("/v1/agents/{agent_id}/erase", post_erase_agent, "Erase an agent's words"),
    )
]
