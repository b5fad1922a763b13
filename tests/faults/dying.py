"""The service, ending itself with SIGKILL at one point of one act on a cursor.

`python -m tests.faults.dying POINT KIND COUNT`: in the `COUNT`-th act that records an event of that
kind, the process is killed at that point. Nothing of it is in the product: the points are found by
wrapping what an act goes through.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from api.feeds import reader
from ledger.guard import Guard
from ledger.store import SqliteStore
from ledger.store_sqlite import Group
from scripts.cli import main

POINTS: Final = ("decided", "committed", "guarded", "answering", "answered")
"""Before the commit; after it; once the head is guarded; before the answer is written; after it."""


class Trap:
    """Counts the acts, and knows whether the one to die in is under way."""

    def __init__(self, point: str, kind: str, count: int) -> None:
        self._point = point
        self._kind = kind
        self._left = count

    def sees(self, kinds: list[str]) -> None:
        self._left -= self._kind in kinds

    def at(self, point: str) -> None:
        if self._left <= 0 and point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


def set_trap(trap: Trap) -> None:
    """Wrap commit, guard and answer."""
    append: Callable[..., list[bool]] = SqliteStore.append
    advance: Callable[..., None] = Guard.advance
    written: Callable[..., web.Response] = reader.written
    write_eof = web.Response.write_eof

    def dying_append(store: SqliteStore, groups: Sequence[Group], **more: object) -> list[bool]:
        trap.sees([signed.event.kind for group in groups for signed in group.events])
        trap.at("decided")
        accepted = append(store, groups, **more)
        trap.at("committed")
        return accepted

    def dying_advance(guard: Guard, *args: object) -> None:
        advance(guard, *args)
        trap.at("guarded")

    def dying_written(*args: object, **more: object) -> web.Response:
        trap.at("answering")
        return written(*args, **more)

    async def dying_write_eof(response: web.Response, data: bytes = b"") -> None:
        await write_eof(response, data)
        trap.at("answered")

    wrapped: list[tuple[Any, str, Any]] = [
        (SqliteStore, "append", dying_append),
        (Guard, "advance", dying_advance),
        (reader, "written", dying_written),
        (web.Response, "write_eof", dying_write_eof),
    ]
    for where, name, what in wrapped:
        setattr(where, name, what)


if __name__ == "__main__":
    point, kind, count = sys.argv[1:]
    set_trap(Trap(point, kind, int(count)))
    sys.argv[1:] = ["serve"]
    raise SystemExit(main())
