"""Listening: one process, one event loop, a bounded number of connections, a clean end."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import uvloop
from aiohttp import web

from api.edge import Edge
from api.gate import CORS
from api.keys import SETTINGS
from api.server import EdgeRunner
from ledger.errors import Misconfigured

SHUTDOWN_SECONDS: Final = 10
BACKLOG: Final = 1024
FILES_BESIDE: Final = 256
"""Open files that are no connections of callers: databases, pushes, the chain, refusals."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service listens, and its edge."""

    urls: tuple[str, ...]
    edge: Edge


def serve_application(app: web.Application, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; prints `listening on URL` once ready, also for port 0."""
    allow_files(app[SETTINGS].max_connections)
    uvloop.run(_serve(app, host, port))


async def _serve(app: web.Application, host: str, port: int) -> None:
    stop = _stop_signals()
    async with listening(app, host, port) as place:
        tune_interpreter()
        for url in place.urls:
            sys.stdout.write(f"listening on {url}\n")
        sys.stdout.flush()
        await stop.wait()


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[Listening]:
    """Serve for the length of a block. Port 0: the system picks."""
    edge = Edge(app[SETTINGS], app[CORS])
    runner = EdgeRunner(app, edge, grace_seconds=SHUTDOWN_SECONDS)
    await runner.setup()
    watch = asyncio.create_task(edge.watch(), name="edge")
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        yield Listening(tuple(_url(address) for address in runner.addresses), edge)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await runner.cleanup()
        edge.close()


def allow_files(connections: int) -> None:
    """Let the process open a file for each connection, or raise `Misconfigured`.

    Where files run out, it is the databases that cannot be opened, not only callers.
    """
    needed = connections + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Misconfigured(
            f"LEDGER_MAX_CONNECTIONS: {connections} connections need {needed} open files, "
            f"and the system allows this process {hard}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def tune_interpreter() -> None:
    """Look for garbage cycles less often: what start-up made lives as long as the process.

    Our own objects are freed by their counts; the default walks all of them many times a second.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _url(address: tuple[Any, ...]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"


def _stop_signals() -> asyncio.Event:
    """Return what SIGINT and SIGTERM set, from before the first request on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    return stop
