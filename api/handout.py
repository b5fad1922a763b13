"""Handing out large answers: one body for all who take it, in pieces as fast as they take it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

PIECE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class _Shared:
    body: bytes
    takers: int = 0


@dataclass(slots=True)
class HandOuts:
    """The bodies that are being written: a slow reader holds a piece, not a copy of its own."""

    _bodies: dict[Hashable, _Shared] = field(default_factory=dict)

    @asynccontextmanager
    async def body(self, key: Hashable, make: Callable[[], bytes]) -> AsyncIterator[bytes]:
        """Return the body of this key, made once for all who hold it at the same time."""
        shared = self._bodies.get(key)
        if shared is None:
            shared = self._bodies[key] = _Shared(make())
        shared.takers += 1
        try:
            yield shared.body
        finally:
            shared.takers -= 1
            if not shared.takers:
                self._bodies.pop(key, None)


async def write_in_pieces(request: web.Request, response: web.StreamResponse, body: bytes) -> None:
    """Write a body whole, or raise `ConnectionError`; each piece waits until the last is taken."""
    response.content_length = len(body)
    await response.prepare(request)
    if request.method != "HEAD":
        view = memoryview(body)
        for at in range(0, len(body), PIECE_BYTES):
            await response.write(view[at : at + PIECE_BYTES])
    await response.write_eof()
