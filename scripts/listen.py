"""`ivxp-ledger listen`: prints a feed, one JSON line per event, and posts each on if asked to."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import orjson
from yarl import URL

from api.client.cursor import CursorOptions
from api.client.errors import ClientError
from api.client.event import Event, Pins
from api.client.reader import CursorReader, StopReading
from api.client.webhooks import read_secrets
from api.egress import ANYWHERE, PUBLIC, Egress, parse_target
from ledger.errors import Misconfigured
from scripts.dead_letters import DeadLetter, DeadLetters
from scripts.forwarding import SCHEDULE, Endpoint, EndpointGone, Forwarder

TIMEOUT_SECONDS: Final = 10.0
EXIT_STOPPED: Final = 3
"""The service, the endpoint or the reader of our output ended it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where events are forwarded to, and what was given for it."""

    url: str
    secret: str
    state: Path
    allow_private: bool = False
    schedule: Sequence[float] = SCHEDULE


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """What to listen to. Without a party, the wallet's own feed."""

    url: str
    cursor: str
    secret_key: bytes
    party: str | None = None
    options: CursorOptions | None = None
    pins: Pins | None = None
    target: Target | None = None
    once: bool = False


def listen(config: ListenConfig, out: TextIO = sys.stdout) -> int:
    """Listen until told to stop, or with `once` until all is printed; return the exit code.

    Raises `Misconfigured` where something that was given cannot be used.
    """
    return asyncio.run(_listen(config, out))


def replay(target: Target, event_id: str = "") -> list[tuple[DeadLetter, str]]:
    """Post the dead letters once more; return each with "" or why it was not taken.

    Each goes where it was meant for, unless the target names another place.
    """
    return asyncio.run(_replay(target, event_id))


async def _listen(config: ListenConfig, out: TextIO) -> int:
    async with AsyncExitStack() as stack:
        forwarder = None
        if config.target is not None:
            forwarder = await stack.enter_async_context(_forwarder(config.target))
        reader = await stack.enter_async_context(
            CursorReader.open(
                config.url,
                config.secret_key,
                config.cursor,
                party=config.party,
                options=config.options,
                pins=config.pins,
            )
        )
        task = asyncio.create_task(_print(reader, forwarder, out, once=config.once))
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, task.cancel)
        return await _ended(task)


async def _print(
    reader: CursorReader, forwarder: Forwarder | None, out: TextIO, *, once: bool
) -> None:
    async def handle(event: Event) -> None:
        shown = {**event.to_json(), "attempt": event.attempt, "redelivered": event.redelivered}
        try:
            out.write(orjson.dumps(shown).decode() + "\n")
            # Before the acknowledgement: what was not handed on comes again.
            out.flush()
        except OSError as error:
            raise StopReading("nobody reads what is printed") from error
        if forwarder is None:
            return
        try:
            taken = await forwarder.forward(event)
        except EndpointGone as error:
            raise StopReading(str(error)) from error
        except sqlite3.Error as error:
            # The list cannot be written: that is no fault of the event, which comes again.
            raise StopReading(f"the list of dead letters: {error}") from error
        if not taken:
            _say(f"dead letter: {event.event_id}")

    await reader.each(handle, until_idle=once)


async def _ended(task: asyncio.Task[None]) -> int:
    """Return the exit code of how it ended."""
    await asyncio.wait([task])
    if task.cancelled():
        return 0
    error = task.exception()
    if error is None:
        return 0
    if not isinstance(error, ClientError):
        raise error
    _say(f"{type(error).__name__}: {error}")
    return EXIT_STOPPED


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@asynccontextmanager
async def _forwarder(target: Target) -> AsyncIterator[Forwarder]:
    with DeadLetters(target.state) as letters:
        endpoint = _endpoint(target.url, target)
        async with _egress(target) as egress:
            yield Forwarder(egress, endpoint, letters, schedule=target.schedule)


async def _replay(target: Target, event_id: str) -> list[tuple[DeadLetter, str]]:
    if not target.state.exists():
        raise Misconfigured(f"--state {target.state}: there is no such file")
    found = []
    with DeadLetters(target.state) as letters:
        async with _egress(target) as egress:
            for letter in letters.all(event_id):
                endpoint = _endpoint(target.url or letter.url, target)
                forwarder = Forwarder(egress, endpoint, letters)
                try:
                    outcome = await forwarder.replay(letter)
                except EndpointGone as error:
                    outcome = str(error)
                found.append((letter, outcome))
    return found


def _egress(target: Target) -> Egress:
    rules = ANYWHERE if target.allow_private else PUBLIC
    return Egress(rules, timeout_seconds=TIMEOUT_SECONDS)


def _endpoint(url: str, target: Target) -> Endpoint:
    try:
        keys = read_secrets(target.secret)
    except ValueError as error:
        raise Misconfigured(str(error)) from error
    found: URL = parse_target(url, ANYWHERE if target.allow_private else PUBLIC)
    return Endpoint(found, keys)
