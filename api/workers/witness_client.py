"""Talking to witnesses: short questions to addresses that the operator chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import aiohttp
from aiohttp import web

from ledger.errors import LedgerError

ANSWER_MAX_BYTES: Final = 64 * 1024


class Silent(LedgerError):
    """No answer came, or none that can be used. It means unknown, never no."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a witness answered; `media_type` is exact, with whatever stands after a semicolon."""

    status: int
    media_type: str
    text: str


class WitnessClient:
    """Asks witnesses; the caller limits the time. No redirect, proxy, cookie or decompression."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            auto_decompress=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def add_checkpoint(self, url: str, body: bytes) -> Answer:
        """Submit a checkpoint; raises `Silent`."""
        return await self._call("POST", f"{url}/add-checkpoint", body)

    async def newest(self, url: str, name: str) -> str | None:
        """Return the newest checkpoint that a witness holds of a log, None if it shows none."""
        answer = await self._call("GET", f"{url}/{name}/checkpoint")
        if answer.status == web.HTTPOk.status_code:
            return answer.text
        if answer.status == web.HTTPNotFound.status_code:
            return None
        raise Silent(f"the witness answered {answer.status}")

    async def _call(self, method: str, url: str, body: bytes | None = None) -> Answer:
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": "ivxp-ledger",
        }
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                text = await _text(response)
                media_type = response.headers.get("Content-Type", "")
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Silent(type(error).__name__) from error
        if status >= web.HTTPInternalServerError.status_code or status == _TOO_MANY:
            raise Silent(f"the witness answered {status}")
        return Answer(status, media_type, text)


_TOO_MANY: Final = web.HTTPTooManyRequests.status_code


async def _text(response: aiohttp.ClientResponse) -> str:
    found = bytearray()
    async for chunk in response.content.iter_any():
        found += chunk
        if len(found) > ANSWER_MAX_BYTES:
            raise Silent("the answer is too long")
    return found.decode()
