"""Why a cursor refuses. The codes are those of the cursor protocol, in its own spelling."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.errors import LedgerError


class CursorRefused(LedgerError):
    """The cursor is not in a state for this."""

    code = "cursor_refused"


class CursorExists(CursorRefused):
    """A cursor of that name was opened with other settings."""

    code = "cursor_exists"


class LeaseHeld(CursorRefused):
    """Another reader holds the lease; `retry_after` is when it ends, in seconds."""

    code = "lease_held"
    retryable = True

    def __init__(self, message: str, *, retry_after: int, details: Mapping[str, object]) -> None:
        super().__init__(message, details=details)
        self.retry_after = retry_after


class StaleLease(CursorRefused):
    """The token is not the newest: somebody else took the place."""

    code = "stale_lease"


class NotHandedOut(CursorRefused):
    """The position was not handed out under this token."""

    code = "not_handed_out"


class GenerationChanged(CursorRefused):
    """The feed is numbered anew; fetch again and go on from there."""

    code = "generation_changed"


class CursorBlocked(CursorRefused):
    """An event failed too often and the cursor stops there until its owner seeks."""

    code = "cursor_blocked"


class FeedMoved(CursorRefused):
    """Another act came in between; the caller reads the feed anew and asks again."""

    code = "cursor_busy"
    retryable = True
