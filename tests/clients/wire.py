"""One HTTP exchange as it was on the wire, and strict JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL


@dataclass(frozen=True)
class Exchange:
    """The answer to one request; header values of one name are joined as in a browser."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status <= 299

    def header(self, name: str) -> str | None:
        values = self.headers.getall(name, [])
        return ", ".join(values) if values else None

    def json(self) -> Any:  # noqa: ANN401 - raw JSON
        return parse(self.body)


def parse(raw: bytes) -> Any:  # noqa: ANN401 - raw JSON
    """Parse as `JSON.parse` does: no NaN, no Infinity. Raises `ValueError`."""
    return json.loads(raw.decode(), parse_constant=_refuse)


def encode(body: object) -> bytes:
    """Encode as `JSON.stringify` does."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


async def send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    timeout_seconds: float = 30,
    follow: bool = True,
) -> Exchange:
    """Send one request; the path goes out in exactly these letters.

    Raises `aiohttp.ClientError` or `TimeoutError` where there is no answer.
    """
    async with session.request(
        method,
        URL(url, encoded=True),
        headers=headers,
        data=body,
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        allow_redirects=follow,
        skip_auto_headers=["Content-Type"],
    ) as response:
        return Exchange(
            response.status, response.reason or "", response.headers, await response.read()
        )


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
