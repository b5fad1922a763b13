"""How much one party may have."""

from __future__ import annotations

from typing import Final

from ledger.cursor_errors import CursorRefused
from ledger.errors import LedgerError

MAX_CURSORS: Final = 64
"""Cursors of one party."""


class TooManyCursors(CursorRefused):
    """The party has as many cursors as it may have."""

    code = "too_many_cursors"


class UpgradeRequired(LedgerError):
    """The route is a WebSocket, and the request asks for no upgrade or for another one."""

    code = "UPGRADE_REQUIRED"
