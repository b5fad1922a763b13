"""Following an order's stream for as long as it tells what has happened already."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from tests.model.wire import END_OF_HEAD

WAIT_SECONDS = 20


@dataclass(frozen=True)
class Frame:
    kind: str
    position: int
    data: dict[str, Any]


ENDS: Final = {"delivered": "completed", "delivery_failed": "failed"}
"""The last frame of a stream, by the word at which clients of 1.0 stop."""


async def backlog(url: str, order_id: str, word: str, newest: int) -> list[Frame]:
    """Return what an order's stream tells of its past.

    `word` is the order's word of 1.0, `newest` the position of its newest status event: a stream
    that does not end is read up to there, and on to that word. A later event may change it: a
    notice of an order that is ready may name an endpoint to push to.
    """
    last = ENDS.get(word)
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            request = f"GET /ivxp/stream/{order_id} HTTP/1.1\r\nHost: model\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(END_OF_HEAD)
            assert head.startswith(b"HTTP/1.1 200 "), head
            frames: list[Frame] = []
            while True:
                frame = _frame(await _chunk(reader))
                frames += [frame] if frame else []
                if frame is None:
                    continue
                told = frame.position >= newest and frame.data["status"] == word
                if frame.kind == last or (not last and told):
                    return frames
    finally:
        writer.close()
        await writer.wait_closed()


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """Return one chunk of a body: an event is written in one piece, so it is one event."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    assert size, "the stream ended before the position it has to reach"
    chunk = await reader.readexactly(size)
    await reader.readexactly(2)
    return chunk


def _frame(chunk: bytes) -> Frame | None:
    if chunk.startswith(b":"):
        return None
    lines = dict(line.split(": ", 1) for line in chunk.decode().strip().split("\n"))
    return Frame(lines["event"], int(lines["id"]), orjson.loads(lines["data"]))
