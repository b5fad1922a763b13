"""Listening: one process, one event loop, a bounded number of connections, a clean end."""

from __future__ import annotations

import asyncio
import gc
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
    stop = _stop_signals()
    await runner.setup()
    try:
        tune_interpreter()
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
        for address in runner.addresses:
            sys.stdout.write(f"listening on http://{address[0]}:{address[1]}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()


def tune_interpreter() -> None:
    """Look for garbage cycles less often: what start-up made lives as long as the process.

    Our own objects are freed by their counts; the default walks all of them many times a second.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _stop_signals() -> asyncio.Event:
    """Return what SIGINT and SIGTERM set, from before the first request on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    return stop
