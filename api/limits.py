"""Limits on anonymous writes: requests per address, and open quotes per wallet and address."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from aiohttp import web
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from ledger.errors import LedgerError

MAX_TRACKED_ADDRESSES: Final = 10_000
IPV6_SITE_BITS: Final = 64


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
    address = request.remote or "unknown"
    if proxies and _within(address, proxies):
        for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            if hop.strip():
                address = hop.strip()
            if not _within(address, proxies):
                break
    return _site(address)


def _within(address: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _site(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:  # noqa: PLR2004 - the protocol's own number
        return str(parsed)
    return str(IPv6Network((int(parsed) >> IPV6_SITE_BITS << IPV6_SITE_BITS, IPV6_SITE_BITS)))


class Limits:
    """Counts writes. State is in memory: a restart forgives, the ledger forgets nothing."""

    def __init__(
        self,
        *,
        per_minute: int,
        max_open_quotes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._max_open = max_open_quotes
        self._clock = clock
        self._quotes: OrderedDict[str, dict[str, float]] = OrderedDict()
        self._holders: dict[str, tuple[str, ...]] = {}

    def count_write(self, address: str) -> None:
        """Count one write of an address, or raise `RateLimited`."""
        if self._rate is None or self._limiter.hit(self._rate, address):
            return
        reset = self._limiter.get_window_stats(self._rate, address).reset_time
        wait = max(1, math.ceil(reset - time.time()))
        raise RateLimited("too many requests from this address", retry_after=wait)

    def hold_quote(self, order_id: str, holders: Mapping[str, int], seconds: int) -> None:
        """Count an open quote for a wallet and an address, or raise `RateLimited`.

        `holders` maps each to how many quotes it is known to have open besides those counted here,
        for a wallet that was quoted before a restart.
        """
        if not self._max_open:
            return
        now = self._clock()
        for holder, known in holders.items():
            held = {o: end for o, end in self._quotes.get(holder, {}).items() if end > now}
            self._quotes[holder] = held
            self._quotes.move_to_end(holder)
            if max(len(held), known) >= self._max_open:
                wait = math.ceil(min(held.values(), default=now + 60) - now)
                msg = "too many quotes are open; pay one or let one expire"
                raise RateLimited(msg, retry_after=max(1, wait))
        for holder in holders:
            self._quotes[holder][order_id] = now + seconds
        self._holders[order_id] = tuple(holders)
        self._forget()

    def release_quote(self, order_id: str) -> None:
        """Stop counting a quote: it was paid, or never made."""
        for holder in self._holders.pop(order_id, ()):
            self._quotes.get(holder, {}).pop(order_id, None)

    def _forget(self) -> None:
        while len(self._quotes) > MAX_TRACKED_ADDRESSES:
            _, held = self._quotes.popitem(last=False)
            for order_id in held:
                self._holders.pop(order_id, None)
