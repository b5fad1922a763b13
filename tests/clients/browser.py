"""A browser's `fetch` from a page of another site: what CORS forbids, the page does not get."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

from tests.clients.wire import Exchange, send

SAFE_METHODS = frozenset({"GET", "HEAD", "POST"})
SAFE_HEADERS = frozenset({"accept", "accept-language", "content-language"})
SAFE_MEDIA_TYPES = frozenset(
    {"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"}
)


class CorsBlocked(Exception):
    """The page gets a `TypeError` and no status, whatever the server answered."""


class Browser:
    """A page of `origin`, without credentials. `preflights` are the targets it asked for first."""

    def __init__(self, session: aiohttp.ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin
        self.preflights: list[str] = []

    async def fetch(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Exchange:
        """Return the answer, or raise `CorsBlocked`; a redirect is not followed but refused."""
        named = [name for name, value in headers.items() if not _is_safe(name, value)]
        if named or method not in SAFE_METHODS:
            await self._preflight(method, url, named)
        own = {"Origin": self.origin, **headers}
        answer = await send(self.session, method, url, own, body, follow=False)
        self._require_origin(answer)
        if 300 <= answer.status <= 399:
            raise CorsBlocked(f"{method} {url} is redirected")
        return answer

    async def _preflight(self, method: str, url: str, named: list[str]) -> None:
        asked = {"Origin": self.origin, "Access-Control-Request-Method": method, "Accept": "*/*"}
        if named:
            asked["Access-Control-Request-Headers"] = ",".join(sorted(n.lower() for n in named))
        self.preflights.append(f"{method} {url}")
        answer = await send(self.session, "OPTIONS", url, asked, follow=False)
        self._require_origin(answer)
        if not answer.ok:
            raise CorsBlocked(f"the preflight of {url} is answered {answer.status}")
        methods = _words(answer.header("Access-Control-Allow-Methods"))
        if method not in methods and "*" not in methods and method not in SAFE_METHODS:
            raise CorsBlocked(f"{method} is not allowed at {url}")
        allowed = {word.lower() for word in _words(answer.header("Access-Control-Allow-Headers"))}
        for name in named:
            if name.lower() not in allowed and "*" not in allowed:
                raise CorsBlocked(f"{name} is not allowed at {url}")

    def _require_origin(self, answer: Exchange) -> None:
        """Two values, or another origin's, are as good as none."""
        if answer.header("Access-Control-Allow-Origin") not in {"*", self.origin}:
            raise CorsBlocked(f"an answer with status {answer.status} is not for {self.origin}")


def _is_safe(name: str, value: str) -> bool:
    if name.lower() == "content-type":
        return value.partition(";")[0].strip().lower() in SAFE_MEDIA_TYPES
    return name.lower() in SAFE_HEADERS


def _words(value: str | None) -> set[str]:
    return {word.strip() for word in (value or "").split(",") if word.strip()}
