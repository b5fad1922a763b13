"""Endpoints chosen to hurt: none reaches a private address, holds memory, or delays the others."""

# ruff: noqa: RUF001 - characters that look like digits are what some targets are made of

from __future__ import annotations

import asyncio
import gc
import gzip
import ipaddress
import socket
import ssl
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from api.egress import (
    ANSWER_MAX_BYTES,
    ANYWHERE,
    PUBLIC,
    Address,
    Egress,
    Rules,
    TargetBlocked,
    Unreachable,
    parse_target,
    require_public,
)
from api.workers.push import Gates

BODY = b'{"order_id": "ivxp-1"}'
PATIENCE = 5.0
SHORT = 1.0
"""Seconds for an attempt at a server that will never end."""
FLAT_BYTES = 3 * 2**20
SECRET_IN = b"POST"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_connects: list[tuple[Any, ...]] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _connects is not None:
        _connects.append(arguments[1])


sys.addaudithook(_audit)


@contextmanager
def every_connect() -> Iterator[list[tuple[Any, ...]]]:
    """Record each address that any socket of this process is told to connect to."""
    global _connects  # noqa: PLW0603 - an audit hook is for the whole process
    seen: list[tuple[Any, ...]] = []
    _connects = seen
    try:
        yield seen
    finally:
        _connects = None


class Names(AbstractResolver):
    """Names as a hostile name server has them; numbers in every form that the system reads."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(lists) for name, lists in answers.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        lists = self._answers.get(host.rstrip(".").lower())
        if lists is None:
            numeric = socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            addresses = [str(info[4][0]) for info in numeric]
        else:
            addresses = lists.pop(0) if len(lists) > 1 else lists[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


class Trap:
    """Listens on one port of every address of this machine and counts who comes."""

    def __init__(self) -> None:
        self.accepted = 0
        self.port = 0

    async def open(self, stack: AsyncExitStack) -> None:
        v4 = socket.create_server(("0.0.0.0", 0))  # noqa: S104 - every way in is watched
        self.port = v4.getsockname()[1]
        sockets = [v4]
        with suppress(OSError):  # a machine without IPv6 has no such way in
            sockets.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        for each in sockets:
            server = await asyncio.start_server(self._count, sock=each)
            stack.callback(server.close)

    async def _count(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        writer.close()


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    async with AsyncExitStack() as stack:
        opened = Trap()
        await opened.open(stack)
        yield opened


ONLY_THE_ADDRESS = Rules(frozenset({"http", "https"}), None, require_public)
"""So that nothing but the judgement of the address stands between a URL and the trap."""

LOCAL_NAMES = ("localhost", "ip6-localhost", "localhost.localdomain", "app.localhost")

NUMBERS = """
127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 127.00.00.01 127.000.000.001 2130706433
017700000001 0177.0.0.1 0177.0.0.01 0x7f000001 0x7F000001 0x7f.1 0x7f.0.0.1 0x7f.0x0.0x0.0x1
0x7f.0.1 127.0x1 127.0.0x0.1 00000177.1 127.0.0.1. 127.1. 2130706433. 0x7f.1.
0 0.0 0.0.0.0 0x0 00 0x00000000 0.0.0.1 0.0.0.0.
10.0.0.1 10.255.255.255 10.1 167772161 0xa000001 012.0.0.1 012.1
172.16.0.1 172.31.255.254 0xac100001 2886729729 192.168.0.1 192.168.1.1 192.168.1 3232235777
0xc0a80101 0300.0250.1.1 169.254.169.254 169.254.43518 2852039166 0xa9fea9fe 0251.0376.0251.0376
0xa9.0xfe.0xa9.0xfe 0251.254.0xa9fe 100.64.0.1 100.100.100.200 100.127.255.254 168.63.129.16
192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.254 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 4294967295 0xffffffff
""".split()  # noqa: SIM905 - a hundred of them read best as text

SIX = """
:: ::1 0:0:0:0:0:0:0:1 0000:0000:0000:0000:0000:0000:0000:0001 ::0.0.0.1 ::2
::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:7F00:0001 0:0:0:0:0:ffff:127.0.0.1 0:0:0:0:0:ffff:7f00:1
::ffff:0.0.0.0 ::ffff:10.0.0.1 ::ffff:192.168.1.1 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe
::ffff:100.64.0.1 ::127.0.0.1 ::7f00:1 ::10.0.0.1 ::169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::127.0.0.1 64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::192.168.1.1
64:ff9b:1::127.0.0.1 64:ff9b:1::10.0.0.1 64:ff9b:1:7f00:0:100:: 64:ff9b:1::8.8.8.8
2002:7f00:1:: 2002:7f00:1::1 2002:a00:1::1 2002:c0a8:101::1 2002:a9fe:a9fe::1 2002:0:0::1
2002:6440:1::1 2001:0:7f00:1::1 2001::80ff:fffe 2001:0:a00:1:0:0:f5ff:fffe 2001:10::1 2001:20::1
2001:2::1 2001:db8::1 3fff::1 5f00::1 100::1 4000::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1
febf:ffff::1 fec0::1 ff02::1 ff05::1:3 ff0e::1 fe80::1%25lo fe80::1%251
::1%25lo ::ffff:127.0.0.1%25lo
""".split()  # noqa: SIM905 - a hundred of them read best as text

WRITTEN = [
    "１２７.０.０.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127．0．0．1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "LOCALHOST",
    "LocalHost.",
    "localhost.",
    "localhost..",
    "%31%32%37.0.0.1",
    "%6c%6f%63%61%6c%68%6f%73%74",
    "127.0.0.1%00.client.example",
    "client.example@127.0.0.1",
    "user:word@127.0.0.1",
    "client.example:443@localhost",
    "127.0.0.1:80@localhost",
    "@127.0.0.1",
    ":@127.0.0.1",
    "[::1]@127.0.0.1",
    "client.example\\@127.0.0.1",
    "127.0.0.1\\.client.example",
    "127.0.0.1\t",
    "127.0.0.1\r\n.client.example",
    "127.0.0.1 .client.example",
]

NAMED = {
    "loopback.test": ["127.0.0.1"],
    "loopback6.test": ["::1"],
    "private.test": ["10.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "link.test": ["fe80::1%lo"],
    "first.test": ["127.0.0.1", "127.0.0.9"],
    "last.test": ["127.0.0.9", "127.0.0.1"],
    "among.many.test": ["127.0.0.9"] * 20 + ["127.0.0.1"],
    "both.families.test": ["127.0.0.9", "::1"],
}
"""Here 127.0.0.9 plays a public address: what is blocked is the company it comes in."""


def targets(port: int) -> list[str]:
    hosts = [*NUMBERS, *(f"[{each}]" for each in SIX), *WRITTEN, *LOCAL_NAMES, *NAMED]
    urls = [f"http://{host}:{port}/ivxp/callback" for host in hosts]
    urls += [
        f"http://client.example#@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@client.example/",
        f"http://127.0.0.1:{port}?@client.example/",
        f"http://client.example?@127.0.0.1:{port}/",
        f"//127.0.0.1:{port}/",
        f"http:127.0.0.1:{port}/",
        f"http:/127.0.0.1:{port}/",
        f"http:///127.0.0.1:{port}/",
        f"http:\\\\127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        f"gopher://127.0.0.1:{port}/_POST",
        f"unix://127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}/",
        f"https://[::ffff:127.0.0.1]:{port}/",
    ]
    return urls


def judging_like_the_internet(ip: Address) -> None:
    """Judge as in production, but let one address of this machine play the public internet."""
    if ip != ipaddress.ip_address("127.0.0.9"):
        require_public(ip)


STAGE = Rules(frozenset({"http", "https"}), None, judging_like_the_internet)


def hostile_names() -> Names:
    answers = {name.replace(".", "_"): [addresses] for name, addresses in NAMED.items()}
    local = {name.replace(".", "_"): [["127.0.0.1", "::1"]] for name in LOCAL_NAMES}
    return Names(**answers, **local, client_example=[["192.0.2.7"]])


async def attempt(egress: Egress, text: str) -> int | str:
    """Do what the service does with an endpoint; return the status or what stopped it."""
    try:
        return await egress.post(parse_target(text, egress.rules), BODY)
    except (TargetBlocked, Unreachable) as stopped:
        return type(stopped).__name__


async def test_no_hostile_target_gets_a_single_connection(trap: Trap) -> None:
    urls = targets(trap.port)
    own = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    urls += [f"http://{'[' + a + ']' if ':' in a else a}:{trap.port}/" for a in own]
    found: dict[str, int | str] = {}

    with every_connect() as connects:
        async with Egress(STAGE, timeout_seconds=PATIENCE, resolver=hostile_names()) as egress:
            for url in urls:
                found[url] = await attempt(egress, url)

    blocked = [url for url, outcome in found.items() if outcome == "TargetBlocked"]
    print(  # noqa: T201 - the figures are the result
        f"hostile targets {len(found)}, blocked {len(blocked)},"
        f" without an address {len(found) - len(blocked)}, connects {len(connects)},"
        f" accepted {trap.accepted}"
    )
    assert len(found) >= 190
    assert (connects, trap.accepted) == ([], 0)
    assert set(found.values()) == {"TargetBlocked", "Unreachable"}
    # What is left is no address to anybody: a hexadecimal number with a dot behind it.
    assert set(found) - set(blocked) == {f"http://0x7f.1.:{trap.port}/ivxp/callback"}


async def test_the_trap_would_have_been_reached_without_the_guard(trap: Trap) -> None:
    async with Egress(ANYWHERE, timeout_seconds=PATIENCE, resolver=hostile_names()) as egress:
        for host in ("127.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "loopback.test", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"):
            await attempt(egress, f"http://{host}:{trap.port}/")

    assert trap.accepted >= 5


async def test_the_rules_of_production_leave_no_port_for_plain_services(trap: Trap) -> None:
    async with Egress(PUBLIC, timeout_seconds=PATIENCE, resolver=hostile_names()) as egress:
        with every_connect() as connects:
            found = {await attempt(egress, url) for url in targets(trap.port)}

    assert found == {"TargetBlocked"}
    assert connects == []


async def test_the_socket_refuses_even_if_a_lookup_slipped_through(trap: Trap) -> None:
    names = Names(slipped_test=[["127.0.0.1"]], two_test=[["127.0.0.1", "::1"]])
    async with Egress(ONLY_THE_ADDRESS, timeout_seconds=PATIENCE) as egress:
        egress._session.connector._resolver = names  # type: ignore[union-attr]
        with every_connect() as connects:
            for host in ("slipped.test", "two.test"):
                assert isinstance(await attempt(egress, f"http://{host}:{trap.port}/"), str)

    assert (names.asked, connects, trap.accepted) == (["slipped.test", "two.test"], [], 0)


async def test_a_name_that_turns_private_is_blocked_from_then_on(trap: Trap) -> None:
    public, private = ["127.0.0.9"], ["127.0.0.1"]
    names = Names(rebinding_test=[public, private, public, ["::ffff:127.0.0.1"], private])
    async with (
        serving(answer(200), host="127.0.0.9") as port,
        Egress(STAGE, timeout_seconds=PATIENCE, resolver=names) as egress,
    ):
        with every_connect() as connects:
            url = f"http://rebinding.test:{port}/"
            found = [await attempt(egress, url) for _ in range(5)]

    assert found == [200, "TargetBlocked", 200, "TargetBlocked", "TargetBlocked"]
    assert [address[0] for address in connects] == ["127.0.0.9", "127.0.0.9"]
    # One lookup per attempt: there is no second answer between judging and connecting.
    assert len(names.asked) == 5


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_not_followed(trap: Trap, status: int) -> None:
    location = f"Location: http://127.0.0.1:{trap.port}/\r\nRefresh: 0\r\n"
    async with (
        serving(answer(status, headers=location), host="127.0.0.9") as port,
        Egress(STAGE, timeout_seconds=PATIENCE) as egress,
    ):
        assert await attempt(egress, f"http://127.0.0.9:{port}/") == status

    assert trap.accepted == 0


async def test_a_proxy_named_in_the_environment_is_not_asked(
    trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    monkeypatch.setenv("no_proxy", "")
    async with (
        serving(answer(200), host="127.0.0.9") as port,
        Egress(STAGE, timeout_seconds=PATIENCE) as egress,
    ):
        assert await attempt(egress, f"http://127.0.0.9:{port}/") == 200

    assert trap.accepted == 0


# Servers that answer badly


@asynccontextmanager
async def serving(
    talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Talk to everyone who comes, for the length of a block; yields the port."""
    talking: set[asyncio.Task[None]] = set()

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            talking.discard(task)
            writer.close()

    server = await asyncio.start_server(met, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in list(talking):
            each.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


async def heard(reader: asyncio.StreamReader) -> bytes:
    """Read one whole request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-len"))
    return head + await reader.readexactly(length)


def answer(status: int, body: bytes = b"{}", headers: str = "") -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        head = f"HTTP/1.1 {status:03} said\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return talk


def saying(raw: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(raw)
        await writer.drain()

    return talk


def without_end(start: bytes, piece: bytes, *, pause_seconds: float = 0) -> Talk:
    """Say something, then one piece after the other until nobody listens any more."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)  # slowness is what this server is for

    return talk


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await heard(reader)
    await asyncio.Event().wait()


async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await heard(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart")
    await writer.drain()
    writer.transport.abort()


OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(64 * 2**20))

ENDLESS = {
    "a dripping status line": (without_end(b"HTTP/1.1 2", b"0", pause_seconds=0.02), None),
    "dripping headers": (without_end(OK, b"a: b\r\n", pause_seconds=0.02), None),
    "a dripping body": (
        without_end(OK + b"Content-Length: 1000000\r\n\r\n", b"x", pause_seconds=0.02),
        200,
    ),
    "silence": (silent, None),
    "deafness": (deaf, None),
    "endless headers": (without_end(OK, b"a" * 50 + b": " + b"b" * 4000 + b"\r\n"), None),
    "one endless header": (without_end(OK + b"a: ", b"b" * 60_000), None),
    "an endless status line": (without_end(b"HTTP/1.1 200 ", b"b" * 60_000), None),
    "endless interim answers": (without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500), None),
    "endless early hints": (
        without_end(b"", b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n" * 500),
        None,
    ),
    "a body of ten gigabytes": (
        without_end(OK + b"Content-Length: 10000000000\r\n\r\n", b"x" * 2**16),
        200,
    ),
    "an endless body": (without_end(OK + b"\r\n", b"x" * 2**16), 200),
    "an endless chunked body": (
        without_end(
            OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 2**16 + b"\r\n"
        ),
        200,
    ),
    "endless small chunks": (
        without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 5000),
        200,
    ),
    "one endless chunk extension": (
        without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 2**16),
        200,
    ),
    "endless trailers": (
        without_end(
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
            b"a" * 50 + b": " + b"b" * 4000 + b"\r\n",
        ),
        200,
    ),
    "a gzip bomb": (
        answer(200, BOMB, "Content-Encoding: gzip\r\n"),
        200,
    ),
    "a gzip bomb in chunks": (
        saying(
            OK
            + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOMB), BOMB)
        ),
        200,
    ),
    "a reset after the status": (resetting, 200),
}
"""What the server does, and the status that counts; None: no answer came."""


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_server_without_end_costs_its_time_and_no_memory(name: str) -> None:
    talk, status = ENDLESS[name]
    body = bytes(16 * 2**20) if name == "deafness" else BODY
    async with serving(talk) as port, Egress(ANYWHERE, timeout_seconds=SHORT) as egress:
        url = URL(f"http://127.0.0.1:{port}/")
        gc.collect()
        tracemalloc.start()
        began = time.monotonic()
        try:
            found: int | None = await egress.post(url, body)
        except Unreachable:
            found = None
        took = time.monotonic() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    print(f"{name}: {took:.2f} s, peak {peak / 2**20:.2f} MiB")  # noqa: T201 - the figures
    assert found == status
    assert took < SHORT + 2
    assert peak < FLAT_BYTES + (len(body) if name == "deafness" else 0)


async def test_no_more_of_an_answer_is_read_than_the_cap() -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await heard(reader)
        writer.transport.set_write_buffer_limits(0)
        writer.write(OK + b"Content-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(2**14))
            await writer.drain()
            sent += 2**14

    async with serving(talk) as port, Egress(ANYWHERE, timeout_seconds=PATIENCE) as egress:
        assert await egress.post(URL(f"http://127.0.0.1:{port}/"), BODY) == 200

    # What lies in the buffers of the system was sent and not read.
    assert sent < ANSWER_MAX_BYTES + 8 * 2**20


BAD_ANSWERS = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "the oldest HTTP": b"<html>200</html>",
    "no version": b"HTTP 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "half a status": b"HTTP/1.1 20",
    "half a header": OK + b"Content-Len",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": OK + b"Content-Length: -1\r\n\r\n",
    "a zero in a header": OK + b"a: b\x00c\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("raw", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_what_is_no_answer_is_no_delivery(raw: bytes) -> None:
    async with serving(saying(raw)) as port, Egress(ANYWHERE, timeout_seconds=SHORT) as egress:
        with pytest.raises(Unreachable):
            await egress.post(URL(f"http://127.0.0.1:{port}/"), BODY)


@pytest.mark.parametrize("status", [101, 204, 299, 304, 400, 401, 418, 500, 599, 600, 999])
async def test_every_status_of_an_answer_is_told(status: int) -> None:
    async with serving(answer(status, b"")) as port, Egress(ANYWHERE, timeout_seconds=2) as egress:
        assert await egress.post(URL(f"http://127.0.0.1:{port}/"), BODY) == status


async def test_a_cookie_is_not_sent_back_and_nothing_is_promised_to_be_unpacked() -> None:
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await heard(reader))
        writer.write(OK + b"Set-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(talk) as port, Egress(ANYWHERE, timeout_seconds=PATIENCE) as egress:
        for _ in range(2):
            await egress.post(URL(f"http://127.0.0.1:{port}/path?query"), BODY)

    assert requests[0] == requests[1]
    assert requests[0].startswith(b"POST /path?query HTTP/1.1\r\n")
    assert b"accept-encoding: identity" in requests[0].lower()
    assert b"cookie" not in requests[0].lower()
    assert requests[0].endswith(b"\r\n\r\n" + BODY)


# TLS


def certificate(folder: Path, host: str, *, days: int = 1) -> tuple[Path, ssl.SSLContext]:
    """Return a fresh self-signed certificate's file and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(made.public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return file, context


@pytest.mark.parametrize(
    ("trusted", "host", "days", "works"),
    [
        (True, "client.test", 1, True),
        (False, "client.test", 1, False),
        (True, "other.test", 1, False),
        (True, "client.test", -1, False),
    ],
    ids=["good", "untrusted", "for another host", "expired"],
)
async def test_only_a_trusted_valid_certificate_for_the_host_gets_the_deliverable(
    tmp_path: Path, *, trusted: bool, host: str, days: int, works: bool
) -> None:
    file, context = certificate(tmp_path, host, days=days)
    trust = ssl.create_default_context(cafile=str(file)) if trusted else None
    requests: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await heard(reader))
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    names = Names(client_test=[["127.0.0.1"]])
    async with (
        serving(talk, tls=context) as port,
        Egress(ANYWHERE, timeout_seconds=PATIENCE, resolver=names, trust=trust) as egress,
    ):
        found = await attempt(egress, f"https://client.test:{port}/")

    assert found == (200 if works else "Unreachable")
    assert len(requests) == works


async def test_a_plain_server_behind_https_gets_nothing_and_a_stalled_handshake_ends() -> None:
    got = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read(2**16))
        writer.write(OK + b"\r\n")
        await writer.drain()

    async def stalled(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with Egress(ANYWHERE, timeout_seconds=SHORT) as egress:
        for talk in (plain, stalled):
            async with serving(talk) as port:
                assert await attempt(egress, f"https://127.0.0.1:{port}/") == "Unreachable"

    assert got[:1] == b"\x16"
    assert SECRET_IN not in got


# Others meanwhile


async def test_slow_hosts_delay_only_themselves() -> None:
    gates = Gates(per_host=2, at_once=32)
    took: list[float] = []
    at_once = most = 0
    let_go = asyncio.Event()

    async def held(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await heard(reader)
        await let_go.wait()

    async def push(egress: Egress, name: str, url: URL) -> None:
        nonlocal at_once, most
        async with gates.passing(name):
            if name == "slow":
                at_once += 1
                most = max(most, at_once)
            began = time.monotonic()
            try:
                await egress.post(url, BODY)
            except Unreachable:
                assert name == "slow"
                at_once -= 1
            else:
                took.append(time.monotonic() - began)

    async with (
        serving(held) as slow_port,
        serving(answer(200)) as quick_port,
        Egress(ANYWHERE, timeout_seconds=60) as egress,
    ):
        slow, quick = (URL(f"http://127.0.0.1:{p}/") for p in (slow_port, quick_port))
        waiting = [asyncio.create_task(push(egress, "slow", slow)) for _ in range(10)]
        began = time.monotonic()
        await asyncio.gather(*(push(egress, f"quick {n % 10}", quick) for n in range(100)))
        quick_seconds = time.monotonic() - began
        still_waiting = sum(not task.done() for task in waiting)
        let_go.set()
        await asyncio.gather(*waiting)

    print(f"100 quick pushes beside 10 slow ones: {quick_seconds:.2f} s")  # noqa: T201
    assert len(took) == 100
    assert still_waiting == 10
    assert most == 2
    assert not gates._hosts


async def test_a_lookup_that_hangs_holds_no_thread_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hanging(*_: object, **__: object) -> list[object]:
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result()
        raise socket.gaierror("late")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    async with Egress(ANYWHERE, timeout_seconds=SHORT) as egress:
        urls = [f"http://hanging{n}.test/" for n in range(50)]
        waiting = [asyncio.create_task(attempt(egress, url)) for url in urls]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(lambda: "served") == "served"
        assert {*await asyncio.gather(*waiting)} == {"Unreachable"}
    let_go.set()
