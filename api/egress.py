"""Calls to addresses that strangers chose: only to the public internet, and never for long.

What decides is the address that a socket is about to connect to, after every lookup, and whatever
the text of the URL looked like. This is the only module that calls a client's endpoint.
"""

from __future__ import annotations

import asyncio
import io
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType, TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from api.push_names import AddressInfo, ThreadPerLookup
from ledger.errors import LedgerError

Address = IPv4Address | IPv6Address

ANSWER_MAX_BYTES: Final = 64 * 1024
CHUNK_BYTES: Final = 16 * 1024
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
MAX_ADDRESSES: Final = 8
"""How many of a host's addresses are tried; a name server may answer with thousands."""

_NEVER_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent: public by number, answers only from inside
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays between the protocols
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_ONLY_V6: Final = IPv6Network("2000::/3")
_NEVER_V6: Final = (
    IPv6Network("2001::/23"),  # Teredo and other experiments
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)
_V4_INSIDE: Final = (
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64; its local form 64:ff9b:1::/48 is never public
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""Networks whose addresses lead to the IPv4 address that stands so many bits from their end."""

_NOT_IN_URLS: Final = re.compile(r"[\x00-\x20\x7f\\]")
_AFTER_AUTHORITY: Final = re.compile(r"[/?#]")


class TargetBlocked(LedgerError):
    """The endpoint is none that may be called: its form, its scheme, its port or its address."""

    code = "TARGET_BLOCKED"


class Unreachable(LedgerError):
    """No answer came, or none that HTTP knows, in the time there is."""

    code = "TARGET_UNREACHABLE"


def require_public(ip: Address) -> None:
    """Raise `TargetBlocked` unless an address is one of the public internet.

    Own tables, so that every Python version judges alike: `is_global` knows neither relays nor
    embedded IPv4 addresses, and changed between versions.
    """
    inner = _embedded(ip)
    if inner is not None:
        require_public(inner)
        return
    if isinstance(ip, IPv4Address):
        public = not any(ip in network for network in _NEVER_V4)
    else:
        within = ip.scope_id is None and ip in _ONLY_V6
        public = within and not any(ip in network for network in _NEVER_V6)
    if not public:
        raise TargetBlocked("the address is not one of the public internet")


def _embedded(ip: Address) -> IPv4Address | None:
    if isinstance(ip, IPv4Address):
        return None
    for network, shift in _V4_INSIDE:
        if ip in network:
            return IPv4Address(int(ip) >> shift & 0xFFFF_FFFF)
    return None


def _permit(_: Address) -> None:
    """Let every address pass."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be called. `ports` None: any."""

    schemes: frozenset[str]
    ports: frozenset[int] | None
    require: Callable[[Address], None]


PUBLIC: Final = Rules(frozenset({"https"}), frozenset({443, 8443}), require_public)
ANYWHERE: Final = Rules(frozenset({"https", "http"}), None, _permit)
"""For development: receivers on the own machine."""


def parse_target(text: str, rules: Rules) -> URL:
    """Return the URL without its fragment, or raise `TargetBlocked`.

    What different parsers read differently is refused, not repaired.
    """
    if _NOT_IN_URLS.search(text):
        raise TargetBlocked("the endpoint is no URL")
    try:
        url = URL(text)
        host, port, authority = url.host, url.port, url.raw_authority
    except ValueError as error:
        raise TargetBlocked("the endpoint is no URL") from error
    if url.scheme not in rules.schemes or not host or "%" in authority:
        raise TargetBlocked(f"only {' and '.join(sorted(rules.schemes))} URLs are called")
    if "@" in authority or "@" in _AFTER_AUTHORITY.split(text)[2]:
        raise TargetBlocked("a URL with credentials is not called")
    if not port or (rules.ports is not None and port not in rules.ports):
        raise TargetBlocked("the port is not one that is called")
    return url.with_fragment(None)


class Egress:
    """Posts to endpoints within the rules: no redirect, proxy, cookie, or decompression."""

    def __init__(
        self,
        rules: Rules,
        *,
        timeout_seconds: float,
        resolver: AbstractResolver | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.rules: Final = rules
        self._timeout = timeout_seconds
        connector = aiohttp.TCPConnector(
            socket_factory=self._socket,
            resolver=_Judged(resolver or ThreadPerLookup(), rules),
            use_dns_cache=False,
            force_close=True,
            limit=0,
            ssl=trust or True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            auto_decompress=False,
            read_bufsize=CHUNK_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def post(
        self, url: URL, body: bytes, extra_headers: Mapping[str, str] = NO_HEADERS
    ) -> int:
        """Post JSON and return the status of the answer; raise `TargetBlocked` or `Unreachable`.

        The status counts from when it is there: what follows cannot take it back.
        """
        status: int | None = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._request(url, body, extra_headers) as response,
            ):
                status = response.status
                await _drain(response.content)
                response.close()
        except TargetBlocked:
            raise
        except aiohttp.InvalidURL as error:
            raise TargetBlocked("the endpoint is no URL") from error
        except Exception as error:
            # Whatever a stranger's server does to the client library ends here.
            if status is None:
                raise Unreachable(type(error).__name__) from error
        return status

    def _request(
        self, url: URL, body: bytes, extra_headers: Mapping[str, str] = NO_HEADERS
    ) -> aiohttp.client._RequestContextManager:
        headers = {
            **extra_headers,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "ivxp-ledger",
        }
        # A buffer is sent in pieces; bytes would be copied into the transport whole.
        data = io.BytesIO(body)
        return self._session.post(url, data=data, headers=headers, allow_redirects=False)

    def _socket(self, target: AddressInfo) -> socket.socket:
        """Make the socket for one address, or raise: the one way to every connection."""
        family, kind, protocol, _, address = target
        self.rules.require(ip_address(str(address[0])))
        return socket.socket(family, kind, protocol)


class _Judged(AbstractResolver):
    """Passes a host's addresses on if every one of them may be called.

    The socket judges again. This says `blocked` where the library, racing several addresses,
    would only say that none answered.
    """

    def __init__(self, names: AbstractResolver, rules: Rules) -> None:
        self._names = names
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the first addresses of a host."""
        found = await self._names.resolve(host, port, family)
        for each in found:
            self._rules.require(ip_address(each["host"]))
        return found[:MAX_ADDRESSES]

    async def close(self) -> None:
        """Close the resolver behind."""
        await self._names.close()


async def _drain(content: aiohttp.StreamReader) -> None:
    """Read the answer to its end or to the cap: some servers fail when it is cut off."""
    left = ANSWER_MAX_BYTES
    with suppress(aiohttp.ClientError):
        while left > 0 and (chunk := await content.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
