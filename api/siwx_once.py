"""What may be used once and only for a while: answered challenges, signatures of requests."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from api.limits import RateLimited
from ledger.errors import Overloaded
from ledger.values import UnixMs

_SLOT_MS: Final = 15_000


@dataclass(slots=True)
class _Slot:
    """What ends in the same stretch of time, and how much of it is whose."""

    used: set[bytes] = field(default_factory=set)
    held: Counter[str] = field(default_factory=Counter)


class Once:
    """Remembers what was used until it would be refused for its age, and no more than `most`.

    What is full refuses: forgetting something early would let it be used again. With `most_each`
    a holder has a share of the whole, so that one of them cannot fill it for all.
    """

    def __init__(self, most: int, *, most_each: int | None = None) -> None:
        self._most: Final = most
        self._most_each: Final = most if most_each is None else most_each
        self._slots: dict[int, _Slot] = {}
        """By the time in which they end."""

    def use(self, key: bytes, until: int, now: UnixMs, *, holder: str = "") -> bool:
        """Use a key that is good until a moment; False if it was used before.

        Raises `RateLimited` where the holder's share is used up, and `Overloaded` where all is.
        """
        for number in [number for number in self._slots if _end_of(number) <= now]:
            del self._slots[number]
        slot = self._slots.setdefault(until // _SLOT_MS, _Slot())
        if key in slot.used:
            return False
        if sum(len(each.used) for each in self._slots.values()) >= self._most:
            raise Overloaded("too many signatures are remembered now; ask again")
        self._require_share(holder, now)
        slot.used.add(key)
        slot.held[holder] += 1
        return True

    def _require_share(self, holder: str, now: UnixMs) -> None:
        held = {number: slot.held[holder] for number, slot in self._slots.items()}
        if sum(held.values()) < self._most_each:
            return
        first = min((number for number, count in held.items() if count), default=now // _SLOT_MS)
        raise RateLimited(
            "too many signatures of this wallet are remembered now; wait, or take a token",
            retry_after=max(1, math.ceil((_end_of(first) - now) / 1000)),
        )


def _end_of(number: int) -> int:
    return (number + 1) * _SLOT_MS
