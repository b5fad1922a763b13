"""What a cursor should do, written a second time and another way: positions in sets and counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


class Refusal(Exception):
    """The cursor should refuse: status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.outcome = (status, code)


STALE = (409, "stale_lease")


@dataclass(frozen=True)
class Terms:
    """How the cursor was opened; times in milliseconds."""

    mode: str
    lease_ms: int
    max_batch: int
    max_attempts: int
    on_poison: str
    backoff_ms: int
    backoff_max_ms: int


@dataclass
class Held:
    """The newest hand-out."""

    holder: str
    to: int
    until: int


@dataclass
class ShadowCursor:
    """One cursor in a feed whose head is `head`; everything after `acked` is still to be done."""

    terms: Terms
    head: int
    acked: int
    now: int
    token: int = 0
    held: Held | None = None
    handed: Counter[int] = field(default_factory=Counter)
    parked: set[int] = field(default_factory=set)
    """What was put aside and lies after `acked`."""
    put_aside: set[int] = field(default_factory=set)
    """What was ever put aside."""
    failed: int | None = None
    retry_at: int | None = None
    blocked: int | None = None
    sought: int | None = None
    """Where it was just moved to, if nothing was done since."""
    granted: bool = False
    """Whether the last fetch should have given a new token."""

    def ahead(self) -> list[int]:
        return [p for p in range(self.acked + 1, self.head + 1) if p not in self.parked]

    def done(self) -> int:
        """Return how far everything is done."""
        ahead = self.ahead()
        return ahead[0] - 1 if ahead else self.head

    def stands_at(self, to: int) -> bool:
        """Whether a move to there would be no news: it was moved there, or claimed up to there."""
        claimed = self.terms.mode == "auto" and self.token > 0 and self.acked == to
        return claimed or self.sought == to

    def fetch(self, holder: str, token: int | None, limit: int, *, pipeline: bool) -> list[int]:
        self.granted = False
        if self.terms.mode == "auto":
            return self._claim(limit)
        if token is not None and token != self.token:
            raise Refusal(*STALE)
        held = self.held
        if held is None or held.until <= self.now:
            return self._anew(holder, limit)
        if token is None and holder != held.holder:
            raise Refusal(409, "lease_held")
        if pipeline and token is not None:
            return self._grant(holder, limit, after=held.to)
        left = [p for p in self.ahead() if p <= held.to]
        if not left:
            return self._anew(holder, limit)
        if held.until - self.now < self.terms.lease_ms / 2:
            held.until = self.now + self.terms.lease_ms
        return left[: min(limit, self.terms.max_batch)]

    def ack(self, through: int, token: int) -> bool:
        if through <= self.done():
            return False
        if self.held is None or token != self.token:
            raise Refusal(*STALE)
        if through > self.held.to:
            raise Refusal(422, "not_handed_out")
        self._advance(through)
        return True

    def nack(self, at: int, token: int, retry_ms: int | None, *, park: bool) -> int | None:
        held = self._mine(token)
        if park and at in self.put_aside and (at <= self.acked or at in self.parked):
            return None
        if not park and self.failed == at and held.until <= self.now:
            return self.retry_at
        if not self.acked < at <= held.to or at in self.parked:
            raise Refusal(422, "not_handed_out")
        if park:
            self._aside(at)
            return None
        rest = self._rest(at) if retry_ms is None else retry_ms
        held.until = min(held.until, self.now)
        self.failed, self.retry_at = at, self.now + rest
        return self.retry_at

    def extend(self, token: int, lease_ms: int) -> None:
        held = self._mine(token)
        if self.blocked is not None:
            raise Refusal(409, "cursor_blocked")
        held.until = self.now + lease_ms

    def release(self, token: int) -> None:
        held = self._mine(token)
        if held.until > self.now:
            for pos in range(self.acked + 1, held.to + 1):
                self.handed[pos] = max(0, self.handed[pos] - 1)
            held.until = self.now

    def seek(self, to: int) -> None:
        self.acked, self.held = to, None
        self.handed.clear()
        self.parked.clear()
        self.failed = self.retry_at = self.blocked = None
        self.sought = to
        self.put_aside = {pos for pos in self.put_aside if pos <= to}

    def _claim(self, limit: int) -> list[int]:
        given = self.ahead()[: min(limit, self.terms.max_batch)]
        if given:
            self.acked, self.granted, self.sought = given[-1], True, None
        return given

    def _anew(self, holder: str, limit: int) -> list[int]:
        if self.blocked is not None:
            raise Refusal(409, "cursor_blocked")
        while (poison := self._poison()) is not None:
            self.failed = self.retry_at = None
            if self.terms.on_poison == "block":
                self.blocked = poison
                raise Refusal(409, "cursor_blocked")
            self._aside(poison)
            for pos in self.handed:
                self.handed[pos] = min(self.handed[pos], self.terms.max_attempts - 1)
        if self.retry_at is not None and self.retry_at > self.now:
            return []
        return self._grant(holder, limit, after=self.acked)

    def _poison(self) -> int | None:
        ahead = self.ahead()
        if not ahead:
            return None
        suspects = [pos for pos in (self.failed, ahead[0]) if pos in ahead]
        tired = (pos for pos in suspects if self.handed[pos] >= self.terms.max_attempts)
        return next(tired, None)

    def _grant(self, holder: str, limit: int, after: int) -> list[int]:
        later = [p for p in self.ahead() if p > after]
        given = later[: min(limit, self.terms.max_batch)]
        if given:
            self.handed.update(range(after + 1, given[-1] + 1))
            self.held = Held(holder, given[-1], self.now + self.terms.lease_ms)
            self.failed = self.retry_at = None
            self.granted, self.sought = True, None
        return given

    def _mine(self, token: int) -> Held:
        if self.held is None or token != self.token:
            raise Refusal(*STALE)
        return self.held

    def _aside(self, pos: int) -> None:
        self.parked.add(pos)
        self.put_aside.add(pos)
        self._advance(self.acked)

    def _advance(self, through: int) -> None:
        while through + 1 in self.parked:
            through += 1
        self.acked = through
        self.parked = {p for p in self.parked if p > through}
        if self.failed is not None and self.failed <= through:
            self.failed = self.retry_at = None
        if self.blocked is not None and self.blocked <= through:
            self.blocked = None

    def _rest(self, at: int) -> int:
        doubled = self.terms.backoff_ms * 2 ** max(0, self.handed[at] - 1)
        return min(doubled, max(self.terms.backoff_ms, self.terms.backoff_max_ms))
