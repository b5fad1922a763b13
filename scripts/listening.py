"""Listening: one process, one event loop, a bounded number of connections, a clean end."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final

import uvloop
from aiohttp import web

KEEPALIVE_SECONDS: Final = 15
SHUTDOWN_SECONDS: Final = 10
BACKLOG: Final = 1024


def serve_application(app: web.Application, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; prints `listening on URL` once ready, also for port 0."""
    uvloop.run(_serve(app, host, port))


async def _serve(app: web.Application, host: str, port: int) -> None:
    # The access log would hold order ids, which are bearer secrets.
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
        for address in runner.addresses:
            sys.stdout.write(f"listening on http://{address[0]}:{address[1]}\n")
        sys.stdout.flush()
        await _told_to_stop()
    finally:
        await runner.cleanup()


async def _told_to_stop() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    await stop.wait()
