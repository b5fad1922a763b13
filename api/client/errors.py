"""What can go wrong for a client. "Unknown" has a type of its own and is never "failed"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


class ClientError(Exception):
    """Base of every error that a caller of this library may act on."""


class ServiceError(ClientError):
    """The service answered, and the answer is an error.

    `retryable` says whether the same request may succeed later; `retry_after` is how many seconds
    the service asks to wait.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status: Final = status
        self.code: Final = code
        self.message: Final = message
        self.details: Final[Mapping[str, object]] = details or {}
        self.retryable: Final = retryable
        self.retry_after: Final = retry_after
        self.body: Final[Mapping[str, object]] = body or {}
        self.headers: Final[Mapping[str, str]] = headers or {}


class Unreachable(ClientError):
    """No answer, and nothing can have happened: a question, or a request that never left."""


class OutcomeUnknown(ClientError):
    """What was asked for may have happened or not. Ask, or repeat the same; do not do it anew."""


class NotYet(ClientError):
    """The patience of the caller is over, the matter is open: call again with the same words."""


class AnswerRefused(ClientError):
    """The answer does not prove what it says. Nothing of it was believed."""


class LogBehind(AnswerRefused):
    """The service shows a log that is shorter than one it signed before: a copy, or a loss."""


class ForkedLog(AnswerRefused):
    """The log's key signed two histories. The notes are the evidence; this client stops here."""

    def __init__(self, origin: str, held: str, shown: str, reason: str) -> None:
        super().__init__(f"the log {origin} was forked: {reason}")
        self.origin: Final = origin
        self.held: Final = held
        self.shown: Final = shown
        self.reason: Final = reason


class QuoteRefused(AnswerRefused):
    """The quote says otherwise than its signed terms, or is none that may be paid."""


class WrongContent(AnswerRefused):
    """The bytes are not those that the provider signed for. Nothing was confirmed."""


class PaymentRefused(ClientError):
    """The wallet cannot or may not make this payment. No transaction was sent for it."""


class PaymentImpossible(ClientError):
    """The signed transaction can never be mined: its nonce was finally used by another one."""


class OrderEnded(ClientError):
    """The order came to an end without content; `status` is the last word on it."""

    def __init__(self, order_id: str, status: str) -> None:
        super().__init__(f"the order ended as {status}")
        self.order_id: Final = order_id
        self.status: Final = status


class Interleaved(ClientError):
    """Another task or process works on the same purchase: let one of them go on."""
