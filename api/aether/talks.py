"""Conversations and their messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from aiohttp import web

from api.aether.orders_shown import messages_json
from api.aether.proof import acting_wallet
from api.aether.queries import HistoryQuery, PageQuery, WalletQuery
from api.aether.requests import MessageRequest, StartRequest
from api.aether.shop import kept, known_agent, own_talk
from api.aether.shown import Json, Marks, Words, message_json, talk_json
from api.answers import json_response, proven_response
from api.body import read_model
from api.keys import LEDGER, MARKET
from api.log.words import NO_STORE
from api.query import read_query
from api.sync import remembered, settle
from ledger.market import Conversation, PostMessage, Said, StartConversation
from ledger.market_events import ConversationStarted, Side
from ledger.store_sqlite import ContentRow
from ledger.values import UnixMs, conversation_stream, parse_iso
from projections.market_reader import MessageRow, TalkRow


async def post_conversation(request: web.Request) -> web.Response:
    """Start a conversation with an agent, mostly with a first message."""
    said = await read_model(request, StartRequest)
    proof = await acting_wallet(request, said.client_wallet)
    ledger, name = request.app[LEDGER], str(uuid4())
    agent = await known_agent(ledger, said.agent_id)
    started = ConversationStarted(
        agent=said.agent_id,
        agent_wallet=agent.owner,
        client_wallet=proof.wallet,
        client_type=said.client_type,
        proven=proof.how,
    )
    stream, text = conversation_stream(name), said.message
    first, rows = said_in(stream, text, said.attachments) if text is not None else (None, ())

    def body(talk: Conversation) -> Json:
        shown = talk_json(name, started, talk.started_at, talk.last_at)
        words = Words(text or "", said.attachments)
        messages = [_fresh(name, talk, first, "client", words)] if first is not None else []
        return {**shown, "conversation": shown, "messages": messages}

    command = StartConversation(started, first, ledger.clock())
    return await _recorded(request, stream, command, body, rows)


async def get_conversation(request: web.Request) -> web.Response:
    """Show a conversation to its sides."""
    own = await own_talk(request, read_query(request, WalletQuery).wallet)
    return json_response(shown_talk(request, own.id, own.talk), headers=NO_STORE)


async def get_conversations(request: web.Request) -> web.Response:
    """List the conversations of a wallet."""
    asked = read_query(request, PageQuery)
    proof = await acting_wallet(request, asked.wallet)
    rows = request.app[MARKET].conversations_of(proof.wallet, asked.limit, asked.offset or 0)
    return json_response({"conversations": [row_json(row) for row in rows]}, headers=NO_STORE)


async def post_message(request: web.Request) -> web.Response:
    """Write to the other side."""
    said = await read_model(request, MessageRequest)
    own = await own_talk(request, said.sender)
    assert own.proof is not None  # noqa: S101 - the wallet is named, so it is proven or believed
    stream, side = conversation_stream(own.id), own.side
    assert side is not None  # noqa: S101 - who is proven or believed is on one side
    message, rows = said_in(stream, said.message, said.attachments)
    words = Words(said.message, said.attachments)
    now = request.app[LEDGER].clock()
    command = PostMessage(own.proof.wallet, own.proof.how, message, now)

    def body(talk: Conversation) -> Json:
        return _fresh(own.id, talk, message, side, words)

    return await _recorded(request, stream, command, body, rows)


async def get_messages(request: web.Request) -> web.Response:
    """Show what was said so far; nothing counts as delivered by that."""
    asked = read_query(request, HistoryQuery)
    own = await own_talk(request, asked.wallet)
    since = parse_iso(asked.since) if asked.since is not None else 0
    rows = request.app[MARKET].messages(own.id, asked.limit, asked.offset, since)
    messages = await messages_json(request.app, own.talk.started, own.id, rows)
    return json_response({"messages": messages}, headers=NO_STORE)


def said_in(
    stream: str, text: str, attachments: list[Any] | None
) -> tuple[Said, tuple[ContentRow, ...]]:
    """Return a message and the rows that hold its content."""
    ids, commit, rows = kept(stream, text=text, attachments=attachments)
    return Said(str(uuid4()), ids["text_id"], ids.get("attachments_id"), commit), tuple(rows)


def shown_talk(request: web.Request, name: str, talk: Conversation) -> Json:
    """Return a conversation as it is now; offers count as messages, too."""
    row = request.app[MARKET].conversation(name)
    last = max(talk.last_at, row.last_ms if row is not None else 0)
    return talk_json(name, talk.started, talk.started_at, UnixMs(last))


def row_json(row: TalkRow) -> Json:
    """Return a conversation as the views have it."""
    return talk_json(row.conversation, row, UnixMs(row.started_ms), UnixMs(row.last_ms))


def _fresh(name: str, talk: Conversation, said: Said, side: Side, words: Words) -> Json:
    """Return a message that was just posted, made of the conversation alone."""
    ids = (said.message, side, said.text_id, said.attachments_id)
    row = MessageRow(talk.version, name, *ids, None, talk.last_at)
    return message_json(row, talk.started, Marks(), words, None)


async def _recorded(
    request: web.Request,
    stream: str,
    command: StartConversation | PostMessage,
    body: Callable[[Conversation], Json],
    rows: tuple[ContentRow, ...],
) -> web.Response:
    """Record it, and answer; with a key of its own the answer is stored with the events."""
    remember = remembered(request, body)
    receipt = await request.app[LEDGER].act_on_market(stream, command, rows, remember)
    await settle(request.app, receipt)
    talk = receipt.stream.state
    assert isinstance(talk, Conversation)  # noqa: S101 - the stream is a conversation's
    return proven_response(request, body(talk), receipt)
