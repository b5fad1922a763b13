"""A witness as a program: it takes checkpoints, and hands out what it cosigned, over HTTP.

The protocol is C2SP `tlog-witness`. The log need not be one of ours.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvloop
from aiohttp import web

from ledger.checkpoint import VerifierKey, parse_vkey
from ledger.cosignature import Cosigner
from ledger.errors import LedgerError, Misconfigured, VerificationError
from ledger.service import Clock, system_clock
from ledger.signing import load_secret
from ledger.witness import (
    Malformed,
    NotConsistent,
    NotSigned,
    OtherRoot,
    OutOfStep,
    UnknownLog,
    Witness,
)
from ledger.witness_state import WitnessState

BODY_MAX_BYTES: Final = 65_536
BODY_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 5.0
SIZE_TYPE: Final = "text/x.tlog.size"

_STATUS: Final[dict[type[LedgerError], int]] = {
    Malformed: 400,
    NotSigned: 403,
    UnknownLog: 404,
    OtherRoot: 409,
    NotConsistent: 422,
}
_RETRY: Final = {"Retry-After": "2"}
_MAX_PORT: Final = 65_535

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Desk:
    """A witness with what it works with.

    One thread: a record is read and written by one at a time, and a commit waits for the disk.
    """

    witness: Witness
    clock: Clock
    thread: Executor


DESK: Final = web.AppKey("desk", Desk)


@dataclass(frozen=True, slots=True)
class WitnessConfig:
    """What a witness runs with. `logs` are texts `ORIGIN=VKEY`, `key` is `file:` or `env:`.

    Without a name it is called by its key. `new_state` says that the key never cosigned.
    """

    listen: str
    state: Path
    key: str
    logs: Sequence[str]
    name: str | None = None
    new_state: bool = False


def say_line(line: str) -> None:
    """Write a line for whoever started the program; it is read at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run_witness(
    config: WitnessConfig, *, clock: Clock = system_clock, say: Callable[[str], None] = say_line
) -> None:
    """Serve until SIGINT or SIGTERM; says `listening on URL` and its vkey once ready.

    Raises `Misconfigured`, and `OSError` where it cannot listen.
    """
    host, port = _address(config.listen)
    with opened(config) as witness:
        uvloop.run(_serve(witness_app(witness, clock), host, port, say))


@contextmanager
def opened(config: WitnessConfig) -> Iterator[Witness]:
    """Open the record and load the key; each is made where both are missing."""
    logs = parse_logs(config.logs)
    try:
        secret = _secret(config)
        state = WitnessState(config.state)
    except (OSError, sqlite3.Error) as error:
        raise Misconfigured(f"the witness's state or key cannot be used: {error}") from error
    with state:
        yield Witness(_cosigner(config.name, secret), logs, state)


def parse_logs(texts: Sequence[str]) -> dict[str, list[VerifierKey]]:
    """Return the keys of each origin, or raise `Misconfigured`. A log may have several keys."""
    found: dict[str, list[VerifierKey]] = {}
    for text in texts:
        origin, _, vkey = text.partition("=")
        try:
            key = parse_vkey(vkey)
        except VerificationError as error:
            raise Misconfigured(f"--log {text}: {error.message}") from error
        if not origin:
            raise Misconfigured(f"--log {text}: an origin and a vkey with = between them")
        found.setdefault(origin, []).append(key)
    if not found:
        raise Misconfigured("--log: a witness watches one log at least")
    return found


def witness_app(witness: Witness, clock: Clock) -> web.Application:
    """Return the application of an open witness."""
    app = web.Application(client_max_size=BODY_MAX_BYTES)
    app[DESK] = Desk(witness, clock, ThreadPoolExecutor(1, thread_name_prefix="witness"))
    app.on_cleanup.append(_end_thread)
    app.router.add_post("/add-checkpoint", add_checkpoint)
    app.router.add_get("/{name:[0-9a-f]{64}}/checkpoint", get_checkpoint)
    return app


async def add_checkpoint(request: web.Request) -> web.Response:
    """Cosign a checkpoint that continues the newest one, or say why not."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        return web.Response(status=408, text="the body did not arrive in time\n")
    desk = request.app[DESK]
    now = desk.clock() // 1000
    return await _answer(desk, lambda: desk.witness.add_checkpoint(body, now))


async def get_checkpoint(request: web.Request) -> web.Response:
    """Return the newest checkpoint that was cosigned of a log, for monitors and for the log."""
    desk, name = request.app[DESK], request.match_info["name"]
    return await _answer(desk, lambda: desk.witness.newest(name))


async def _answer(desk: Desk, act: Callable[[], str]) -> web.Response:
    running = asyncio.get_running_loop()
    try:
        return web.Response(text=await running.run_in_executor(desk.thread, act))
    except OutOfStep as error:
        # Bytes: a charset after the type would make it another type to some clients.
        return web.Response(status=409, body=b"%d\n" % error.size, content_type=SIZE_TYPE)
    except sqlite3.Error as error:
        _log.error("record_failed", error=str(error))
        return web.Response(status=503, text="the record cannot be used now\n", headers=_RETRY)
    except LedgerError as error:
        if isinstance(error, OtherRoot):
            # Both notes are signed by the log: together they are the proof.
            _log.error("log_forked", cosigned=error.cosigned, submitted=error.submitted)
        return web.Response(status=_STATUS.get(type(error), 500), text=f"{error.message}\n")


async def _end_thread(app: web.Application) -> None:
    app[DESK].thread.shutdown()


async def _serve(app: web.Application, host: str, port: int, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        for address in runner.addresses:
            shown = f"[{address[0]}]" if ":" in address[0] else address[0]
            say(f"listening on http://{shown}:{address[1]}")
        say(f"vkey {app[DESK].witness.vkey}")
        await stop.wait()
    finally:
        await runner.cleanup()


def _secret(config: WitnessConfig) -> bytes:
    """Return the key's secret, with a record beside it that may be believed.

    A key without its record may have cosigned what nobody remembers.
    """
    made, used = WitnessState.look(config.state)
    path = Path(config.key.removeprefix("file:"))
    fresh = config.key.startswith("file:") and not path.exists()
    if fresh and used:
        raise Misconfigured(f"{path} is missing, and its record {config.state} shows its work")
    if not fresh:
        load_secret(config.key)  # where the key itself is at fault, that is said first
    if not made and not fresh and not config.new_state:
        raise Misconfigured(
            f"{config.state} is missing although the key exists: without its record a witness "
            "may cosign a second history. Put the record back, take a new key, or, if this key "
            "never cosigned, say --new-state"
        )
    if not made:
        # The record first: a crash before the key is made leaves an empty record and no key.
        WitnessState.create(config.state)
    return load_secret(config.key)


def _cosigner(name: str | None, secret: bytes) -> Cosigner:
    try:
        if name is not None:
            return Cosigner(name, secret)
        key = Cosigner("unnamed", secret).key.public_key
        return Cosigner(f"ivxp-ledger/witness/{key.hex()[:16]}", secret)
    except ValueError as error:
        raise Misconfigured(f"--name: {error}") from error


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise Misconfigured(f"--listen {listen}: a host and a port with a colon between them")
    return host.removeprefix("[").removesuffix("]"), int(port)
