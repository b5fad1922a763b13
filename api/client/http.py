"""JSON over HTTP: one typed error, and repeats of what is safe to repeat and of nothing else.

Safe are questions (GET), a POST with an `Idempotency-Key`, a POST whose act is idempotent by
itself, and whatever certainly never reached the service.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

import aiohttp
import orjson
from yarl import URL

from api.client.errors import AnswerRefused, OutcomeUnknown, ServiceError, Unreachable
from api.client.times import Sleep

TIMEOUT_SECONDS: Final = 30.0
ATTEMPTS: Final = 4
MAX_ANSWER_BYTES: Final = 32 * 2**20
MAX_WAIT_SECONDS: Final = 60.0
"""Who asks for a longer pause than this gets its error handed to the caller."""

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 8.0
_BUSY: Final = frozenset({502, 503, 504})
_SUCCESS: Final = range(200, 300)
_UNKNOWN: Final = "OUTCOME_UNKNOWN"
_IN_FLIGHT: Final = "IDEMPOTENCY_KEY_IN_FLIGHT"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer 2xx, read whole."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is a fault of the service."""
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            raise AnswerRefused("the answer is not UTF-8") from error

    def json(self) -> dict[str, object]:
        """Return the body as a JSON object."""
        body = _json_object(self.data)
        if body is None:
            raise AnswerRefused("the answer is no JSON object")
        return body


class HttpClient:
    """Talks to one service below a base URL, whose path is kept as a prefix."""

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Take a session that somebody else closes, or make one that `close` closes."""
        url = URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("a base URL is http(s)://host, maybe with a port and a path")
        self.base_url: Final = str(url.with_query(None).with_fragment(None)).rstrip("/")
        self.authority: Final = url.authority.rpartition("@")[2]
        self.sleep: Final = sleep
        self._session = session
        self._made: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._attempts = attempts
        self._jitter = jitter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session, if it was made here."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session that requests go through."""
        if self._session is not None:
            return self._session
        if self._made is None:
            self._made = aiohttp.ClientSession()
        return self._made

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask a question."""
        return await self._repeat("GET", path, None, headers or {}, repeatable=True)

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """Act. With a `key`, or if the act is `repeatable` by itself, a lost answer is no loss."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            sent["Idempotency-Key"] = key
        return await self._repeat(
            "POST", path, data, sent, repeatable=repeatable or key is not None
        )

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], *, idle_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a stream for the length of a block; a failure on the way is `Unreachable`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=idle_seconds)
        try:
            async with self.session.get(
                self._url(path), headers=dict(headers), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise _service_error(response, await _read(response))
                yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"the stream broke ({type(error).__name__})") from error

    async def _repeat(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        repeatable: bool,
    ) -> Answer:
        may_have_arrived = False
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                return await self._once(method, path, data, headers)
            except ServiceError as error:
                unknown = method == "POST" and _says_nothing(error)
                may_have_arrived |= unknown
                pause = self._pause(attempt, error.retry_after)
                again = _may_pass(error) and (repeatable or error.status == _TOO_MANY)
                if last or not again or pause > MAX_WAIT_SECONDS:
                    if unknown:
                        raise OutcomeUnknown(f"{method} ended in {error}") from error
                    raise
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                never_left = isinstance(error, aiohttp.ClientConnectorError)
                may_have_arrived |= not never_left and method == "POST"
                if last or not (repeatable or never_left):
                    raise _no_answer(method, error, unknown=may_have_arrived) from error
                pause = self._pause(attempt, None)
            await self.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        async with self.session.request(
            method,
            self._url(path),
            data=data,
            headers=dict(headers),
            timeout=self._timeout,
            # A token or an order id must not follow a redirect to somebody else.
            allow_redirects=False,
        ) as response:
            body = await _read(response)
            if response.status not in _SUCCESS:
                raise _service_error(response, body)
            return Answer(response.status, response.headers.copy(), body)

    def _url(self, path: str) -> URL:
        return URL(self.base_url + path, encoded=True)

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Return how long to wait: longer each time, never all clients at once, never too early."""
        longest: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
        return max(longest * (0.5 + self._jitter() / 2), asked or 0.0)


_TOO_MANY: Final = int(HTTPStatus.TOO_MANY_REQUESTS)


def _may_pass(error: ServiceError) -> bool:
    """Whether the same request may get another answer in a moment."""
    return error.status in _BUSY or error.status == _TOO_MANY or error.code == _IN_FLIGHT


def _says_nothing(error: ServiceError) -> bool:
    """Whether an error leaves open if the service acted: its own word, or that of a proxy."""
    return error.code == _UNKNOWN or (error.status in _BUSY and not error.body)


def _no_answer(method: str, error: BaseException, *, unknown: bool) -> Exception:
    name = type(error).__name__
    if unknown:
        return OutcomeUnknown(f"no answer to a {method} that may have arrived ({name})")
    return Unreachable(f"no answer ({name})")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise AnswerRefused("the answer is above the size limit")
    return bytes(data)


def _service_error(response: aiohttp.ClientResponse, data: bytes) -> ServiceError:
    body = _json_object(data) or {}
    code, message, details = (body.get(name) for name in ("error", "message", "details"))
    known = isinstance(code, str)
    inside = details if isinstance(details, dict) else {}
    return ServiceError(
        response.status,
        code if isinstance(code, str) else f"HTTP_{response.status}",
        message if isinstance(message, str) else str(response.reason),
        details=inside,
        retryable=body.get("retryable") is True,
        retry_after=_seconds(response.headers.get("Retry-After")),
        body=body if known else {},
        headers=response.headers.copy(),
    )


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _json_object(data: bytes) -> dict[str, object] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
