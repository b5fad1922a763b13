"""Conversations and their messages."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from aiohttp import web

from api.aether.orders_shown import messages_json
from api.aether.proof import acting_wallet
from api.aether.queries import HistoryQuery, PageQuery, WalletQuery
from api.aether.requests import MessageRequest, StartRequest
from api.aether.shop import OwnTalk, kept, known_agent, own_talk
from api.aether.shown import Json, marks_of, message_json, talk_json
from api.answers import json_response, proven_response
from api.body import read_model
from api.keys import LEDGER, MARKET, RUNNER
from api.log.words import NO_STORE
from api.query import read_query
from ledger.market import Conversation, PostMessage, Said, StartConversation
from ledger.market_events import ConversationStarted, MessagePosted, Proven, Side
from ledger.receipt import Receipt
from ledger.store_sqlite import ContentRow
from ledger.values import UnixMs, conversation_stream, parse_iso
from projections.market_reader import MessageRow, TalkRow

VIEW_WAIT_SECONDS = 1.0


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
    command = StartConversation(started, first, ledger.clock())
    receipt = await ledger.act_on_market(stream, command, rows)
    await request.app[RUNNER].wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)
    talk = _talk_of(receipt)
    shown = talk_json(name, talk.started, talk.started_at, talk.last_at)
    marks = await marks_of(ledger, said.agent_id, name)
    found = request.app[MARKET].messages(name, 1, None, 0)
    messages = [message_json(ledger, row, started, marks, None) for row in found]
    body = {**shown, "conversation": shown, "messages": messages}
    return proven_response(request, body, receipt)


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
    stream, ledger = conversation_stream(own.id), request.app[LEDGER]
    words, rows = said_in(stream, said.message, said.attachments)
    command = PostMessage(own.proof.wallet, own.proof.how, words, ledger.clock())
    receipt = await ledger.act_on_market(stream, command, rows)
    await request.app[RUNNER].wait_for(receipt.stream.position, VIEW_WAIT_SECONDS)
    row = _row_of(receipt, own)
    marks = await marks_of(ledger, own.talk.started.agent, own.id)
    body = message_json(ledger, row, own.talk.started, marks, None)
    return proven_response(request, body, receipt)


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
    return talk_json(row.conversation, started_of(row), UnixMs(row.started_ms), UnixMs(row.last_ms))


def started_of(row: TalkRow) -> ConversationStarted:
    """Return who takes part, as the views have it; how that is known does not stand there."""
    client_type: Any = row.client_type
    proven: Proven = "open"
    return ConversationStarted(
        agent=row.agent,
        agent_wallet=row.agent_wallet,
        client_wallet=row.client_wallet,
        client_type=client_type,
        proven=proven,
    )


def _talk_of(receipt: Receipt) -> Conversation:
    talk = receipt.stream.state
    assert isinstance(talk, Conversation)  # noqa: S101 - the stream is a conversation's
    return talk


def _row_of(receipt: Receipt, own: OwnTalk) -> MessageRow:
    signed = receipt.events[-1]
    event = signed.event
    assert isinstance(event, MessagePosted)  # noqa: S101 - just decided
    sender: Side = event.sender
    said = (event.message, sender, event.text_id, event.attachments_id)
    return MessageRow(receipt.stream.position, own.id, *said, None, signed.at)
