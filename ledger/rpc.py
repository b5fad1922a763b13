"""Asks blockchain nodes over JSON-RPC: one HTTP request per batch, several nodes in turn.

Every answer comes from a stranger, so its size, form and ids are checked here; what the results
mean is decided by the caller. A URL may hold an access key: no error names more than its host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from http import HTTPStatus
from itertools import count
from typing import Final, TypeVar

import aiohttp
import orjson
from yarl import URL

from ledger.errors import ChainUnavailable, Misconfigured

T = TypeVar("T")
Call = tuple[str, Sequence[object]]
"""A method and its parameters."""

TIMEOUT_S: Final = 4.0
MAX_IN_FLIGHT: Final = 32
MAX_ANSWER_BYTES: Final = 8 * 2**20
FAILURES_BEFORE_REST: Final = 5
REST_S: Final = 2.0
AT_FIRST: Final = 2
"""Endpoints that are asked at once; it is also how many of three or more must agree."""

THROTTLED: Final = "throttled"
BUSY: Final = "busy"
_THROTTLED_CODES: Final = frozenset({-32005, HTTPStatus.TOO_MANY_REQUESTS})
_HEADERS: Final = {"Content-Type": "application/json"}
_MAX_MESSAGE: Final = 200
# Shorter parts of a URL are words such as "v2" or "rpc", never keys.
_MIN_SECRET: Final = 4


class _Breaker:
    """Refuses calls for a short rest after failures in a row, then lets one call try per rest."""

    def __init__(self, *, failures: int, rest_s: float, clock: Callable[[], float]) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._clock = clock
        self._in_a_row = 0
        self._resting_until = 0.0
        self._reason: object = None

    def admit(self, name: str) -> None:
        """Raise `ChainUnavailable` while the endpoint rests."""
        if self._in_a_row < self._limit:
            return
        now = self._clock()
        if now < self._resting_until:
            raise ChainUnavailable(
                f"{name} failed {self._in_a_row} times in a row and is left alone for a moment",
                details={"reason": self._reason},
            )
        # This call finds out whether the endpoint is back; the others need not all wait for it.
        self._resting_until = now + self._rest_s

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, reason: object) -> None:
        self._in_a_row += 1
        self._reason = reason
        self._resting_until = self._clock() + self._rest_s


class RpcEndpoint:
    """One node's URL. Calls are reads only, and cancelling one leaves the others alone."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        timeout_s: float = TIMEOUT_S,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        failures_before_rest: int = FAILURES_BEFORE_REST,
        rest_s: float = REST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _parse_url(url)
        self._session = session
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._slots = asyncio.Semaphore(max_in_flight)
        self._breaker = _Breaker(failures=failures_before_rest, rest_s=rest_s, clock=clock)
        self._ids = count(1)
        self._secrets = _secrets_of(self._url)
        self.name = f"{self._url.host}:{self._url.port}"

    def __repr__(self) -> str:
        return f"RpcEndpoint({self.name})"

    async def batch(self, calls: Sequence[Call], *, optional: Container[int] = ()) -> list[object]:
        """Return the results in the order of the calls, all from one HTTP request.

        An error item raises `ChainUnavailable`, but for a call whose index is in `optional` it
        gives None, unless it says that we ask too much.
        """
        if not calls:
            return []
        # Ids are never used twice: an answer to another batch cannot pass for this one's.
        ids = [next(self._ids) for _ in calls]
        self._breaker.admit(self.name)
        items = await self._ask(ids, calls)
        throttled = [item["error"] for item in items if _is_throttling(item.get("error"))]
        if throttled:
            self._breaker.failed(THROTTLED)
            raise self._error_item(throttled[0])
        # An endpoint that refuses one of the calls is alive all the same.
        self._breaker.succeeded()
        return [self._result(item, may_fail=index in optional) for index, item in enumerate(items)]

    async def _ask(self, ids: Sequence[int], calls: Sequence[Call]) -> list[dict[str, object]]:
        body = orjson.dumps(
            [
                {"jsonrpc": "2.0", "id": key, "method": method, "params": params}
                for key, (method, params) in zip(ids, calls, strict=True)
            ]
        )
        try:
            return self._items(ids, await self._exchange(body))
        except ChainUnavailable as error:
            reason = error.details["reason"]
            # A queue on our side says nothing about the endpoint.
            if reason != BUSY:
                self._breaker.failed(reason)
            raise

    async def _exchange(self, body: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise self._unavailable("has too many calls waiting for it", BUSY) from None
        # The time in the queue is not taken from the endpoint's, or a full queue would look
        # like a slow endpoint.
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post_twice(body)
        except TimeoutError:
            reason, what = "timeout", f"gave no answer within {self._timeout_s} s"
        except (aiohttp.ClientError, OSError) as error:
            reason, what = "connection", f"cannot be reached ({type(error).__name__})"
        finally:
            self._slots.release()
        # Raised outside of the handlers: aiohttp's errors hold the URL and must not hang on ours.
        raise self._unavailable(what, reason)

    async def _post_twice(self, body: bytes) -> bytes:
        try:
            return await self._post(body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept connection may have been closed just before its use. All calls are reads,
            # so asking again is harmless.
            return await self._post(body)

    async def _post(self, body: bytes) -> bytes:
        async with self._session.post(
            self._url, data=body, headers=_HEADERS, allow_redirects=False
        ) as response:
            if response.status == HTTPStatus.TOO_MANY_REQUESTS:
                raise self._unavailable("asks for fewer requests", THROTTLED)
            if response.status != HTTPStatus.OK:
                raise self._unavailable(f"answered HTTP {response.status}", "status")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > self._max_answer_bytes:
                    raise self._unavailable("sent an answer above the size limit", "oversized")
            return bytes(answer)

    def _items(self, ids: Sequence[int], answer: bytes) -> list[dict[str, object]]:
        """Return the answer's items in the order of the ids; each id must be there once."""
        try:
            items = orjson.loads(answer)
        except orjson.JSONDecodeError:
            items = None
        if isinstance(items, dict) and items.get("error") is not None:
            # Nodes refuse a whole batch by a single object.
            raise self._error_item(items["error"])
        if not isinstance(items, list):
            raise self._unavailable("did not answer with a JSON-RPC batch", "malformed")
        by_id: dict[int, dict[str, object]] = {}
        for item in items:
            key = item.get("id") if isinstance(item, dict) else None
            # `type` and not `isinstance`: true is no id, though Python has it equal to 1.
            if type(key) is not int or key in by_id:
                raise self._unavailable("sent an answer without an id of its own", "malformed")
            by_id[key] = item
        if by_id.keys() != set(ids):
            raise self._unavailable("answered other calls than the ones sent", "malformed")
        return [by_id[key] for key in ids]

    def _result(self, item: dict[str, object], *, may_fail: bool) -> object:
        error = item.get("error")
        if error is None and "result" in item:
            return item["result"]
        if error is None:
            raise self._unavailable("sent an item without result", "malformed")
        if may_fail:
            return None
        raise self._error_item(error)

    def _error_item(self, error: object) -> ChainUnavailable:
        """Return the node's own error, without what it may repeat of the URL."""
        code, message = _code(error), error.get("message") if isinstance(error, dict) else None
        text = message if isinstance(message, str) else ""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = "".join(letter for letter in text if letter.isprintable())[:_MAX_MESSAGE]
        reason = THROTTLED if _is_throttling(error) else "rpc_error"
        return ChainUnavailable(
            f"{self.name} answered with error {code}: {text}",
            details={"reason": reason, "rpc_code": code, "rpc_message": text},
        )

    def _unavailable(self, what: str, reason: str) -> ChainUnavailable:
        return ChainUnavailable(f"{self.name} {what}", details={"reason": reason})


class RpcPool:
    """Several endpoints of one chain: the first two are asked, the others if that is not enough.

    Two of three or more must agree on a fact. Of two, one is enough while the other is silent.
    """

    def __init__(self, endpoints: Sequence[RpcEndpoint]) -> None:
        if not endpoints:
            raise Misconfigured("a chain needs at least one RPC endpoint")
        self.endpoints: Final = tuple(endpoints)
        self.needed: Final = 1 if len(endpoints) <= AT_FIRST else AT_FIRST

    async def poll(
        self,
        question: Callable[[RpcEndpoint], Awaitable[T]],
        *,
        enough: Callable[[Sequence[tuple[RpcEndpoint, T]]], bool],
    ) -> tuple[list[tuple[RpcEndpoint, T]], list[ChainUnavailable]]:
        """Return what the endpoints answered, and the failures of those that did not.

        What the answers mean together is decided by the caller.
        """
        answers: list[tuple[RpcEndpoint, T]] = []
        failures: list[ChainUnavailable] = []
        for wave in (self.endpoints[:AT_FIRST], self.endpoints[AT_FIRST:]):
            if answers and enough(answers):
                break
            ended = await asyncio.gather(*(_answer(question, endpoint) for endpoint in wave))
            for endpoint, answer in zip(wave, ended, strict=True):
                if isinstance(answer, ChainUnavailable):
                    failures.append(answer)
                else:
                    answers.append((endpoint, answer))
        return answers, failures


async def _answer(
    question: Callable[[RpcEndpoint], Awaitable[T]], endpoint: RpcEndpoint
) -> T | ChainUnavailable:
    try:
        return await question(endpoint)
    except ChainUnavailable as error:
        return error


def _parse_url(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Misconfigured("an RPC URL is not of the form https://host/path")
    return parsed


def _secrets_of(url: URL) -> list[str]:
    """Return the parts of a URL that may be keys, the longest first."""
    parts = {url.user, url.password, url.raw_user, url.raw_password, *url.parts, *url.raw_parts}
    parts |= {*url.query.values(), url.raw_query_string}
    return sorted((part for part in parts if part and len(part) >= _MIN_SECRET), key=len)[::-1]


def _code(error: object) -> int | None:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else None


def _is_throttling(error: object) -> bool:
    return _code(error) in _THROTTLED_CODES
