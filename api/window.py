"""Counting writes over the last minute: bounded memory, whole seconds, a clock from outside."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW_SECONDS: Final = 60
POLICY: Final = "writes"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one holder may still write. `wait_seconds` lie before more of it comes back."""

    quota: int
    left: int
    wait_seconds: int
    granted: bool

    @property
    def headers(self) -> dict[str, str]:
        """The two fields of the IETF draft on rate limit headers."""
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self.quota};w={WINDOW_SECONDS}',
            "RateLimit": f'"{POLICY}";r={self.left};t={self.wait_seconds}',
        }


class Window:
    """How many writes each holder made in the last minute; the longest silent are forgotten."""

    def __init__(self, quota: int, *, max_holders: int, clock: Callable[[], float]) -> None:
        self._quota = quota
        self._max_holders = max_holders
        self._clock = clock
        self._counts: OrderedDict[str, _Seconds] = OrderedDict()

    def take(self, holder: str) -> Allowance:
        """Count one write if there is room for it, and return what is left."""
        now = self._clock()
        counts = self._counts.get(holder)
        if counts is None:
            counts = self._counts[holder] = _Seconds(math.floor(now))
        self._counts.move_to_end(holder)
        while len(self._counts) > self._max_holders:
            self._counts.popitem(last=False)
        counts.pass_to(math.floor(now))
        granted = counts.total < self._quota
        if granted:
            counts.add()
        wait = max(1, math.ceil(counts.oldest + WINDOW_SECONDS - now))
        return Allowance(self._quota, self._quota - counts.total, wait, granted)


class _Seconds:
    """One count for each second of the window, in a ring: its size is the same for every quota."""

    __slots__ = ("_ring", "_second", "total")

    def __init__(self, second: int) -> None:
        self._ring = array("L", bytes(array("L").itemsize * WINDOW_SECONDS))
        self._second = second
        self.total = 0

    def pass_to(self, second: int) -> None:
        """Forget what lies a window before this second."""
        passed = min(second - self._second, WINDOW_SECONDS)
        for left in range(second - passed + 1, second + 1):
            self.total -= self._ring[left % WINDOW_SECONDS]
            self._ring[left % WINDOW_SECONDS] = 0
        self._second = max(self._second, second)

    def add(self) -> None:
        self._ring[self._second % WINDOW_SECONDS] += 1
        self.total += 1

    @property
    def oldest(self) -> int:
        """The first second that counts, or the present one."""
        first = self._second - WINDOW_SECONDS + 1
        seconds = range(first, self._second)
        return next((s for s in seconds if self._ring[s % WINDOW_SECONDS]), self._second)
