"""Following an order's stream for as long as it tells what has happened already."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from tests.model.wire import END_OF_HEAD

WAIT_SECONDS = 20


@dataclass(frozen=True)
class Frame:
    kind: str
    position: int
    data: dict[str, Any]


async def backlog(url: str, order_id: str, up_to: int) -> list[Frame]:
    """Return the frames of an order's stream, up to the one of a position."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            request = f"GET /ivxp/stream/{order_id} HTTP/1.1\r\nHost: model\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(END_OF_HEAD)
            assert head.startswith(b"HTTP/1.1 200 "), head
            frames: list[Frame] = []
            while not frames or frames[-1].position < up_to:
                frame = _frame(await _chunk(reader))
                frames += [frame] if frame else []
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
