"""Looking up the hosts that clients name, without lending their name servers our threads."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]


class ThreadPerLookup(AbstractResolver):
    """Asks the system's resolver, each time in a thread of its own.

    A lookup cannot be called off. In a shared pool a few slow name servers would hold every
    thread, and the ledger reads in those; and a pool would hold up the end of the process.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host, or raise `OSError`."""
        look = partial(
            socket.getaddrinfo,
            host,
            port,
            family,
            socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        found: list[AddressInfo] = await _in_thread(look)
        return [
            ResolveResult(
                hostname=host,
                host=_numeric(address),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Hold nothing, so close nothing."""


def _numeric(address: tuple[Any, ...]) -> str:
    """Return the address as text; a link-local one names its link."""
    scope = address[3] if len(address) > 3 else 0  # noqa: PLR2004 - host, port, flow, scope
    return f"{address[0]}%{scope}" if scope else str(address[0])


async def _in_thread(look: partial[list[Any]]) -> list[Any]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[list[Any]] = loop.create_future()

    def call() -> None:
        try:
            found: list[Any] | OSError = look()
        except (OSError, UnicodeError) as error:
            # A host that is no host name is one that nothing answers for.
            found = error if isinstance(error, OSError) else OSError("no host name")
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_end, ended, found)

    threading.Thread(target=call, name="lookup", daemon=True).start()
    return await ended


def _end(ended: asyncio.Future[list[Any]], found: list[Any] | OSError) -> None:
    if ended.done():
        return
    if isinstance(found, OSError):
        ended.set_exception(found)
    else:
        ended.set_result(found)
