"""What may be used once and only for a while: answered challenges, signatures of requests."""

from __future__ import annotations

from typing import Final

from ledger.errors import Overloaded
from ledger.values import UnixMs

_SLOT_MS: Final = 15_000


class Once:
    """Remembers what was used until it would be refused for its age, and no more than `most`.

    What is full refuses: forgetting something early would let it be used again.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._used: dict[int, set[bytes]] = {}
        """By the slot of time in which they end."""

    def use(self, key: bytes, until: int, now: UnixMs) -> bool:
        """Use a key that is good until a moment; False if it was used before."""
        for slot in [slot for slot in self._used if (slot + 1) * _SLOT_MS <= now]:
            del self._used[slot]
        used = self._used.setdefault(until // _SLOT_MS, set())
        if key in used:
            return False
        if sum(map(len, self._used.values())) >= self._most:
            raise Overloaded("too many signatures are remembered now; ask again")
        used.add(key)
        return True
