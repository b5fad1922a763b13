"""Waiting for an order: its stream of events while that works, questions otherwise.

A status is the service's unsigned word. It says when to look, never what was delivered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import StreamReader
from pydantic import BaseModel, ConfigDict

from api.client.errors import NotYet, ServiceError, Unreachable
from api.client.proven import ProvenClient
from api.client.shapes import parsed

PAUSE_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 45.0
"""A living stream says something every 15 seconds."""
WITH_CONTENT: Final = frozenset({"ready", "posted", "delivered", "client_confirmed"})
AT_REST: Final = WITH_CONTENT | {"delivery_failed", "disputed", "expired", "refunded"}


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)
    order_id: str
    status: str
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """An order as the service describes it, in the words of IVXP/1.1."""

    order_id: str
    word: str
    has_content: bool


async def status_of(client: ProvenClient, order_id: str) -> Status:
    """Ask how an order stands."""
    answer = await client.get(f"/ivxp/orders/{order_id}?protocol=IVXP/1.1")
    body = parsed(_Body, answer.body)
    has_content = body.status in WITH_CONTENT or body.content_hash is not None
    return Status(order_id, body.status, has_content)


async def wait_for(client: ProvenClient, order_id: str, patience_seconds: float) -> Status:
    """Return once the order has content or came to rest; `NotYet` when the patience is over."""
    last_id = ""
    try:
        async with asyncio.timeout(patience_seconds):
            while True:
                status = await status_of(client, order_id)
                if status.word in AT_REST:
                    return status
                moved, last_id = await _until_news(client, order_id, last_id)
                if not moved:
                    await client.http.sleep(PAUSE_SECONDS)
    except TimeoutError as error:
        raise NotYet("the order is still being worked on") from error


async def _until_news(client: ProvenClient, order_id: str, last_id: str) -> tuple[bool, str]:
    """Follow the stream until something may have changed; without a stream return at once."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    path = f"/ivxp/stream/{order_id}"
    try:
        async with client.http.stream(path, headers, idle_seconds=IDLE_SECONDS) as lines:
            return await _read_until_rest(lines, last_id)
    except (Unreachable, ServiceError):
        return False, last_id


async def _read_until_rest(lines: StreamReader, last_id: str) -> tuple[bool, str]:
    """Return whether the stream told of an end, and the id to come back with."""
    async for line in lines:
        name, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
        if name == "id":
            last_id = value
        elif name == "data" and _word(value) in AT_REST:
            return True, last_id
    return False, last_id


def _word(data: str) -> object:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value.get("ledger_status") if isinstance(value, dict) else None
