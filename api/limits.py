"""Limits on anonymous writes: requests per address, and open quotes per wallet and address."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from aiohttp import web

from api.window import Allowance, Window
from ledger.errors import LedgerError

MAX_TRACKED_ADDRESSES: Final = 10_000
IPV6_SITE_BITS: Final = 64
_HOP: Final = re.compile(r"\[(?P<v6>[^\]]+)\](?::\d+)?|(?P<v4>[\d.]+):\d+")


class RateLimited(LedgerError):
    """Too many writes from one address or wallet; nothing was recorded."""

    code = "RATE_LIMITED"
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, details={"retry_after": retry_after})
        self.retry_after: Final = retry_after


def client_address(request: web.Request, proxies: tuple[IPv4Network | IPv6Network, ...]) -> str:
    """Return the caller's address; forwarding headers count only from a trusted proxy.

    An IPv6 caller is known by its /64, which is the least that one subscriber holds.
    """
    address = parsed_address(request.remote or "")
    if is_within(address, proxies):
        # A proxy may add a line of its own after what the caller sent: all lines count as one.
        hops = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        for hop in reversed([hop for hop in hops if hop.strip()]):
            address = parsed_address(hop.strip())
            if not is_within(address, proxies):
                break
    return site_of(address)


def parsed_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without the port that some proxies write; None of anything else."""
    match = _HOP.fullmatch(text)
    try:
        address = ip_address(match["v6"] or match["v4"] or text) if match else ip_address(text)
    except ValueError:
        return None
    # A socket for both families shows IPv4 callers inside IPv6, all of them in one /64.
    return getattr(address, "ipv4_mapped", None) or address


def is_within(
    address: IPv4Address | IPv6Address | None, networks: tuple[IPv4Network | IPv6Network, ...]
) -> bool:
    """Whether an address lies in one of the networks."""
    return address is not None and any(address in network for network in networks)


def site_of(address: IPv4Address | IPv6Address | None) -> str:
    """Return the name under which a caller is counted."""
    if address is None:
        return "unknown"
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> IPV6_SITE_BITS << IPV6_SITE_BITS, IPV6_SITE_BITS)))


class Limits:
    """Counts writes. State is in memory: a restart forgives, the ledger forgets nothing."""

    def __init__(
        self,
        *,
        per_minute: int,
        max_open_quotes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        writes = Window(per_minute, max_holders=MAX_TRACKED_ADDRESSES, clock=clock)
        self._writes = writes if per_minute else None
        self._max_open = max_open_quotes
        self._clock = clock
        self._quotes: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._holders: dict[str, tuple[str, ...]] = {}

    def count_write(self, address: str) -> Allowance | None:
        """Count one write of an address if it is granted; None where there is no limit."""
        return self._writes.take(address) if self._writes else None

    def hold_quote(self, order_id: str, holders: Mapping[str, int], seconds: int) -> None:
        """Count an open quote for a wallet and an address, or raise `RateLimited`.

        `holders` maps each to how many quotes it is known to have open besides those counted here,
        for a wallet that was quoted before a restart.
        """
        if not self._max_open:
            return
        now = self._clock()
        for holder, known in holders.items():
            held = self._open_of(holder, now)
            if max(len(held), known) >= self._max_open:
                wait = math.ceil(min(held.values(), default=now + 60) - now)
                msg = "too many quotes are open; pay one or let one expire"
                raise RateLimited(msg, retry_after=max(1, wait))
        for holder in holders:
            self._quotes.setdefault(holder, {})[order_id] = now + seconds
            self._quotes.move_to_end(holder)
        self._holders[order_id] = tuple(holders)
        self._forget()

    def release_quote(self, order_id: str) -> None:
        """Stop counting a quote: it was paid, or never made."""
        for holder in self._holders.pop(order_id, ()):
            self._quotes.get(holder, {}).pop(order_id, None)

    def _open_of(self, holder: str, now: float) -> dict[str, float]:
        """Return the open quotes of a holder and when each ends; what has ended is dropped."""
        held = self._quotes.get(holder, {})
        for order_id in [order_id for order_id, end in held.items() if end <= now]:
            del held[order_id]
            self._holders.pop(order_id, None)
        return held

    def _forget(self) -> None:
        while len(self._quotes) > MAX_TRACKED_ADDRESSES:
            forgotten, held = self._quotes.popitem(last=False)
            for order_id in held:
                rest = tuple(h for h in self._holders.pop(order_id, ()) if h != forgotten)
                if rest:
                    self._holders[order_id] = rest
