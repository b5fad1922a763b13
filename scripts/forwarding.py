"""Posting events on: signed, retried on a schedule, then put with the dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
from yarl import URL

from api.client.errors import ClientError
from api.client.event import Event
from api.client.times import Clock, Sleep, stamp, system_clock
from api.client.webhooks import signed_headers
from api.egress import Egress, TargetBlocked, Unreachable
from scripts.dead_letters import DeadLetter, DeadLetters

SCHEDULE: Final = (0, 5, 30, 120, 600)
"""Seconds before each attempt, and so their number."""

_SUCCESS: Final = range(200, 300)


class EndpointGone(ClientError):
    """The endpoint answered 410: it wants no more events, now or later."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events are posted to, and with which secrets they are signed."""

    url: URL
    keys: Sequence[bytes]


class Forwarder:
    """Posts events to one endpoint. Each attempt sends the same id and the same bytes."""

    def __init__(
        self,
        egress: Egress,
        endpoint: Endpoint,
        letters: DeadLetters,
        *,
        schedule: Sequence[float] = SCHEDULE,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = system_clock,
    ) -> None:
        self._egress = egress
        self._endpoint = endpoint
        self._letters = letters
        self._schedule = schedule
        self._sleep = sleep
        self._clock = clock

    async def forward(self, event: Event) -> bool:
        """Post an event until it is taken; False if it became a dead letter.

        A crash on the way posts it again: the receiver knows it by its id.
        """
        body, first, outcome = body_of(event), stamp(self._clock), ""
        for wait in self._schedule:
            await self._sleep(wait)
            outcome = await self._attempt(event.event_id, body)
            if not outcome:
                return True
        letter = DeadLetter(
            event_id=event.event_id,
            url=str(self._endpoint.url),
            type=event.type,
            body=body,
            attempts=len(self._schedule),
            outcome=outcome,
            first_at=first,
            last_at=stamp(self._clock),
        )
        # Durable before the event is acknowledged: a crash here posts it once more, no worse.
        self._letters.put(letter)
        return False

    async def replay(self, letter: DeadLetter) -> str:
        """Post a dead letter once more, with the id it had; return "" or why it was not taken."""
        outcome = await self._attempt(letter.event_id, letter.body)
        if not outcome:
            self._letters.drop(letter)
            return ""
        now = stamp(self._clock)
        again = DeadLetter(
            letter.event_id, letter.url, letter.type, letter.body, 1, outcome, now, now
        )
        self._letters.put(again)
        return outcome

    async def _attempt(self, event_id: str, body: bytes) -> str:
        """Return "" if the endpoint took it, else what happened."""
        headers = signed_headers(self._endpoint.keys, event_id, self._clock() // 1000, body)
        try:
            status = await self._egress.post(self._endpoint.url, body, headers)
        except TargetBlocked:
            return "blocked"
        except Unreachable as error:
            return f"unreachable: {error.message}"
        if status == HTTPStatus.GONE:
            raise EndpointGone("the endpoint answered 410 Gone")
        return "" if status in _SUCCESS else str(status)


def body_of(event: Event) -> bytes:
    """Return what is posted for an event, the same bytes at every attempt."""
    return orjson.dumps(
        {"type": event.type, "timestamp": event.occurred_at, "data": event.to_json()}
    )
