"""What polling clients are handed, each event once: a claim is atomic and is the acknowledgement.

The cursors behind it are those of the native API, in automatic mode. A reply that is lost after the
claim is not repeated here; a cursor of the reader's own replays it. There is no age limit and no
waiting: the clients' polls overlap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from api.aether.delivered import hand_over
from api.aether.orders_shown import orders_json, shown_message
from api.aether.proof import acting_wallet
from api.aether.queries import AgentQuery, DeliveriesQuery, WalletQuery
from api.aether.shop import OwnTalk, own_agent, own_talk
from api.aether.shown import DELIVERIES, MESSAGES, ORDERS, Json, marks_of
from api.aether.talks import row_json
from api.answers import json_response
from api.feeds.desk import DESK, Key
from api.feeds.handing import Wish, hand_out
from api.keys import LEDGER, MARKET, SETTINGS
from api.log.words import NO_STORE
from api.query import read_query
from ledger.cursor_commands import OpenCursor
from ledger.cursor_events import MAX_BATCH, CursorSettings
from ledger.errors import LedgerError, NotFound
from ledger.values import cursor_stream, is_order, order_of_stream
from projections.feed_reader import NOWHERE
from projections.feeds import GENERATION, ORDER_PAID, agent_inbox, client_inbox

HOLDER: Final = "compat"
POSTED: Final = ("message.posted",)
TOLD: Final = ("message.posted", "order.proposed")
PAID: Final = (ORDER_PAID,)
READY: Final = ("order.ready",)
MAX_NEW_DELIVERIES: Final = 10
"""Of one poll, also with a larger LEDGER_COMPAT_BATCH: results are long."""


async def get_agent_messages(request: web.Request) -> web.Response:
    """Hand out what clients wrote to an agent, or to any agent of a wallet; each message once."""
    found: list[Json] = []
    async for agent, taken in _each(request, MESSAGES, POSTED):
        found += await _with_talks(request, agent, taken)
    return _handed_out(request, {"messages": found})


async def get_paid_orders(request: web.Request) -> web.Response:
    """Hand out orders that came to count as paid, each once."""
    found: list[str] = []
    async for _agent, taken in _each(request, ORDERS, PAID):
        found += [_order_at(request, position) for position in taken]
    orders = await orders_json(request.app, found)
    return _handed_out(request, {"orders": [_as_paid(order) for order in orders]})


async def get_client_messages(request: web.Request) -> web.Response:
    """Hand out what the agent wrote in a conversation, and its offers; each once."""
    own = await _as_client(request)
    taken = await _take(request, (client_inbox(own.id), MESSAGES), TOLD, 0)
    started = own.talk.started
    marks = await marks_of(request.app[LEDGER], started.agent, own.id)
    rows = request.app[MARKET].messages_at(taken)
    messages = [await shown_message(request.app, started, marks, row) for row in rows]
    return _handed_out(request, {"messages": messages})


async def get_new_deliveries(request: web.Request) -> web.StreamResponse:
    """Hand out what was delivered in a conversation, each delivery once."""
    own = await _as_client(request)
    key = (client_inbox(own.id), DELIVERIES)
    taken = await _take(request, key, READY, 0, most=MAX_NEW_DELIVERIES)
    if request.method == "HEAD":
        return _handed_out(request, {})
    orders = [_order_at(request, position) for position in taken]
    return await hand_over(request, own, orders)


async def get_deliveries(request: web.Request) -> web.StreamResponse:
    """Show what was delivered in a conversation, page by page; nothing is marked by that."""
    own, asked = await _as_client(request), read_query(request, DeliveriesQuery)
    orders = request.app[MARKET].delivered_in(own.id, asked.limit, asked.offset)
    return await hand_over(request, own, orders)


def _handed_out(request: web.Request, body: Json) -> web.Response:
    """Return what was taken. To HEAD nothing is handed out, so how long it is is not known."""
    if request.method == "HEAD":
        return web.Response(content_type="application/json", headers=NO_STORE)
    return json_response(body, headers=NO_STORE)


async def _as_client(request: web.Request) -> OwnTalk:
    """Return the conversation of the path; to read for the client would be to mark for it."""
    own = await own_talk(request, read_query(request, WalletQuery).wallet)
    if own.side == "agent":
        raise NotFound("no conversation of this client has this id", code="CONVERSATION_NOT_FOUND")
    return own


async def _agents(request: web.Request) -> list[str]:
    """Return the agents whose inbox is asked for: one, or all of a wallet."""
    asked = read_query(request, AgentQuery)
    if asked.agent_id is not None:
        agent, _ = await own_agent(request, asked.agent_id, asked.wallet)
        return [agent]
    proof = await acting_wallet(request, asked.wallet)
    return [row.agent for row in request.app[MARKET].agents_of(proof.wallet)]


async def _each(
    request: web.Request, name: str, types: tuple[str, ...]
) -> AsyncIterator[tuple[str, list[int]]]:
    """Claim from one agent after the other, up to a batch in all.

    What was claimed is answered even if a later claim fails: nobody would be handed it again.
    """
    have = 0
    for agent in await _agents(request):
        try:
            taken = await _take(request, (agent_inbox(agent), name), types, have)
        except LedgerError:
            if not have:
                raise
            return
        have += len(taken)
        yield agent, taken


def _has_left(request: web.Request) -> bool:
    """Whether the caller is known to be gone: nothing is claimed for nobody."""
    return request.transport is None or request.transport.is_closing()


async def _take(
    request: web.Request, key: Key, types: tuple[str, ...], have: int, most: int = MAX_BATCH
) -> list[int]:
    """Claim the next events of an inbox, `most` at most; return their positions in the ledger.

    A crash before the claim is recorded hands out nothing; one after it, before the reply has
    arrived, is the loss that automatic mode has: the events stay in the log for other cursors.
    """
    desk, batch = request.app[DESK], min(request.app[SETTINGS].compat_batch, most) - have
    if batch <= 0 or request.method == "HEAD" or _has_left(request):
        return []
    if not desk.feeds.rows(key[0], 0, 1, types):
        return []  # nothing ever came: a poll writes nothing, and looks no further
    if await desk.ledger.cursor(cursor_stream(*key)) is None:
        command = OpenCursor(_settings(types), GENERATION, NOWHERE, desk.ledger.clock())
        await desk.ledger.act_on_cursor(cursor_stream(*key), command)
    found = await hand_out(desk, key, Wish(HOLDER, batch))
    return [event["data"]["position"] for event in found.events]  # type: ignore[index]  # as `event_json` makes it


def _settings(types: tuple[str, ...]) -> CursorSettings:
    """Return settings that never change, so that every poll finds the same cursor."""
    return CursorSettings(
        start="earliest",
        types=types,
        mode="auto",
        lease_ms=30_000,
        max_batch=MAX_BATCH,
        max_attempts=1,
        backoff_ms=0,
        backoff_max_ms=0,
        on_poison="park",
    )


async def _with_talks(request: web.Request, agent: str, positions: list[int]) -> list[Json]:
    """Return messages to an agent, each with its conversation."""
    market, found = request.app[MARKET], []
    for row in market.messages_at(positions):
        talk = market.conversation(row.conversation)
        assert talk is not None  # noqa: S101 - the views showed the message
        marks = await marks_of(request.app[LEDGER], agent, row.conversation)
        message = await shown_message(request.app, talk, marks, row)
        found.append({"conversation": row_json(talk), "message": message})
    return found


def _order_at(request: web.Request, position: int) -> str:
    """Return the order that the event at a position is of."""
    placed = request.app[LEDGER].read(after=position - 1, limit=1)[0]
    assert is_order(placed.signed.stream)  # noqa: S101 - of the types that are asked for
    return order_of_stream(placed.signed.stream)


def _as_paid(order: Json) -> Json:
    """Return an order as the event said that is handed out, whatever came after it."""
    return {**order, "status": "PAID", "deliveredToProvider": True}
