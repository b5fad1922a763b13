"""CORS: which sites' pages a browser lets read our answers.

The service never allows credentials, so what a page of another site asks for comes without cookies:
it can do no more than any other stranger. The headers stand on every answer, errors included. A
client in a browser decides by a 404 what it tries next, and would not see one without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from multidict import CIMultiDict

from api.url_texts import ANY_ORIGIN

ALLOWED_HEADERS: Final = (
    "Content-Type",
    "Authorization",
    "Idempotency-Key",
    "IVXP-Version",
    "IVXP-View",
    "Ledger-Head",
    "Last-Event-ID",
    "X-Wallet-Address",
    "X-Signature",
    "X-Timestamp",
)
EXPOSED_HEADERS: Final = (
    "Ledger-Head",
    "Ledger-Consistency",
    "Retry-After",
    "RateLimit-Policy",
    "RateLimit",
    "Idempotency-Replayed",
    "Location",
    "Allow",
    "WWW-Authenticate",
)
_EXPOSED: Final = ", ".join(EXPOSED_HEADERS)
MAX_AGE_SECONDS: Final = 7200
"""As long as the browser that forgets first would keep a preflight anyway."""


class Cors:
    """The sites that may read, and what is said to them."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins: Final = frozenset(origins)

    def add_to(self, headers: CIMultiDict[str], origin: str | None) -> None:
        """Add what an answer to this origin needs."""
        if not self._origins:
            return
        if ANY_ORIGIN not in self._origins:
            # A cache has to keep the answers apart, also the one to nobody's page.
            add_vary(headers, "Origin")
        allowed = self._allowed(origin)
        if allowed:
            headers["Access-Control-Allow-Origin"] = allowed
            headers["Access-Control-Expose-Headers"] = _EXPOSED

    def preflight(self, origin: str | None, methods: Iterable[str]) -> dict[str, str]:
        """Return what a page of this origin may send to a path with these methods."""
        if not self._allowed(origin):
            return {}
        return {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ", ".join(ALLOWED_HEADERS),
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        }

    def _allowed(self, origin: str | None) -> str | None:
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN
        return origin if origin is not None and origin.lower() in self._origins else None


def add_vary(headers: CIMultiDict[str], name: str) -> None:
    """Add a name to `Vary`, beside what other parts of the service have put there."""
    named = [word.strip() for line in headers.getall("Vary", []) for word in line.split(",")]
    if not {"*", name.lower()} & {word.lower() for word in named}:
        headers["Vary"] = ", ".join([*(word for word in named if word), name])
