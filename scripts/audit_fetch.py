"""What a live service shows of its log, fetched with limits; nothing of it is believed here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import orjson

from api.log.tiles import tile_path
from ledger.audit_source import AuditImpossible
from ledger.checkpoint import parse_note
from ledger.entry import MAX_ENTRY_BYTES
from ledger.errors import VerificationError
from ledger.merkle import HASH_BYTES
from ledger.tiles import TILE_HEIGHT, TILE_WIDTH
from ledger.witness import read_checkpoint

MAX_EVENTS: Final = 20_000_000
MAX_TEXT: Final = 1 << 20
MAX_JSON: Final = 64 << 20
MAX_BUNDLE: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
TIMEOUT_S: Final = 30
TRIES: Final = 20
MAX_WAIT_S: Final = 60
_WAIT: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class _NoRedirects(HTTPRedirectHandler):
    """A token is for the service that was named, and for no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - urllib's signature
        return None


class LiveLog:
    """A service's public log. Raises `AuditImpossible` when it cannot be read."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AuditImpossible(f"{url} is no http or https URL")
        self._base: Final = url.rstrip("/")
        self._headers: Final = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener: Final = build_opener(_NoRedirects())

    def checkpoint(self) -> tuple[bytes, int]:
        """Return the newest checkpoint and the size it names, not verified."""
        note = self.get("/ledger/checkpoint", MAX_TEXT)
        try:
            size = read_checkpoint(parse_note(note.decode()).text).size
        except (UnicodeDecodeError, VerificationError) as error:
            raise AuditImpossible(f"{self._base} shows no checkpoint: {error}") from error
        if size > MAX_EVENTS:
            raise AuditImpossible(f"a log of {size} events is more than this audit fetches")
        return note, size

    def entries(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield every entry with its position; for auditors."""
        for index in range(-(-size // TILE_WIDTH)):
            count = min(TILE_WIDTH, size - index * TILE_WIDTH)
            path = f"/ledger/tile/entries/{_tile(index, count)}"
            first = index * TILE_WIDTH + 1
            yield from enumerate(_split(self.get(path, MAX_BUNDLE), count, path), first)

    def tiles(self, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield the tiles as a ledger keeps them: full ones, and partial ones above level 0."""
        level = 0
        while nodes := size >> TILE_HEIGHT * level:
            for index in range(-(-nodes // TILE_WIDTH)):
                count = min(TILE_WIDTH, nodes - index * TILE_WIDTH)
                if level or count == TILE_WIDTH:
                    yield level, index, self.tile(level, index, count)
            level += 1

    def tile(self, level: int, index: int, count: int) -> bytes:
        """Return the first hashes of one tile."""
        return self.get(f"/ledger/tile/{level}/{_tile(index, count)}", TILE_WIDTH * HASH_BYTES)

    def json(self, path: str) -> Any:  # noqa: ANN401 - JSON of any shape
        """Return an answer's JSON object."""
        try:
            found = orjson.loads(self.get(path, MAX_JSON))
        except orjson.JSONDecodeError as error:
            raise AuditImpossible(f"{path} is no JSON") from error
        if not isinstance(found, dict):
            raise AuditImpossible(f"{path} holds no JSON object")
        return found

    def get(self, path: str, limit: int) -> bytes:
        """Return the body of an answer; asks again where the service says when."""
        for _ in range(TRIES):
            # The scheme was checked, so no file is opened here.
            request = Request(self._base + path, headers=self._headers)  # noqa: S310
            try:
                with self._opener.open(request, timeout=TIMEOUT_S) as response:
                    body: bytes = response.read(limit + 1)
            except HTTPError as error:
                with error:
                    _wait_or_fail(error, path)
                continue
            except (URLError, OSError) as error:
                raise AuditImpossible(f"{self._base} does not answer: {error}") from error
            if len(body) > limit:
                raise AuditImpossible(f"{path} is longer than it may be")
            return body
        raise AuditImpossible(f"{path}: still refused after {TRIES} tries")


def _wait_or_fail(error: HTTPError, path: str) -> None:
    if error.code in _WAIT:
        text = error.headers.get("Retry-After", "1")
        time.sleep(min(MAX_WAIT_S, int(text) if text.isdecimal() else 1))
        return
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise AuditImpossible(f"{path}: refused with {error.code}; --token of an auditor or party")
    raise AuditImpossible(f"{path}: answered {error.code}")


def _tile(index: int, count: int) -> str:
    path = tile_path(index)
    return path if count == TILE_WIDTH else f"{path}.p/{count}"


def _split(bundle: bytes, count: int, path: str) -> list[bytes]:
    entries, at = [], 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2])
        entries.append(bundle[at + 2 : end])
        at = end
    if at != len(bundle) or len(entries) != count:
        raise AuditImpossible(f"{path} does not hold {count} entries")
    return entries
