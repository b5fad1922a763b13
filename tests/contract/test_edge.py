"""The server's edge over raw sockets: heads, connections and answers that are kept waiting."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from api.app import make_app
from api.edge import REFUSALS_AT_ONCE
from api.server import MAX_FIELD_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from scripts.listening import Listening, listening
from tests.contract.kit import make_settings
from tests.contract.test_routes import UNREADABLE
from tests.support.service import PAYMENT_ADDRESS, RECOVERY_ADDRESS, Service, running

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS = 20
PATIENCE = 5
"""Seconds within which others are served, whatever a crowd does and however slow the machine."""
MEGABYTE = 2**20

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def edge_of(folder: Path, **changes: object) -> AsyncIterator[Listening]:
    """Run the whole service behind its edge."""
    app = make_app(make_settings(folder, **changes))
    async with listening(app, "127.0.0.1", 0) as place:
        yield place


@asynccontextmanager
async def connected(url: str, address: str = "127.0.0.1") -> AsyncIterator[Stream]:
    """Connect from one of this machine's addresses."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port, local_addr=(address, 0)
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer_of(stream: Stream, data: bytes = b"") -> tuple[int, dict[str, str], Any]:
    """Send bytes and return status, headers and JSON body of the answer."""
    reader, writer = stream
    async with asyncio.timeout(SECONDS):
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(status.split()[1]), headers, json.loads(body) if body else None


async def asked(url: str, data: bytes, address: str = "127.0.0.1") -> tuple[int, Any]:
    """Send bytes on a connection of their own; return status and JSON body."""
    async with connected(url, address) as stream:
        status, _, body = await answer_of(stream, data)
        return status, body


async def ended(stream: Stream) -> bytes:
    """Return what a connection still brings until it is closed."""
    async with asyncio.timeout(SECONDS):
        try:
            return await stream[0].read()
        except ConnectionError:
            return b""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run the process that operators run, impatient."""
    folder = tmp_path_factory.mktemp("edge")
    impatient = {"idle_timeout": "1", "send_timeout": "0.4", "max_connections_per_address": "0"}
    with running(folder, **impatient) as service:
        yield service


HEADS = {
    "a header above the limit": (431, "HEADERS_TOO_LARGE"),
    "too many headers": (431, "HEADERS_TOO_LARGE"),
    "a path above the limit": (414, "URI_TOO_LONG"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_is_no_request_is_refused_in_json_and_quotes_nothing(
    real: Service, name: str
) -> None:
    status, code = HEADS.get(name, (400, None))
    async with connected(real.url) as stream:
        answered, headers, body = await answer_of(stream, UNREADABLE[name])

        assert answered == status
        assert code is None or body["error"] == code
        assert (headers["content-type"][:16], set(body)) == (
            "application/json",
            {"error", "message"},
        )
        assert headers["access-control-allow-origin"] == "*"
        assert "aaaa" not in body["message"]
        assert await ended(stream) == b""
    assert (await asked(real.url, HEALTH))[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X: " + b"a" * MAX_FIELD_BYTES + b"\r\n", 200),
        (b"X: " + b"a" * (MAX_FIELD_BYTES + 1) + b"\r\n", 431),
        (b"".join(b"X%d: 1\r\n" % n for n in range(MAX_HEADERS - 1)), 200),
        (b"".join(b"X%d: 1\r\n" % n for n in range(MAX_HEADERS)), 431),
    ],
)
async def test_headers_pass_up_to_the_limit(real: Service, head: bytes, status: int) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n"

    assert (await asked(real.url, request))[0] == status


@pytest.mark.parametrize(("length", "status"), [(MAX_LINE_BYTES, 404), (MAX_LINE_BYTES + 1, 414)])
async def test_a_target_passes_up_to_the_limit(real: Service, length: int, status: int) -> None:
    request = b"GET /" + b"a" * (length - 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n"

    assert (await asked(real.url, request))[0] == status


@pytest.mark.parametrize("path", [b"/health", b"/nowhere"])
async def test_an_unknown_expectation_is_refused_in_json(real: Service, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\n\r\n"

    status, body = await asked(real.url, request)

    assert (status, body["error"]) == (417, "EXPECTATION_FAILED")


async def test_who_waits_for_leave_to_send_a_body_gets_it(real: Service) -> None:
    head = b"POST /ivxp/request HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    async with connected(real.url) as stream:
        stream[1].write(head + b"Content-Length: 2\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            assert await stream[0].readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

        status, _, body = await answer_of(stream, b"{}")

        assert (status, body["error"]) == (400, "PROTOCOL_VERSION_UNSUPPORTED")


async def drip(url: str, begin: bytes) -> tuple[int, bytes]:
    """Send byte after byte until the service hangs up; return how many, and what it said."""
    sent, said = 0, b""
    async with connected(url) as (reader, writer), asyncio.timeout(SECONDS):
        writer.write(begin)
        while True:
            try:
                async with asyncio.timeout(0.1):
                    more = await reader.read(1024)
            except TimeoutError:
                writer.write(b"a")
                sent += 1
            except ConnectionError:
                return sent, said
            else:
                said += more
                if not more:
                    return sent, said


def be_served(service: Service) -> None:
    """Ask for the health from a thread of its own.

    On the loop that drips, the time between connecting and asking grows with the crowd, and the
    service would rightly hang up on a caller that is as late as the crowd itself.
    """
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200


def memory_bytes(service: Service) -> int:
    """Return the resident memory of the service's process."""
    assert service._process is not None
    lines = Path(f"/proc/{service._process.pid}/status").read_text("ascii").splitlines()
    [line] = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
async def test_two_hundred_dripping_connections_are_ended_while_others_are_served(
    real: Service,
) -> None:
    used = []
    for _ in range(3):
        crowd = asyncio.gather(
            *(drip(real.url, b"GET /health HTTP/1.1\r\nX: ") for _ in range(200))
        )
        served = 0
        while not crowd.done():
            await asyncio.to_thread(be_served, real)
            served += 1
        drips, said = zip(*await crowd, strict=True)
        assert set(said) == {b""}
        assert mean(drips) > 1
        assert served > 1
        used.append(memory_bytes(real))

    # The first round pays for buffers that the later ones use again.
    assert used[2] - used[0] < 4 * MEGABYTE, used


@pytest.mark.slow
async def test_two_hundred_dripping_bodies_are_ended_while_others_are_served(
    tmp_path: Path,
) -> None:
    begun = {b"POST /ivxp/request": b"408", b"POST /nowhere": b"404", b"GET /health": b"200"}
    heads = [line + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" for line in begun]
    with running(tmp_path, body_timeout="1", max_connections_per_address="0") as service:
        crowd = asyncio.gather(*(drip(service.url, heads[n % 3]) for n in range(201)))
        while not crowd.done():
            await asyncio.to_thread(be_served, service)
        answers = [said.split(b" ", 2)[1] for _, said in await crowd]

    assert answers == [*begun.values()] * 67


async def test_a_connection_that_sends_nothing_is_ended(real: Service) -> None:
    async with connected(real.url) as stream:
        assert await ended(stream) == b""


async def test_a_kept_connection_gets_no_more_time_for_its_next_head(real: Service) -> None:
    async with connected(real.url) as stream:
        for _ in range(3):
            assert (await answer_of(stream, HEALTH))[0] == 200
        stream[1].write(HEALTH[:-3])

        assert await ended(stream) == b""


@pytest.mark.slow
async def test_who_leaves_answers_untaken_is_cut_and_others_are_served(real: Service) -> None:
    parts = urlsplit(real.url)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1024)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.create_connection(lambda: protocol, parts.hostname, parts.port)
    transport.pause_reading()
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    with pytest.raises(ConnectionError):
        await ask_without_end(real, writer)
    transport.abort()


async def ask_without_end(service: Service, writer: asyncio.StreamWriter) -> None:
    """Send requests and take no answer, while others ask as well."""
    async with asyncio.timeout(3 * SECONDS):
        while True:
            writer.write(b"GET /ivxp/catalog HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
            await writer.drain()
            await asyncio.to_thread(be_served, service)


async def test_a_connection_too_many_is_told_so_at_once_and_a_place_that_is_free_is_given(
    tmp_path: Path,
) -> None:
    async with edge_of(tmp_path, max_connections=3) as place, contextlib.AsyncExitStack() as held:
        [url] = place.urls
        streams = [await held.enter_async_context(connected(url)) for _ in range(3)]
        for stream in streams:
            assert (await answer_of(stream, HEALTH))[0] == 200

        async with connected(url) as stream:
            status, headers, body = await answer_of(stream, HEALTH)
            assert (status, body["error"], body["retryable"]) == (503, "SERVICE_UNAVAILABLE", True)
            assert (headers["retry-after"], headers["connection"]) == ("2", "close")
            assert headers["access-control-allow-origin"] == "*"
            assert await ended(stream) == b""

        assert (await answer_of(streams[0], HEALTH))[0] == 200
        streams[1][1].close()
        await streams[1][1].wait_closed()
        await until(lambda: place.edge.open_connections < 3)
        assert (await asked(url, HEALTH))[0] == 200


async def until(reached: Callable[[], bool]) -> None:
    """Let the event loop run until something has happened."""
    async with asyncio.timeout(SECONDS):
        while True:
            if reached():
                return
            await asyncio.sleep(0)


async def test_one_address_cannot_take_every_place_unless_it_is_a_trusted_proxy(
    tmp_path: Path,
) -> None:
    async with (
        edge_of(tmp_path, max_connections_per_address=2, trusted_proxies="127.0.0.9") as place,
        contextlib.AsyncExitStack() as held,
    ):
        [url] = place.urls
        for _ in range(2):
            stream = await held.enter_async_context(connected(url, "127.0.0.5"))
            assert (await answer_of(stream, HEALTH))[0] == 200

        assert (await asked(url, HEALTH, "127.0.0.5"))[0] == 503
        assert (await asked(url, HEALTH, "127.0.0.6"))[0] == 200
        for _ in range(5):
            stream = await held.enter_async_context(connected(url, "127.0.0.9"))
            assert (await answer_of(stream, HEALTH))[0] == 200


async def test_a_flood_of_connections_takes_no_places_and_leaves_none_behind(
    tmp_path: Path,
) -> None:
    async with edge_of(tmp_path, max_connections=2) as place, contextlib.AsyncExitStack() as held:
        [url] = place.urls
        streams = [await held.enter_async_context(connected(url)) for _ in range(2)]
        for stream in streams:
            assert (await answer_of(stream, HEALTH))[0] == 200

        flood = [await held.enter_async_context(connected(url)) for _ in range(200)]
        told = [await ended(stream) for stream in flood]

        assert {answer[:12] for answer in told} <= {b"HTTP/1.1 503", b""}
        assert sum(bool(answer) for answer in told) >= REFUSALS_AT_ONCE
        assert place.edge.open_connections == 2
        assert (await answer_of(streams[0], HEALTH))[0] == 200
        await until(lambda: not place.edge._refusals)


@pytest.mark.slow
async def test_the_cap_holds_in_the_real_process_and_it_ends_with_connections_open(
    tmp_path: Path,
) -> None:
    with running(tmp_path, max_connections="4") as service:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(4):
                stream = await held.enter_async_context(connected(service.url))
                assert (await answer_of(stream, HEALTH))[0] == 200
            for _ in range(20):
                assert (await asked(service.url, HEALTH))[0] == 503

            assert await asyncio.to_thread(service.stop) == 0


def test_more_connections_than_files_are_refused_at_the_start(tmp_path: Path) -> None:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("LEDGER_")},
        "LEDGER_PORT": "0",
        "LEDGER_DATA_DIR": str(tmp_path / "data"),
        "LEDGER_DEV_CHAIN": "true",
        "LEDGER_PAYMENT_ADDRESS": PAYMENT_ADDRESS,
        "LEDGER_RECOVERY_ADDRESS": RECOVERY_ADDRESS,
    }
    command = f"ulimit -n 1024; exec {sys.executable} -m scripts.cli serve"

    ended_ = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )

    assert ended_.returncode == 2
    assert ended_.stderr.splitlines()[-1] == (
        "MISCONFIGURED: LEDGER_MAX_CONNECTIONS: 2000 connections need 2256 open files, "
        "and the system allows this process 1024"
    )


def test_the_service_allows_itself_the_files_it_needs(tmp_path: Path) -> None:
    service = Service(tmp_path, max_connections="5000")
    service.start()
    try:
        assert service._process is not None
        limits = Path(f"/proc/{service._process.pid}/limits").read_text("ascii")
        [soft] = [line.split()[3] for line in limits.splitlines() if "open files" in line]
        assert int(soft) >= 5256
        with urlopen(f"{service.url}/health", timeout=SECONDS) as response:  # noqa: S310 - our own
            assert response.status == 200
    finally:
        service.stop()
