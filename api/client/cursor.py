"""The calls of a cursor, typed. Each may be repeated with the same words: docs/cursors.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict

from api.client.errors import ServiceError
from api.client.event import FeedEvent
from api.client.http import Answer, HttpClient
from api.client.shapes import parsed
from api.client.signin import SignIn

_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class CursorOptions:
    """What a cursor is opened with, for ever: the same name with other options is refused.

    `start` is `earliest`, `latest`, a position that counts as done, or an ISO time. In mode `auto`
    what is handed out counts as done, so what a crash loses is lost to this cursor. An event that
    fails `max_attempts` times is put aside (`park`) or stops the cursor (`block`); left out, the
    cursor blocks if its types include those of orders.
    """

    start: str | int = "earliest"
    types: tuple[str, ...] | None = None
    mode: Literal["ack", "auto"] = "ack"
    lease_seconds: float = 30.0
    max_batch: int = 100
    max_attempts: int = 10
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 300.0
    on_poison: Literal["park", "block"] | None = None

    def body(self) -> dict[str, object]:
        """Return the request that opens such a cursor."""
        body: dict[str, object] = {
            "start": self.start,
            "mode": self.mode,
            "lease_seconds": self.lease_seconds,
            "max_batch": self.max_batch,
            "max_attempts": self.max_attempts,
            "backoff": {
                "initial_seconds": self.backoff_seconds,
                "max_seconds": self.backoff_max_seconds,
            },
        }
        if self.types is not None:
            body["types"] = list(self.types)
        if self.on_poison is not None:
            body["on_poison"] = self.on_poison
        return body


class Opened(BaseModel):
    """A cursor as it stands."""

    model_config = ConfigDict(frozen=True)
    generation: int
    mode: Literal["ack", "auto"]
    lease_seconds: float
    acked: int
    head: int


class Fetched(BaseModel):
    """A hand-out, or that there is nothing now."""

    model_config = ConfigDict(frozen=True)
    generation: int
    lease_token: int | None
    acked: int
    head: int
    lag: int
    events: list[FeedEvent]
    next_attempt_at: str | None = None


class Acked(BaseModel):
    """How far the cursor is done; `changed` says whether this call moved it."""

    model_config = ConfigDict(frozen=True)
    acked: int
    changed: bool


class CursorCalls:
    """One cursor of one feed, over HTTP, signed in."""

    def __init__(self, http: HttpClient, signin: SignIn, party: str, name: str) -> None:
        self._http = http
        self._signin = signin
        self._path = f"/v1/feeds/{quote(party, safe='')}/cursors/{quote(name, safe=':')}"

    async def open(self, options: CursorOptions) -> Opened:
        """Open the cursor, or find it open with the same options."""
        body = orjson.dumps(options.body())

        async def send(headers: Mapping[str, str]) -> Answer:
            # The client has no public PUT; this one is as safe to repeat as a question.
            return await self._http._repeat(  # noqa: SLF001
                "PUT", self._path, body, {**_JSON, **headers}, repeatable=True
            )

        return parsed(Opened, (await self._signed_in(send)).json())

    async def fetch(self, holder: str, limit: int, wait_seconds: float) -> Fetched:
        """Ask for events: the same holder gets the same ones while its lease lives."""
        body = {"holder": holder, "limit": limit, "wait_seconds": wait_seconds}
        return parsed(Fetched, (await self._post("fetch", body)).json())

    async def ack(self, generation: int, token: int, through: int) -> Acked:
        """Acknowledge everything up to a position."""
        body = {"generation": generation, "lease_token": token, "through": through}
        return parsed(Acked, (await self._post("ack", body)).json())

    async def nack(self, token: int, at: int, reason: str) -> None:
        """Say that an event could not be dealt with; it comes again after its rest."""
        await self._post("nack", {"lease_token": token, "at": at, "reason": reason})

    async def extend(self, token: int, seconds: float) -> None:
        """Make the lease last so long from now."""
        await self._post("lease", {"lease_token": token, "extend": seconds})

    async def release(self, token: int) -> None:
        """Give the lease back; what was not acknowledged does not count as tried."""
        await self._post("lease", {"lease_token": token, "release": True})

    async def _post(self, act: str, body: Mapping[str, object]) -> Answer:
        def send(headers: Mapping[str, str]) -> Awaitable[Answer]:
            path = f"{self._path}/{act}"
            return self._http.post(path, body, headers=headers, repeatable=True)

        return await self._signed_in(send)

    async def _signed_in(self, send: Callable[[Mapping[str, str]], Awaitable[Answer]]) -> Answer:
        return await signed_in(self._signin, send)


async def signed_in(
    signin: SignIn, send: Callable[[Mapping[str, str]], Awaitable[Answer]]
) -> Answer:
    """Send with a token; one that the service does not take any more is replaced once."""
    try:
        return await send(await signin.headers())
    except ServiceError as error:
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise
        signin.forget()
        return await send(await signin.headers())
