"""Which worker is at which order, for a while.

A lease spares workers double work; it decides nothing. What counts is the ledger: the first bytes
that are handed in are the deliverable. So leases live in memory, and a restart forgets them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.errors import Conflict
from ledger.values import UnixMs, iso_of

MAX_LEASES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Lease:
    """Held by a worker until a Unix millisecond. `holder` is its wallet and the name it gave."""

    holder: tuple[str, str]
    until_ms: int


class Leases:
    """The leases of this process."""

    def __init__(self, lease_seconds: int) -> None:
        self._length_ms = lease_seconds * 1000
        self._held: dict[str, Lease] = {}

    def take(self, order_id: str, holder: tuple[str, str], now: UnixMs) -> Lease:
        """Take or prolong the lease of an order, or raise `Conflict` if another worker has it."""
        self.require_free(order_id, holder, now)
        if len(self._held) >= MAX_LEASES:
            self._held = {o: lease for o, lease in self._held.items() if now < lease.until_ms}
        lease = self._held[order_id] = Lease(holder, now + self._length_ms)
        return lease

    def require_free(self, order_id: str, holder: tuple[str, str], now: UnixMs) -> None:
        """Raise `Conflict` if another worker has the order."""
        held = self.of(order_id, now)
        if held is not None and held.holder != holder:
            msg = "another worker is at this order"
            until = iso_of(UnixMs(held.until_ms))
            raise Conflict(msg, code="ORDER_TAKEN", details={"taken_until": until})

    def of(self, order_id: str, now: UnixMs) -> Lease | None:
        """Return who has an order now."""
        held = self._held.get(order_id)
        return held if held is not None and now < held.until_ms else None

    def drop(self, order_id: str) -> None:
        """End a lease: the work is done, or was given up."""
        self._held.pop(order_id, None)
