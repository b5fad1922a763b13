"""Asking again, for as long as it takes: for readers that live longer than any outage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeVar

from api.client.errors import OutcomeUnknown, ServiceError, Unreachable
from api.client.times import Sleep

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 30.0

_SAID_BY_CURSORS: Final = frozenset({"lease_held"})
"""Retryable too, but how long to wait is the reader's own matter."""


async def patiently(call: Callable[[], Awaitable[T]], sleep: Sleep) -> T:
    """Return what a repeatable call answers in the end; an error that stays one is raised."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await call()
        except (Unreachable, OutcomeUnknown):
            asked = 0.0
        except ServiceError as error:
            if not _may_pass(error):
                raise
            asked = error.retry_after or 0.0
        await sleep(max(pause, asked))
        pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


def _may_pass(error: ServiceError) -> bool:
    if error.code in _SAID_BY_CURSORS:
        return False
    too_many = error.status == HTTPStatus.TOO_MANY_REQUESTS
    return error.retryable or too_many or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
